"""A person with mautrix-python's encryption: cross-signed from the first minute, no matrix-sdk."""

import asyncio
import base64
import json
import logging
import pathlib
from collections import defaultdict

import olm
from base import Http, Person, Refused, main
from machine import TRUST_NAMES, Api, CryptoStore, Machine, StateStore
from mautrix.client import Client
from mautrix.crypto.account import OlmAccount
from mautrix.crypto.attachments import decrypt_attachment, encrypt_attachment
from mautrix.errors import DecryptionError, EncryptionError, SessionNotFound
from mautrix.types import (
    DeviceLists,
    DeviceOTKCount,
    EncryptionAlgorithm,
    Event,
    EventType,
    ForwardedRoomKeyEventContent,
    Membership,
    SerializerError,
    StateEvent,
    ToDeviceEvent,
    TrustState,
)
from mautrix.crypto.signature import sign_olm
from sas import PREFIX, Verifier
from timeline import Undecryptable, quote, room_path

# Seconds that a homeserver may take to store or give a large file.
LARGE_FILE = 300

# How long a homeserver may take to tell the rooms of a new profile, in seconds.
PROFILE = 60

class MautrixPerson(Person):
    def __init__(self):
        super().__init__()
        self.client = None
        self.machine = None
        self.store = None
        self.state = None
        self.verifier = None
        self.password = None
        self.encrypt_locks = defaultdict(asyncio.Lock)

    async def do_login(
        self,
        homeserver,
        user,
        password,
        device_id=None,
        cross_sign=True,
        only_cross_signed=False,
        recovery_key=None,
    ):
        await self.log_in(homeserver, user, password, device_id)
        self.password = password
        self.state = StateStore()
        self.store = CryptoStore(self.user_id, "memory")
        self.client = Client(
            mxid=self.user_id,
            device_id=self.device_id,
            api=Api(self.http),
            state_store=self.state,
        )
        self.machine = Machine(self.client, self.store, self.state)
        self.client.crypto = self.machine
        if only_cross_signed:
            self.machine.send_keys_min_trust = TrustState.CROSS_SIGNED_TOFU
        await self.store.put_device_id(self.device_id)
        await self.machine.load()
        await self.machine.share_keys(0)
        if recovery_key:
            await self.machine.verify_with_recovery_key(recovery_key)
        elif cross_sign:
            recovery_key = await self.machine.generate_recovery_key()
        self.verifier = Verifier(self)
        self.start_syncing()
        return {
            "user_id": self.user_id,
            "device_id": self.device_id,
            "access_token": self.http.token,
            "recovery_key": recovery_key,
            "ed25519": self.machine.account.signing_key,
        }

    async def do_cross_sign(self):
        user = {"type": "m.id.user", "user": self.user_id}
        self.client.api.password = {
            "type": "m.login.password",
            "identifier": user,
            "password": self.password,
        }
        return {"recovery_key": await self.machine.generate_recovery_key()}

    async def do_further_devices(self, count):
        """Devices with keys of their own, which nobody has signed and nobody uses."""
        for number in range(count):
            http = Http(self.http.homeserver)
            request = {
                "type": "m.login.password",
                "identifier": {"type": "m.id.user", "user": self.user_id},
                "password": self.password,
                "device_id": f"FURTHER{number}",
            }
            try:
                answer = await http.request("POST", "/_matrix/client/v3/login", request)
                http.token = answer["access_token"]
                account = OlmAccount()
                keys = account.get_device_keys(self.user_id, answer["device_id"])
                once = account.get_one_time_keys(
                    self.user_id, answer["device_id"], account.max_one_time_keys // 2 - 1
                )
                body = {"device_keys": keys.serialize(), "one_time_keys": once}
                await http.request("POST", "/_matrix/client/v3/keys/upload", body)
            finally:
                await http.close()

    # Reading.

    async def take_keys(self, answer):
        lists = answer.get("device_lists", {})
        if lists.get("changed"):
            await self.machine.handle_device_lists(
                DeviceLists(changed=lists["changed"], left=lists.get("left", []))
            )
        for raw in answer.get("to_device", {}).get("events", []):
            await self.take_to_device(raw)
        counts = answer.get("device_one_time_keys_count", {})
        await self.machine.handle_otk_count(
            DeviceOTKCount(
                curve25519=counts.get("curve25519", 0),
                signed_curve25519=counts.get("signed_curve25519", 0),
            )
        )

    async def take_to_device(self, raw):
        try:
            if raw.get("type") == "m.room.encrypted":
                await self.machine.handle_to_device_event(ToDeviceEvent.deserialize(raw))
            elif raw.get("type", "").startswith(PREFIX):
                self.verifier.take_to_device(raw)
            elif raw.get("type") == "m.room_key_request":
                await self.machine.handle_room_key_request(ToDeviceEvent.deserialize(raw))
        except (DecryptionError, SerializerError) as error:
            logging.warning("to-device event from %s not read: %s", raw.get("sender"), error)

    async def take_state(self, room_id, raw):
        if raw.get("type") not in ("m.room.member", "m.room.encryption"):
            return
        try:
            event = StateEvent.deserialize({**raw, "room_id": room_id})
        except SerializerError:
            logging.warning("state event %s not read", raw.get("type"))
            return
        if event.type == EventType.ROOM_ENCRYPTION:
            # As clients do: encryption that was once on stays on.
            if not await self.state.is_encrypted(room_id):
                await self.state.update_state(event)
            return
        await self.state.update_state(event)
        await self.machine.handle_member_event(event)
        session = await self.store.get_outbound_group_session(room_id)
        joined = event.content.membership == Membership.JOIN
        if session and joined and event.state_key != self.user_id:
            reached = {user for user, _ in session.users_shared_with | session.users_ignored}
            if event.state_key not in reached:
                await self.store.remove_outbound_group_session(room_id)

    async def decrypt(self, room_id, raw):
        try:
            event = Event.deserialize({**raw, "room_id": room_id})
            session_id = event.content.session_id
        except (SerializerError, AttributeError) as error:
            raise Undecryptable(f"malformed: {error}") from error
        try:
            decrypted = await self.machine.decrypt_megolm_event(event)
            trust = TRUST_NAMES[decrypted["mautrix"]["trust_state"]]
        except SessionNotFound as error:
            raise Undecryptable("unknown session") from error
        except DecryptionError as error:
            raise Undecryptable(f"{type(error).__name__}: {error}") from error
        except SerializerError:
            # Authentic, but no event that the library's types know.
            trust = TRUST_NAMES[TrustState.UNVERIFIED]
        # The library's types drop and add fields. What was really sent is read once more.
        session = await self.store.get_group_session(room_id, session_id)
        try:
            plaintext = json.loads(session.decrypt(event.content.ciphertext)[0])
        except (olm.OlmGroupSessionError, ValueError) as error:
            raise Undecryptable(f"{type(error).__name__}") from error
        content = plaintext["content"]
        relation = raw["content"].get("m.relates_to")
        if relation and "m.relates_to" not in content:
            content["m.relates_to"] = relation
        return plaintext["type"], content, trust

    def observe(self, room_id, event, kind, content):
        self.verifier.take_from_room(room_id, event, kind, content)

    # Writing.

    async def learn_encryption(self, room_id, content):
        await self.state.set_encryption_info(room_id, content)

    async def is_encrypted(self, room_id):
        known = await self.state.is_encrypted(room_id)
        if known is not None:
            return known
        try:
            content = await self.http.request(
                "GET", f"{room_path(room_id)}/state/m.room.encryption/"
            )
        except Refused as error:
            if error.errcode != "M_NOT_FOUND":
                raise
            return False
        await self.learn_encryption(room_id, content)
        return True

    async def encrypt(self, room_id, kind, content):
        async with self.encrypt_locks[room_id]:
            while True:
                session = await self.store.get_outbound_group_session(room_id)
                if session is None or session.expired or not session.shared:
                    members = await self.client.get_members(
                        room_id, not_membership=Membership.LEAVE
                    )
                    present = (Membership.JOIN, Membership.INVITE)
                    users = [
                        event.state_key
                        for event in members
                        if event.content.membership in present
                    ]
                    await self.machine.share_group_session(room_id, users)
                try:
                    encrypted = await self.machine.encrypt_megolm_event(
                        room_id, EventType.find(kind, EventType.Class.MESSAGE), content
                    )
                except EncryptionError:
                    # A member or a device changed in between, and the session is gone.
                    continue
                return "m.room.encrypted", encrypted.serialize()

    async def members_changed(self, room_id):
        await self.store.remove_outbound_group_session(room_id)

    async def send_to_device(self, kind, user, device, content):
        path = f"/_matrix/client/v3/sendToDevice/{quote(kind)}/{self.next_transaction()}"
        await self.http.request("PUT", path, {"messages": {user: {device: content}}})

    async def own_keys(self):
        """The keys that stand for us: the device's, and the master key if there is one."""
        keys = {f"ed25519:{self.device_id}": self.machine.account.signing_key}
        own = await self.machine.get_own_cross_signing_public_keys()
        if own:
            keys[f"ed25519:{own.master_key}"] = own.master_key
        return keys

    async def sign_user(self, user, master):
        """Says with our user-signing key that this master key is that user's."""
        keys = self.machine._cross_signing_private_keys
        if keys is None:
            return
        signer = keys.user_signing_key
        signature = sign_olm(dict(master), signer)
        signed = {name: value for name, value in master.items() if name != "unsigned"}
        signed["signatures"] = {self.user_id: {f"ed25519:{signer.public_key}": signature}}
        master_key = next(iter(master["keys"].values()))
        answer = await self.http.request(
            "POST", "/_matrix/client/v3/keys/signatures/upload", {user: {master_key: signed}}
        )
        if answer.get("failures"):
            raise ValueError(f"signature refused: {answer['failures']}")

    # What only this person can do.

    async def do_verify_request(self, user, device=None, in_room=None):
        return {"flow": await self.verifier.request(user, device, in_room)}

    async def do_verify_accept(self, flow):
        await self.verifier.accept(self.verifier.flows[flow])

    async def do_verify_begin(self, flow):
        await self.verifier.begin(self.verifier.flows[flow])

    async def do_verify_confirm(self, flow):
        await self.verifier.confirm(self.verifier.flows[flow])

    async def do_verify_cancel(self, flow, code="m.user", reason="cancelled by the person"):
        await self.verifier.cancel(self.verifier.flows[flow], code, reason)

    async def do_withhold(self, room, users, announce=False):
        """From now on these users get no room keys from us, anywhere."""
        for user in users:
            self.machine.kept_from[user] = announce
        await self.store.remove_outbound_group_session(room)

    async def do_share_later(self, room):
        """Ends `withhold` for what is said from now on; what was kept back stays so until `share_key`."""
        self.machine.kept_from.clear()
        await self.store.remove_outbound_group_session(room)

    async def do_share_key(self, room):
        """Hands over every key kept back in the room, from its first message on."""
        self.machine.kept_from.clear()
        return {"devices": await self.machine.hand_over(room)}

    async def do_new_session(self, room):
        """The next message in the room starts a new Megolm session."""
        await self.store.remove_outbound_group_session(room)

    async def do_devices(self, user):
        devices = await self.machine._fetch_keys([user], include_untracked=True)
        return {
            "devices": {
                device_id: TRUST_NAMES[await self.machine.resolve_trust(device)]
                for device_id, device in devices.get(user, {}).items()
            }
        }

    async def do_send_encrypted(self, room, type, content):
        """Puts a ready-made ciphertext into the room, for a replay."""
        return {"event_id": await self.put_event(room, type, content)}

    async def do_raw_event(self, room, event_id):
        path = f"{room_path(room)}/event/{quote(event_id)}"
        return {"event": await self.http.request("GET", path)}

    async def upload(self, data):
        sealed, file = encrypt_attachment(data)
        answer = await self.http.request(
            "POST",
            "/_matrix/media/v3/upload",
            bytes(sealed),
            timeout=LARGE_FILE,
            headers={"Content-Type": "application/octet-stream"},
        )
        file.url = answer["content_uri"]
        return sealed, file

    async def do_try_read(self, room, event_id):
        """What the keys of this client make of an event, whenever it was sent."""
        raw = (await self.do_raw_event(room, event_id))["event"]
        try:
            _, content, _ = await self.decrypt(room, raw)
        except Undecryptable as error:
            return {"reason": str(error)}
        return {"body": content.get("body")}

    async def do_forward_key(self, room, event_id, user):
        """Hands the key of an event to somebody's devices, as if they had asked for it."""
        raw = (await self.do_raw_event(room, event_id))["event"]
        session = await self.store.get_group_session(room, raw["content"]["session_id"])
        key = session.export_session(session.first_known_index)
        content = ForwardedRoomKeyEventContent(
            algorithm=EncryptionAlgorithm.MEGOLM_V1,
            room_id=room,
            session_id=session.id,
            session_key=key,
            sender_key=session.sender_key,
            forwarding_key_chain=session.forwarding_chain,
            signing_key=session.signing_key,
        )
        devices = (await self.machine._fetch_keys([user], include_untracked=True))[user]
        for device in devices.values():
            await self.machine.send_encrypted_to_device(device, EventType.FORWARDED_ROOM_KEY, content)
        return {"devices": len(devices)}

    async def do_pass_off_key(self, room, event_id, user, as_of=None):
        """Hands the key of somebody else's event to somebody's devices, as the own and maybe as that of another room."""
        raw = (await self.do_raw_event(room, event_id))["event"]
        content = self.machine.brought[raw["content"]["session_id"]].serialize()
        content["room_id"] = as_of or room
        devices = (await self.machine._fetch_keys([user], include_untracked=True))[user]
        for device in devices.values():
            await self.machine.send_encrypted_to_device(device, EventType.ROOM_KEY, content)
        return {"devices": len(devices)}

    async def do_hand_on_key(self, room, user):
        """Hands the key that this client speaks with to somebody's devices, from the next message on."""
        session = await self.store.get_outbound_group_session(room)
        content = {
            "algorithm": "m.megolm.v1.aes-sha2",
            "room_id": room,
            "session_id": session.id,
            "session_key": session.session_key,
        }
        devices = (await self.machine._fetch_keys([user], include_untracked=True))[user]
        for device in devices.values():
            await self.machine.send_encrypted_to_device(device, EventType.ROOM_KEY, content)
        return {"devices": len(devices)}

    async def do_say_withheld(self, room, event_id, user):
        """Says to somebody's devices that the key of an event is kept from them, whoever made it."""
        raw = (await self.do_raw_event(room, event_id))["event"]
        content = {
            "algorithm": "m.megolm.v1.aes-sha2",
            "room_id": room,
            "session_id": raw["content"]["session_id"],
            "sender_key": self.machine.account.identity_key,
            "code": "m.blacklisted",
        }
        path = f"/_matrix/client/v3/sendToDevice/m.room_key.withheld/{self.next_transaction()}"
        await self.http.request("PUT", path, {"messages": {user: {"*": content}}})

    async def do_pass_off_made_up(self, room, event_id, user, count):
        """The same, under the keys of so many devices that there are not."""
        raw = (await self.do_raw_event(room, event_id))["event"]
        content = self.machine.brought[raw["content"]["session_id"]].serialize()
        devices = (await self.machine._fetch_keys([user], include_untracked=True))[user]
        for device in devices.values():
            for _ in range(count):
                await self.send_as_nothing(device, user, content)

    async def send_as_nothing(self, device, user, content):
        wanted = {"one_time_keys": {user: {device.device_id: "signed_curve25519"}}}
        claimed = await self.http.request("POST", "/_matrix/client/v3/keys/claim", wanted)
        (once,) = claimed["one_time_keys"][user][device.device_id].values()
        account = olm.Account()
        session = olm.OutboundSession(account, device.identity_key, once["key"])
        words = {
            "type": "m.room_key",
            "content": content,
            "sender": self.user_id,
            "recipient": user,
            "recipient_keys": {"ed25519": device.signing_key},
            "keys": {"ed25519": account.identity_keys["ed25519"]},
        }
        sealed = {"type": 0, "body": session.encrypt(json.dumps(words)).ciphertext}
        body = {
            "algorithm": "m.olm.v1.curve25519-aes-sha2",
            "sender_key": account.identity_keys["curve25519"],
            "ciphertext": {device.identity_key: sealed},
        }
        path = f"/_matrix/client/v3/sendToDevice/m.room.encrypted/{self.next_transaction()}"
        await self.http.request("PUT", path, {"messages": {user: {device.device_id: body}}})

    async def do_send_file(
        self,
        room,
        name,
        mimetype,
        data=None,
        path=None,
        msgtype="m.file",
        kind="m.room.message",
        info=None,
        extra=None,
        wrong_hash=False,
        thumbnail=None,
    ):
        """Encrypts and uploads a file (data in base64, or a path where it lies) and sends it.

        The small picture of it is a PNG in base64.
        """
        data = pathlib.Path(path).read_bytes() if path else base64.b64decode(data)
        sealed, file = await self.upload(data)
        if thumbnail:
            _, small = await self.upload(base64.b64decode(thumbnail))
            info = {**(info or {}), "thumbnail_file": small.serialize()}
        content = {
            "msgtype": msgtype,
            "body": name,
            "filename": name,
            "file": file.serialize(),
            "info": {"mimetype": mimetype, "size": len(sealed), **(info or {})},
            "m.mentions": {},
            **(extra or {}),
        }
        if wrong_hash:
            content["file"]["hashes"]["sha256"] = "A" * 43
        if kind == "m.sticker":
            del content["msgtype"]
        return await self.do_send_event(room, kind, content)

    async def do_send_open_file(self, room, name, data, mimetype):
        """Uploads a file (data in base64) as it is, under its name, and sends it."""
        answer = await self.http.request(
            "POST",
            f"/_matrix/media/v3/upload?filename={quote(name)}",
            base64.b64decode(data),
            headers={"Content-Type": mimetype},
        )
        content = {"msgtype": "m.file", "body": name, "filename": name, "url": answer["content_uri"]}
        return await self.do_send_event(room, "m.room.message", content)

    async def shown(self, room, picture):
        """Returns once a room has our picture."""
        path = f"/_matrix/client/v3/rooms/{quote(room)}/state/m.room.member/{quote(self.user_id)}"
        while (await self.http.request("GET", path)).get("avatar_url") != picture:
            await asyncio.sleep(0.02)

    async def do_set_picture(self, data, mimetype):
        """Uploads a picture (in base64), shows it to everybody and returns once every room has it.

        A homeserver tells the rooms of a new profile after it answered, so what is said at once may come first.
        """
        answer = await self.http.request(
            "POST",
            "/_matrix/media/v3/upload",
            base64.b64decode(data),
            headers={"Content-Type": mimetype},
        )
        url = {"avatar_url": answer["content_uri"]}
        await self.http.request("PUT", f"/_matrix/client/v3/profile/{quote(self.user_id)}/avatar_url", url)
        joined = await self.http.request("GET", "/_matrix/client/v3/joined_rooms")
        for room in joined["joined_rooms"]:
            await asyncio.wait_for(self.shown(room, url["avatar_url"]), PROFILE)
        return url

    async def do_download(self, file, to=None):
        """Fetches an encrypted file by the `file` of its message, and opens it (base64, or to a path)."""
        server, media = file["url"].removeprefix("mxc://").split("/", 1)
        sealed = await self.http.request(
            "GET",
            f"/_matrix/client/v1/media/download/{quote(server)}/{quote(media)}",
            timeout=LARGE_FILE,
        )
        if not isinstance(sealed, (bytes, bytearray)):
            sealed = json.dumps(sealed).encode()
        data = decrypt_attachment(sealed, file["key"]["k"], file["hashes"]["sha256"], file["iv"])
        if to:
            pathlib.Path(to).write_bytes(data)
            return {}
        return {"data": base64.b64encode(data).decode()}


if __name__ == "__main__":
    main(MautrixPerson)

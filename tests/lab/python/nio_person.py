"""A person with matrix-nio, which knows no cross-signing: everybody whose client does not sign."""

import asyncio
import logging
import re
from collections import defaultdict

from base import Person, Refused, main
from nio import AsyncClient, AsyncClientConfig, MegolmEvent, SyncResponse
from nio.events import Event
from nio.exceptions import EncryptionError
from nio.store import SqliteMemoryStore
from timeline import Undecryptable, room_path


class Client(AsyncClient):
    """nio's requests through our own retries, so that a restart of the server is survived."""

    def __init__(self, http, user_id):
        super().__init__(
            http.homeserver,
            user_id,
            config=AsyncClientConfig(store=SqliteMemoryStore, store_sync_tokens=False),
        )
        self.http = http

    async def _send(self, response_class, method, path, data=None, response_data=None, **ignored):
        body = data.encode() if isinstance(data, str) else data
        # The token goes into the header, as servers now want it.
        path = re.sub(r"([?&])access_token=[^&]*&?", r"\1", path).rstrip("?&")
        answer = await self.http.request(
            method, path, body, headers={"Content-Type": "application/json"}
        )
        response = response_class.from_dict(answer, *(response_data or ()))
        await self.receive_response(response)
        return response


class NioPerson(Person):
    def __init__(self):
        super().__init__()
        self.client = None
        self.encrypt_locks = defaultdict(asyncio.Lock)

    async def do_login(self, homeserver, user, password, device_id=None):
        await self.log_in(homeserver, user, password, device_id)
        self.client = Client(self.http, self.user_id)
        self.client.restore_login(self.user_id, self.device_id, self.http.token)
        await self.client.keys_upload()
        self.start_syncing()
        return {
            "user_id": self.user_id,
            "device_id": self.device_id,
            "access_token": self.http.token,
            "recovery_key": None,
        }

    # Reading.

    async def take_keys(self, answer):
        response = SyncResponse.from_dict(answer)
        if not isinstance(response, SyncResponse):
            raise ValueError(f"nio can't read this sync: {response}")
        await self.client.receive_response(response)
        if self.client.should_upload_keys:
            await self.client.keys_upload()
        await self.know_devices()
        if self.client.should_claim_keys:
            await self.client.keys_claim(self.client.get_users_for_key_claiming())
        await self.client.send_to_device_messages()

    async def know_devices(self):
        if self.client.should_query_keys:
            await self.client.keys_query()

    async def decrypt(self, room_id, raw):
        if "algorithm" not in raw["content"]:
            raise Undecryptable("malformed")
        event = Event.parse_encrypted_event(raw)
        if not isinstance(event, MegolmEvent):
            raise Undecryptable("malformed")
        event.room_id = room_id
        try:
            decrypted = self.client.decrypt_event(event)
        except EncryptionError as error:
            raise Undecryptable(str(error)) from error
        source = decrypted.source
        trust = "verified" if getattr(decrypted, "verified", False) else "unverified"
        return source["type"], source["content"], trust

    # Writing.

    async def is_encrypted(self, room_id):
        room = self.client.rooms.get(room_id)
        if room is not None:
            return room.encrypted
        try:
            await self.http.request("GET", f"{room_path(room_id)}/state/m.room.encryption/")
        except Refused as error:
            if error.errcode != "M_NOT_FOUND":
                raise
            return False
        return True

    async def encrypt(self, room_id, kind, content):
        async with self.encrypt_locks[room_id]:
            while room_id not in self.client.rooms or not self.client.rooms[room_id].encrypted:
                # nio encrypts only for a room that its sync has brought.
                await asyncio.sleep(0.02)
            if not self.client.rooms[room_id].members_synced:
                await self.client.joined_members(room_id)
            await self.know_devices()
            if self.client.olm.should_share_group_session(room_id):
                await self.client.share_group_session(room_id, ignore_unverified_devices=True)
            if kind == "m.reaction":
                return kind, content
            return self.client.encrypt(room_id, kind, content)


    # Comparing emoji as nio knows it: it begins at once, between devices, with no request before.

    async def do_verify_begin(self, room, user):
        await self.client.joined_members(room)
        await self.know_devices()
        device = next(self.client.device_store.active_user_devices(user))
        await self.client.start_key_verification(device)
        return {"flow": self.client.get_active_sas(user, device.id).transaction_id}

    async def do_verify_state(self, flow):
        return {"state": self.client.key_verifications[flow].state.name}


if __name__ == "__main__":
    # It logs every event that it can't read, which is what this person is for.
    logging.getLogger("nio").setLevel(logging.ERROR)
    main(NioPerson)

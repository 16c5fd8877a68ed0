"""mautrix-python's encryption with what a test person needs on top.

Requests survive a restart of the server, the stores in memory work as its database stores do, and
room keys can be kept from chosen users for a while.
"""

from collections import defaultdict

from base import Refused
from mautrix.api import HTTPAPI
from mautrix.client.state_store import MemoryStateStore
from mautrix.crypto import MemoryCryptoStore, OlmMachine
from mautrix.errors.request import make_request_error
from mautrix.types import (
    EncryptionAlgorithm,
    EventType,
    Membership,
    RoomKeyWithheldCode,
    RoomKeyWithheldEventContent,
    SessionID,
    TOFUSigningKey,
    TrustState,
)

TRUST_NAMES = {state: state.name.lower().replace("_", "-") for state in TrustState}


class Api(HTTPAPI):
    """mautrix's requests through our own retries, so that a restart of the server is survived."""

    def __init__(self, http):
        super().__init__(http.homeserver, token=http.token, client_session=http.session)
        self.http = http
        self.password = None

    async def request(
        self, method, path, content=None, headers=None, query_params=None, **ignored
    ):
        query = {key: value for key, value in (query_params or {}).items() if value is not None}
        body = None if str(method) == "GET" else content or {}
        if self.password and str(path).endswith("/keys/device_signing/upload"):
            # Whoever has an identity already is asked who they are before they get another.
            body["auth"] = self.password
        try:
            return await self.http.request(
                str(method), f"/{path}", body, query=query or None, headers=headers
            )
        except Refused as error:
            raise make_request_error(
                error.status, str(error), error.errcode, str(error)
            ) from error


class StateStore(MemoryStateStore):
    async def find_shared_rooms(self, user_id):
        present = (Membership.JOIN, Membership.INVITE)
        return [
            room_id
            for room_id, members in self.members.items()
            if await self.is_encrypted(room_id)
            and user_id in members
            and members[user_id].membership in present
        ]


class CryptoStore(MemoryCryptoStore):
    async def put_group_session(self, room_id, sender_key, session_id, session):
        # A key that is shared again starts later; the one that reads more is the one to keep.
        known = await self.get_group_session(room_id, session_id)
        if known is None or session.first_known_index < known.first_known_index:
            await super().put_group_session(room_id, sender_key, session_id, session)

    async def put_cross_signing_key(self, user_id, usage, key):
        known = self._cross_signing_keys.setdefault(user_id, {})
        first = known[usage].first if usage in known else key
        known[usage] = TOFUSigningKey(key=key, first=first)

    async def drop_signatures_by_key(self, signer):
        return len(self._signatures.pop(signer, None) or {})


class Machine(OlmMachine):
    """Can keep room keys from chosen users, and hand them over later."""

    def __init__(self, client, crypto_store, state_store):
        super().__init__(client, crypto_store, state_store)
        self.kept_from = {}
        self.kept = defaultdict(dict)
        self.first_keys = {}
        self.brought = {}

    async def _receive_room_key(self, evt):
        self.brought[evt.content.session_id] = evt.content
        await super()._receive_room_key(evt)

    async def _new_outbound_group_session(self, room_id):
        session = await super()._new_outbound_group_session(room_id)
        self.first_keys[session.id] = session.share_content
        return session

    async def _find_olm_sessions(self, session, user_id, device_id, device):
        announce = self.kept_from.get(user_id)
        if announce is None:
            return await super()._find_olm_sessions(session, user_id, device_id, device)
        session.users_ignored.add((user_id, device_id))
        self.kept[session.room_id][(session.id, user_id, device_id)] = device
        if announce:
            return RoomKeyWithheldEventContent(
                room_id=session.room_id,
                algorithm=EncryptionAlgorithm.MEGOLM_V1,
                session_id=SessionID(session.id),
                sender_key=self.account.identity_key,
                code=RoomKeyWithheldCode.UNAVAILABLE,
                reason="kept back for now",
            )
        # Told that it was shared already, the library leaves this device out and says nothing.
        return await super()._find_olm_sessions(session, user_id, device_id, device)

    async def hand_over(self, room_id):
        kept = self.kept.pop(room_id, {})
        for (session_id, _, _), device in kept.items():
            await self.send_encrypted_to_device(
                device, EventType.ROOM_KEY, self.first_keys[session_id]
            )
        return len(kept)

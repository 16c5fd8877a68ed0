"""Reads a homeserver's sync into one gapless, ordered stream of events for the other side.

Nothing between our own join and now is skipped: a limited timeline is paged back to what was seen
before. An event that can't be read yet is reported once as undecryptable, kept, and reported as a
late message when its key comes.
"""

import json
import os
import threading
from urllib.parse import quote as percent

SYNC_WAIT_MS = 30_000
# Synapse never gives more than this many events of a room in one answer, whatever is asked.
TIMELINE_LIMIT = 100
# Names of mautrix's trust states that mean: cross-signed, by an identity that did not change.
TRUSTED = ("cross-signed-tofu", "cross-signed-trusted", "verified")
FILTER = {
    "presence": {"types": []},
    "room": {"timeline": {"limit": TIMELINE_LIMIT}, "ephemeral": {"types": []}},
}
EPHEMERAL = ["m.typing", "m.receipt"]


class Undecryptable(Exception):
    """An encrypted event that can't be read, at least for now."""


def emit(line):
    data = (json.dumps(line, ensure_ascii=True, separators=(",", ":")) + "\n").encode()
    view = memoryview(data)
    with emit.lock:
        while view:
            view = view[os.write(1, view) :]


emit.lock = threading.Lock()


class Timeline:
    """Owns the sync token, what was seen, and what waits for a key."""

    def __init__(self):
        self.since = None
        self.joined = set()
        self.seen = set()
        self.waiting = []
        self.withheld_codes = {}
        self.ephemeral = []

    # What a client library has to supply.

    async def take_keys(self, answer):
        """Feed device lists, to-device events and key counts to the library."""

    async def take_state(self, room_id, event):
        """Learn a state event: encryption, members."""

    async def decrypt(self, room_id, event):
        """Answers (type, content, trust) or raises Undecryptable."""
        raise Undecryptable("this person has no encryption")

    def observe(self, room_id, event, kind, content):
        """Look at an event of the timeline, read or plain."""

    # The rest is the same for all.

    async def sync_loop(self):
        while True:
            query = {"timeout": str(SYNC_WAIT_MS if self.since else 0), "filter": self.filter()}
            if self.since:
                query["since"] = self.since
            answer = await self.http.request(
                "GET", "/_matrix/client/v3/sync", query=query, timeout=SYNC_WAIT_MS / 1000 + 20
            )
            await self.take_keys(answer)
            self.note_withheld(answer)
            await self.read_waiting()
            rooms = answer.get("rooms", {})
            for room_id, room in rooms.get("join", {}).items():
                await self.take_room(room_id, room)
            for room_id, room in rooms.get("invite", {}).items():
                self.take_invite(room_id, room)
            for room_id, room in rooms.get("leave", {}).items():
                await self.take_left_room(room_id, room)
            first = self.since is None
            self.since = answer["next_batch"]
            if first:
                emit({"event": "synced"})

    def filter(self):
        room = {**FILTER["room"], "ephemeral": {"types": self.ephemeral}}
        return json.dumps({**FILTER, "room": room})

    def note_withheld(self, answer):
        for event in answer.get("to_device", {}).get("events", []):
            if event.get("type") not in ("m.room_key.withheld", "org.matrix.room_key.withheld"):
                continue
            content = event.get("content", {})
            key = (content.get("room_id"), content.get("session_id"))
            if key in self.withheld_codes:
                continue
            self.withheld_codes[key] = content.get("code")
            emit(
                {
                    "event": "withheld",
                    "sender": event.get("sender"),
                    "room": content.get("room_id"),
                    "session_id": content.get("session_id"),
                    "code": content.get("code"),
                    "reason": content.get("reason"),
                }
            )

    async def take_room(self, room_id, room):
        new_here = room_id not in self.joined
        for event in room.get("state", {}).get("events", []):
            await self.take_state(room_id, event)
        timeline = room.get("timeline", {})
        events = timeline.get("events", [])
        if timeline.get("limited") and self.since:
            older = await self.page_back(room_id, timeline.get("prev_batch"), new_here, events)
            events = older + events
        if new_here and self.since:
            # What was said before we came is not ours to read.
            starts = [n for n, event in enumerate(events) if self.is_own_join(event)]
            for event in events[: starts[-1]] if starts else []:
                self.seen.add(event["event_id"])
                if "state_key" in event:
                    await self.take_state(room_id, event)
        self.joined.add(room_id)
        for event in events:
            await self.take_event(room_id, event)
        for event in room.get("ephemeral", {}).get("events", []):
            told = {"room": room_id, "type": event.get("type"), "content": event.get("content", {})}
            emit({"event": "ephemeral", **told})

    async def page_back(self, room_id, token, new_here, newer):
        older = []
        if new_here and any(self.is_own_join(event) for event in newer):
            return older
        while token:
            query = {"dir": "b", "from": token, "limit": str(TIMELINE_LIMIT)}
            answer = await self.http.request("GET", f"{room_path(room_id)}/messages", query=query)
            for event in answer.get("chunk", []):
                if event["event_id"] in self.seen:
                    return older[::-1]
                older.append(event)
                if new_here and self.is_own_join(event):
                    return older[::-1]
            token = answer.get("end")
        return older[::-1]

    def is_own_join(self, event):
        return (
            event.get("type") == "m.room.member"
            and event.get("state_key") == self.user_id
            and event.get("content", {}).get("membership") == "join"
            and event.get("unsigned", {}).get("prev_content", {}).get("membership") != "join"
        )

    async def take_left_room(self, room_id, room):
        self.joined.discard(room_id)
        for event in room.get("timeline", {}).get("events", []):
            await self.take_event(room_id, event)

    def take_invite(self, room_id, room):
        events = room.get("invite_state", {}).get("events", [])
        ours = [
            event
            for event in events
            if event.get("type") == "m.room.member" and event.get("state_key") == self.user_id
        ]
        emit(
            {
                "event": "invite",
                "room": room_id,
                "sender": ours[0].get("sender") if ours else None,
                "reason": ours[0].get("content", {}).get("reason") if ours else None,
                "encrypted": any(event.get("type") == "m.room.encryption" for event in events),
            }
        )

    async def take_event(self, room_id, event):
        if event["event_id"] in self.seen:
            return
        self.seen.add(event["event_id"])
        kind = event.get("type")
        content = event.get("content", {})
        if "state_key" in event:
            await self.take_state(room_id, event)
            self.push_state(room_id, event, kind, content)
        elif kind == "m.room.encrypted" and content:
            try:
                await self.push_decrypted(room_id, event, late=False)
            except Undecryptable as error:
                self.waiting.append((room_id, event))
                self.push_undecryptable(room_id, event, str(error))
        else:
            self.push(room_id, event, kind, content, encrypted=False, trust=None, late=False)

    async def read_waiting(self):
        still_waiting = []
        for room_id, event in self.waiting:
            try:
                await self.push_decrypted(room_id, event, late=True)
            except Undecryptable:
                still_waiting.append((room_id, event))
        self.waiting = still_waiting

    async def push_decrypted(self, room_id, event, late):
        kind, content, trust = await self.decrypt(room_id, event)
        self.push(room_id, event, kind, content, encrypted=True, trust=trust, late=late)

    def push(self, room_id, event, kind, content, encrypted, trust, late):
        self.observe(room_id, event, kind, content)
        line = {
            "event": "message" if kind == "m.room.message" and content else "event",
            "room": room_id,
            "sender": event.get("sender"),
            "event_id": event.get("event_id"),
            "type": kind,
            "content": content,
            "encrypted": encrypted,
            "verified": trust in TRUSTED,
            "trust": trust,
            "late": late,
            "own": event.get("sender") == self.user_id,
            "ts": event.get("origin_server_ts"),
        }
        if line["event"] == "message":
            line["body"] = content.get("body")
            line["msgtype"] = content.get("msgtype")
        if kind == "m.room.redaction":
            line["redacts"] = event.get("redacts") or content.get("redacts")
        transaction = event.get("unsigned", {}).get("transaction_id")
        if transaction:
            line["transaction_id"] = transaction
        emit(line)

    def push_undecryptable(self, room_id, event, reason):
        session_id = event.get("content", {}).get("session_id")
        emit(
            {
                "event": "undecryptable",
                "room": room_id,
                "sender": event.get("sender"),
                "event_id": event.get("event_id"),
                "session_id": session_id,
                "withheld": self.withheld_codes.get((room_id, session_id)),
                "reason": reason,
                "own": event.get("sender") == self.user_id,
                "ts": event.get("origin_server_ts"),
            }
        )

    def push_state(self, room_id, event, kind, content):
        line = {
            "event": "member" if kind == "m.room.member" else "state",
            "room": room_id,
            "sender": event.get("sender"),
            "event_id": event.get("event_id"),
            "type": kind,
            "key": event["state_key"],
            "content": content,
        }
        if line["event"] == "member":
            line["user"] = event["state_key"]
            line["membership"] = content.get("membership")
            line["reason"] = content.get("reason")
        emit(line)


def room_path(room):
    return f"/_matrix/client/v3/rooms/{quote(room)}"


def quote(text):
    return percent(text, safe="")

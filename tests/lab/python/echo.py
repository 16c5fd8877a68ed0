"""mautrix-python says back, encrypted, what it reads, and does nothing else: a measure for others."""

import asyncio

from base import main
from mautrix.errors import DecryptionError
from mautrix.types import Event, SerializerError
from person import MautrixPerson
from timeline import Undecryptable


class Echo(MautrixPerson):
    def __init__(self):
        super().__init__()
        self.answering = set()

    async def take_event(self, room_id, event):
        if event["event_id"] in self.seen or "state_key" in event:
            return await super().take_event(room_id, event)
        self.seen.add(event["event_id"])
        if event.get("sender") == self.user_id or event.get("type") != "m.room.encrypted":
            return
        try:
            read = await self.machine.decrypt_megolm_event(
                Event.deserialize({**event, "room_id": room_id})
            )
        except (DecryptionError, SerializerError) as error:
            raise Undecryptable(f"{type(error).__name__}: {error}") from error
        # Receiving goes on; the rooms' locks keep each room's order.
        answer = asyncio.create_task(
            self.do_send_event(room_id, "m.room.message", read.content.serialize())
        )
        self.answering.add(answer)
        answer.add_done_callback(self.answering.discard)


if __name__ == "__main__":
    main(Echo)

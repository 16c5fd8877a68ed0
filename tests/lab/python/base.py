"""What every scripted person has in common: commands as JSON lines in, answers and events out.

A command is `{"id": 1, "do": "send", ...}`; its answer is `{"id": 1, "ok": {...}}` or
`{"id": 1, "error": "...", "errcode": "...", "status": 403}`. Everything received is pushed as
`{"event": "message", ...}` and so on. Commands for one room run in the order they were given.
"""

import asyncio
import json
import logging
import os
import sys
import threading
import traceback
from collections import defaultdict

import aiohttp
from timeline import EPHEMERAL, Timeline, emit, quote, room_path
from yarl import URL

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 1.0


class Refused(Exception):
    """The homeserver said no, and asking again would not help."""

    def __init__(self, status, errcode, message):
        super().__init__(f"{status} {errcode}: {message}")
        self.status = status
        self.errcode = errcode


class Http:
    """Requests that outlast a homeserver's restart: retried with the same body and path."""

    def __init__(self, homeserver):
        self.homeserver = homeserver.rstrip("/")
        self.token = None
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        )

    async def request(self, method, path, body=None, query=None, timeout=30, headers=None):
        pause = FIRST_PAUSE
        while True:
            wait = pause
            try:
                status, answer = await self._once(method, path, body, query, timeout, headers)
                if 200 <= status < 300:
                    return answer
                answer = answer if isinstance(answer, dict) else {}
                if status == 429:
                    wait = max(answer.get("retry_after_ms", 500) / 1000, 0.01)
                elif status < 500:
                    raise Refused(status, answer.get("errcode"), answer.get("error"))
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
                logging.info("%s failed, trying again: %s", method, type(error).__name__)
            await asyncio.sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _once(self, method, path, body, query, timeout, headers):
        headers = dict(headers or {})
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if body is not None and not isinstance(body, (bytes, bytearray)):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        async with self.session.request(
            method,
            URL(self.homeserver + path, encoded=True),
            data=body,
            params=query,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=5),
        ) as response:
            data = await response.read()
            try:
                return response.status, json.loads(data)
            except ValueError:
                return response.status, data

    async def close(self):
        await self.session.close()


class Person(Timeline):
    """Runs the commands and owns the order of what is sent."""

    def __init__(self):
        super().__init__()
        self.http = None
        self.user_id = None
        self.device_id = None
        self.room_locks = defaultdict(asyncio.Lock)
        self.sync_task = None
        self.transaction = 0

    def next_transaction(self):
        self.transaction += 1
        return f"p{os.getpid()}.{os.urandom(4).hex()}.{self.transaction}"

    async def run(self):
        loop = asyncio.get_running_loop()
        commands = asyncio.Queue()

        def read_commands():
            for line in sys.stdin.buffer:
                loop.call_soon_threadsafe(commands.put_nowait, line)
            # Whoever holds our stdin is gone: nothing is worth finishing.
            os._exit(0)

        threading.Thread(target=read_commands, daemon=True).start()
        running = set()
        while True:
            command = json.loads(await commands.get())
            task = asyncio.create_task(self.answer(command))
            running.add(task)
            task.add_done_callback(running.discard)

    async def answer(self, command):
        number = command.pop("id")
        name = command.pop("do")
        try:
            action = getattr(self, "do_" + name, None)
            if action is None:
                raise ValueError(f"no command {name!r} here")
            room = command.get("room")
            if room is None:
                result = await action(**command)
            else:
                async with self.room_locks[room]:
                    result = await action(**command)
            emit({"id": number, "ok": result if result is not None else {}})
        except Refused as error:
            emit(
                {
                    "id": number,
                    "error": str(error),
                    "errcode": error.errcode,
                    "status": error.status,
                }
            )
        except Exception as error:
            logging.error("%s failed:\n%s", name, traceback.format_exc())
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{os.path.basename(where.filename)}:{where.lineno}"
            emit({"id": number, "error": f"{type(error).__name__} at {place}: {error}"})

    async def log_in(self, homeserver, user, password, device_id=None):
        self.http = Http(homeserver)
        request = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": user},
            "password": password,
            "initial_device_display_name": "person",
        }
        if device_id:
            request["device_id"] = device_id
        answer = await self.http.request("POST", "/_matrix/client/v3/login", request)
        self.http.token = answer["access_token"]
        self.user_id = answer["user_id"]
        self.device_id = answer["device_id"]
        return answer

    def start_syncing(self):
        self.sync_task = asyncio.create_task(self.sync_for_ever())

    async def sync_for_ever(self):
        try:
            await self.sync_loop()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            logging.error("sync ended:\n%s", traceback.format_exc())
            emit({"event": "stopped", "reason": f"{type(error).__name__}: {error}"})

    # Commands that need no encryption, the same for every kind of person.

    async def do_create_plain_room(self, name=None, invite=()):
        return {"room_id": await self.create_room(name, invite, [])}

    async def do_create_encrypted_room(self, name=None, invite=(), rotation_msgs=None):
        content = {"algorithm": "m.megolm.v1.aes-sha2"}
        if rotation_msgs:
            content["rotation_period_msgs"] = rotation_msgs
        state = [{"type": "m.room.encryption", "state_key": "", "content": content}]
        room_id = await self.create_room(name, invite, state)
        await self.learn_encryption(room_id, content)
        return {"room_id": room_id}

    async def create_room(self, name, invite, state):
        request = {
            "preset": "private_chat",
            "visibility": "private",
            "invite": list(invite),
            "initial_state": state,
        }
        if name:
            request["name"] = name
        answer = await self.http.request("POST", "/_matrix/client/v3/createRoom", request)
        return answer["room_id"]

    async def do_invite(self, room, user):
        await self.http.request(
            "POST", f"{room_path(room)}/invite", {"user_id": user}
        )
        await self.members_changed(room)

    async def do_join(self, room):
        await self.http.request("POST", f"{room_path(room)}/join", {})

    async def do_leave(self, room):
        await self.http.request("POST", f"{room_path(room)}/leave", {})

    async def do_kick(self, room, user, reason=None):
        body = {"user_id": user}
        if reason:
            body["reason"] = reason
        await self.http.request("POST", f"{room_path(room)}/kick", body)

    async def do_redact(self, room, event_id, reason=None):
        path = f"{room_path(room)}/redact/{quote(event_id)}/{self.next_transaction()}"
        body = {"reason": reason} if reason else {}
        answer = await self.http.request("PUT", path, body)
        return {"event_id": answer["event_id"]}

    async def do_send_raw_plain(self, room, type, content):
        """Puts an event into the room in clear, whatever the room says about encryption."""
        return {"event_id": await self.put_event(room, type, content)}

    async def do_send_state(self, room, type, key, content):
        path = f"{room_path(room)}/state/{quote(type)}/{quote(key)}"
        answer = await self.http.request("PUT", path, content)
        return {"event_id": answer["event_id"]}

    async def do_state(self, room, type, key=""):
        path = f"{room_path(room)}/state/{quote(type)}/{quote(key)}"
        return {"content": await self.http.request("GET", path)}

    async def do_members(self, room):
        answer = await self.http.request("GET", f"{room_path(room)}/members")
        return {
            "members": {
                event["state_key"]: event["content"].get("membership")
                for event in answer["chunk"]
            }
        }

    async def do_watch(self):
        """From the next sync on, tells who writes and who has read what."""
        self.ephemeral = EPHEMERAL

    async def do_http(self, method, path, body=None):
        return {"body": await self.http.request(method, path, body)}

    async def do_send(
        self, room, body, formatted=None, msgtype="m.text", reply_to=None, extra=None
    ):
        content = {"msgtype": msgtype, "body": body, "m.mentions": {}}
        if formatted is not None:
            content["format"] = "org.matrix.custom.html"
            content["formatted_body"] = formatted
        if reply_to:
            content["m.relates_to"] = {"m.in_reply_to": {"event_id": reply_to}}
        content.update(extra or {})
        return await self.do_send_event(room, "m.room.message", content)

    async def do_send_event(self, room, type, content):
        """Encrypts the event if the room is encrypted, and sends it."""
        if await self.is_encrypted(room):
            type, content = await self.encrypt(room, type, content)
        return {"event_id": await self.put_event(room, type, content)}

    async def put_event(self, room, type, content):
        path = f"{room_path(room)}/send/{quote(type)}/{self.next_transaction()}"
        answer = await self.http.request("PUT", path, content)
        return answer["event_id"]

    async def members_changed(self, room):
        pass

    async def learn_encryption(self, room, content):
        pass


def main(person_class):
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)

    async def run():
        await person_class().run()

    asyncio.run(run())

"""A person with Delta Chat: its official engine, driven by its official Python client.

A command is `{"id": 1, "do": "send", ...}`; its answer is `{"id": 1, "ok": {...}}` or
`{"id": 1, "error": "..."}`. What is received is collected, and given by `messages`.
"""

import json
import os
import re
import sqlite3
import sys
import threading
import time
from html import unescape
from pathlib import Path

import deltachat_rpc_server
from deltachat_rpc_client import DeltaChat, Rpc

JOINED = 1000


def say(line):
    data = (json.dumps(line) + "\n").encode()
    with say.lock:
        while data:
            data = data[os.write(1, data) :]


say.lock = threading.Lock()


class Person:
    def __init__(self):
        self.rpc = None
        self.account = None
        self.seen = {}
        # What was done to earlier messages, in the order in which it was seen.
        self.deeds = []
        self.joined = set()
        self.changed = threading.Condition()

    def start(self, folder):
        engine = Path(deltachat_rpc_server.__file__).parent / "deltachat-rpc-server"
        self.rpc = Rpc(accounts_dir=folder, rpc_server_path=str(engine), stderr=sys.stderr)
        self.rpc.start()

    def do_login(self, folder, name, login):
        self.start(folder)
        self.account = DeltaChat(self.rpc).add_account()
        self.account.set_config("displayname", name)
        self.account.add_or_update_transport(login)
        threading.Thread(target=self.listen, daemon=True).start()
        self.account.bring_online()
        link = self.account.get_qr_code()
        return {"fingerprint": re.search(r"#([0-9A-F]{40,64})", link).group(1), "link": link}

    def listen(self):
        while True:
            event = self.account.wait_for_event()
            kind = event["kind"]
            message = event.get("msg_id") or 0
            with self.changed:
                if message and kind in (
                    "IncomingMsg",
                    "MsgsChanged",
                    "ReactionsChanged",
                    "MsgDeleted",
                ):
                    self.look(message)
                elif kind == "SecurejoinJoinerProgress" and event["progress"] == JOINED:
                    self.joined.add(event["contact_id"])
                self.changed.notify_all()

    def look(self, number):
        try:
            message = self.rpc.get_message(self.account.id, number)
            mail_id = self.rpc.get_message_info_object(self.account.id, number)["rfc724Mid"]
        except Exception:
            # Deleted meanwhile.
            gone = self.seen.get(number)
            if gone and not gone["info"] and not gone["gone"]:
                gone["gone"] = True
                self.deed("deletion", gone, own=gone["own"])
            return
        text = message["text"]
        if message["hasHtml"] and text.endswith("[...]"):
            text = self.whole(number)
        quote = message["quote"]
        answers = None
        if quote and quote.get("messageId"):
            answers = self.rpc.get_message_info_object(self.account.id, quote["messageId"])["rfc724Mid"]
        before = self.seen.get(number)
        reactions = (message["reactions"] or {}).get("reactionsByContact", {})
        seen = self.seen[number] = {
            "edits": before["edits"] if before else 0,
            "reactions": {contact: sorted(emoji) for contact, emoji in reactions.items()},
            "counts": before["counts"] if before else {},
            "edited": message["isEdited"],
            "forwarded": message["isForwarded"],
            "system": message["systemMessageType"],
            "view": message["viewType"],
            "whole": message["downloadState"] == "Done",
            "file": message["file"],
            "file_name": message["fileName"],
            "mime": message["fileMime"],
            "width": message["dimensionsWidth"],
            "height": message["dimensionsHeight"],
            "milliseconds": message["duration"],
            "place": self.place(message),
            "number": number,
            "gone": False,
            "chat": message["chatId"],
            "id": mail_id,
            "text": text,
            "own": message["fromId"] == 1,
            "info": message["isInfo"],
            "name": message["overrideSenderName"],
            "sender": message["sender"]["authName"],
            "padlock": message["showPadlock"],
            "bot": message["isBot"],
            "answers": answers,
            "state": message["state"],
            "at": before["at"] if before and before["whole"] else time.time(),
        }
        if before and before["whole"] and before["text"] != text and seen["edited"]:
            seen["edits"] += 1
            self.deed("edit", seen, own=seen["own"], text=text, count=seen["edits"])
        old = before["reactions"] if before else {}
        for contact in sorted({*old, *seen["reactions"]}):
            emoji = seen["reactions"].get(contact, [])
            if emoji != old.get(contact, []):
                seen["counts"][contact] = seen["counts"].get(contact, 0) + 1
                self.deed(
                    "reaction",
                    seen,
                    own=contact == "1",
                    emoji=emoji,
                    count=seen["counts"][contact],
                )

    def deed(self, what, seen, **more):
        self.deeds.append(
            {"what": what, "of": seen["id"], "chat": seen["chat"], "at": time.time(), **more}
        )

    def place(self, message):
        if not message["hasLocation"]:
            return None
        about = message["timestamp"]
        places = self.rpc.get_locations(
            self.account.id, message["chatId"], message["fromId"], about - 60, about + 60
        )
        found = [place for place in places if place["msgId"] == message["id"]]
        return [found[0]["latitude"], found[0]["longitude"]] if found else None

    def whole(self, number):
        """What the person reads after a tap on "Show full message"."""
        page = self.rpc.get_message_html(self.account.id, number)
        body = page.split("<body", 1)[1].split(">", 1)[1].rsplit("</body>", 1)[0]
        return unescape(re.sub(r"<[^>]*>", "", re.sub(r"<br ?/?>\n?", "\n", body))).strip("\n")

    def do_join(self, link, within=60):
        before = set(self.joined)
        chat = self.account.secure_join(link)
        with self.changed:
            if not self.changed.wait_for(lambda: self.joined - before, timeout=within):
                raise TimeoutError("the invitation was not answered")
            # The engine may be through with the handshake before it hears that it is a member.
            if not self.changed.wait_for(chat.can_send, timeout=within):
                raise TimeoutError("the invitation did not make us a member")
        return {"chat": chat.id}

    def numbered(self, mail_id):
        """The number of a message on this device. One's own may not be seen yet."""
        found = []
        with self.changed:
            self.changed.wait_for(
                lambda: found.extend(n for n, m in self.seen.items() if m["id"] == mail_id) or found,
                timeout=10,
            )
        return found[0]

    def do_send(self, chat, text, answers=None, name=None, more=None):
        data = {"text": text, **(more or {})}
        if answers:
            data["quotedMessageId"] = self.numbered(answers)
        if name:
            data["overrideSenderName"] = name
        begun = time.time()
        plays = data.pop("plays", None)
        if plays:
            number = self.send_that_plays(chat, data, plays)
        else:
            number = self.rpc.send_msg(self.account.id, chat, data)
        return {
            "number": number,
            "begun": begun,
            "id": self.rpc.get_message_info_object(self.account.id, number)["rfc724Mid"],
        }

    def send_that_plays(self, chat, data, milliseconds):
        """Says how long it plays, as the programs on phones do. No method of JSON-RPC takes that."""
        of = self.account.id
        self.rpc.misc_set_draft(
            of, chat, data["text"], data["file"], data["filename"], None, data["viewtype"]
        )
        draft = self.rpc.get_draft(of, chat)["id"]
        database = self.rpc.get_blob_dir(of).removesuffix("-blobs")
        with sqlite3.connect(database, timeout=30) as connection:
            more = "\nd=%d" % milliseconds
            connection.execute("UPDATE msgs SET param = param || ? WHERE id = ?", (more, draft))
        connection.close()
        return self.rpc.misc_send_draft(of, chat)

    def do_hear(self, words, within):
        found = []
        with self.changed:
            self.changed.wait_for(
                lambda: found.extend(
                    m for m in self.seen.values() if not m["own"] and words in m["text"]
                )
                or found,
                timeout=within,
            )
        if not found:
            raise TimeoutError("it is not heard")
        return {"seen": found[0]}

    def do_messages(self):
        with self.changed:
            return {"messages": list(self.seen.values())}

    def do_deeds(self):
        with self.changed:
            return {"deeds": self.deeds}

    def do_edit(self, of, text):
        self.rpc.send_edit_request(self.account.id, self.numbered(of), text)
        return {}

    def do_react(self, to, emoji):
        self.rpc.send_reaction(self.account.id, self.numbered(to), emoji)
        return {}

    def do_delete(self, of):
        self.rpc.delete_messages_for_all(self.account.id, [self.numbered(of)])
        return {}

    def do_group(self, name):
        chat = self.account.create_group(name)
        return {"chat": chat.id, "link": chat.get_qr_code()}

    def do_network(self):
        self.rpc.maybe_network()
        return {}

    def do_read_again(self):
        # No method says where reading goes on. The engine knows by the mail ids what it has.
        database = self.rpc.get_blob_dir(self.account.id).removesuffix("-blobs")
        self.rpc.stop_io(self.account.id)
        with sqlite3.connect(database, timeout=30) as connection:
            connection.execute("UPDATE imap_sync SET uid_next = 1")
        connection.close()
        self.rpc.start_io(self.account.id)
        return {}

    def do_rpc(self, method, params):
        return {"result": getattr(self.rpc, method)(self.account.id, *params)}


def main():
    person = Person()

    def answer(command):
        number, name = command.pop("id"), command.pop("do")
        try:
            say({"id": number, "ok": getattr(person, "do_" + name)(**command)})
        except Exception as error:
            say({"id": number, "error": f"{type(error).__name__}: {error}"})

    for line in sys.stdin:
        # In the order in which they were given, but for what waits.
        command = json.loads(line)
        if command["do"] in ("join", "hear"):
            threading.Thread(target=answer, args=(command,), daemon=True).start()
        else:
            answer(command)
    # Whoever holds our stdin is gone: nothing is worth finishing, and the engine ends with its own.
    os._exit(0)


if __name__ == "__main__":
    main()

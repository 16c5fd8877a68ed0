"""An engine that does what `orders.json` beside its folder says, also what a real one does only in trouble.

It has one encrypted group with the bridge and a person in it. Each order is read anew at every question:
`messages` are those that came (number: fields that differ from an ordinary message, or "withheld", "endless" or
"strange"), `refuse` counts how often a method is refused (-1: always), `chat` are fields of the group that differ,
`sent` those of what it is given to send. `version` is the engine's, `configured` is whether somebody has logged in,
`events` happen once, at the first look, and `servers` are those that it uses.
"""

import json
import os
import sys
from pathlib import Path

FOLDER = Path(os.environ["DC_ACCOUNTS_PATH"]).parent
GROUP, PERSON, NOTES = 10, 20, 12
BRIDGE, ANN = "A" * 40, "B" * 40

config = {}
refused = {}
own = {}


def orders():
    try:
        return json.loads((FOLDER / "orders.json").read_text())
    except FileNotFoundError:
        return {}


def message(number, **fields):
    contact = {"authName": "ann", "displayName": "ann"}
    plain = {
        "id": number, "chatId": GROUP, "fromId": PERSON, "text": f"message {number}", "timestamp": 1_800_000_000,
        "showPadlock": True, "isInfo": False, "isBot": False, "isEdited": False, "hasHtml": False,
        "hasLocation": False, "state": 10, "viewType": "Text", "systemMessageType": "Unknown", "infoContactId": None,
        "downloadState": "Done", "file": None, "fileName": None, "fileMime": None, "duration": 0,
        "dimensionsWidth": 0, "dimensionsHeight": 0, "reactions": None, "overrideSenderName": None, "quote": None,
        "sender": contact,
    }
    return {**plain, **fields}


def load(number):
    came = orders().get("messages", {}).get(str(number))
    if number in own:
        return {"kind": "message", **own[number]}
    if came is None:
        return {"kind": "loadingError", "error": "Message does not exist"}
    if came == "withheld":
        return {"kind": "loadingError", "error": "database is locked"}
    if came == "endless":
        return {"kind": "message", **message(number, text="x" * (17 << 20))}
    if came == "strange":
        return {"kind": "message", "id": "of another form"}
    return {"kind": "message", **message(number, **came)}


def one(number):
    loaded = load(number)
    if loaded["kind"] == "loadingError":
        raise LookupError(f"Message {number} does not exist")
    return loaded


def numbers():
    return sorted([*map(int, orders().get("messages", {})), *own])


def chat(number):
    plain = {
        "id": number, "name": "Family", "chatType": "Group", "isEncrypted": True, "isDeviceChat": False,
        "isSelfTalk": number == NOTES, "selfInGroup": True, "canSend": True, "contactIds": [1, PERSON],
    }
    return {**plain, **orders().get("chat", {})}


def send(_, data):
    number = max([*numbers(), 0]) + 1
    kind = {"viewType": "File", "file": data["file"]} if data.get("file") else {}
    own[number] = message(number, **{"fromId": 1, "text": data["text"], "state": 26, **kind, **orders().get("sent", {})})
    return number


def delete(numbers):
    for number in numbers:
        own.pop(number, None)


def grouped(fingerprint):
    return " ".join(fingerprint[at : at + 4] for at in range(0, len(fingerprint), 4))


METHODS = {
    "is_configured": lambda: orders().get("configured", True),
    "get_info": lambda: {"used_transport_settings": orders().get("servers", "")},
    "get_chat_securejoin_qr_code": lambda _: f"https://i.delta.chat/#{BRIDGE}&v=3",
    "set_config": lambda key, value: config.update({key: value}),
    "get_config": config.get,
    "create_chat_by_contact_id": lambda _: NOTES,
    "misc_set_draft": lambda *_: None,
    "get_draft": lambda _: message(max([*numbers(), 0]) + 1),
    "remove_draft": lambda _: None,
    "get_chatlist_entries": lambda archived, *_: [] if archived else [GROUP],
    "get_full_chat_by_id": chat,
    "start_io": lambda: None,
    "get_connectivity": lambda: 4000,
    "get_next_msgs": lambda: [n for n in numbers() if n > int(config.get("last_msg_id", 0))],
    "get_messages": lambda wanted: {str(number): load(number) for number in wanted},
    "get_message": one,
    "get_message_ids": lambda *_: numbers(),
    "get_message_info_object": lambda number: {
        "rfc724Mid": f"{number}@ann.test", "ephemeralTimer": {"kind": "disabled"},
    },
    "get_contact": lambda _: {"authName": "ann", "displayName": "ann"},
    "get_contact_encryption_info": lambda _: f"Fingerprints:\n\nann:\n{grouped(ANN)}\n\nMe:\n{grouped(BRIDGE)}\n",
    "get_message_html": lambda _: orders().get("page"),
    "get_chat_ephemeral_timer": lambda _: 86_400,
    "create_group_chat": lambda *_: GROUP + 1,
    "get_blob_dir": lambda: str(FOLDER / "files"),
    "markseen_msgs": lambda _: None,
    "download_full_message": lambda _: None,
    "send_msg": send,
    "maybe_network": lambda: None,
    "resend_messages": lambda _: None,
    "delete_messages": delete,
}


def answer(method, params):
    left = orders().get("refuse", {}).get(method, 0)
    done = refused.get(method, 0)
    if left < 0 or done < left:
        refused[method] = done + 1
        raise RuntimeError("refused by order")
    if method == "get_system_info":
        return {"deltachat_core_version": orders().get("version", "v2.65.0")}
    if method == "get_all_account_ids":
        return [1]
    if method == "maybe_network":
        return None
    return METHODS[method](*params[1:])


events = orders().get("events", [])

for line in sys.stdin:
    question = json.loads(line)
    method = question["method"]
    with (FOLDER / "asked.txt").open("a") as asked:
        asked.write(method + "\n")
    said = {"jsonrpc": "2.0", "id": question["id"]}
    if method == "get_next_event_batch":
        happened, events = events, []
        if not happened:
            continue
        said["result"] = [{"contextId": 1, "event": event} for event in happened]
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        continue
    try:
        said["result"] = answer(method, question["params"])
    except Exception as error:
        said["error"] = {"code": -1, "message": str(error)}
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()

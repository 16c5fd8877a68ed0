"""Emoji verification as the Matrix specification has it, on python-olm's primitives.

Works to-device and in a room, started by either side. Nothing goes on without a command: accepting
a request, starting, and confirming the emoji are each for the one who drives the person.
"""

import asyncio
import hashlib
import json
import logging
import time
import traceback

import olm
from timeline import emit
from unpaddedbase64 import encode_base64

PREFIX = "m.key.verification."
REQUEST = PREFIX + "request"
METHOD = "m.sas.v1"
AGREEMENT = "curve25519-hkdf-sha256"
MACS = ("hkdf-hmac-sha256.v2", "hkdf-hmac-sha256")
NAMES = (
    "Dog,Cat,Lion,Horse,Unicorn,Pig,Elephant,Rabbit,Panda,Rooster,Penguin,Turtle,Fish,Octopus,"
    "Butterfly,Flower,Tree,Cactus,Mushroom,Globe,Moon,Cloud,Fire,Banana,Apple,Strawberry,Corn,"
    "Pizza,Cake,Heart,Smiley,Robot,Hat,Glasses,Spanner,Santa,Thumbs Up,Umbrella,Hourglass,Clock,"
    "Gift,Light Bulb,Book,Pencil,Paperclip,Scissors,Lock,Key,Hammer,Telephone,Flag,Train,Bicycle,"
    "Aeroplane,Rocket,Trophy,Ball,Guitar,Trumpet,Bell,Anchor,Headphones,Folder,Pin"
).split(",")


def canonical(content):
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


class Cancelled(Exception):
    def __init__(self, code, reason):
        super().__init__(reason)
        self.code = code


class Flow:
    """One verification with one other user."""

    def __init__(self, flow, user, device, room):
        self.flow = flow
        self.user = user
        self.device = device
        self.room = room
        self.sas = olm.Sas()
        self.start = None
        self.we_started = False
        self.commitment = None
        self.mac_method = MACS[0]
        self.their_key = None
        self.mac_sent = False
        self.mac_checked = False
        self.ended = False


class Verifier:
    def __init__(self, person):
        self.person = person
        self.flows = {}
        self.events = asyncio.Queue()
        self.task = asyncio.create_task(self.work())

    # What comes in.

    def take_to_device(self, raw):
        content = raw.get("content", {})
        self.put(raw.get("type"), raw.get("sender"), content, content.get("transaction_id"), None)

    def take_from_room(self, room, event, kind, content):
        if event.get("sender") == self.person.user_id:
            return
        if kind == "m.room.message" and content.get("msgtype") == REQUEST:
            self.put(REQUEST, event["sender"], content, event["event_id"], room)
        elif kind.startswith(PREFIX):
            flow = (content.get("m.relates_to") or {}).get("event_id")
            self.put(kind, event["sender"], content, flow, room)

    def put(self, *event):
        self.events.put_nowait(event)

    async def work(self):
        while True:
            kind, sender, content, flow_id, room = await self.events.get()
            try:
                await self.take(kind, sender, content, flow_id, room)
            except Cancelled as error:
                await self.cancel(self.flows[flow_id], error.code, str(error))
            except Exception:
                logging.error("verification:\n%s", traceback.format_exc())

    async def take(self, kind, sender, content, flow_id, room):
        step = kind.removeprefix(PREFIX)
        if step == "request" and flow_id not in self.flows:
            if room and content.get("to") != self.person.user_id:
                return
            flow = Flow(flow_id, sender, content.get("from_device"), room)
            self.flows[flow_id] = flow
            self.tell(flow, "requested")
            return
        if step == "start" and flow_id not in self.flows and not room:
            # An old client begins without a request.
            self.flows[flow_id] = Flow(flow_id, sender, content.get("from_device"), None)
        flow = self.flows.get(flow_id)
        if flow is None or flow.ended or flow.user != sender:
            return
        action = getattr(self, "take_" + step, None)
        if action is not None:
            await action(flow, content)

    async def take_ready(self, flow, content):
        flow.device = content["from_device"]
        self.tell(flow, "ready")

    async def take_start(self, flow, content):
        if flow.we_started:
            ours = (self.person.user_id, self.person.device_id)
            if ours < (flow.user, content.get("from_device")):
                return
            flow.we_started = False
            flow.sas = olm.Sas()
        flow.device = content.get("from_device", flow.device)
        offered = content.get("message_authentication_codes", [])
        known = [method for method in MACS if method in offered]
        if (
            content.get("method") != METHOD
            or AGREEMENT not in content.get("key_agreement_protocols", [])
            or "sha256" not in content.get("hashes", [])
            or not known
        ):
            raise Cancelled("m.unknown_method", "nothing in common")
        flow.mac_method = known[0]
        flow.start = content
        commitment = flow.sas.pubkey + canonical(content)
        await self.send(
            flow,
            "accept",
            {
                "method": METHOD,
                "key_agreement_protocol": AGREEMENT,
                "hash": "sha256",
                "message_authentication_code": flow.mac_method,
                "short_authentication_string": ["emoji", "decimal"],
                "commitment": encode_base64(hashlib.sha256(commitment.encode()).digest()),
            },
        )

    async def take_accept(self, flow, content):
        if not flow.we_started:
            raise Cancelled("m.unexpected_message", "nothing to accept")
        flow.commitment = content["commitment"]
        flow.mac_method = content["message_authentication_code"]
        await self.send(flow, "key", {"key": flow.sas.pubkey})

    async def take_key(self, flow, content):
        if flow.their_key is not None or flow.start is None:
            raise Cancelled("m.unexpected_message", "no key was due")
        flow.their_key = content["key"]
        if flow.we_started:
            expected = hashlib.sha256((flow.their_key + canonical(flow.start)).encode()).digest()
            if encode_base64(expected) != flow.commitment:
                raise Cancelled("m.mismatched_commitment", "another key than promised")
        else:
            await self.send(flow, "key", {"key": flow.sas.pubkey})
        flow.sas.set_their_pubkey(flow.their_key)
        indices = self.emoji(flow)
        self.tell(flow, "emoji", emoji=[NAMES[index] for index in indices], indices=indices)

    def emoji(self, flow):
        ours = f"{self.person.user_id}|{self.person.device_id}|{flow.sas.pubkey}"
        theirs = f"{flow.user}|{flow.device}|{flow.their_key}"
        first, second = (ours, theirs) if flow.we_started else (theirs, ours)
        info = f"MATRIX_KEY_VERIFICATION_SAS|{first}|{second}|{flow.flow}"
        bits = int.from_bytes(flow.sas.generate_bytes(info, 6), "big") >> 6
        return [(bits >> shift) & 63 for shift in range(36, -1, -6)]

    async def take_mac(self, flow, content):
        answer = await self.person.http.request(
            "POST", "/_matrix/client/v3/keys/query", {"device_keys": {flow.user: []}}
        )
        keys = dict(answer["device_keys"][flow.user][flow.device]["keys"])
        master = answer.get("master_keys", {}).get(flow.user)
        keys.update(master["keys"] if master else {})
        info = (
            f"MATRIX_KEY_VERIFICATION_MAC{flow.user}{flow.device}"
            f"{self.person.user_id}{self.person.device_id}{flow.flow}"
        )
        macs = content["mac"]
        if self.mac(flow, ",".join(sorted(macs)), info + "KEY_IDS") != content["keys"]:
            raise Cancelled("m.key_mismatch", "other keys than listed")
        for key_id, mac in macs.items():
            if key_id in keys and self.mac(flow, keys[key_id], info + key_id) != mac:
                raise Cancelled("m.key_mismatch", f"another key {key_id}")
        if master and set(master["keys"]) & set(macs):
            await self.person.sign_user(flow.user, master)
        flow.mac_checked = True
        await self.finish(flow)

    def mac(self, flow, text, info):
        if flow.mac_method == MACS[0]:
            return flow.sas.calculate_mac_fixed_base64(text, info)
        return flow.sas.calculate_mac(text, info)

    async def finish(self, flow):
        if flow.mac_sent and flow.mac_checked:
            await self.send(flow, "done", {})
            self.tell(flow, "done")

    async def take_cancel(self, flow, content):
        flow.ended = True
        self.tell(flow, "cancelled", reason=f"{content.get('code')}: {content.get('reason')}")

    # What is done on command.

    async def request(self, user, device=None, room=None):
        content = {"from_device": self.person.device_id, "methods": [METHOD]}
        if room:
            content |= {"msgtype": REQUEST, "body": "Please verify me", "to": user}
            sent = await self.person.do_send_event(room, "m.room.message", content)
            flow_id = sent["event_id"]
        else:
            flow_id = self.person.next_transaction()
            content |= {"transaction_id": flow_id, "timestamp": int(time.time() * 1000)}
            await self.person.send_to_device(REQUEST, user, device or "*", content)
        self.flows[flow_id] = Flow(flow_id, user, device, room)
        return flow_id

    async def accept(self, flow):
        await self.send(
            flow, "ready", {"from_device": self.person.device_id, "methods": [METHOD]}
        )

    async def begin(self, flow):
        flow.we_started = True
        flow.start = await self.send(
            flow,
            "start",
            {
                "from_device": self.person.device_id,
                "method": METHOD,
                "key_agreement_protocols": [AGREEMENT],
                "hashes": ["sha256"],
                "message_authentication_codes": list(MACS),
                "short_authentication_string": ["emoji", "decimal"],
            },
        )

    async def confirm(self, flow):
        info = (
            f"MATRIX_KEY_VERIFICATION_MAC{self.person.user_id}{self.person.device_id}"
            f"{flow.user}{flow.device}{flow.flow}"
        )
        keys = await self.person.own_keys()
        await self.send(
            flow,
            "mac",
            {
                "mac": {key_id: self.mac(flow, key, info + key_id) for key_id, key in keys.items()},
                "keys": self.mac(flow, ",".join(sorted(keys)), info + "KEY_IDS"),
            },
        )
        flow.mac_sent = True
        await self.finish(flow)

    async def cancel(self, flow, code, reason):
        flow.ended = True
        await self.send(flow, "cancel", {"code": code, "reason": reason})
        self.tell(flow, "cancelled", reason=f"{code}: {reason}")

    async def send(self, flow, step, content):
        if flow.room:
            relation = {"rel_type": "m.reference", "event_id": flow.flow}
            content = {**content, "m.relates_to": relation}
            await self.person.do_send_event(flow.room, PREFIX + step, content)
        else:
            content = {**content, "transaction_id": flow.flow}
            await self.person.send_to_device(PREFIX + step, flow.user, flow.device or "*", content)
        return content

    def tell(self, flow, step, **more):
        line = {"event": "verification", "flow": flow.flow, "user": flow.user, "step": step}
        emit({**line, "device": flow.device, "room": flow.room, **more})

// A person with matrix-js-sdk, cross-signed when they log in unless the login says otherwise.
//
// `node person.mjs` is today's release, whose cryptography is matrix-sdk-crypto in WebAssembly. `node person.mjs olm` is
// the last one with cryptography of its own, written in JavaScript over libolm.

import { createRequire } from "node:module";

import { emit, serve } from "./base.mjs";
import { Verifier } from "./verifier.mjs";

const OLM = process.argv[2] === "olm";

async function library() {
  const name = OLM ? "matrix-js-sdk-olm" : "matrix-js-sdk";
  if (OLM) {
    globalThis.Olm = createRequire(import.meta.url)("@matrix-org/olm");
    await globalThis.Olm.init();
  }
  return { ...(await import(name)), crypto: await import(`${name}/lib/crypto-api/index.js`) };
}

class Person {
  constructor(sdk) {
    this.sdk = sdk;
    this.client = null;
    this.proof = null;
    this.verifier = null;
    this.unread = new Set();
    this.commands = {
      login: this.login,
      create_encrypted_room: this.createEncryptedRoom,
      invite: ({ room, user }) => this.client.invite(room, user),
      join: async ({ room }) => void (await this.client.joinRoom(room)),
      send: this.send,
      send_event: this.sendEvent,
      cross_sign: this.crossSign,
      verify_request: async (whom) => ({ flow: await this.verifier.request(whom) }),
      verify_accept: ({ flow }) => this.verifier.accept(flow),
      verify_begin: ({ flow }) => this.verifier.begin(flow),
      verify_scan: ({ flow, code }) => this.verifier.scan(flow, code),
      verify_confirm: ({ flow }) => this.verifier.confirm(flow),
      verify_mismatch: ({ flow }) => this.verifier.mismatch(flow),
      verify_cancel: ({ flow }) => this.verifier.cancel(flow),
      holds_verified: this.holdsVerified,
    };
  }

  async login({ homeserver, user, password, device_id, scans = false, cross_sign = true }) {
    const request = {
      type: "m.login.password",
      identifier: { type: "m.id.user", user },
      password,
      device_id,
      initial_device_display_name: "person",
    };
    const answer = await this.sdk.createClient({ baseUrl: homeserver }).loginRequest(request);
    const privateKeys = {};
    this.client = this.sdk.createClient({
      baseUrl: homeserver,
      accessToken: answer.access_token,
      userId: answer.user_id,
      deviceId: answer.device_id,
      verificationMethods: ["m.sas.v1", ...(scans ? ["m.qr_code.scan.v1", "m.reciprocate.v1"] : [])],
      cryptoCallbacks: {
        saveCrossSigningKeys: (keys) => Object.assign(privateKeys, keys),
        getCrossSigningKey: async (kind) => privateKeys[kind],
      },
    });
    if (OLM) {
      await this.client.initLegacyCrypto();
      // What nobody verified yet is read and written to, as it is by today's clients.
      this.client.setGlobalErrorOnUnknownDevices(false);
    } else {
      await this.client.initRustCrypto({ useIndexedDB: false });
    }
    this.verifier = new Verifier(this.sdk.crypto, this.client);
    this.listen();
    this.proof = { type: "m.login.password", identifier: request.identifier, password };
    if (cross_sign) await this.crossSign();
    await this.client.startClient({ initialSyncLimit: 50, disablePresence: true });
    return {
      user_id: answer.user_id,
      device_id: answer.device_id,
      access_token: answer.access_token,
      recovery_key: null,
    };
  }

  /** Makes a new identity, whether or not there is one. What recovers it is not kept. */
  async crossSign() {
    await this.client.getCrypto().bootstrapCrossSigning({
      setupNewCrossSigning: true,
      authUploadDeviceSigningKeys: (upload) => upload(this.proof),
    });
    return { recovery_key: "" };
  }

  // Reading.

  listen() {
    const { ClientEvent, MatrixEventEvent, RoomEvent, RoomStateEvent } = this.sdk;
    this.client.on(ClientEvent.Sync, (state, before) => {
      if (state === "PREPARED" && before !== "PREPARED") emit({ event: "synced" });
      if (state === "STOPPED") emit({ event: "stopped", reason: "the library stopped" });
    });
    this.client.on(RoomEvent.Timeline, (event, room, backwards) => {
      // What this person says is not told: the library has it before it has an id.
      if (backwards || event.isState() || event.getSender() === this.client.getUserId()) return;
      this.take(room.roomId, event).catch((error) => console.error(error?.stack ?? error));
    });
    this.client.on(MatrixEventEvent.Decrypted, (event) => {
      if (this.unread.has(event.getId()) && !event.isDecryptionFailure()) {
        this.show(event.getRoomId(), event).catch((error) => console.error(error?.stack ?? error));
      }
    });
    this.client.on(RoomStateEvent.Events, (event, state) => {
      if (event.getType() === "m.room.member") this.tellMember(state.roomId, event);
    });
  }

  tellMember(room, event) {
    const user = event.getStateKey();
    const { membership, reason } = event.getContent();
    const [sender, event_id] = [event.getSender(), event.getId() ?? ""];
    if (user === this.client.getUserId() && membership === "invite") {
      emit({ event: "invite", room, sender, encrypted: this.isEncrypted(room), reason: reason ?? null });
    }
    const content = event.getContent();
    emit({ event: "member", room, user, membership, sender, event_id, content, reason: reason ?? null });
  }

  async take(room, event) {
    await this.client.decryptEventIfNeeded(event);
    await this.show(room, event);
  }

  async show(room, event) {
    const [event_id, sender, ts] = [event.getId(), event.getSender(), event.getTs()];
    if (event.isDecryptionFailure()) {
      this.unread.add(event_id);
      const reason = String(event.decryptionFailureReason ?? "unknown");
      const session_id = event.getWireContent().session_id ?? null;
      emit({ event: "undecryptable", room, sender, event_id, session_id, withheld: null, reason, own: false, ts });
      return;
    }
    const encrypted = event.isEncrypted();
    const trust = encrypted ? await this.trust(event) : null;
    const said = {
      room,
      sender,
      event_id,
      content: event.getContent(),
      encrypted,
      verified: trust === "NONE" || trust === "UNVERIFIED_IDENTITY",
      late: this.unread.delete(event_id),
      own: false,
      ts,
    };
    if (event.getType() === "m.room.message") {
      const { body, msgtype } = said.content;
      emit({ event: "message", ...said, body, msgtype, trust, transaction_id: null });
    } else {
      emit({ event: "event", ...said, type: event.getType(), redacts: event.event.redacts ?? null });
    }
  }

  /** The shield that a client shows beside the message: its reason, or NONE. */
  async trust(event) {
    const { EventShieldColour, EventShieldReason } = this.sdk.crypto;
    const info = await this.client.getCrypto().getEncryptionInfoForEvent(event);
    if (!info) return "UNKNOWN";
    if (info.shieldColour === EventShieldColour.NONE) return "NONE";
    return EventShieldReason[info.shieldReason] ?? "UNKNOWN";
  }

  // Writing.

  isEncrypted(room) {
    return this.client.getRoom(room)?.hasEncryptionStateEvent() ?? false;
  }

  async createEncryptedRoom({ name, invite }) {
    const content = { algorithm: "m.megolm.v1.aes-sha2" };
    const { room_id } = await this.client.createRoom({
      name,
      invite,
      preset: "private_chat",
      visibility: "private",
      initial_state: [{ type: "m.room.encryption", state_key: "", content }],
    });
    await this.knowsEncrypted(room_id);
    return { room_id };
  }

  /** The library encrypts for a room that its sync has brought; before that it would send in clear. */
  async knowsEncrypted(room) {
    const { RoomStateEvent } = this.sdk;
    while (!this.isEncrypted(room)) {
      await new Promise((resolve) => this.client.once(RoomStateEvent.Update, resolve));
    }
  }

  send({ room, body, msgtype = "m.text" }) {
    return this.sendEvent({ room, type: "m.room.message", content: { msgtype, body, "m.mentions": {} } });
  }

  async sendEvent({ room, type, content }) {
    await this.knowsEncrypted(room);
    const { event_id } = await this.client.sendEvent(room, type, content);
    return { event_id };
  }

  async holdsVerified({ user }) {
    const status = await this.client.getCrypto().getUserVerificationStatus(user);
    return { verified: status.isCrossSigningVerified() };
  }
}

serve(new Person(await library()));

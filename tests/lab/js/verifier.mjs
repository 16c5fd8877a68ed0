// Verification by emoji or by scanning a code, as the library does it. Nothing goes on without a command: accepting a
// request, starting, confirming the emoji, and scanning are each for the one who drives the person.

import { emit } from "./base.mjs";

const SAS = "m.sas.v1";

export class Verifier {
  constructor(names, client) {
    this.names = names;
    this.client = client;
    this.flows = new Map();
    client.on(names.CryptoEvent.VerificationRequestReceived, (request) => {
      if (request.initiatedByMe || this.flows.has(request.transactionId)) return;
      this.follow(request);
      this.tell(request, "requested");
    });
  }

  get crypto() {
    return this.client.getCrypto();
  }

  tell(request, step, more = {}) {
    emit({
      event: "verification",
      flow: request.transactionId,
      user: request.otherUserId,
      device: request.otherDeviceId ?? null,
      room: request.roomId ?? null,
      step,
      ...more,
    });
  }

  follow(request) {
    const flow = { request, verifier: null, shown: null, told: new Set() };
    this.flows.set(request.transactionId, flow);
    request.on(this.names.VerificationRequestEvent.Change, () => this.changed(flow));
    this.changed(flow);
    return request.transactionId;
  }

  changed(flow) {
    const { VerificationPhase } = this.names;
    const { request } = flow;
    switch (request.phase) {
      case VerificationPhase.Ready:
        this.tellOnce(flow, "ready");
        break;
      case VerificationPhase.Started:
        if (request.verifier) this.compare(flow, request.verifier);
        break;
      case VerificationPhase.Done:
        this.tellOnce(flow, "done");
        break;
      case VerificationPhase.Cancelled: {
        const who = request.cancellingUserId === this.client.getUserId() ? "we" : "they";
        this.tellOnce(flow, "cancelled", { reason: `${request.cancellationCode}: ${who} stopped it` });
        break;
      }
    }
  }

  tellOnce(flow, step, more) {
    if (flow.told.has(step)) return;
    flow.told.add(step);
    this.tell(flow.request, step, more);
  }

  compare(flow, verifier) {
    if (flow.verifier === verifier) return;
    flow.verifier = verifier;
    const show = (shown) => {
      flow.shown = shown;
      this.tellOnce(flow, "emoji", { emoji: shown.sas.emoji.map(([, name]) => name) });
    };
    verifier.on(this.names.VerifierEvent.ShowSas, show);
    // Ends with the verification. How it ended is told by the request.
    verifier.verify().catch((error) => console.error(`verification: ${error?.message ?? error}`));
    const shown = verifier.getShowSasCallbacks();
    if (shown) show(shown);
  }

  async request({ user, device, in_room }) {
    if (in_room) return this.follow(await this.crypto.requestVerificationDM(user, in_room));
    const devices = await this.crypto.getUserDeviceInfo([user], true);
    const [first] = devices.get(user)?.keys() ?? [];
    return this.follow(await this.crypto.requestDeviceVerification(user, device ?? first));
  }

  async accept(flow) {
    await this.flow(flow).request.accept();
  }

  async begin(id) {
    const flow = this.flow(id);
    this.compare(flow, await flow.request.startVerification(SAS));
  }

  /** A camera saw a code with these bytes in it, in base64. */
  async scan(id, code) {
    const flow = this.flow(id);
    this.compare(flow, await flow.request.scanQRCode(new Uint8ClampedArray(Buffer.from(code, "base64"))));
  }

  async confirm(flow) {
    await this.shown(flow).confirm();
  }

  mismatch(flow) {
    this.shown(flow).mismatch();
  }

  async cancel(flow) {
    await this.flow(flow).request.cancel();
  }

  flow(id) {
    const flow = this.flows.get(id);
    if (!flow) throw new Error(`no verification ${id}`);
    return flow;
  }

  shown(id) {
    const { shown } = this.flow(id);
    if (!shown) throw new Error("no emoji are shown");
    return shown;
  }
}

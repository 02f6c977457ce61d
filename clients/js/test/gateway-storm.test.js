// Channels, whatever happens to them and to their connection, in whatever order.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { FakeSocket, around, fire, gateway, pass, random, settled, show } from "./support.js";

around({ beforeEach, afterEach });

/** An edge that knows which channels it has, and takes nothing that breaks the rules. */
class EdgeSocket extends FakeSocket {
  protocol = "rooms.mux.v1";
  channels = new Map(); // number to "opening", "open"
  left = new Map();

  static faults = []; // the client would take an error for a connection that cannot be

  send(data) {
    try {
      this.#check(data);
    } catch (error) {
      EdgeSocket.faults.push(error.message);
    }
  }

  #check(data) {
    super.send(data);
    if (this.readyState !== 1) return;
    const [, number, payload] = /^(\d+):(.*)$/s.exec(data);
    if (number !== "0") {
      assert.equal(this.channels.get(+number), "open", `sent on ${number}`);
      assert.ok(this.left.get(+number) > 0, "beyond the credit");
      this.left.set(+number, this.left.get(+number) - 64 - payload.length);
      return;
    }
    const said = JSON.parse(payload);
    if (said.open) {
      assert.ok(!this.channels.has(said.open), `${said.open} is open already`);
      this.channels.set(said.open, "opening");
    } else if (said.close) {
      assert.ok(this.channels.has(said.close), `${said.close} was closed`);
      this.channels.set(said.close, "closing");
    } else {
      assert.ok(said.credit);
    }
  }

  control(said) {
    return this.say("0:" + JSON.stringify(said));
  }

  over(number, said) {
    this.channels.delete(number);
    this.control(said);
  }
}

async function storm(seed, steps) {
  const draw = random(seed);
  const pick = (list) => list[Math.floor(draw() * list.length)];
  Math.random = random(seed + 1);
  const gw = gateway("wss://example.org/", { WebSocket: EdgeSocket });
  const made = [];
  const heard = new Map();

  const edge = (state, act) => () => {
    const socket = FakeSocket.last;
    if (socket?.readyState !== 1) return;
    const numbers = [...socket.channels].filter(([, is]) => state.includes(is)).map(([number]) => number);
    if (numbers.length) act(socket, pick(numbers));
  };
  const open = () => {
    if (made.length > 12) return;
    const it = gw.open(`/${made.length}`, { buffer: draw() < 0.5 ? {} : undefined });
    it.addEventListener("message", ({ data }) => heard.set(it, data));
    made.push(it);
  };
  open();
  const opened = (socket, number) => {
    socket.channels.set(number, "open");
    socket.left.set(number, 200);
    socket.control({ opened: number, window: 200 });
  };
  const acts = [
    open,
    () => pick(made).close(),
    () => pick(made).reconnect(),
    () => void pick(made).send("x".repeat(draw() * 100)).catch(() => {}),
    () => void pick(made).send("y").catch(() => {}),
    () => FakeSocket.last?.readyState === 0 && FakeSocket.last.open(),
    () => FakeSocket.last?.readyState === 0 && FakeSocket.last.open(),
    () => draw() < 0.2 && FakeSocket.last?.readyState < 2 && FakeSocket.last.end(pick([1006, 1012, 1002, 1009])),
    edge(["opening"], opened),
    edge(["opening"], opened),
    edge(["opening"], (socket, number) => socket.over(number, { denied: number, status: pick([403, 503, 401]) })),
    edge(["closing"], (socket, number) => socket.over(number, { closed: number, code: 1000, reason: "" })),
    edge(["closing"], (socket, number) => socket.over(number, { closed: number, code: 1000, reason: "" })),
    edge(["open"], (socket, number) => socket.over(number, { closed: number, code: pick([1000, 1011, 1013, 4401]) })),
    edge(["open"], (socket, number) => {
      const spent = 200 - socket.left.get(number);
      if (!spent) return;
      socket.left.set(number, 200);
      socket.control({ credit: number, bytes: spent });
    }),
    edge(["open", "closing"], (socket, number) => socket.say(`${number}:hi`)),
    edge(["open"], (socket, number) => socket.control({ reopened: number })),
    () => draw() < 0.2 && fire(pick(["online", "offline", "pageshow", "pagehide"])),
    () => draw() < 0.3 && show(draw() < 0.5),
    () => pass(draw() * pick([100, 1_000, 10_000])),
  ];

  for (let step = 0; step < steps; step++) {
    await pick(acts)();
    if (draw() < 0.7) await settled();
    assert.ok(FakeSocket.live.length <= 1, `${FakeSocket.live.length} connections`);
    assert.deepEqual(EdgeSocket.faults, []);
    for (const it of made) if (it.state === "open") assert.equal(FakeSocket.last.readyState, 1);
  }

  // In the end all are there, over one connection; and then none.
  show(true);
  fire("online");
  for (let round = 0; round < 200 && made.some((it) => it.state !== "open"); round++) {
    for (const it of made) if (it.state === "closed") it.reconnect();
    await pass(5_000);
    if (FakeSocket.last?.readyState === 0) FakeSocket.last.open();
    for (const [number, state] of FakeSocket.last?.readyState === 1 ? [...FakeSocket.last.channels] : []) {
      if (state === "opening") opened(FakeSocket.last, number);
      if (state === "closing") FakeSocket.last.over(number, { closed: number, code: 1000, reason: "" });
    }
  }
  assert.deepEqual(made.map((it) => it.state), made.map(() => "open"));
  assert.equal(FakeSocket.live.length, 1);
  const live = [...FakeSocket.last.channels].filter(([, state]) => state === "open");
  assert.equal(live.length, made.length);
  heard.clear();
  for (const [number] of live) FakeSocket.last.say(`${number}:${number}`);
  assert.equal(new Set(heard.values()).size, made.length);
  for (const it of made) it.close();
  await pass(20_000);
  for (const [number] of [...FakeSocket.last.channels]) FakeSocket.last.over(number, { closed: number, code: 1000 });
  assert.equal(FakeSocket.live.length, 0);
}

test("one connection at most, no number twice, nothing beyond the credit, and all are there in the end", async () => {
  for (let seed = 1; seed <= 100; seed++) {
    FakeSocket.all = [];
    try {
      await storm(seed, 300);
    } catch (error) {
      error.message += ` (seed ${seed})`;
      throw error;
    }
  }
});

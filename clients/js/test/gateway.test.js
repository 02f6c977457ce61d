// Several endpoints over one connection with an edge.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { FakeSocket, around, fire, gateway, pass, settled, sleep } from "./support.js";

around({ beforeEach, afterEach });

const made = [];
afterEach(() => {
  for (const it of made.splice(0)) it.close();
});

/** A socket that an edge is at the other end of. */
class EdgeSocket extends FakeSocket {
  protocol = "rooms.mux.v1";
  control(said) {
    return this.say("0:" + JSON.stringify(said));
  }
  get controls() {
    return this.sent.filter((data) => data.startsWith?.("0:")).map((data) => JSON.parse(data.slice(2)));
  }
  get messages() {
    return this.sent.filter((data) => !data.startsWith?.("0:"));
  }
}

const edge = (url = "wss://example.org") => gateway(url, { WebSocket: EdgeSocket });

function open(gw, path, options) {
  const it = gw.open(path, options);
  it.told = [];
  it.messages = [];
  it.addEventListener("state", ({ detail }) => it.told.push(detail));
  it.addEventListener("message", ({ data }) => it.messages.push(data));
  made.push(it);
  return it;
}

/** Two channels that are open. */
async function two(options) {
  const gw = edge();
  const [tea, milk] = [open(gw, "/chat/tea", options), open(gw, "/chat/milk", options)];
  await settled();
  const socket = FakeSocket.last.open();
  for (const number of [1, 2]) socket.control({ opened: number, window: 1_000 });
  await pass(2_000);
  assert.deepEqual([tea.state, milk.state], ["open", "open"]);
  return { gw, tea, milk, socket };
}

test("all channels share one connection, which is made with the first and closed with the last", async () => {
  const { gw, tea, milk, socket } = await two();
  assert.equal(FakeSocket.all.length, 1);
  assert.equal(String(socket.url), "wss://example.org/");
  assert.equal(socket.protocols, "rooms.mux.v1");
  const opening = { protocols: [], window: 262_144 };
  assert.deepEqual(socket.controls, [
    { open: 1, path: "/chat/tea?fastapi_rooms=1", ...opening },
    { open: 2, path: "/chat/milk?fastapi_rooms=1", ...opening },
  ]);
  tea.close(4000, "bye");
  assert.deepEqual(socket.controls.at(-1), { close: 1, code: 4000, reason: "bye" });
  assert.equal(socket.closedBy, null);
  socket.control({ closed: 1, code: 4000, reason: "bye" });
  const late = open(gw, "late");
  await settled();
  assert.deepEqual(socket.controls.at(-1), { open: 1, path: "/late?fastapi_rooms=1", ...opening });
  late.close();
  milk.close();
  assert.deepEqual(socket.controls.at(-1), { close: 2, code: 1000, reason: "" });
  assert.equal(socket.closedBy.code, 1000);
  assert.equal(FakeSocket.all.length, 1);
});

test("a message goes to its channel, whatever is in it", async () => {
  const { tea, milk, socket } = await two();
  socket.say("1:a:b").say("2:").say(new Uint8Array([2, 1, 255]).buffer).say("7:nobody");
  assert.deepEqual(tea.messages, ["a:b"]);
  assert.equal(milk.messages[0], "");
  assert.deepEqual(new Uint8Array(milk.messages[1]), new Uint8Array([1, 255]));
  await tea.send("0:{}");
  await milk.send(new Uint8Array([7]));
  await milk.send({ a: 1 });
  assert.deepEqual(socket.messages, ["1:0:{}", new Uint8Array([2, 7]), '2:{"a":1}']);
});

test("the numbers of many channels are read as they are written", async () => {
  const gw = edge();
  const all = Array.from({ length: 200 }, (_, index) => open(gw, `/${index}`));
  await settled();
  const socket = FakeSocket.last.open();
  for (let number = 1; number <= 200; number++) socket.control({ opened: number, window: 1_000 });
  await pass(2_000);
  await all[199].send(new Uint8Array([7]));
  assert.deepEqual(socket.messages, [new Uint8Array([200, 1, 7])]);
  socket.say(new Uint8Array([200, 1, 9]).buffer);
  assert.deepEqual(new Uint8Array(all[199].messages[0]), new Uint8Array([9]));
});

test("a channel sends no more than there is room for, and the rest when there is", async () => {
  const { tea, milk, socket } = await two();
  await tea.send("x".repeat(2_000));
  await tea.send("later");
  await milk.send("now");
  assert.deepEqual(socket.messages.map((data) => data.length), [2_002, 5]);
  tea.close(); // behind what it has sent
  assert.ok(!socket.controls.at(-1).close);
  socket.control({ credit: 1, bytes: 2_064 });
  assert.equal(socket.messages.at(-1), "1:later");
  assert.equal(socket.controls.at(-1).close, 1);
});

test("one that closes while nobody takes what it has sent is closed in the end, and the connection with it", async () => {
  const { tea, milk, socket } = await two();
  await tea.send("x".repeat(2_000));
  await tea.send("never");
  milk.close();
  socket.control({ closed: 2, code: 1000, reason: "" });
  tea.close();
  assert.equal(socket.closedBy, null);
  await pass(10_000);
  assert.equal(socket.controls.at(-1).close, 1);
  socket.control({ closed: 1, code: 1000, reason: "" });
  assert.equal(socket.closedBy.code, 1000);
});

test("credit is given for what was heard, in bytes", async () => {
  const { socket } = await two();
  socket.say("1:" + "ü".repeat(40_000));
  assert.ok(!socket.controls.some((said) => said.credit));
  socket.say("1:" + "ü".repeat(40_000));
  assert.deepEqual(socket.controls.at(-1), { credit: 1, bytes: 160_128 });
});

test("a channel that is refused ends or comes back by its status, and no other does", async () => {
  for (const [status, state] of [[403, "closed"], [404, "closed"], [503, "waiting"], [429, "waiting"]]) {
    const { tea, milk, socket } = await two();
    tea.reconnect();
    await settled();
    const { open: number } = socket.controls.at(-1);
    socket.control({ denied: number, status });
    assert.equal(tea.state, state);
    assert.equal(tea.told.at(-1).code, 4000 + status);
    assert.equal(milk.state, "open");
  }
});

test("a refused token is asked for again", async () => {
  const asked = [];
  const gw = edge();
  const it = open(gw, "/members", { token: ({ refresh }) => (asked.push(refresh), `t${asked.length}`) });
  await settled();
  const socket = FakeSocket.last.open();
  assert.equal(socket.controls[0].path, "/members?fastapi_rooms=1&token=t1");
  socket.control({ denied: 1, status: 401 });
  await pass(1_000);
  assert.equal(socket.controls[1].path, "/members?fastapi_rooms=1&token=t2");
  assert.deepEqual(asked, [false, true]);
  assert.equal(it.state, "connecting");
});

test("when the connection is lost all channels wait equally long, and share the next", async () => {
  const { tea, milk, socket } = await two();
  await pass(5_000); // they have lasted
  socket.end();
  assert.deepEqual([tea.state, milk.state], ["waiting", "waiting"]);
  assert.equal(tea.told.at(-1).delay, milk.told.at(-1).delay);
  await pass(1_000);
  assert.equal(FakeSocket.all.length, 2);
  const next = FakeSocket.last.open();
  assert.deepEqual(next.controls.map((said) => said.open), [1, 2]);
  next.control({ opened: 1, window: 1_000 }).control({ opened: 2, window: 1_000 });
  await pass(2_000);
  assert.deepEqual([tea.state, milk.state], ["open", "open"]);
});

test("a restart of the edge spreads them as it spreads any client", async () => {
  const { tea, milk, socket } = await two();
  Math.random = () => 0.5;
  socket.end(1012);
  assert.deepEqual([tea, milk].map((it) => it.told.at(-1).delay), [2_500, 2_500]);
});

test("what one has done wrong does not end the others for good", async () => {
  const { tea, milk, socket } = await two();
  socket.end(1009);
  assert.deepEqual([tea.state, milk.state], ["waiting", "waiting"]);
});

test("a code that ends a channel ends no other", async () => {
  const { tea, milk, socket } = await two();
  socket.control({ closed: 1, code: 4403, reason: "no" });
  assert.deepEqual([tea.state, milk.state], ["closed", "open"]);
  assert.equal(tea.told.at(-1).reason, "no");
});

test("a server without channels ends them, and says why", async () => {
  const it = open(edge(), "/chat");
  await settled();
  FakeSocket.last.protocol = "";
  FakeSocket.last.open();
  assert.equal(it.state, "closed");
  assert.match(it.told.at(-1).reason, /rooms\.mux\.v1/);
});

test("a connection on which nobody answers is left, and made anew", async () => {
  const { tea, milk, socket } = await two();
  tea.reconnect();
  await settled();
  assert.equal(FakeSocket.all.length, 1);
  await pass(3_000);
  assert.equal(socket.closedBy.code, 1000);
  assert.deepEqual([tea.state, milk.state], ["waiting", "waiting"]);
  await pass(1_000);
  assert.equal(FakeSocket.all.length, 2);
});

test("one that cannot be made in time is tried again", async () => {
  const it = open(edge(), "/chat");
  await settled();
  await pass(9_000);
  assert.equal(it.state, "waiting");
  assert.equal(FakeSocket.last.closedBy.code, 1000);
});

test("a page that is left holds no connection", async () => {
  const { tea, socket } = await two();
  fire("pagehide");
  assert.equal(socket.closedBy.code, 1000);
  fire("pageshow");
  await settled();
  assert.equal(FakeSocket.all.length, 2);
  assert.equal(tea.state, "connecting");
});

test("it is told when another backend goes on with a channel", async () => {
  const { tea, milk, socket } = await two();
  const heard = [];
  tea.addEventListener("reopened", () => heard.push("tea"));
  milk.addEventListener("reopened", () => heard.push("milk"));
  socket.control({ reopened: 2 });
  assert.deepEqual(heard, ["milk"]);
});

test("subprotocols and the path are asked for, below the path of the edge", async () => {
  const gw = edge("https://example.org/live?x=1");
  open(gw, async () => "/chat?a=%26", { protocols: ["a", "b"] });
  const outside = open(gw, "/../chat");
  await settled();
  assert.equal(String(FakeSocket.last.url), "wss://example.org/live/?x=1");
  assert.equal(outside.state, "closed");
  const [said] = FakeSocket.last.open().controls;
  assert.equal(said.path, "/chat?a=%26&fastapi_rooms=1");
  assert.deepEqual(said.protocols, ["a", "b"]);
});

test("what is not understood is a lost connection, and nothing else", async () => {
  const { tea, socket } = await two();
  socket.control({ more: 1 }).control({ opened: 9 }).control({ credit: 9, bytes: 1 });
  assert.equal(tea.state, "open");
  socket.say("0:{");
  assert.equal(tea.state, "waiting");
});

test("a channel greets as any server", async () => {
  const gw = edge();
  const it = open(gw, "/chat");
  await settled();
  const socket = FakeSocket.last.open().control({ opened: 1, window: 1_000 });
  socket.say('1:\0h{"version":1,"token":"0123456789abcdef0123456789abcdef","heartbeat":25,"window":0}');
  assert.equal(it.state, "open");
  assert.match(socket.messages[0], /^1:\0r/);
  sleep(40_000);
  await pass(40_000); // silence
  assert.ok(socket.controls.some((said) => said.close === 1));
});

// What is kept from one connection, and from one page, to the next.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";

import { FakeSocket, FakeStorage, TOKEN, again, around, client, fire, fireAtDocument, framed, pass, settled, show } from "./support.js";

around({ beforeEach, afterEach });

const say = (room, n, message = `${room} ${n}`) => FakeSocket.last.frame("m", { room, position: `${room}.${n}` }, message);

const positions = async (it, hello) => (await again(it, hello)).resumed.positions;

describe("positions", () => {
  test("of every room are said when it comes again, with the first token", async () => {
    const it = await framed();
    say("tea", 1);
    say("tea", 2);
    say("coffee", 7);
    FakeSocket.last.frame("p", { room: "tea", position: "tea.3" });
    const socket = await again(it, { token: "f".repeat(32) });
    assert.deepEqual(socket.resumed, { token: TOKEN, positions: { tea: "tea.3", coffee: "coffee.7" } });
  });

  test("are advanced after the handler has returned", async () => {
    const it = await framed();
    const storage = new FakeStorage();
    const saved = client({ storage });
    await settled();
    FakeSocket.last.open().hello();
    let seen;
    saved.addEventListener("message", () => {
      show(false);
      seen ??= storage.only.positions;
    });
    say("tea", 1);
    assert.deepEqual(seen, []);
    show(true);
    show(false);
    assert.deepEqual(storage.only.positions, [["tea", "tea.1"]]);
    it.close();
  });

  test("are advanced although the handler threw: the next client would fail at the same message", async () => {
    const thrown = [];
    const listener = (error) => thrown.push(error.message);
    const before = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException").on("uncaughtException", listener);
    const it = await framed();
    it.addEventListener("message", () => {
      throw new Error("broken");
    });
    say("tea", 1);
    await settled();
    process.removeAllListeners("uncaughtException");
    for (const other of before) process.on("uncaughtException", other);
    assert.deepEqual(thrown, ["broken"]);
    assert.deepEqual(await positions(it), { tea: "tea.1" });
  });

  test("are advanced if the handler reconnects, and the message does not come twice", async () => {
    const it = await framed();
    it.addEventListener("message", () => it.reconnect(), { once: true });
    say("tea", 1);
    await settled();
    assert.deepEqual(FakeSocket.last.open().hello().resumed.positions, { tea: "tea.1" });
  });

  test("are advanced, and stored, if the handler closes", async () => {
    const storage = new FakeStorage();
    const it = await framed({ storage });
    it.addEventListener("message", () => it.close(), { once: true });
    say("tea", 1);
    assert.deepEqual(storage.only.positions, [["tea", "tea.1"]]);
    assert.deepEqual(await positions(it), { tea: "tea.1" });
  });

  test("are forgotten where the room was left, or joined anew", async () => {
    const it = await framed();
    for (const room of ["left", "new", "lost", "kept"]) say(room, 1);
    FakeSocket.last.frame("l", { room: "left" });
    FakeSocket.last.frame("j", { room: "new", recovered: null });
    FakeSocket.last.frame("j", { room: "lost", recovered: false });
    FakeSocket.last.frame("j", { room: "kept", recovered: true });
    assert.deepEqual(await positions(it), { kept: "kept.1" });
  });

  test("are kept when the connection ends", async () => {
    const it = await framed();
    say("tea", 1);
    FakeSocket.last.end();
    await pass(it.told.at(-1).delay);
    FakeSocket.last.end();
    await pass(it.told.at(-1).delay);
    assert.deepEqual(FakeSocket.last.open().hello().resumed.positions, { tea: "tea.1" });
  });

  test("of a room with any name are kept", async () => {
    const it = await framed();
    for (const room of ["__proto__", "constructor", "7", "ü\u2028\"", "a\nb"]) say(room, 1);
    assert.deepEqual(
      Object.entries(await positions(it)).sort(),
      ["7", "__proto__", "a\nb", "constructor", "ü\u2028\""].map((room) => [room, `${room}.1`]).sort(),
    );
  });

  test("of thousands of rooms are said as far as the server reads, the newest of them", async () => {
    const it = await framed();
    const name = (n) => `büro-${n}`.padEnd(40, "ü");
    for (let n = 0; n < 5_000; n++) say(name(n), 1);
    say(name(0), 2);
    const { sent } = await again(it);
    const size = new TextEncoder().encode(sent[0]).length;
    assert.ok(size <= 65_536 && size > 55_000, String(size));
    const said = Object.keys(JSON.parse(sent[0].slice(2)).positions);
    assert.deepEqual(said, [name(0), ...said.slice(1).map((_, i) => name(4_999 - i))]);
  });
});

describe("duplicates", () => {
  test("are dropped", async () => {
    const it = await framed();
    for (const n of [1, 2, 1, 2, 3, 2, 3]) say("tea", n);
    assert.deepEqual(it.messages, ["tea 1", "tea 2", "tea 3"]);
    await again(it);
    for (const n of [2, 3, 4]) say("tea", n);
    assert.deepEqual(it.messages.slice(3), ["tea 4"]);
  });

  test("do not move the position back", async () => {
    const it = await framed();
    for (const n of [1, 2, 1]) say("tea", n);
    assert.deepEqual(await positions(it), { tea: "tea.2" });
  });

  test("are told by their place: the same message at another is another, and so is one in another room", async () => {
    const it = await framed();
    for (const room of ["tea", "coffee"]) FakeSocket.last.frame("m", { room, position: "e.1.x" }, "hi");
    FakeSocket.last.frame("m", { room: "tea", position: "e.2.x" }, "hi").say("hi").say("hi");
    assert.equal(it.messages.length, 5);
    assert.deepEqual(await positions(it), { tea: "e.2.x", coffee: "e.1.x" });
  });

  test("come again where the room is joined anew, and only there", async () => {
    const it = await framed();
    say("tea", 1);
    say("coffee", 1);
    await again(it);
    FakeSocket.last.frame("j", { room: "tea", recovered: false });
    say("tea", 1);
    say("coffee", 1);
    assert.deepEqual(it.messages, ["tea 1", "coffee 1", "tea 1"]);
  });

  test("are known for a thousand messages, and no memory grows beyond", async () => {
    const it = await framed();
    for (let n = 0; n < 1_500; n++) say("tea", n);
    say("tea", 1_000);
    assert.equal(it.messages.length, 1_500);
    say("tea", 1);
    assert.equal(it.messages.length, 1_501);
  });
});

describe("recovered", () => {
  for (const [recovered, had, told] of [
    [true, true, true],
    [true, false, true],
    [false, true, false],
    [false, false, false],
    [null, true, false],
    [null, false, undefined],
  ]) {
    test(`${recovered} ${had ? "with" : "without"} a position is told as ${told}`, async () => {
      const it = await framed();
      if (had) say("tea", 1);
      const order = [];
      it.addEventListener("recovered", () => order.push("recovered"));
      it.addEventListener("message", () => order.push("message"));
      await again(it);
      FakeSocket.last.frame("j", { room: "tea", recovered });
      say("tea", 2);
      assert.deepEqual(it.recovered, told === undefined ? [] : [{ tea: told }]);
      assert.equal(order.at(-1), "message");
    });
  }

  test("a room that is joined for the first time is no news", async () => {
    const it = await framed();
    FakeSocket.last.frame("j", { room: "tea", recovered: null });
    assert.deepEqual(it.recovered, []);
  });

  test("a room that was left and is joined again is no news", async () => {
    const it = await framed();
    say("tea", 1);
    FakeSocket.last.frame("l", { room: "tea" }).frame("j", { room: "tea", recovered: null });
    assert.deepEqual(it.recovered, []);
  });

  test("a hole that opens while the room is replayed is told", async () => {
    const it = await framed();
    say("tea", 1);
    await again(it);
    FakeSocket.last.frame("j", { room: "tea", recovered: true });
    say("tea", 2);
    FakeSocket.last.frame("j", { room: "tea", recovered: false });
    assert.deepEqual(it.recovered, [{ tea: true }, { tea: false }]);
  });

  test("whoever is told may close it", async () => {
    const it = await framed();
    it.addEventListener("recovered", () => it.close());
    FakeSocket.last.frame("j", { room: "tea", recovered: false });
    say("tea", 1);
    assert.deepEqual([it.state, it.messages], ["closed", []]);
  });
});

describe("the storage", () => {
  let storage;
  beforeEach(() => (storage = new FakeStorage()));

  /** A page with a client that has got as far as the first message. */
  async function read(options) {
    const it = await framed({ storage, ...options });
    say("tea", 1);
    return it;
  }

  test("has nothing as long as the page is seen", async () => {
    await read();
    assert.equal(storage.items.size, 0);
  });

  for (const [name, hide, reveal] of [
    ["hidden", () => show(false), () => show(true)],
    ["left", () => fire("pagehide"), () => fire("pageshow")],
    ["frozen", () => fireAtDocument("freeze"), () => fireAtDocument("resume")],
  ]) {
    test(`has token and positions while the page is ${name}, and no more when it is seen again`, async () => {
      await read();
      hide();
      assert.deepEqual(storage.only, { token: TOKEN, positions: [["tea", "tea.1"]] });
      reveal();
      assert.equal(storage.items.size, 0);
    });
  }

  test("resumes a page that is loaded again, and is empty then", async () => {
    await read();
    fire("pagehide");
    const loaded = client({ storage });
    await settled();
    assert.equal(storage.items.size, 0);
    const { resumed } = FakeSocket.last.open().hello({ token: "f".repeat(32) });
    assert.deepEqual(resumed, { token: TOKEN, positions: { tea: "tea.1" } });
    FakeSocket.last.frame("j", { room: "tea", recovered: null });
    assert.deepEqual(loaded.recovered, [{ tea: false }]);
  });

  test("a tab that is duplicated begins anew", async () => {
    await read();
    const copy = new FakeStorage();
    copy.items = new Map(storage.items);
    client({ storage: copy });
    await settled();
    assert.deepEqual(FakeSocket.last.open().hello({ token: "f".repeat(32) }).resumed, {
      token: "f".repeat(32),
      positions: {},
    });
  });

  test("keeps what it has while a hidden page comes online", async () => {
    await read();
    show(false);
    fire("online");
    assert.notEqual(storage.only, null);
  });

  test("goes on where a client was closed, and where it ended", async () => {
    for (const end of [(it) => it.close(), () => FakeSocket.last.end(1008)]) {
      end(await read());
      assert.deepEqual(await positions(client({ storage })), { tea: "tea.1" });
      storage.items.clear();
    }
  });

  test("has nothing of a client that was closed and connects again", async () => {
    const it = await read();
    it.close();
    await again(it);
    assert.equal(storage.items.size, 0);
  });

  test("is one for each URL, or key", async () => {
    const urls = ["wss://a.example/?room=1", "wss://a.example/?room=2", "wss://a.example/?room=2"];
    const clients = urls.map((url, i) => client({ storage, key: i === 2 ? "mine" : undefined }, url));
    await settled();
    FakeSocket.all.forEach((socket, i) => socket.open().hello().frame("p", { room: `r${i}`, position: "1" }));
    fire("pagehide");
    assert.deepEqual([...storage.items.keys()].sort(), [
      "fastapi_rooms mine",
      "fastapi_rooms wss://a.example/?room=1",
      "fastapi_rooms wss://a.example/?room=2",
    ]);
    assert.equal(clients.length, 3);
  });

  test("that is blocked is none", async () => {
    const blocked = () => {
      throw new DOMException("blocked", "SecurityError");
    };
    const it = await framed({ storage: { getItem: blocked, setItem: blocked, removeItem: blocked } });
    say("tea", 1);
    show(false);
    show(true);
    assert.deepEqual(await positions(it), { tea: "tea.1" });
  });

  for (const garbage of ["", "{", "null", "[]", "7", '"x"', "{}", '{"positions":7}', '{"positions":[7]}', '{"token":7}']) {
    test(`with ${garbage || "nothing"} in it is none`, async () => {
      storage.getItem = () => garbage;
      await framed({ storage });
      assert.deepEqual(FakeSocket.last.resumed, { token: TOKEN, positions: {} });
    });
  }
});

// What is sent, and what becomes of it where there is no connection.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";

import { FakeSocket, around, client, fire, framed, pass, plain, settled, show, sleep } from "./support.js";

around({ beforeEach, afterEach });

/** What becomes of a promise, as a word. */
async function fate(promise) {
  let word = "waiting";
  promise.then(
    (value) => (word = value === undefined ? "sent" : value),
    (error) => (word = error.message),
  );
  await settled();
  return word;
}

/** What becomes of those of a client that is away, when it comes back. */
async function back(it) {
  await pass(it.told.at(-1).delay);
  FakeSocket.last.open().hello();
  return FakeSocket.last.messages;
}

async function away(buffer) {
  const it = await framed({ buffer });
  FakeSocket.last.end();
  return it;
}

describe("a message", () => {
  const list = (data) => (typeof data === "string" ? data : [...data]);
  const view = new Uint8Array([9, 1, 2, 9]).subarray(1, 3);

  for (const [name, message, sent] of [
    ["of text", "hi", "hi"],
    ["of no text", "", ""],
    ["of many-byte characters", "üß 🫖", "üß 🫖"],
    ["that is an object", { a: [1, null] }, '{"a":[1,null]}'],
    ["that is a number", 7, "7"],
    ["that is false", false, "false"],
    ["that is null", null, "null"],
    ["about bytes", { name: "a.png", byteLength: 7 }, '{"name":"a.png","byteLength":7}'],
    ["of bytes", new Uint8Array([1, 2]).buffer, [1, 2]],
    ["of no bytes", new ArrayBuffer(0), []],
    ["that is a view", view, [1, 2]],
    ["that is another view", new DataView(view.buffer, 1, 2), [1, 2]],
    ["of wider numbers", new Uint16Array([257]), [1, 1]],
    ["that looks like a frame", '\0r{"token":7}', '\0.\0r{"token":7}'],
    ["that looks like an escape", "\0.", "\0.\0."],
    ["that is NUL", "\0", "\0.\0"],
    ["of bytes that look like a frame", new Uint8Array([0, 109, 1]), [0, 46, 0, 109, 1]],
    ["of JSON that is not a frame", { nul: "\0" }, '{"nul":"\\u0000"}'],
  ]) {
    test(`${name} leaves as it should`, async () => {
      const it = await framed();
      assert.equal(await fate(it.send(message)), "sent");
      assert.deepEqual(FakeSocket.last.messages.map(list), [sent]);
    });
  }

  test("of a megabyte of zeros is escaped", async () => {
    const it = await framed();
    await it.send(new ArrayBuffer(2 ** 20));
    assert.equal(FakeSocket.last.messages[0].length, 2 ** 20 + 2);
  });

  test("that is no JSON is an error, and nothing leaves", async () => {
    const it = await framed();
    const circle = {};
    circle.circle = circle;
    for (const message of [circle, 1n, undefined]) await assert.rejects(it.send(message), TypeError);
    assert.deepEqual(FakeSocket.last.messages, []);
  });
});

describe("without a buffer", () => {
  test("what is sent while away is rejected, and never leaves", async () => {
    const it = client();
    assert.equal(await fate(it.send("connecting")), "not connected");
    FakeSocket.last.open();
    assert.equal(await fate(it.send("before hello")), "not connected");
    FakeSocket.last.hello().end();
    assert.equal(await fate(it.send("waiting")), "not connected");
    assert.deepEqual(await back(it), []);
    it.close();
    assert.equal(await fate(it.send("closed")), "not connected");
  });

  test("what is sent to a connection that is about to end is rejected", async () => {
    const it = await framed();
    FakeSocket.last.readyState = 2;
    assert.equal(await fate(it.send("hi")), "not connected");
  });
});

describe("with a buffer", () => {
  test("what is sent while away leaves in its order, once, after what listeners send on open, as a login", async () => {
    const it = client({ buffer: {} });
    it.addEventListener("state", ({ detail }) => detail.state === "open" && it.send("login"));
    const fates = ["a", { b: 1 }, "c"].map((message) => it.send(message));
    await settled();
    FakeSocket.last.open().hello();
    await Promise.all(fates);
    assert.deepEqual(FakeSocket.last.messages, ["login", "a", '{"b":1}', "c"]);
    FakeSocket.last.end();
    assert.deepEqual(await back(it), ["login"]);
  });

  for (const [name, act] of [
    ["reconnects", (it) => it.reconnect()],
    ["closes", (it) => it.close()],
  ]) {
    test(`what waits does not leave if a listener ${name} on open`, async () => {
      const it = client({ buffer: {} });
      const promise = it.send("hi");
      await settled();
      const [first] = FakeSocket.all;
      it.addEventListener("state", ({ detail }) => detail.state === "open" && first === FakeSocket.last && act(it));
      first.open().hello();
      assert.deepEqual(first.messages, []);
      assert.equal(await fate(promise), name === "closes" ? "not connected" : "waiting");
    });
  }

  test("what begins with NUL is escaped where the server says hello, and only there", async () => {
    const it = client({ buffer: {} });
    it.send("\0");
    await settled();
    FakeSocket.last.open().hello();
    assert.deepEqual(FakeSocket.last.messages, ["\0.\0"]);
    const other = client({ buffer: {} });
    other.send("\0");
    await settled();
    FakeSocket.last.open().say("welcome");
    assert.deepEqual(FakeSocket.last.messages, ["\0"]);
  });

  test("it counts messages", async () => {
    const it = await away({ messages: 2 });
    const fates = ["a", "b", "c"].map((message) => fate(it.send(message)));
    assert.deepEqual(await Promise.all(fates), ["waiting", "waiting", "too much is waiting"]);
    assert.deepEqual(await back(it), ["a", "b"]);
  });

  test("it counts bytes, as they are sent", async () => {
    const it = await away({ bytes: 8 });
    const fates = ["üü", new Uint8Array(4), "", "a"].map((message) => fate(it.send(message)));
    assert.deepEqual(await Promise.all(fates), ["waiting", "waiting", "waiting", "too much is waiting"]);
    assert.equal((await back(it)).length, 3);
  });

  test("there is room again for as much as has left", async () => {
    const it = await away({ messages: 1, bytes: 1 });
    it.send("a");
    await back(it);
    FakeSocket.last.end();
    assert.equal(await fate(it.send("b")), "waiting");
    assert.deepEqual(await back(it), ["b"]);
  });

  test("it has limits of its own, unless told otherwise", async () => {
    const it = await away({});
    const fates = Array.from({ length: 101 }, () => fate(it.send("a")));
    assert.deepEqual((await Promise.all(fates)).slice(-2), ["waiting", "too much is waiting"]);
    const other = await away({});
    assert.equal(await fate(other.send(new ArrayBuffer(65_537))), "too much is waiting");
    assert.equal(await fate(other.send(new ArrayBuffer(65_536))), "waiting");
  });

  test("what is too old is rejected, and never leaves", async () => {
    const it = client({ buffer: { age: 1_000 } });
    await settled();
    const first = fate(it.send("old"));
    await pass(600);
    it.send("new");
    await pass(400);
    assert.equal(await fate(first), "waiting");
    FakeSocket.last.open().hello();
    assert.deepEqual(FakeSocket.last.messages, ["new"]);
  });

  test("it is the clock that says so, where timers stood still", async () => {
    const it = client({ buffer: { age: 1_000 } });
    await settled();
    const promise = it.send("old");
    sleep(1_001);
    FakeSocket.last.open().hello();
    await assert.rejects(promise, { message: "not connected" });
    assert.deepEqual(FakeSocket.last.messages, []);
  });

  test("without a limit of age it waits for as long as it takes", async () => {
    const it = await away({ age: Infinity });
    assert.equal(await fate(it.send("hi")), "waiting");
    await pass(1);
    assert.deepEqual(await back(it), ["hi"]);
  });

  test("bytes leave as they were when they were sent", async () => {
    const it = await away({});
    const mine = new Uint8Array([1, 2]);
    const pooled = Buffer.from([3, 4]);
    it.send(mine);
    it.send(mine.buffer);
    it.send(pooled);
    mine.fill(9);
    pooled.fill(9);
    assert.deepEqual((await back(it)).map((data) => [...data]), [[1, 2], [1, 2], [3, 4]]);
  });

  test("what is sent to a connection that is about to end waits for the next", async () => {
    const it = await framed({ buffer: {} });
    const first = FakeSocket.last;
    first.readyState = 2;
    it.send("hi");
    first.end();
    assert.deepEqual(await back(it), ["hi"]);
    assert.deepEqual(first.messages, []);
  });

  test("what waits is not spent on a connection that is about to end", async () => {
    const it = client({ buffer: {} });
    const promise = it.send("hi");
    await settled();
    const first = FakeSocket.last.open();
    first.readyState = 2;
    first.hello();
    assert.equal(await fate(promise), "waiting");
    first.end();
    assert.deepEqual(await back(it), ["hi"]);
  });

  test("what waits is rejected when it is closed, or ends", async () => {
    for (const end of [(it) => it.close(), () => FakeSocket.last.end(1008)]) {
      const it = client({ buffer: {} });
      const promise = it.send("hi");
      await settled();
      end(it);
      assert.equal(await fate(promise), "not connected");
      assert.equal(await fate(it.send("closed")), "not connected");
      it.reconnect();
      await settled();
      FakeSocket.last.open().hello();
      assert.deepEqual(FakeSocket.last.messages, []);
    }
  });

  test("what is sent by whoever is told that it has ended, and connects again, is kept", async () => {
    const it = client({ buffer: {} });
    let promise;
    it.addEventListener("state", ({ detail }) => {
      if (detail.state !== "closed" || promise) return;
      it.reconnect();
      promise = it.send("hi");
    });
    await settled();
    FakeSocket.last.end(1008);
    await settled();
    FakeSocket.last.open().hello();
    assert.equal(await fate(promise), "sent");
  });

  test("what waits survives a page that is hidden", async () => {
    const it = await framed({ buffer: {} });
    fire("pagehide");
    const promise = it.send("hi");
    show(true);
    await settled();
    FakeSocket.last.open().hello();
    assert.equal(await fate(promise), "sent");
  });

  test("a server that says no hello gets it when it is taken for one", async () => {
    const it = await plain({ buffer: {} });
    FakeSocket.last.end();
    it.send("hi");
    await pass(it.told.at(-1).delay);
    FakeSocket.last.open();
    await pass(1);
    assert.deepEqual(FakeSocket.last.sent, ["hi"]);
  });
});

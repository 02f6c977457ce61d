// What comes: messages of every kind, and servers that know nothing of the framing.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";

import { FakeSocket, TOKEN, around, client, framed, pass, plain, settled } from "./support.js";

around({ beforeEach, afterEach });

const bytes = (...parts) => {
  const all = parts.map((part) => (typeof part === "string" ? new TextEncoder().encode(part) : part));
  return new Uint8Array(all.flatMap((part) => [...part])).buffer;
};

const same = (found, expected) => {
  const plainly = (data) => (typeof data === "string" ? data : [...new Uint8Array(data)]);
  assert.deepEqual(found.map(plainly), expected.map(plainly));
};

describe("the beginning", () => {
  test("a socket that is open says nothing before hello, and the resume frame first", async () => {
    const it = client();
    await settled();
    FakeSocket.last.open();
    assert.deepEqual([it.state, FakeSocket.last.sent], ["connecting", []]);
    FakeSocket.last.hello();
    assert.deepEqual([it.state, FakeSocket.last.resumed], ["open", { token: TOKEN, positions: {} }]);
    await it.send("hi");
    assert.deepEqual(FakeSocket.last.messages, ["hi"]);
  });

  test("bytes come as an ArrayBuffer", async () => {
    await framed();
    assert.equal(FakeSocket.last.binaryType, "arraybuffer");
  });

  test("what is told is a legal path from the first state to the last", async () => {
    const it = await framed();
    FakeSocket.last.end();
    await pass(it.told.at(-1).delay);
    it.close();
    const states = it.told.map(({ state }) => state);
    assert.deepEqual(states, ["open", "waiting", "connecting", "closed"]);
    assert.equal(client().state, "connecting");
  });

  test("without a WebSocket handed in it takes the environment's", async () => {
    const real = globalThis.WebSocket;
    globalThis.WebSocket = FakeSocket;
    try {
      client({ WebSocket: undefined });
      await settled();
      assert.equal(FakeSocket.all.length, 1);
    } finally {
      globalThis.WebSocket = real;
    }
  });
});

describe("frames", () => {
  const HEADER = '{"room":"tëa","position":"e.1.x"}';

  for (const [name, frame, message] of [
    ["a message without a place", "hi", "hi"],
    ["an empty one", "", ""],
    ["an empty one of bytes", bytes(), bytes()],
    ["bytes", bytes("hi"), bytes("hi")],
    ["bytes that are no text", bytes([255, 0, 10]), bytes([255, 0, 10])],
    ["a message in its place", `\0m${HEADER}\nhi`, "hi"],
    ["an empty one in its place", `\0m${HEADER}\n`, ""],
    ["one with line feeds", `\0m${HEADER}\n\n1\n2`, "\n1\n2"],
    ["one of many-byte characters", `\0m${HEADER}\nüß 🫖`, "üß 🫖"],
    ["one that begins with NUL", `\0m${HEADER}\n\0m`, "\0m"],
    ["bytes in their place", bytes("\0m", HEADER, "\n", [0, 255, 10, 1]), bytes([0, 255, 10, 1])],
    ["no bytes in their place", bytes("\0m", HEADER, "\n"), bytes()],
    ["a message that is escaped", "\0.\0b", "\0b"],
    ["bytes that are escaped", bytes("\0.", [0, 109]), bytes([0, 109])],
  ]) {
    test(`${name} is what was sent`, async () => {
      const it = await framed();
      FakeSocket.last.say(frame);
      same(it.messages, [message]);
    });
  }

  for (const [name, frame] of [
    ["a heartbeat", "\0b"],
    ["a position", '\0p{"room":"tea","position":"e.1.x"}'],
    ["another hello", `\0h{"version":1,"token":"${TOKEN}","heartbeat":25,"answers":true,"window":0}`],
    ["NUL alone", "\0"],
    ["NUL alone, in bytes", bytes([0])],
    ["a kind that is not known", '\0z{"room":"tea"}'],
    ["a kind that is not known, and no JSON", "\0z["],
    ["a header that is no JSON", "\0m{\nhi"],
    ["a header that is no JSON, in bytes", bytes("\0m{\nhi")],
    ["a header without an end", "\0m{"],
    ["a room that is left", '\0l{"room":"tea"}'],
    ["what is no object", "\0pnull"],
  ]) {
    test(`${name} is no message, and no error`, async () => {
      const it = await framed();
      FakeSocket.last.say(frame).say("next");
      assert.deepEqual(it.messages, ["next"]);
    });
  }

  test("a message in its place has its position as its id, and no other has one", async () => {
    const it = await framed();
    const ids = [];
    it.addEventListener("message", ({ lastEventId }) => ids.push(lastEventId));
    FakeSocket.last.say(`\0m${HEADER}\nhi`).say("hi").say("\0.\0");
    assert.deepEqual(ids, ["e.1.x", "", ""]);
  });

  test("members that are not known are ignored", async () => {
    const it = await framed({}, { more: 1 });
    FakeSocket.last.say('\0m{"data":1,"kind":"l","room":"tea","position":"e.1.x"}\nhi');
    assert.deepEqual(it.messages, ["hi"]);
  });
});

describe("a server that says no hello", () => {
  test("is open after two seconds", async () => {
    const it = client();
    await settled();
    FakeSocket.last.open();
    await pass(1_999);
    assert.equal(it.state, "connecting");
    await pass(1);
    assert.equal(it.state, "open");
    await it.send("hi");
    assert.deepEqual(FakeSocket.last.sent, ["hi"]);
  });

  test("is open at once the next time", async () => {
    const it = await plain();
    it.reconnect();
    await settled();
    FakeSocket.last.open();
    await pass(1);
    assert.equal(it.state, "open");
  });

  test("is open with its first message", async () => {
    const it = client();
    await settled();
    FakeSocket.last.open().say("welcome");
    assert.deepEqual([it.state, it.messages], ["open", ["welcome"]]);
  });

  test("has its messages untouched, also those that begin with NUL", async () => {
    const it = client();
    const messages = ["\0hello", "\0h", "\0h{}", '\0h{"version":2,"heartbeat":25}', "\0hnull", "\0m{}\nhi", "\0.", "\0b", "\0"];
    await settled();
    FakeSocket.last.open();
    for (const message of messages) FakeSocket.last.say(message);
    FakeSocket.last.say(bytes([0, 46, 1]));
    same(it.messages, [...messages, bytes([0, 46, 1])]);
  });

  test("gets what is sent untouched", async () => {
    const it = await plain();
    await it.send("\0m");
    await it.send(bytes([0, 1]));
    same(FakeSocket.last.sent, ["\0m", bytes([0, 1])]);
  });

  test("is not told that a page was seen, and is not taken for dead", async () => {
    const it = await plain();
    await pass(600_000);
    assert.deepEqual([it.state, FakeSocket.last.sent], ["open", []]);
  });

  test("gets no message to whoever closes it as it opens", async () => {
    const it = client();
    it.addEventListener("state", ({ detail }) => detail.state === "open" && it.close());
    await settled();
    FakeSocket.last.open().say("welcome");
    assert.deepEqual([it.state, it.messages], ["closed", []]);
  });

  test("whose heartbeat is no time, or longer than timers can be, is one of these, too", async () => {
    for (const heartbeat of [0, -1, null, undefined, "x", 1e7]) {
      const it = await framed({}, { heartbeat });
      assert.deepEqual([it.state, it.messages.length, FakeSocket.last.sent.length], ["open", 1, 0]);
    }
  });
});

describe("a hello that is late", () => {
  test("begins the framing then, and opens nothing twice", async () => {
    const it = await plain();
    await it.send("before");
    FakeSocket.last.hello();
    FakeSocket.last.say('\0m{"room":"tea","position":"e.1.x"}\nhi');
    await it.send("\0after");
    assert.deepEqual(it.told.map(({ state }) => state), ["open"]);
    assert.deepEqual(it.messages, ["hi"]);
    assert.deepEqual(FakeSocket.last.sent, [
      "before",
      `\0r{"token":"${TOKEN}","positions":{}}`,
      "\0.\0after",
    ]);
  });

  test("is waited for the next time", async () => {
    const it = await plain();
    FakeSocket.last.hello();
    it.reconnect();
    await settled();
    FakeSocket.last.open();
    await pass(1_000);
    assert.equal(it.state, "connecting");
  });
});

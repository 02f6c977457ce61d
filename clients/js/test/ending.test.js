// What is final, and what is not: close codes, tokens, URLs.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";

import { FakeSocket, around, client, fire, fireAtDocument, framed, pass, settled, show } from "./support.js";

around({ beforeEach, afterEach });

const MINUTE = 60_000;

describe("close codes", () => {
  const ENDS = new Set([1000, 1003, 1007, 1008, 1009, 1010]);
  const RETURNS = new Set([4408, 4425, 4429]);

  /** As the page "Close codes" has it; a test in Python compares that page with the client. */
  function returns(code) {
    if (code < 3000) return !ENDS.has(code);
    return RETURNS.has(code) || (code >= 4500 && code <= 4599);
  }

  test("every code from 1000 to 4999 ends it, or does not", async () => {
    for (let code = 1000; code < 5000; code++) {
      const it = await framed();
      FakeSocket.last.end(code, "why");
      const { state, code: told, reason } = it.told.at(-1);
      assert.deepEqual([state, told, reason], [returns(code) ? "waiting" : "closed", code, "why"]);
      const before = FakeSocket.all.length;
      if (!returns(code)) {
        fire("online");
        await settled();
        assert.equal(FakeSocket.all.length, before, `${code} is final`);
      }
      it.close();
    }
  });

  test("a final code is never retried", async () => {
    const it = await framed();
    FakeSocket.last.end(1008, "not here");
    for (let i = 0; i < 10; i++) {
      fire("online");
      fire("pageshow");
      show(true);
      fireAtDocument("resume");
      await pass(MINUTE);
    }
    assert.deepEqual([it.state, FakeSocket.all.length], ["closed", 1]);
  });
});

describe("a deliberate close", () => {
  for (const [name, prepare] of [
    ["of an open connection", (socket) => socket.open().hello()],
    ["while connecting", () => {}],
    ["while waiting", (socket) => socket.end()],
  ]) {
    test(`${name} stays closed`, async () => {
      const it = client();
      await settled();
      prepare(FakeSocket.last);
      it.close(4000, "bye");
      const told = it.told.length;
      for (const event of ["offline", "online", "pagehide", "pageshow"]) fire(event);
      show(false);
      show(true);
      fireAtDocument("freeze");
      fireAtDocument("resume");
      FakeSocket.last.end(1006);
      await pass(10 * MINUTE);
      assert.deepEqual(it.told.at(-1), { state: "closed", code: 4000, reason: "bye" });
      assert.deepEqual([it.told.length, FakeSocket.all.length], [told, 1]);
    });
  }

  test("says its code and reason to the server, 1000 unless told otherwise", async () => {
    (await framed()).close(4000, "bye");
    assert.deepEqual(FakeSocket.last.closedBy, { code: 4000, reason: "bye" });
    (await framed()).close();
    assert.equal(FakeSocket.last.closedBy.code, 1000);
  });

  test("with a code that there is not is an error, and closes nothing", async () => {
    const it = await framed();
    assert.throws(() => it.close(1001), { name: "InvalidAccessError" });
    assert.deepEqual([it.state, FakeSocket.last.readyState], ["open", 1]);
  });

  test("before the token was there opens nothing", async () => {
    let resolve;
    const it = client({ token: () => new Promise((done) => (resolve = done)) });
    await settled();
    it.close();
    resolve("late");
    await pass(MINUTE);
    assert.equal(FakeSocket.all.length, 0);
  });

  test("twice tells once", async () => {
    const it = await framed();
    it.close();
    it.close();
    assert.equal(it.told.filter(({ state }) => state === "closed").length, 1);
  });

  test("ends with reconnect", async () => {
    const it = await framed();
    it.close();
    it.reconnect();
    await settled();
    FakeSocket.last.open().hello();
    assert.equal(it.state, "open");
    fire("offline");
    fire("online");
    await settled();
    assert.deepEqual([FakeSocket.all.length, FakeSocket.live.length], [3, 1]);
  });
});

describe("4401", () => {
  const refuse = async (it) => {
    await settled();
    FakeSocket.last.open().end(4401, "expired");
    await pass(it.told.at(-1).delay ?? 0);
  };

  test("ends it where there is no function to ask", async () => {
    for (const token of [undefined, "a token"]) {
      const it = client({ token });
      await refuse(it);
      assert.deepEqual(it.told.at(-1), { state: "closed", code: 4401, reason: "expired" });
    }
  });

  test("asks whatever else is a function, too", async () => {
    for (const what of ["url", "protocols"]) {
      const asked = [];
      const ask = (answer) => (about) => (asked.push(about), answer);
      const it = what === "url" ? client({}, ask("wss://example.org/")) : client({ protocols: ask([]) });
      await refuse(it);
      await settled();
      assert.deepEqual([it.state, asked.at(-1)], ["connecting", { refresh: true }]);
      it.close();
    }
  });

  test("asks for another token, once", async () => {
    const asked = [];
    const it = client({ token: async (about) => `token ${asked.push(about)}` });
    await refuse(it);
    await settled();
    assert.deepEqual(asked, [{ refresh: false }, { refresh: true }]);
    assert.equal(FakeSocket.last.url.searchParams.get("token"), "token 2");
    await refuse(it);
    await pass(MINUTE);
    assert.deepEqual([it.state, it.told.at(-1).code, asked.length], ["closed", 4401, 2]);
  });

  test("asks again once a connection has lasted", async () => {
    const asked = [];
    const it = client({ token: ({ refresh }) => `token ${asked.push(refresh)}` });
    for (let i = 0; i < 3; i++) {
      await refuse(it);
      FakeSocket.last.open().hello();
      await pass(5_000);
      assert.equal(it.state, "open");
      it.reconnect();
    }
    assert.deepEqual(asked, [false, true, false, true, false, true, false]);
  });

  test("asks again after a login and reconnect", async () => {
    const asked = [];
    const it = client({ token: ({ refresh }) => `token ${asked.push(refresh)}` });
    await refuse(it);
    await refuse(it);
    assert.equal(it.state, "closed");
    it.reconnect();
    await refuse(it);
    assert.notEqual(it.state, "closed");
    assert.deepEqual(asked, [false, true, false, true]);
  });

  test("a lost connection in between does not forget that the token has expired", async () => {
    const asked = [];
    const it = client({ token: ({ refresh }) => `token ${asked.push(refresh)}` });
    await refuse(it);
    FakeSocket.last.end();
    await pass(it.told.at(-1).delay);
    assert.deepEqual(asked, [false, true, true]);
  });
});

describe("URL and token", () => {
  test("are asked for on every attempt", async () => {
    let url = 0;
    let token = 0;
    const it = client({ token: async () => `t${++token}` }, async () => `wss://example.org/${++url}`);
    for (let i = 1; i < 5; i++) {
      await settled();
      assert.equal(FakeSocket.last.url.href, `wss://example.org/${i}?fastapi_rooms=1&token=t${i}`);
      FakeSocket.last.end();
      await pass(it.told.at(-1).delay);
    }
  });

  test("the URL keeps its query, and http is taken for ws", async () => {
    client({}, "https://example.org/chat?room=tea");
    client({}, new URL("http://example.org/chat"));
    await settled();
    assert.deepEqual(
      FakeSocket.all.map(({ url }) => url.href),
      ["wss://example.org/chat?room=tea&fastapi_rooms=1", "ws://example.org/chat?fastapi_rooms=1"],
    );
  });

  test("a relative URL is the page's", async () => {
    globalThis.location = { href: "https://example.org/app/index.html" };
    try {
      client({}, "/chat");
      await settled();
      assert.equal(FakeSocket.last.url.href, "wss://example.org/chat?fastapi_rooms=1");
    } finally {
      delete globalThis.location;
    }
  });

  test("a token is not there where it is null or undefined, and is encoded where it is", async () => {
    for (const token of [null, undefined, () => null, async () => undefined]) {
      client({ token });
      await settled();
      assert.equal(FakeSocket.last.url.searchParams.has("token"), false);
    }
    client({ token: "a&b=ü +" });
    await settled();
    assert.equal(FakeSocket.last.url.searchParams.get("token"), "a&b=ü +");
  });

  test("subprotocols are handed on", async () => {
    for (const [protocols, offered] of [[["chat"], ["chat"]], [async () => "tea", "tea"], [undefined, undefined]]) {
      client({ protocols });
      await settled();
      assert.deepEqual(FakeSocket.last.protocols, offered);
    }
  });

  test("a function that throws or rejects is an attempt that failed", async () => {
    for (const options of [
      { token: async () => { throw new Error("no network"); } },
      { token: () => { throw new Error("no network"); } },
    ]) {
      let isBroken = true;
      const it = client({ token: () => (isBroken ? options.token() : "t") });
      await settled();
      const { state, code, reason, delay } = it.told.at(-1);
      assert.deepEqual([state, code, reason], ["waiting", 1006, "Error: no network"]);
      isBroken = false;
      await pass(delay);
      assert.equal(FakeSocket.last.url.searchParams.get("token"), "t");
      it.close();
    }
  });

  test("a function that hangs is an attempt that failed after ten seconds; its answer is not used then", async () => {
    const resolves = [];
    const it = client({ token: () => new Promise((resolve) => resolves.push(resolve)) });
    await settled();
    await pass(9_999);
    assert.equal(it.state, "connecting");
    await pass(1);
    assert.deepEqual([it.state, it.told.at(-1).reason], ["waiting", "no answer"]);
    resolves[0]("late");
    await settled();
    assert.equal(FakeSocket.all.length, 0);
    await pass(it.told.at(-1).delay);
    resolves[1]("new");
    await settled();
    assert.equal(FakeSocket.last.url.searchParams.get("token"), "new");
    assert.equal(FakeSocket.all.length, 1);
  });

  test("a server that does not answer is an attempt that failed after ten seconds", async () => {
    const it = client();
    await settled();
    await pass(10_000);
    assert.deepEqual([it.state, FakeSocket.last.readyState], ["waiting", 2]);
  });

  test("an invalid URL ends it, and says which", async () => {
    for (const url of ["/chat", "nonsense", "ftp://example.org/chat", "wss://"]) {
      const it = client({}, url);
      await settled();
      const { state, code, reason } = it.told.at(-1);
      assert.deepEqual([state, code], ["closed", 1006]);
      assert.ok(reason.includes("Error") && reason.endsWith(`: ${url}`), reason);
    }
    await pass(MINUTE);
    assert.equal(FakeSocket.all.length, 0);
  });
});

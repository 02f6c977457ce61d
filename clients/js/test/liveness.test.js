// Dead connections, and pages that come and go.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";

import { FakeSocket, around, client, fire, fireAtDocument, framed, pass, plain, settled, show, sleep } from "./support.js";

around({ beforeEach, afterEach });

const asked = () => FakeSocket.last.sent.filter((data) => data === "\0b").length;

const EVENTS = {
  online: () => fire("online"),
  pageshow: () => fire("pageshow"),
  visible: () => show(true),
  resume: () => fireAtDocument("resume"),
};

describe("silence", () => {
  test("for ten seconds beyond the heartbeat is a dead connection, and another is tried at once", async () => {
    const it = await framed({}, { heartbeat: 20 });
    await pass(29_999);
    assert.equal(it.state, "open");
    await pass(1);
    assert.deepEqual(it.told.at(-2), { state: "waiting", code: 1006, reason: "silence", delay: 0 });
    assert.deepEqual(FakeSocket.all.map(({ readyState }) => readyState), [2, 0]);
  });

  for (const [name, frame] of [
    ["a heartbeat", "\0b"],
    ["a message", "hi"],
    ["an empty one", ""],
  ]) {
    test(`is broken by ${name}`, async () => {
      const it = await framed();
      for (let i = 0; i < 10; i++) {
        await pass(34_000);
        FakeSocket.last.say(frame);
      }
      assert.deepEqual([it.state, FakeSocket.all.length], ["open", 1]);
    });
  }

  test("is measured by the clock, where timers stood still", async () => {
    const it = await framed();
    sleep(3_600_000);
    show(true);
    assert.equal(it.state, "waiting");
    await pass(1);
    assert.equal(FakeSocket.all.length, 2);
  });

  test("is none of a server that says no hello", async () => {
    const it = await plain();
    await pass(3_600_000);
    for (const wake of Object.values(EVENTS)) wake();
    await pass(60_000);
    assert.deepEqual([it.state, FakeSocket.all.length, FakeSocket.last.sent], ["open", 1, []]);
  });

  test("does not make a client that has ended come back", async () => {
    const it = await framed();
    it.close();
    await pass(60_000);
    assert.equal(FakeSocket.all.length, 1);
  });
});

for (const [name, wake] of Object.entries(EVENTS)) {
  describe(`on ${name}`, () => {
    test("a connection is asked whether it lives, and kept if it answers", async () => {
      const it = await framed();
      wake();
      assert.equal(asked(), 1);
      await pass(2_999);
      FakeSocket.last.say("\0b");
      await pass(20_000);
      assert.deepEqual([it.state, FakeSocket.all.length], ["open", 1]);
    });

    test("it is asked again the next time", async () => {
      await framed();
      wake();
      FakeSocket.last.say("\0b");
      wake();
      assert.equal(asked(), 2);
      await pass(3_001);
      assert.equal(FakeSocket.all.length, 2);
    });

    test("one that does not answer within three seconds is dead", async () => {
      const it = await framed();
      wake();
      await pass(3_000);
      assert.deepEqual(it.told.at(-2), { state: "waiting", code: 1006, reason: "silence", delay: 0 });
      assert.equal(FakeSocket.all.length, 2);
    });

    test("a server that may answer late is not asked", async () => {
      const it = await framed({}, { answers: false });
      wake();
      await pass(20_000);
      assert.deepEqual([asked(), it.state], [0, "open"]);
    });

    test("who waits tries at once", async () => {
      const it = await framed();
      FakeSocket.last.end(1012);
      assert.ok(it.told.at(-1).delay > 0);
      wake();
      await settled();
      assert.equal(FakeSocket.all.length, 2);
      await pass(9_000);
      assert.deepEqual([FakeSocket.all.length, FakeSocket.live.length], [2, 1]);
    });

    test("an attempt that has begun just now goes on", async () => {
      client();
      await settled();
      await pass(3_000);
      wake();
      await settled();
      assert.equal(FakeSocket.all.length, 1);
    });

    test("an attempt that is old, as one that slept, begins anew", async () => {
      client();
      await settled();
      sleep(3_600_000);
      wake();
      await settled();
      assert.deepEqual([FakeSocket.all.length, FakeSocket.live.length], [2, 1]);
    });
  });
}

describe("offline", () => {
  test("ends a connection, and online brings another", async () => {
    const it = await framed();
    fire("offline");
    const { state, code, reason } = it.told.at(-1);
    assert.deepEqual([state, code, reason, FakeSocket.live.length], ["waiting", 1006, "offline", 0]);
    fire("online");
    await settled();
    assert.equal(FakeSocket.live.length, 1);
  });

  test("ends an attempt", async () => {
    const it = client();
    await settled();
    fire("offline");
    assert.deepEqual([it.state, FakeSocket.live.length], ["waiting", 0]);
  });

  test("tells nothing new to who waits", async () => {
    const it = await framed();
    FakeSocket.last.end();
    const told = it.told.length;
    fire("offline");
    assert.equal(it.told.length, told);
  });
});

describe("a page", () => {
  for (const [name, hide, reveal] of [
    ["left", () => fire("pagehide"), () => fire("pageshow")],
    ["frozen", () => fireAtDocument("freeze"), () => fireAtDocument("resume")],
  ]) {
    test(`that is ${name} has no connection, and tries none until it is there again`, async () => {
      const it = await framed();
      hide();
      assert.deepEqual(it.told.at(-1), { state: "waiting", code: 1001, reason: "page hidden", delay: Infinity });
      assert.equal(FakeSocket.last.readyState, 2);
      await pass(3_600_000);
      assert.equal(FakeSocket.all.length, 1);
      reveal();
      await settled();
      assert.equal(FakeSocket.all.length, 2);
    });

    test(`that is ${name} while it waits tries nothing either`, async () => {
      await framed();
      FakeSocket.last.end();
      hide();
      await pass(3_600_000);
      assert.equal(FakeSocket.all.length, 1);
    });
  }

  test("that is hidden keeps its connection", async () => {
    const it = await framed();
    show(false);
    await pass(20_000);
    assert.deepEqual([it.state, asked(), FakeSocket.all.length], ["open", 0, 1]);
  });

  test("that is shown in all ways at once makes one attempt", async () => {
    await framed();
    fireAtDocument("freeze");
    fire("pagehide");
    for (const wake of Object.values(EVENTS)) wake();
    await pass(1);
    assert.equal(FakeSocket.all.length, 2);
  });

  test("needs no document, as in a worker, and no window, as in Node", async () => {
    const { document: real, addEventListener } = globalThis;
    delete globalThis.document;
    globalThis.addEventListener = undefined;
    try {
      const it = await framed();
      it.close();
      assert.equal(it.state, "closed");
    } finally {
      Object.assign(globalThis, { document: real, addEventListener });
    }
  });
});

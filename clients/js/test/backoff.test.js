// When the next attempt is.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";

import { FakeSocket, around, client, framed, pass, random, settled } from "./support.js";

around({ beforeEach, afterEach });

const CAPS = [1000, 1000, 1000, 1000, 1000, 1500, 2250, 3375, 5062.5, 7593.75, 11390.625, 17085.9375, 20000, 20000];

/** The delays of one client whose attempts all fail. */
async function delays(count) {
  const it = client();
  for (let i = 0; i < count; i++) {
    await settled();
    FakeSocket.last.end();
    await pass(it.told.at(-1).delay);
  }
  it.close();
  return it.told.filter(({ state }) => state === "waiting").map(({ delay }) => delay);
}

describe("delays", () => {
  test("the longest is a second five times, grows by half, and ends at 20 seconds", async () => {
    Math.random = () => 0.999999;
    const found = await delays(CAPS.length);
    found.forEach((delay, i) => assert.ok(Math.abs(delay - CAPS[i]) < 1, `${i}: ${delay}, not ${CAPS[i]}`));
  });

  test("the shortest is none at all", async () => {
    Math.random = () => 0;
    assert.deepEqual(new Set(await delays(CAPS.length)), new Set([0]));
  });

  test("they fill all that is between, evenly", async () => {
    Math.random = random(7);
    const [clients, bins] = [400, 8];
    const counts = CAPS.map(() => Array(bins).fill(0));
    for (let i = 0; i < clients; i++) {
      (await delays(CAPS.length)).forEach((delay, n) => {
        assert.ok(delay >= 0 && delay < CAPS[n]);
        counts[n][Math.floor((delay / CAPS[n]) * bins)]++;
      });
    }
    const expected = clients / bins;
    for (const [n, row] of counts.entries()) {
      const chiSquare = row.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
      assert.ok(chiSquare < 24.3, `attempt ${n}: ${row}`); // p = 0.001 at 7 degrees of freedom
    }
  });

  test("the next attempt comes after the delay that was told, and not before", async () => {
    const it = client();
    await settled();
    FakeSocket.last.end();
    const { state, code, delay } = it.told.at(-1);
    assert.deepEqual([state, code], ["waiting", 1006]);
    await pass(Math.floor(delay));
    assert.equal(FakeSocket.all.length, 1);
    await pass(1);
    assert.equal(FakeSocket.all.length, 2);
  });
});

describe("the growth starts anew", () => {
  async function grown() {
    Math.random = () => 0.999999;
    const it = client();
    for (let i = 0; i < 9; i++) {
      await settled();
      FakeSocket.last.end();
      await pass(it.told.at(-1).delay + 1);
    }
    return it;
  }

  test("after a connection that has lasted for five seconds", async () => {
    const it = await grown();
    FakeSocket.last.open().hello();
    await pass(5_000);
    FakeSocket.last.end();
    assert.ok(it.told.at(-1).delay < 1_000);
  });

  test("not after one that was shorter: a server that accepts and rejects is not hammered", async () => {
    const it = await grown();
    FakeSocket.last.open().hello();
    await pass(4_999);
    FakeSocket.last.end();
    assert.ok(it.told.at(-1).delay > 7_000);
  });

  test("not after one that was open for five seconds and was never greeted by then", async () => {
    const it = await grown();
    FakeSocket.last.open();
    await pass(1_999);
    FakeSocket.last.hello();
    await pass(4_999);
    FakeSocket.last.end();
    assert.ok(it.told.at(-1).delay > 7_000);
  });
});

describe("a restart (1012)", () => {
  const after = async (open) => {
    Math.random = () => 0.999999;
    const it = client();
    await settled();
    open(FakeSocket.last);
    FakeSocket.last.end(1012);
    return Math.round(it.told.at(-1).delay);
  };

  test("spreads over the window that hello says", async () => {
    assert.equal(await after((socket) => socket.open().hello({ window: 30 })), 30_000);
  });

  test("spreads as after any other close where the server spreads by itself", async () => {
    assert.equal(await after((socket) => socket.open().hello({ window: 0 })), 1_000);
    assert.equal(await after((socket) => socket.open().hello({ window: "no number" })), 1_000);
  });

  test("spreads over five seconds without a hello", async () => {
    assert.equal(await after((socket) => socket.open()), 5_000);
    assert.equal(await after((socket) => socket.open().hello({ window: undefined })), 5_000);
  });

  test("spreads evenly", async () => {
    const counts = Array(5).fill(0);
    for (let i = 0; i < 500; i++) {
      const it = await framed({}, { window: 10 });
      FakeSocket.last.end(1012);
      counts[Math.floor(it.told.at(-1).delay / 2_000)]++;
      it.close();
    }
    assert.ok(Math.min(...counts) > 70, String(counts));
  });

  test("no other code takes the window", async () => {
    Math.random = () => 0.999999;
    for (const code of [1001, 1006, 1011, 1013]) {
      const it = await framed({}, { window: 30 });
      FakeSocket.last.end(code);
      assert.ok(it.told.at(-1).delay < 1_000);
    }
  });
});

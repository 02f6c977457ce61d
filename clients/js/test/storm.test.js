// Whatever happens, in whatever order.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { FakeSocket, around, client, fire, fireAtDocument, pass, random, settled, show, sleep } from "./support.js";

around({ beforeEach, afterEach });

const LEGAL = {
  connecting: ["connecting", "open", "waiting", "closed"],
  open: ["connecting", "waiting", "closed"],
  waiting: ["connecting", "waiting", "closed"],
  closed: ["connecting"],
};

const CODES = [1000, 1001, 1005, 1006, 1008, 1011, 1012, 1013, 4000, 4401, 4429, 4503];

async function storm(seed, steps) {
  const draw = random(seed);
  const pick = (list) => list[Math.floor(draw() * list.length)];
  const chance = (probability) => draw() < probability;
  Math.random = random(seed + 1);

  // Some of the URLs and tokens fail, some never come, and some come late.
  const late = [];
  const ask = (value) => () => {
    if (chance(0.03)) return Promise.reject(new Error("no network"));
    if (chance(0.02)) return new Promise(() => {});
    return chance(0.8) ? value : new Promise((resolve) => late.push(() => resolve(value)));
  };
  const it = client({ token: ask("t"), buffer: { age: 5_000 } }, ask("wss://example.org/"));

  // What the user asked for, and what must hold at every moment.
  let isOver = false;
  let before = it.state;
  let offset = 0;
  const fates = [];
  const seen = [];
  it.addEventListener("state", ({ detail: { state, delay } }) => {
    assert.equal(isOver, false, `${state} after the end`);
    assert.ok(LEGAL[before].includes(state), `${before} to ${state}`);
    assert.equal(it.state, state);
    assert.equal(state === "waiting", delay >= 0);
    before = state;
    isOver = state === "closed";
    if (isOver || !chance(0.05)) return;
    // Those who are told may act themselves.
    if (chance(0.3)) it.close();
    else if (state !== "connecting") reconnect();
  });
  it.addEventListener("message", ({ data }) => {
    assert.equal(isOver, false, "a message after the end");
    seen.push(data);
    if (chance(0.02)) it.close();
    else if (chance(0.02)) reconnect();
  });

  function reconnect() {
    isOver = false;
    it.reconnect();
  }

  function check() {
    assert.ok(FakeSocket.live.length <= 1, `${FakeSocket.live.length} sockets`);
    if (isOver) assert.equal(FakeSocket.live.length, 0);
    if (it.state === "open") assert.equal(FakeSocket.live.length, 1);
  }

  // Mostly the latest, and sometimes one that should be over.
  const socket = () => (chance(0.9) || !FakeSocket.all.length ? FakeSocket.last : pick(FakeSocket.all));
  const to = (readyState, act) => () => {
    const one = socket();
    if (one?.readyState === readyState) act(one);
  };
  const acts = [
    to(0, (one) => one.open()),
    to(0, (one) => one.open().hello()),
    to(0, (one) => one.open().hello()),
    to(1, (one) => one.hello({ answers: chance(0.5) })),
    to(1, (one) => one.frame("p", { room: "r", position: `${++offset}` })),
    to(1, (one) => one.frame("m", { room: "r", position: `${offset + 1}` }, ++offset)),
    to(1, (one) => one.say(pick(["\0b", "", "hi", "\0", "\0m", '\0j{"room":"r","recovered":null}']))),
    to(1, (one) => one.end(pick(CODES))),
    to(2, (one) => one.say("late")),
    () => socket()?.end(pick(CODES)), // also of one that has ended before
    () => late.splice(0).forEach((resolve) => resolve()),
    () => fire(pick(["online", "offline", "pageshow", "pagehide"])),
    () => fireAtDocument(pick(["freeze", "resume"])),
    () => show(chance(0.5)),
    () => chance(0.1) && it.close(),
    () => chance(0.2) && reconnect(),
    () => fates.push(it.send(`s${fates.length}`).then(() => 1, () => 0)),
    () => sleep(draw() * 10_000),
    () => pass(draw() * pick([100, 1_000, 10_000, 40_000])),
  ];

  for (let i = 0; i < steps; i++) {
    await pick(acts)();
    if (chance(0.5)) await settled();
    check();
    if (isOver && chance(0.3)) {
      // The end is the end, until the user says otherwise.
      const [count, told] = [FakeSocket.all.length, it.told.length];
      for (const event of ["online", "pageshow"]) fire(event);
      show(true);
      await pass(120_000);
      assert.deepEqual([FakeSocket.all.length, it.told.length], [count, told]);
      reconnect();
    }
  }

  it.close();
  await settled();
  const left = (await Promise.all(fates)).filter(Boolean).length;
  const sent = FakeSocket.all.flatMap(({ messages }) => messages);
  assert.equal(new Set(sent).size, sent.length, "sent twice");
  assert.equal(sent.length, left, "what was told to have left has left, and nothing else");
  const numbers = sent.map((text) => Number(text.slice(1)));
  assert.deepEqual(numbers, numbers.toSorted((a, b) => a - b), "out of order");
  return { sockets: FakeSocket.all.length, sent: left, seen: seen.length };
}

test("there is one socket at most, what is over is over, and nothing is sent twice", async (context) => {
  const total = { sockets: 0, sent: 0, seen: 0 };
  for (let seed = 1; seed <= 100; seed++) {
    FakeSocket.all = [];
    try {
      for (const [name, count] of Object.entries(await storm(seed, 500))) total[name] += count;
    } catch (error) {
      error.message += ` (seed ${seed})`;
      throw error;
    }
  }
  context.diagnostic(JSON.stringify(total));
  assert.ok(total.sockets > 1_500 && total.sent > 300 && total.seen > 300, JSON.stringify(total));
});

// What the tests share: time that stands still until it is told to go on, a page, and a WebSocket without a network.

import { mock } from "node:test";
import { pathToFileURL } from "node:url";

// The file that an installed package serves, where the tests are about that one.
const module = process.env.CLIENT_JS ? pathToFileURL(process.env.CLIENT_JS).href : "../client.js";

export const { connect } = await import(module);
export const { gateway } = await import(new URL("gateway.js", new URL(module, import.meta.url)));

// The page.

const page = new EventTarget();
globalThis.addEventListener = page.addEventListener.bind(page);
globalThis.document = Object.assign(new EventTarget(), { hidden: false });

export const fire = (type) => void page.dispatchEvent(new Event(type));
export const fireAtDocument = (type) => void document.dispatchEvent(new Event(type));

export function show(isSeen) {
  document.hidden = !isSeen;
  fireAtDocument("visibilitychange");
}

/** A `sessionStorage`. */
export class FakeStorage {
  items = new Map();
  getItem = (key) => this.items.get(key) ?? null;
  setItem = (key, value) => void this.items.set(key, String(value));
  removeItem = (key) => void this.items.delete(key);
  get only() {
    return this.items.size ? JSON.parse([...this.items.values()][0]) : null;
  }
}

// Time.

/** What is waiting to run, and takes no time, has run. */
export const settled = () => new Promise(setImmediate);

/** Some time goes by. */
export async function pass(milliseconds) {
  mock.timers.tick(milliseconds);
  await settled();
}

/** The clock goes on, and the timers stand still, as in a page that is frozen. */
export const sleep = (milliseconds) => mock.timers.setTime(Date.now() + milliseconds);

/** Numbers that are random, and the same in every run. */
export function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

// The network.

const VALID = (code) => code === 1000 || (code >= 3000 && code <= 4999);

/** The latest is `FakeSocket.last`. */
export class FakeSocket {
  static all = [];
  static get last() {
    return this.all.at(-1);
  }
  static get live() {
    return this.all.filter((socket) => socket.readyState < 2);
  }

  readyState = 0;
  sent = [];
  closedBy = null;

  constructor(url, protocols) {
    this.url = new URL(url);
    if (!/^wss?:$/.test(this.url.protocol)) throw new SyntaxError(`The scheme is ${this.url.protocol}`);
    this.protocols = protocols;
    FakeSocket.all.push(this);
  }

  // What the client does.

  send(data) {
    if (this.readyState === 0) throw new DOMException("still connecting", "InvalidStateError");
    if (this.readyState === 1) this.sent.push(typeof data === "string" ? data : new Uint8Array(data).slice());
  }

  close(code, reason) {
    if (code !== undefined && !VALID(code)) throw new DOMException(`no code: ${code}`, "InvalidAccessError");
    if (this.readyState < 2) {
      this.readyState = 2;
      this.closedBy = { code, reason };
    }
  }

  // What happens to it.

  open() {
    this.readyState = 1;
    this.onopen?.({});
    return this;
  }

  say(data) {
    this.onmessage?.({ data });
    return this;
  }

  frame(kind, what, message) {
    return this.say(`\0${kind}${JSON.stringify(what)}${message === undefined ? "" : `\n${message}`}`);
  }

  hello(more) {
    return this.frame("h", { version: 1, token: TOKEN, heartbeat: 25, answers: true, window: 0, ...more });
  }

  end(code = 1006, reason = "") {
    this.readyState = 3;
    if (code === 1006) this.onerror?.({});
    this.onclose?.({ code, reason });
  }

  get resumed() {
    const [frame] = this.sent;
    return frame.startsWith("\0r") ? JSON.parse(frame.slice(2)) : undefined;
  }

  /** What was sent after the resume frame. */
  get messages() {
    return this.sent.filter((data) => !/^\0[rb]/.test(data));
  }
}

export const TOKEN = "0123456789abcdef0123456789abcdef";

const made = [];

/** A client that writes down what it is told; it is closed in the end. */
export function client(options = {}, url = "wss://example.org/chat") {
  const it = connect(url, { WebSocket: FakeSocket, ...options });
  it.told = [];
  it.messages = [];
  it.recovered = [];
  it.addEventListener("state", ({ detail }) => it.told.push(detail));
  it.addEventListener("message", ({ data }) => it.messages.push(data));
  it.addEventListener("recovered", ({ detail }) => it.recovered.push(detail));
  made.push(it);
  return it;
}

/** One whose connection is open, with a server that says hello. */
export async function framed(options, hello) {
  const it = client(options);
  await settled();
  FakeSocket.last.open().hello(hello);
  return it;
}

/** One whose connection is open, with a server that says none. */
export async function plain(options) {
  const it = client(options);
  await settled();
  FakeSocket.last.open();
  await pass(2_000);
  return it;
}

/** Connect once more, and be greeted. */
export async function again(it, hello) {
  it.reconnect();
  await settled();
  return FakeSocket.last.open().hello(hello);
}

/** The beginning, and the end, of every test. */
export function around({ beforeEach, afterEach }) {
  const { random: real } = Math;
  beforeEach(() => {
    mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_700_000_000_000 });
    Math.random = random(1);
    FakeSocket.all = [];
    document.hidden = false;
  });
  afterEach(() => {
    for (const it of made.splice(0)) it.close();
    mock.timers.reset();
    Math.random = real;
  });
}

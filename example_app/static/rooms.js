// What this page knows of its rooms, of the people in them, and of the workers they come through. No DOM in here.

import { history } from "./memory.js";

const QUIET_AFTER = 15_000; // a worker's heartbeat comes every 10 s
const GONE_AFTER = 30_000;
const TYPING_LASTS = 4_000;
const COLOURS = 8;

export class Room {
  joined = false;
  unread = 0;
  firstUnread = null; // the entry above which "New" is drawn
  draft = "";
  unsent = []; // own messages that the room has not echoed yet
  people = new Map(); // sid → {name, worker}, without ourselves
  #typing = new Map(); // sid → {name, until}
  #expected = { names: new Set(), until: 0 };

  constructor(name) {
    this.name = name;
    this.entries = history.of(name);
  }

  add(entry) {
    this.entries.push(entry);
    history.keep(this.name, this.entries);
  }

  typed(sid, name) {
    this.#typing.set(sid, { name, until: performance.now() + TYPING_LASTS });
  }

  stoppedTyping(sid) {
    this.#typing.delete(sid);
  }

  /** Before the roll is called anew: nobody counts as here, and who was here does not count as just come. */
  forgetPeople() {
    if (this.people.size) this.#expected = { names: new Set([...this.people.values()].map(({ name }) => name)), until: performance.now() + GONE_AFTER };
    this.people.clear();
    this.#typing.clear();
  }

  expects(name) {
    return this.#expected.names.has(name) && performance.now() < this.#expected.until;
  }

  get typing() {
    const now = performance.now();
    for (const [sid, { until }] of this.#typing) if (until < now) this.#typing.delete(sid);
    return [...this.#typing.values()].map(({ name }) => name);
  }

  hasName(name) {
    return [...this.people.values()].some((person) => person.name === name);
  }
}

/** The workers this page has heard of: when, and in which colour it draws them. */
export class Workers {
  #heard = new Map(); // worker → time
  #colours = new Map(); // worker → 0…7; kept when the worker is gone, for its messages are still on the page

  heard(worker) {
    this.#heard.set(worker, performance.now());
  }

  /** After a pause of our own, nobody's silence means anything. */
  heardAll() {
    for (const worker of this.#heard.keys()) this.heard(worker);
  }

  /** The workers whose silence has lasted too long, now forgotten. */
  forgetGone() {
    const gone = [...this.#heard.keys()].filter((worker) => this.#silence(worker) > GONE_AFTER);
    for (const worker of gone) this.#heard.delete(worker);
    return gone;
  }

  quiet(worker) {
    return this.#silence(worker) > QUIET_AFTER;
  }

  get all() {
    return [...this.#heard.keys()].sort();
  }

  /** The same colour in every tab, as far as the process ids allow: two workers never share one while there are others. */
  colour(worker) {
    if (!this.#colours.has(worker)) {
      const taken = new Set(this.#colours.values());
      const wanted = Number(worker.split(":").at(-1)) % COLOURS || 0;
      const order = Array.from({ length: COLOURS }, (_, n) => (wanted + n) % COLOURS);
      this.#colours.set(worker, order.find((colour) => !taken.has(colour)) ?? wanted);
    }
    return this.#colours.get(worker);
  }

  /** "host:pid" is long: the pid alone will do while all workers share a host. */
  label(worker) {
    const at = worker.lastIndexOf(":");
    const host = worker.slice(0, at);
    const alone = [...this.#colours.keys()].every((other) => other.startsWith(`${host}:`));
    return alone ? worker.slice(at + 1) : worker;
  }

  #silence(worker) {
    return performance.now() - (this.#heard.get(worker) ?? -Infinity);
  }
}

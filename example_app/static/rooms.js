// What this page knows of its rooms, of the people in them, and of the workers they come through. No DOM in here.

import { history, positions } from "./memory.js";

const TYPING_LASTS = 4_000;
const COLOURS = 8;

export class Room {
  joined = false;
  unread = 0;
  firstUnread = null; // the entry above which "New" is drawn
  draft = "";
  unsent = []; // own messages that the room has not echoed yet
  people = new Map(); // sid → {name, worker}, without ourselves
  unmarked = false; // whether something was said behind `position`
  met = false; // whether we have ever been told who is here
  #roll = null; // the one under way: {number, since: sid → person or null}
  #typing = new Map(); // sid → {name, until}

  constructor(name) {
    this.name = name;
    this.entries = history.of(name);
    this.position = positions.of(name); // whatever was said before it is in the entries
  }

  add(entry) {
    this.entries.push(entry);
    this.unmarked ||= Boolean(entry.ref);
    history.keep(this.name, this.entries);
  }

  /** Whether an entry is here already: what was said behind the position is replayed. */
  has(ref) {
    return ref !== undefined && this.entries.some((entry) => entry.ref === ref);
  }

  mark(position) {
    this.position = position ?? this.position;
    this.unmarked = false;
    positions.keep(this.name, this.position);
  }

  typed(sid, name) {
    this.#typing.set(sid, { name, until: performance.now() + TYPING_LASTS });
  }

  stoppedTyping(sid) {
    this.#typing.delete(sid);
  }

  /** Somebody is here, or has gone (null). */
  note(sid, person) {
    this.#roll?.since.set(sid, person);
    if (person) this.people.set(sid, person);
    else this.people.delete(sid);
  }

  rollBegins(number) {
    this.#roll = { number, since: new Map() };
  }

  /** The answer to the latest roll; what was noted since that began is newer. Tells whether it was the latest. */
  rollEnds(number, people) {
    if (number !== this.#roll?.number) return false;
    this.people = new Map(people.map(({ sid, name, worker }) => [sid, { name, worker }]));
    const { since } = this.#roll;
    this.#roll = null;
    for (const [sid, person] of since) this.note(sid, person);
    this.met = true;
    return true;
  }

  forgetPeople() {
    this.people.clear();
    this.#typing.clear();
    this.#roll = null;
    this.met = false;
  }

  get typing() {
    const now = performance.now();
    for (const [sid, { until }] of this.#typing) if (until < now) this.#typing.delete(sid);
    return [...this.#typing.values()].map(({ name }) => name);
  }

  get names() {
    return new Set([...this.people.values()].map(({ name }) => name));
  }

  hasName(name) {
    return this.names.has(name);
  }
}

/** The workers that live, as far as this page has heard, and the colour in which it draws each. */
export class Workers {
  #alive = new Set();
  #colours = new Map(); // worker → 0…7; kept when the worker is gone, for its messages are still on the page

  heard(worker) {
    this.#alive.add(worker);
  }

  areNow(workers) {
    this.#alive = new Set(workers);
  }

  get all() {
    return [...this.#alive].sort();
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
}

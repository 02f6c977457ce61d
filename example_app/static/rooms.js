// What this page knows of its rooms, of the people in them, and of the workers they come through. No DOM in here.

const MESSAGES_KEPT = 200;
const TYPING_LASTS = 4_000;
const COLOURS = 8;

export class Room {
  joined = false;
  unread = 0;
  firstUnread = null; // the entry above which "New" is drawn
  draft = "";
  people = new Map(); // sid → {name, worker}, without ourselves
  version = null; // of the list of people; none until we are told who is here
  met = false; // whether we have ever been told
  #early = []; // changes that came before the list
  back = ""; // in words, what we missed before we came back
  #return = null; // the one under way: {missed, lacks, isUnsure}
  #typing = new Map(); // sid → {name, until}

  constructor(name, { entries = [], unsent = [] } = {}) {
    this.name = name;
    this.entries = entries;
    this.unsent = unsent; // own messages that the room has not echoed yet
  }

  /** What a reload keeps. */
  toJSON() {
    return { name: this.name, entries: this.entries, unsent: this.unsent };
  }

  add(entry) {
    this.entries.push(entry);
    this.entries.splice(0, this.entries.length - MESSAGES_KEPT);
    if (this.#return && !entry.own && entry.kind !== "event") this.#return.missed += 1;
  }

  /** We are back: all that was said meanwhile follows, or only the last of it. */
  returns(isAll) {
    this.#return ??= { missed: 0, lacks: false, isUnsure: false };
    this.#return.isUnsure ||= !isAll; // also if the connection is lost again before we know
  }

  /** A message comes. Tells whether it is here already, and whether older ones are gone before it. */
  meets(position) {
    const isKnown = this.entries.some((entry) => entry.position === position);
    const back = this.#return ?? {};
    const lacks = Boolean(back.isUnsure) && !isKnown;
    back.isUnsure = false;
    back.lacks ||= lacks;
    this.back = "";
    return { isKnown, lacks };
  }

  /** All that was to follow is here. Tells whether older messages are gone behind it. */
  enters() {
    const { missed, lacks, isUnsure } = this.#return ?? {};
    const isEmptied = Boolean(isUnsure) && this.entries.length > 0;
    this.#return = null;
    this.joined = true;
    if (lacks || isEmptied) this.back = "Older messages are gone";
    else if (missed > 0) this.back = missed === 1 ? "1 message while you were away" : `${missed} messages while you were away`;
    else this.back = missed === 0 ? "You missed nothing" : "";
    return isEmptied;
  }

  get isReturning() {
    return this.#return !== null;
  }

  /** The connection is lost. */
  leaves() {
    this.joined = false;
    this.version = null; // the people stay to be seen until we are told anew
    this.back = "";
  }

  typed(sid, name) {
    this.#typing.set(sid, { name, until: performance.now() + TYPING_LASTS });
  }

  stoppedTyping(sid) {
    this.#typing.delete(sid);
  }

  /** Who is here now. Changes up to this version are in it; those that have come already are made up for. */
  areNow(people, version) {
    this.people = new Map(people.map(({ sid, name, worker }) => [sid, { name, worker }]));
    this.version = version;
    this.met = true;
    const early = this.#early;
    this.#early = [];
    for (const change of early) this.change(...change);
  }

  /** Somebody is here, or has gone (null). False if a change before this one is missing. */
  change(version, sid, person) {
    const isHole = this.version !== null && version > this.version + 1;
    if (isHole) this.version = null; // until we are told anew
    if (this.version === null) this.#early.push([version, sid, person]);
    if (this.version === null || version <= this.version) return !isHole;
    this.version = version;
    if (person) this.people.set(sid, person);
    else this.people.delete(sid);
    return true;
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

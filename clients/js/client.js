// A WebSocket that comes back, and gets what was said meanwhile in the rooms that remember.
// The pages "Client framing" and "Close codes" of the reference have the rules; client.d.ts has the interface.

const CONNECT_WITHIN = 10_000; // with the time for the URL and the token
const HELLO_WITHIN = 2_000; // who says none by then is a plain server
const ANSWER_WITHIN = 3_000;
const SILENCE = 10_000; // beyond what the server promised: nobody is there
const LASTED = 5_000; // a connection that lives so long was a success
const SPREAD = 5_000; // after 1012, where the server does not say over which time
const RESUME_BYTES = 60_000; // it reads 64 KiB
const KNOWN = 1_000; // messages, to tell those that come twice
const BUFFER = { messages: 100, bytes: 65_536, age: 30_000 };

const isFinal = (code) =>
  code < 3000
    ? [1000, 1003, 1007, 1008, 1009, 1010].includes(code)
    : ![4408, 4425, 4429].includes(code) && !(code >= 4500 && code < 4600);

/** The longest delay: a second for the first five, then half as much again each time. */
const longest = (attempts) => Math.min(20_000, 1_000 * 1.5 ** Math.max(0, attempts - 4));

const valueOf = (option, argument) => (typeof option === "function" ? option(argument) : option);

const sizeOf = (data) => data.byteLength ?? new TextEncoder().encode(data).length;

/** What a frame of the framing says, and the message in it. */
function parse(frame) {
  const bytes = typeof frame === "string" ? null : new Uint8Array(frame);
  const text = (from, to) => (bytes ? new TextDecoder().decode(bytes.subarray(from, to)) : frame.slice(from, to));
  if (text(0, 1) !== "\0") return { data: frame };
  const kind = text(1, 2);
  if (kind === ".") return { data: frame.slice(2) };
  const end = kind === "m" ? (bytes ?? frame).indexOf(bytes ? 10 : "\n") : undefined;
  return { ...JSON.parse(text(2, end) || "{}"), kind, data: end && frame.slice(end + 1) };
}

/** A message that begins like a frame of the framing is told from one. */
function escape(data) {
  if (typeof data === "string") return data[0] === "\0" ? "\0." + data : data;
  const bytes = new Uint8Array(data.buffer ?? data, data.byteOffset, data.byteLength);
  return bytes[0] === 0 ? Uint8Array.of(0, 46, ...bytes) : data;
}

class Client extends EventTarget {
  state = "closed";
  #url;
  #options;
  #socket;
  #generation = 0; // of the socket: what belongs to an earlier one does nothing any more
  #timers = {};
  #listening;
  #attempts = 0;
  #refresh = false; // whether the token has expired
  #isPlain = false; // whether the server says no hello
  #hello;
  #heard; // when anything last came
  #token; // by which the server knows us again
  #positions = new Map(); // by room, the latest last
  #known = new Set();
  #waiting = new Set(); // messages to be sent

  constructor(url, options) {
    super();
    this.#url = url;
    this.#options = options;
    try {
      const { token, positions } = JSON.parse(options.storage.getItem(this.#key));
      this.#positions = new Map(positions);
      this.#token = token;
    } catch {
      // There is nothing, or it is blocked.
    }
    this.#save(true);
    this.reconnect();
  }

  reconnect() {
    this.#listen();
    this.#open();
  }

  close(code = 1000, reason = "") {
    this.#save();
    this.#end(code, reason);
  }

  async send(message) {
    const data = typeof message === "string" || message?.byteLength >= 0 ? message : JSON.stringify(message);
    if (this.state === "open" && this.#socket.readyState === 1) {
      return this.#socket.send(this.#hello ? escape(data) : data);
    }
    const { buffer } = this.#options;
    if (!buffer || this.state === "closed") throw new Error("not connected");
    const { messages, bytes, age } = { ...BUFFER, ...buffer };
    const size = [...this.#waiting].reduce((sum, other) => sum + sizeOf(other.data), sizeOf(data));
    if (this.#waiting.size >= messages || size > bytes) throw new Error("too much is waiting");
    return new Promise((resolve, reject) => {
      const entry = { data, resolve, reject };
      entry.timer = setTimeout(() => this.#take(entry).reject(new Error("not connected in time")), age);
      this.#waiting.add(entry);
    });
  }

  #take(entry) {
    clearTimeout(entry.timer);
    this.#waiting.delete(entry);
    return entry;
  }

  // The socket.

  async #open() {
    this.#drop();
    const generation = this.#generation;
    const isCurrent = () => generation === this.#generation;
    const { token, protocols, WebSocket = globalThis.WebSocket } = this.#options;
    this.#hello = null;
    this.#become("connecting");
    if (!isCurrent()) return;
    this.#after("open", CONNECT_WITHIN, () => this.#lose(1006, "no answer"));
    const values = [this.#url, token, protocols].map(async (option) => valueOf(option, { refresh: this.#refresh }));
    const found = await Promise.all(values).catch((error) => isCurrent() && this.#lose(1006, String(error)));
    if (!isCurrent()) return;
    try {
      const url = new URL(found[0], globalThis.location?.href);
      url.protocol = url.protocol.replace("http", "ws");
      url.searchParams.set("fastapi_rooms", 1);
      if (found[1] != null) url.searchParams.set("token", found[1]);
      this.#socket = new WebSocket(url, found[2] ?? []);
    } catch (error) {
      return this.#end(1006, String(error)); // it would be the same every time
    }
    const plain = () => {
      this.#isPlain = true;
      this.#opened();
    };
    Object.assign(this.#socket, {
      binaryType: "arraybuffer",
      onerror() {},
      onopen: () => isCurrent() && this.#after("open", this.#isPlain ? 0 : HELLO_WITHIN, plain),
      onmessage: ({ data }) => isCurrent() && this.#receive(data, plain),
      onclose: ({ code, reason }) => isCurrent() && this.#closed(code, reason),
    });
  }

  #opened() {
    this.#after("open", LASTED, () => {
      this.#attempts = 0;
      this.#refresh = false;
    });
    this.#become("open");
    for (const entry of [...this.#waiting]) {
      if (this.state === "open") entry.resolve(this.send(this.#take(entry).data));
    }
  }

  #closed(code, reason) {
    const canRefresh = code === 4401 && typeof this.#options.token === "function" && !this.#refresh;
    if (canRefresh) this.#refresh = true;
    if (isFinal(code) && !canRefresh) this.#end(code, reason);
    else this.#lose(code, reason);
  }

  /** The connection is over, and there will be another. */
  #lose(code, reason, delay) {
    if (this.state === "closed") return;
    const window = code === 1012 ? (this.#hello ? this.#hello.window * 1_000 : SPREAD) : 0;
    delay ??= Math.random() * Math.max(window, longest(this.#attempts++));
    this.#drop();
    if (delay < Infinity) this.#after("open", delay, () => this.#open());
    this.#become("waiting", { code, reason, delay });
  }

  #end(code, reason) {
    if (this.state === "closed") return;
    this.#drop(code, reason);
    this.#listening.abort();
    this.#listening = null;
    this.#become("closed", { code, reason });
    for (const entry of this.#waiting) this.#take(entry).reject(new Error("not connected"));
  }

  #drop(code = 1000, reason = "") {
    if (this.#socket?.readyState < 2) this.#socket.close(code, reason); // throws if there is no such code
    this.#socket = null;
    this.#generation++;
    Object.values(this.#timers).forEach(clearTimeout);
  }

  #after(name, delay, act) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(act, delay);
  }

  #become(state, detail) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, ...detail } }));
  }

  // What comes.

  #receive(frame, plain) {
    this.#heard = Date.now();
    if (!this.#hello) {
      const hello = typeof frame === "string" && frame.startsWith("\0h") && JSON.parse(frame.slice(2));
      if (hello?.version === 1) return this.#greet(hello);
      if (this.state === "connecting") plain();
      return this.#tell(frame);
    }
    const { kind, room, position, recovered, data } = parse(frame);
    if (kind === "j") {
      const wasThere = this.#positions.has(room);
      if (!recovered) this.#forget(room);
      if (recovered !== null || wasThere) {
        this.dispatchEvent(new CustomEvent("recovered", { detail: { [room]: recovered === true } }));
      }
    } else if (kind === "l") {
      this.#forget(room);
    } else if (!this.#known.has(position)) {
      if (data !== undefined) this.#tell(data, position);
      if (position) this.#advance(room, position);
    }
  }

  #greet(hello) {
    this.#hello = hello;
    this.#isPlain = false;
    this.#token ??= hello.token;
    const positions = {};
    let size = 0;
    for (const [room, position] of [...this.#positions].reverse()) {
      if ((size += sizeOf(JSON.stringify({ [room]: position }))) < RESUME_BYTES) positions[room] = position;
    }
    this.#socket.send("\0r" + JSON.stringify({ token: this.#token, positions }));
    this.#watch();
    if (this.state === "connecting") this.#opened();
  }

  #tell(data, lastEventId = "") {
    this.dispatchEvent(new MessageEvent("message", { data, lastEventId }));
  }

  #advance(room, position) {
    this.#positions.delete(room);
    this.#positions.set(room, position);
    this.#known.add(position);
    if (this.#known.size > KNOWN) this.#known.delete(this.#known.values().next().value);
  }

  /** What was said there may be shown once more. */
  #forget(room) {
    this.#positions.delete(room);
    this.#known.clear();
  }

  // Whether anybody is there.

  #watch() {
    const left = this.#heard + this.#hello.heartbeat * 1_000 + SILENCE - Date.now();
    if (left > 0) this.#after("watch", left, () => this.#watch());
    else this.#lose(1006, "silence", 0);
  }

  /** The network is there again, or the page is seen. */
  #wake() {
    this.#save(true);
    if (this.state === "waiting") this.#open();
    if (this.state !== "open" || !this.#hello) return;
    this.#watch();
    if (!this.#socket || !this.#hello.answers) return;
    const asked = Date.now();
    this.#socket.send("\0b");
    this.#after("answer", ANSWER_WITHIN, () => this.#heard < asked && this.#lose(1006, "silence", 0));
  }

  #listen() {
    if (this.#listening) return;
    const { signal } = (this.#listening = new AbortController());
    const page = globalThis.document;
    const on = (target, type, act) => target?.addEventListener?.(type, act, { signal });
    const wake = () => this.#wake();
    const hide = () => {
      this.#save();
      this.#lose(1001, "page hidden", Infinity);
    };
    on(globalThis, "online", wake);
    on(globalThis, "offline", () => this.#socket && this.#lose(1006, "offline"));
    on(globalThis, "pageshow", wake);
    on(globalThis, "pagehide", hide);
    on(page, "resume", wake);
    on(page, "freeze", hide);
    on(page, "visibilitychange", () => (page.hidden ? this.#save() : wake()));
  }

  // What a reload of the page does not lose.

  get #key() {
    return `fastapi_rooms ${this.#options.key ?? String(this.#url).split("?")[0]}`;
  }

  /** It is there only while nobody looks: a tab that is duplicated is not to be this one, too. */
  #save(isSeen = false) {
    const { storage } = this.#options;
    try {
      if (isSeen) storage.removeItem(this.#key);
      else storage.setItem(this.#key, JSON.stringify({ token: this.#token, positions: [...this.#positions] }));
    } catch {
      // There is none, or it is full or blocked.
    }
  }
}

export const connect = (url, options = {}) => new Client(url, options);

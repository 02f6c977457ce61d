// A WebSocket that comes back and resumes. The rules are in the documentation: "Client framing", "Close codes".

const CONNECT_WITHIN = 10_000; // URL and token included
const HELLO_WITHIN = 2_000; // later, the server is a plain one
const ANSWER_WITHIN = 3_000;
const SILENCE = 10_000; // beyond the heartbeat
const LASTED = 5_000; // it was a success
const SPREAD = 5; // seconds after 1012, without a hello
const RESUME_BYTES = 60_000; // of 64 KiB
const KNOWN = 1_000; // messages, for duplicates

/** After these it ends. */
const FINAL = /^(10(0[03789]|10)|3|4(?!408|425|429|5))/;

/** The longest delay: a second for the first five, then half as much again each time. */
const longest = (attempts) => Math.min(20_000, 1_000 * 1.5 ** Math.max(0, attempts - 4));

const sizeOf = (text) => new TextEncoder().encode(text).length;

/** What a frame says, and its message; nothing if it cannot be read. */
function parse(frame) {
  const bytes = typeof frame === "string" ? null : new Uint8Array(frame);
  const text = (from, to) => (bytes ? new TextDecoder().decode(bytes.subarray(from, to)) : frame.slice(from, to));
  const [nul, kind] = text(0, 2);
  if (nul !== "\0") return { data: frame };
  if (kind === ".") return { data: frame.slice(2) };
  const end = kind === "m" ? (bytes ?? frame).indexOf(bytes ? 10 : "\n") : undefined;
  try {
    return { ...JSON.parse(text(2, end)), kind, data: end && frame.slice(end + 1) };
  } catch {
    return {};
  }
}

/** A message that begins like a frame is told from one. */
function escape(data) {
  if (data[0] === "\0") return "\0." + data;
  if (data[0] !== 0) return data;
  const escaped = new Uint8Array(data.length + 2);
  escaped[1] = 46;
  escaped.set(data, 2);
  return escaped;
}

/** Text, or bytes that nobody changes while they wait. */
function encode(message) {
  if (ArrayBuffer.isView(message) || message instanceof ArrayBuffer) {
    return new Uint8Array(message.buffer ?? message, message.byteOffset, message.byteLength).slice();
  }
  return typeof message === "string" ? message : JSON.stringify(message);
}

class Client extends EventTarget {
  state = "closed";
  #asked; // each time
  #options;
  #key;
  #socket;
  #generation = 0; // what belongs to an earlier one does nothing any more
  #timers = {};
  #listening;
  #attempts = 0;
  #refresh = false; // whether the token has expired
  #isPlain = false; // whether the server says no hello
  #hello;
  #heard; // when anything came, or the attempt began
  #token; // by which the server knows us again
  #positions = new Map(); // by room, the latest last
  #known = new Map(); // the rooms of the latest positions
  #waiting = new Set(); // messages

  constructor(url, options) {
    super();
    this.#asked = [url, options.token, options.protocols];
    this.#options = options;
    this.#key = `fastapi_rooms ${options.key ?? url}`;
    try {
      const { token, positions } = JSON.parse(options.storage.getItem(this.#key));
      this.#positions = new Map(positions);
      if (/^\w{32}$/.test(token)) this.#token = token;
    } catch {
      // There is nothing, or it is blocked.
    }
    this.reconnect();
  }

  reconnect() {
    this.#save();
    this.#listen();
    this.#open();
  }

  close(code = 1000, reason = "") {
    this.#end(code, reason);
  }

  async send(message) {
    const data = encode(message);
    if (this.state === "open" && this.#socket.readyState === 1) return this.#write(data);
    const { buffer } = this.#options;
    if (!buffer || this.state === "closed") throw new Error("not connected");
    const { messages = 100, bytes = 65_536, age = 30_000 } = buffer;
    const size = data.byteLength ?? sizeOf(data);
    const all = [...this.#waiting].reduce((sum, other) => sum + other.size, size);
    if (this.#waiting.size >= messages || all > bytes) throw new Error("too much is waiting");
    return new Promise((resolve, reject) => {
      const entry = { data, size, until: Date.now() + age, resolve, reject };
      entry.timer = setTimeout(() => this.#refuse(entry), Math.min(age, 2 ** 31 - 1));
      this.#waiting.add(entry);
    });
  }

  #write(data) {
    this.#socket.send(this.#hello ? escape(data) : data);
  }

  #refuse(entry) {
    clearTimeout(entry.timer);
    this.#waiting.delete(entry);
    entry.reject(new Error("not connected"));
  }

  // The socket.

  async #open() {
    this.#drop();
    const generation = this.#generation;
    const isCurrent = () => generation === this.#generation;
    const { WebSocket = globalThis.WebSocket } = this.#options;
    this.#heard = Date.now();
    this.#become("connecting");
    if (!isCurrent()) return;
    this.#after("open", CONNECT_WITHIN, () => this.#lose(1006, "no answer"));
    const values = this.#asked.map(async (option) =>
      typeof option === "function" ? option({ refresh: this.#refresh }) : option,
    );
    const found = await Promise.all(values).catch((error) => isCurrent() && this.#lose(1006, String(error)));
    if (!isCurrent()) return;
    try {
      const url = new URL(found[0], globalThis.location?.href);
      url.protocol = url.protocol.replace("http", "ws");
      url.searchParams.set("fastapi_rooms", 1);
      if (found[1] != null) url.searchParams.set("token", found[1]);
      this.#socket = new WebSocket(url, found[2]);
    } catch (error) {
      return this.#end(1006, `${error}: ${found[0]}`); // as it will every time
    }
    Object.assign(this.#socket, {
      binaryType: "arraybuffer",
      onerror() {},
      onopen: () => isCurrent() && this.#after("open", this.#isPlain ? 0 : HELLO_WITHIN, () => this.#opened()),
      onmessage: ({ data }) => isCurrent() && this.#receive(data),
      onclose: ({ code, reason }) => isCurrent() && this.#closed(code, reason),
    });
  }

  #opened() {
    this.#isPlain = true; // if there comes no hello
    if (this.#socket.readyState > 1) return; // its end comes next
    this.#after("open", LASTED, () => {
      this.#attempts = 0;
      this.#refresh = false;
    });
    this.#become("open");
    if (this.state !== "open") return;
    for (const entry of this.#waiting) {
      // Timers may stand still.
      if (entry.until > Date.now()) entry.resolve(this.#write(entry.data));
      this.#refuse(entry); // if it has not left
    }
  }

  #closed(code, reason) {
    const isAsked = this.#asked.some((option) => typeof option === "function");
    if (code === 4401 && isAsked && !this.#refresh) this.#refresh = true;
    else if (FINAL.test(code)) return this.#end(code, reason);
    this.#lose(code, reason);
  }

  /** There will be another connection. */
  #lose(code, reason, delay) {
    const window = code === 1012 ? (this.#hello?.window ?? SPREAD) * 1_000 || 0 : 0;
    const { random = Math.random } = this.#options;
    delay ??= random() * Math.max(window, longest(this.#attempts++));
    this.#drop();
    if (delay < Infinity) this.#after("open", delay, () => this.#open());
    this.#become("waiting", { code, reason, delay });
  }

  #end(code, reason) {
    if (this.state === "closed") return;
    this.#drop(code, reason);
    this.#listening.abort();
    this.#refresh = false;
    this.#save(true);
    for (const entry of this.#waiting) this.#refuse(entry);
    this.#become("closed", { code, reason });
  }

  #drop(code = 1000, reason) {
    if (this.#socket?.readyState < 2) this.#socket.close(code, reason); // or throws
    this.#socket = this.#hello = null;
    this.#generation++;
    Object.values(this.#timers).forEach(clearTimeout);
  }

  #after(name, delay, act) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(act, delay);
  }

  #become(state, detail) {
    this.state = state;
    this.#emit("state", { state, ...detail });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  // What comes.

  #receive(frame) {
    this.#heard = Date.now();
    clearTimeout(this.#timers.answer);
    const said = parse(frame);
    const { kind, room, position, recovered, data } = said;
    if (!this.#hello) {
      if (kind === "h" && said.version === 1 && said.heartbeat > 0 && said.heartbeat < 1e6) return this.#greet(said);
      if (this.state === "connecting") this.#opened();
      if (this.state === "open") this.#tell(frame); // unless a listener has closed it
    } else if (kind === "j") {
      const wasThere = this.#positions.has(room);
      if (!recovered) this.#forget(room);
      if (recovered !== null || wasThere) this.#emit("recovered", { [room]: recovered === true });
    } else if (kind === "l") {
      this.#forget(room);
    } else if (!position || this.#known.get(position) !== room) {
      if (data !== undefined) this.#tell(data, position);
      if (position) this.#advance(room, position);
    }
  }

  #greet(hello) {
    this.#hello = hello;
    this.#token ??= hello.token;
    let size = 0;
    const latest = [...this.#positions].reverse();
    const positions = latest.filter((entry) => (size += sizeOf(JSON.stringify(entry))) < RESUME_BYTES);
    this.#socket.send("\0r" + JSON.stringify({ token: this.#token, positions: Object.fromEntries(positions) }));
    this.#watch();
    if (this.state === "connecting") this.#opened();
    this.#isPlain = false;
  }

  #tell(data, lastEventId) {
    this.dispatchEvent(new MessageEvent("message", { data, lastEventId }));
  }

  #advance(room, position) {
    this.#positions.delete(room);
    this.#positions.set(room, position);
    this.#known.set(position, room);
    if (this.#known.size > KNOWN) this.#known.delete(this.#known.keys().next().value);
    if (this.state === "closed") this.#save(true);
  }

  /** What was said there may come again. */
  #forget(room) {
    this.#positions.delete(room);
    for (const [position, other] of this.#known) if (other === room) this.#known.delete(position);
  }

  // Whether anybody is there.

  #watch() {
    const left = this.#heard + this.#hello.heartbeat * 1_000 + SILENCE - Date.now();
    if (left > 0) this.#after("watch", left, () => this.#watch());
    else this.#silent();
  }

  /** The network is back, or the page is seen. */
  #wake() {
    this.#save();
    const isOld = Date.now() > this.#heard + ANSWER_WITHIN;
    if (this.state === "waiting" || (this.state === "connecting" && isOld)) this.#open();
    if (this.#hello) this.#watch();
    if (!this.#hello?.answers) return;
    this.#socket.send("\0b");
    this.#after("answer", ANSWER_WITHIN, () => this.#silent());
  }

  #silent() {
    this.#lose(1006, "silence", 0);
  }

  #listen() {
    this.#listening?.abort();
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    const page = globalThis.document;
    // Node forgets to remove some.
    const on = (target, type, act) => target?.addEventListener?.(type, () => signal.aborted || act(), { signal });
    const wake = () => this.#wake();
    const hide = () => {
      this.#save(true);
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

  /** Only while nobody looks: a duplicated tab is another. */
  #save(isLeaving = globalThis.document?.hidden) {
    const { storage } = this.#options;
    try {
      if (isLeaving) {
        storage.setItem(this.#key, JSON.stringify({ token: this.#token, positions: [...this.#positions] }));
      } else storage.removeItem(this.#key);
    } catch {
      // There is nothing, or it is blocked.
    }
  }
}

export const connect = (url, options = {}) => new Client(url, options);

// Several endpoints over one connection with an edge. What travels is in the documentation: "Channels".

import { connect } from "./client.js";

const SUBPROTOCOL = "rooms.mux.v1";
const CONNECT_WITHIN = 9_000; // before a client's own time is over
const ANSWER_WITHIN = 3_000;
const FLUSH_WITHIN = 10_000;
const WINDOW = 262_144; // bytes that may come ahead of credit
const MESSAGE_BYTES = 64; // what each message counts besides

/** After these a client would end, and not only the one that was to blame. */
const FINAL = /^10(0[03789]|10)$/;

const costOf = (data) => MESSAGE_BYTES + (data.byteLength ?? new TextEncoder().encode(data).length);

/** The number of a channel, before bytes. */
function varint(number) {
  const bytes = [];
  for (; number > 127; number >>= 7) bytes.push((number & 127) | 128);
  return [...bytes, number];
}

/** What comes, and for which channel: 0 is the edge itself. */
function parse(message) {
  if (typeof message === "string") {
    const colon = message.indexOf(":");
    return [+message.slice(0, colon), message.slice(colon + 1)];
  }
  const bytes = new Uint8Array(message);
  let [number, length] = [0, 0];
  do number |= (bytes[length] & 127) << (7 * length);
  while (bytes[length++] > 127);
  return [number, message.slice(length)];
}

/** What a client takes for its WebSocket. */
class Channel {
  readyState = 0;
  protocol = "";
  bufferedAmount = 0;
  #connection;
  #number;
  #open; // what it is opened by
  #taken = 0;
  #left; // bytes that may be sent
  #queue = [];
  #closing;
  #timer;
  #reopened;

  constructor(connection, path, protocols, reopened) {
    this.#connection = connection;
    this.#reopened = reopened;
    this.#number = connection.add(this);
    this.#open = { open: this.#number, path, protocols, window: WINDOW };
    if (connection.isOpen) this.begin();
  }

  get isFlushing() {
    return this.readyState === 2 && this.#queue.length > 0;
  }

  send(data) {
    const cost = costOf(data);
    this.bufferedAmount += cost;
    this.#queue.push([data, cost]);
    this.#flush();
  }

  close(code = 1000, reason = "") {
    const isValid = code === 1000 || (code >= 3000 && code < 5000);
    if (!isValid || costOf(reason) > 123 + MESSAGE_BYTES) {
      throw new DOMException(`cannot close with ${code} ${reason}`, "InvalidAccessError");
    }
    if (this.readyState > 1) return;
    this.readyState = 2;
    this.#closing = { close: this.#number, code, reason };
    this.#timer = setTimeout(() => this.#leave(), FLUSH_WITHIN);
    if (!this.#queue.length) this.#leave();
  }

  #flush() {
    while (this.#left > 0 && this.#queue.length) {
      const [data, cost] = this.#queue.shift();
      this.#left -= cost;
      this.bufferedAmount -= cost;
      this.#connection.send(this.#number, data);
    }
    if (this.#closing && !this.#queue.length) this.#leave();
  }

  #leave() {
    clearTimeout(this.#timer);
    this.#queue = [];
    this.#connection.leave(this.#number, this.#closing);
  }

  // What the connection calls.

  begin() {
    this.#connection.control(this.#open);
  }

  take(data) {
    this.#taken += costOf(data);
    try {
      if (this.readyState === 1) this.onmessage?.({ data });
    } finally {
      if (this.#taken >= WINDOW / 2 && this.readyState === 1) {
        this.#connection.control({ credit: this.#number, bytes: this.#taken });
        this.#taken = 0;
      }
    }
  }

  hear(said) {
    if ("denied" in said) {
      const { status } = said;
      this.end(status >= 400 && status < 600 ? 4000 + status : 1006, `status ${status}`);
    } else if ("closed" in said) {
      this.end(said.code, said.reason);
    } else if ("reopened" in said) {
      this.#reopened();
    } else if ("credit" in said) {
      this.#left += said.bytes;
      this.#flush();
    } else if ("opened" in said && this.readyState === 0) {
      this.#left = said.window;
      this.protocol = said.protocol ?? "";
      this.readyState = 1;
      this.onopen?.({});
    }
  }

  end(code, reason) {
    clearTimeout(this.#timer);
    this.#queue = [];
    this.readyState = 3;
    this.#connection.remove(this.#number);
    this.onclose?.({ code, reason });
  }
}

/** One WebSocket. */
class Connection {
  isOpen = false;
  #socket;
  #channels = new Map();
  #over;
  #idle;
  #timer; // until something has to come

  constructor(url, WebSocket, over, idle) {
    this.#over = over;
    this.#idle = idle;
    this.#socket = new WebSocket(url, SUBPROTOCOL);
    this.#expect(CONNECT_WITHIN);
    Object.assign(this.#socket, {
      binaryType: "arraybuffer",
      onerror() {},
      onopen: () => this.#opened(),
      onmessage: ({ data }) => this.#take(data),
      onclose: ({ code, reason }) => this.#end(FINAL.test(code) ? 1006 : code, reason),
    });
  }

  get isFlushing() {
    return [...this.#channels.values()].some((channel) => channel.isFlushing);
  }

  add(channel) {
    let number = 1;
    while (this.#channels.has(number)) number++;
    this.#channels.set(number, channel);
    return number;
  }

  remove(number) {
    this.#channels.delete(number);
    if (!this.#channels.size) this.#idle();
  }

  /** A channel is closed; the edge answers that. */
  leave(number, said) {
    if (!this.isOpen) return this.remove(number);
    this.control(said);
    if (!this.#timer) this.#expect(ANSWER_WITHIN);
  }

  control(said) {
    this.#socket.send("0:" + JSON.stringify(said));
  }

  send(number, data) {
    if (typeof data === "string") return this.#socket.send(`${number}:${data}`);
    const head = varint(number);
    const message = new Uint8Array(head.length + data.byteLength);
    message.set(head);
    message.set(new Uint8Array(data.buffer ?? data, data.byteOffset, data.byteLength), head.length);
    this.#socket.send(message);
  }

  close() {
    this.#end(1000, "");
  }

  #opened() {
    if (this.#socket.protocol !== SUBPROTOCOL) return this.#end(1010, `no ${SUBPROTOCOL} there`);
    this.#expect();
    this.isOpen = true;
    for (const channel of [...this.#channels.values()]) channel.begin();
  }

  #take(message) {
    this.#expect();
    const [number, data] = parse(message);
    if (number) return this.#channels.get(number)?.take(data);
    let said = {};
    try {
      said = JSON.parse(data);
    } catch {
      return this.#end(1006, "malformed");
    }
    const about = said.opened ?? said.denied ?? said.closed ?? said.credit ?? said.reopened;
    this.#channels.get(about)?.hear(said);
  }

  /** Something comes within so many milliseconds; or nothing has to. */
  #expect(within) {
    clearTimeout(this.#timer);
    this.#timer = within && setTimeout(() => this.#end(1006, "no answer"), within);
  }

  #end(code, reason) {
    this.#expect();
    this.isOpen = false;
    const socket = this.#socket;
    Object.assign(socket, { onopen: null, onmessage: null, onclose: null });
    if (socket.readyState < 2) socket.close(1000);
    this.#over(() => {
      for (const channel of [...this.#channels.values()]) channel.end(code, reason);
    });
  }
}

class Gateway {
  #url;
  #options;
  #connection;
  #clients = new Set();
  #draw; // one random number, of all channels that lose their connection at once

  constructor(url, options) {
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    if (!this.#url.pathname.endsWith("/")) this.#url.pathname += "/";
    this.#options = options;
  }

  open(path, options = {}) {
    const at = (found) => new URL(`./${found}`.replace(/^\.\/+/, "./"), this.#url).href;
    const url = typeof path === "function" ? async (about) => at(await path(about)) : at(path);
    const reopened = () => client.dispatchEvent(new CustomEvent("reopened"));
    const channel = (url, protocols) => this.#channel(url, protocols, reopened);
    const client = connect(url, {
      ...options,
      random: () => this.#draw ?? Math.random(),
      WebSocket: function (...about) {
        return channel(...about);
      },
    });
    const follow = ({ detail }) => {
      if (detail.state === "closed" || detail.delay === Infinity) this.#clients.delete(client);
      else this.#clients.add(client);
      this.#tidy();
    };
    client.addEventListener("state", follow);
    this.#clients.add(client);
    return client;
  }

  #channel(url, protocols, reopened) {
    const root = this.#url.pathname;
    if (!url.pathname.startsWith(root)) throw new SyntaxError(`not below ${this.#url}`);
    const { WebSocket = globalThis.WebSocket } = this.#options;
    this.#connection ??= new Connection(
      this.#url,
      WebSocket,
      (end) => {
        this.#connection = null;
        this.#draw = Math.random();
        end();
        this.#draw = undefined;
      },
      () => this.#tidy(),
    );
    const path = url.pathname.slice(root.length - 1) + url.search;
    return new Channel(this.#connection, path, [protocols ?? []].flat(), reopened);
  }

  /** Close the connection if nobody needs it any more. */
  #tidy() {
    if (!this.#clients.size && this.#connection && !this.#connection.isFlushing) this.#connection.close();
  }
}

export const gateway = (url, options = {}) => new Gateway(url, options);

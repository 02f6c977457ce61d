// One WebSocket that comes back by itself.
//
// Events:  "state"    whenever `state` or `retryAt` changed
//          "message"  detail is one decoded message; "welcome" is the first of every connection
//
// It does not come back from "ended": an admin has closed it, and `reason` says so. Then it is for the person to `open`.
//
// Nothing is queued: `send` answers false when there is no connection, and the caller says so to its person.

const FIRST_DELAY = 400;
const LONGEST_DELAY = 15_000;
const STEADY_AFTER = 5_000; // a connection that lived this long starts the delays anew
const SILENCE = 20_000; // the worker's heartbeat comes every 5 s: after this much silence the line is dead, open or not
const DISCONNECTED = 4003; // by an admin

export class Connection extends EventTarget {
  state = "idle"; // idle | connecting | online | waiting | offline | ended
  retryAt = 0;
  reason = "";
  #url;
  #socket = null;
  #attempt = 0;
  #lastHeard = 0;
  #timer = 0; // runs while waiting
  #steady = 0;

  constructor(url) {
    super();
    this.#url = url; // a function, since the name in it may change
    const now = () => this.#timer && !document.hidden && this.open(); // somebody looks, or the network is back
    addEventListener("online", now);
    document.addEventListener("visibilitychange", now);
    setInterval(() => {
      if (this.state === "online" && performance.now() - this.#lastHeard > SILENCE) this.reconnect();
    }, 5_000);
  }

  open() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#drop();
    const socket = (this.#socket = new WebSocket(this.#url()));
    const giveUp = setTimeout(() => this.#lost(socket), 10_000);
    this.#become("connecting");
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      this.#lastHeard = performance.now();
      const message = decoded(data);
      if (message.type === "welcome") {
        clearTimeout(giveUp);
        this.#steady = setTimeout(() => (this.#attempt = 0), STEADY_AFTER);
        this.#become("online");
      }
      this.dispatchEvent(new CustomEvent("message", { detail: message }));
    };
    socket.onclose = ({ code, reason }) => {
      clearTimeout(giveUp);
      if (code === DISCONNECTED) this.#ended(socket, reason);
      else this.#lost(socket);
    };
  }

  /** Leave this connection for a new one, at once. */
  reconnect() {
    this.open();
  }

  send(message) {
    if (this.state !== "online") return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  #lost(socket) {
    if (socket !== this.#socket) return; // an earlier one, given up already
    this.#drop();
    const longest = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.#attempt++);
    const delay = longest * (0.5 + Math.random() / 2); // jitter: a worker's clients do not all come back at once
    this.retryAt = Date.now() + delay;
    this.#timer = setTimeout(() => this.open(), delay);
    this.#become(navigator.onLine ? "waiting" : "offline");
  }

  #ended(socket, reason) {
    if (socket !== this.#socket) return;
    this.#drop();
    this.reason = reason;
    this.#become("ended");
  }

  #drop() {
    clearTimeout(this.#steady);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}

/** A program's message need not be in our words, nor in JSON: then it is the text of an announcement. */
function decoded(data) {
  if (typeof data !== "string") return { type: "bytes" };
  try {
    const message = JSON.parse(data);
    if (typeof message?.type === "string") return message;
  } catch {
    // Plain text, then.
  }
  return { type: "announcement", text: data };
}

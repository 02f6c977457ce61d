// Two Socket.IO servers with the Redis adapter, clients of both, and an emitter, in one process.
//
// The tests write to its standard input what it is to run, a line of JSON for each: `a` is the
// server on `redis`, `b` that on `ioredis`, which answers on the channel of who asks. What raises
// where nobody catches it, which would end a server, is kept in `faults`.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { createAdapter } from "@socket.io/redis-adapter";
import { Emitter } from "@socket.io/redis-emitter";
import { Redis } from "ioredis";
import * as redis from "redis";
import { Server } from "socket.io";
import { io as connect } from "socket.io-client";

const [, , url, key] = process.argv;
const faults = [];
for (const kind of ["uncaughtException", "unhandledRejection"]) {
  process.on(kind, (error) => faults.push(`${kind}: ${error?.stack ?? error}`));
}

function plain(value) {
  if (Buffer.isBuffer(value) || value instanceof ArrayBuffer) {
    return { bytes: Buffer.from(value).toString("hex") };
  }
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]));
  }
  return value;
}

class SocketServer {
  clients = {};

  constructor(pub, sub, options) {
    for (const client of [pub, sub]) {
      client.on("error", (error) => faults.push(`error: ${error.stack}`));
    }
    this.pub = pub;
    this.http = createServer();
    this.io = new Server(this.http, { adapter: createAdapter(pub, sub, { key, ...options }) });
    for (const name of ["/", "/chat"]) {
      this.io.of(name).on("connection", (socket) => {
        const { rooms = [], data = {} } = socket.handshake.auth;
        socket.data = data;
        socket.join(rooms);
        socket.on("relay", (rooms, event, done) => {
          socket.to(rooms).emit(event);
          done();
        });
        socket.emit("joined");
      });
    }
  }

  // A client in some rooms, which notes what it gets; returns its sid.
  async client(name, { namespace = "/", rooms = [], data = {} } = {}) {
    const { port } = this.http.address();
    const client = connect(`http://127.0.0.1:${port}${namespace}`, {
      auth: { rooms, data },
      forceNew: true,
      reconnection: false,
      transports: ["websocket"],
    });
    Object.assign(client, { got: [], gone: null });
    client.on("disconnect", (reason) => { client.gone = reason; });
    await new Promise((done) => client.once("joined", done));
    client.onAny((...event) => {
      if (typeof event.at(-1) === "function") event.pop()(name);
      client.got.push(plain(event));
    });
    this.clients[name] = client;
    return client.id;
  }

  // What a client got up to an event of that name, once that has come.
  async gotUntil(name, last) {
    const client = this.clients[name];
    for (;;) {
      const at = client.got.findIndex(([event]) => event === last);
      if (at >= 0) return client.got.splice(0, at + 1).slice(0, -1);
      await new Promise((done) => setTimeout(done, 2));
    }
  }
}

const connected = [redis.createClient({ url }), redis.createClient({ url })];
await Promise.all(connected.map((client) => client.connect()));
const a = new SocketServer(...connected, {});
const b = new SocketServer(new Redis(url), new Redis(url), { publishOnSpecificResponseChannel: true });
const emitter = new Emitter(a.pub, { key });
for (const { http } of [a, b]) await new Promise((done) => http.listen(0, "127.0.0.1", done));

const AsyncFunction = (async () => {}).constructor;
const names = ["a", "b", "emitter", "faults"];
const print = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
print({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const { id, code } = JSON.parse(line);
  new AsyncFunction(...names, code)(a, b, emitter, faults).then(
    (value) => print({ id, value: plain(value) ?? null }),
    (error) => print({ id, error: String(error?.stack ?? error) }),
  );
}
process.exit(0);

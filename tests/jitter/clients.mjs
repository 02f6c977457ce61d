// Clients of a recoverable room whose network fails again and again, and two senders whose network does not.
//
// Each client goes through a proxy of its own, which leads to one of the workers. Now and then the proxy resets what there is, and
// refuses what comes, for a while. What every client has heard is compared with what was sent.
//
// Reads one JSON object from its arguments, prints a line of JSON when everyone is in, obeys lines on its standard input, and prints
// what became of everything as the last line:
//
//   away        clients that are closed with 1012 from now on count as one deploy
//   end         send no more, and report as soon as everybody has everything
import { createRequire } from "node:module";
import { createConnection, createServer } from "node:net";
import { createInterface } from "node:readline";
import { connect } from "../../clients/js/client.js";

const {
  ports, // of the workers that clients may be on
  senders, // of the workers that the senders are on
  clients: count,
  path = "/ws/r0",
  every, // ms from one failure of a network to the next, on average
  away, // ms that it fails
  interval, // ms from one message of a sender to the next
  patience = 60_000, // ms that the last of them may take at the end
} = JSON.parse(process.argv[2]);

const WebSocket = globalThis.WebSocket ?? createRequire(`${process.env.NODE_PATH}/`)("ws").WebSocket;
const between = (low, high) => low + Math.random() * (high - low);
const sent = []; // "sender number", in the order in which they left
let isOver = false;
let deploys = 0;

/** The network between one client and the workers. */
class Network {
  #sockets = new Set();
  #isAway = false;
  cuts = 0;

  async start() {
    this.server = createServer((client) => this.#accept(client));
    await new Promise((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    this.#next(between(0, every));
    return this.server.address().port;
  }

  #accept(client) {
    if (this.#isAway) return client.resetAndDestroy();
    this.#hold(client);
    const [first, second] = Math.random() < 0.5 ? ports : [...ports].reverse();
    const lead = (port, otherwise) => {
      const server = createConnection(port, "127.0.0.1");
      server.once("error", otherwise);
      server.once("connect", () => {
        server.off("error", otherwise);
        this.#hold(server);
        client.pipe(server).pipe(client);
        for (const [one, other] of [[client, server], [server, client]]) one.once("close", () => other.destroy());
      });
    };
    lead(first, () => lead(second, () => client.resetAndDestroy()));
  }

  #hold(socket) {
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.once("close", () => this.#sockets.delete(socket));
  }

  #next(delay) {
    setTimeout(() => {
      if (isOver) return;
      this.cuts += 1;
      this.#isAway = true;
      for (const socket of this.#sockets) socket.resetAndDestroy();
      setTimeout(() => (this.#isAway = false), away);
      this.#next(between(0.75, 1.25) * every);
    }, delay).unref();
  }
}

class Member {
  heard = [];
  latencies = [];
  returns = []; // [which deploy, ms from its close to its return]
  lost = 0; // times it was told that something is gone
  unexpected = [];
  #closed = null;

  async start() {
    this.network = new Network();
    const port = await this.network.start();
    this.client = connect(`ws://127.0.0.1:${port}${path}`, { WebSocket });
    await new Promise((resolve) => {
      this.client.addEventListener("message", ({ data }) => (data === "ready" ? resolve() : this.#hear(data)));
    });
    this.client.addEventListener("state", ({ detail }) => this.#becomes(detail));
    this.client.addEventListener("recovered", ({ detail }) => (this.lost += Object.values(detail).includes(false) ? 1 : 0));
  }

  #hear(data) {
    if (data === "ready") return; // once more
    const [sender, number, time] = data.split(" ");
    this.heard.push(`${sender} ${number}`);
    this.latencies.push(Date.now() - Number(time));
  }

  #becomes({ state, code }) {
    if (state === "waiting" && code === 1012) this.#closed = [deploys, performance.now()];
    if (state === "closed") this.unexpected.push(code);
    if (state === "open" && this.#closed) {
      this.returns.push([this.#closed[0], performance.now() - this.#closed[1], performance.now()]);
      this.#closed = null;
    }
  }
}

async function send(port, name) {
  const client = connect(`ws://127.0.0.1:${port}${path}`, { WebSocket });
  await new Promise((resolve) => client.addEventListener("message", resolve, { once: true }));
  let echoed = 0;
  client.addEventListener("message", ({ data }) => (echoed += data.startsWith(`${name} `) ? 1 : 0));
  let number = 0;
  return {
    run() {
      if (isOver) return;
      client.send(`${name} ${number} ${Date.now()}`);
      sent.push(`${name} ${number++}`);
      setTimeout(() => this.run(), interval);
    },
    isDone: () => echoed === number,
    close: () => client.close(),
  };
}

const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];

/** How the clients of one deploy came back: how many, over which time, and how many in the fullest tenth of a second. */
function spread(returns) {
  const times = returns.map(([, , at]) => at).sort((a, b) => a - b);
  const waits = returns.map(([, wait]) => wait).sort((a, b) => a - b);
  const busiest = times.reduce((most, at, i) => Math.max(most, times.findLastIndex((other) => other < at + 100) - i + 1), 0);
  return { clients: times.length, over: times.at(-1) - times[0], busiest, wait: quantile(waits, 0.5), longest: waits.at(-1) };
}

function report(members) {
  const latencies = members.flatMap(({ latencies }) => latencies).sort((a, b) => a - b);
  const returns = members.flatMap(({ returns }) => returns);
  const wanted = new Set(sent);
  const order = members[0].heard.join();
  const sum = (of) => members.reduce((total, member) => total + of(member), 0);
  return {
    sent: sent.length,
    missing: sum(({ heard }) => sent.length - new Set(heard.filter((message) => wanted.has(message))).size),
    doubled: sum(({ heard }) => heard.length - new Set(heard).size),
    disordered: members.filter(({ heard }) => heard.join() !== order).length,
    told: sum(({ lost }) => lost),
    ended: members.flatMap(({ unexpected }) => unexpected),
    cuts: sum(({ network }) => network.cuts),
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
    longest: latencies.at(-1),
    deploys: [...new Set(returns.map(([deploy]) => deploy))].map((deploy) => spread(returns.filter(([of]) => of === deploy))),
  };
}

const members = Array.from({ length: count }, () => new Member());
await Promise.all(members.map((member) => member.start()));
const sending = await Promise.all(senders.map((port, i) => send(port, `s${i}`)));
for (const sender of sending) sender.run();
console.log(JSON.stringify({ in: members.length }));

for await (const line of createInterface({ input: process.stdin })) {
  if (line === "away") deploys += 1;
  if (line === "end") break;
}
isOver = true;
const deadline = Date.now() + patience;
const isDone = () => sending.every((sender) => sender.isDone()) && members.every(({ heard }) => heard.length >= sent.length);
while (!isDone() && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 50));
console.log(JSON.stringify(report(members)));
process.exit(0);

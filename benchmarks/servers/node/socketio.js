// Node's Socket.IO, with its Redis adapter if a Redis is given. Usage: socketio.js PORT [REDIS_URL]
"use strict";
const { createServer } = require("node:http");
const { Server } = require("socket.io");

async function adapter(url) {
  const { createClient } = require("redis");
  const { createAdapter } = require("@socket.io/redis-adapter");
  const pubClient = createClient({ url });
  const subClient = pubClient.duplicate();
  await Promise.all([pubClient.connect(), subClient.connect()]);
  return createAdapter(pubClient, subClient);
}

async function main(port, redis) {
  const server = createServer(async (request, response) => {
    const times = Number(request.url.split("/").at(-1));
    let found = 0;
    for (let i = 0; i < times; i++) found = (await io.fetchSockets()).length;
    response.end(JSON.stringify(found));
  });
  const io = new Server(server, redis ? { adapter: await adapter(redis) } : {});
  io.on("connection", async (socket) => {
    const { room } = socket.handshake.query;
    socket.on("m", (text) => io.to(room).emit("m", text));
    await socket.join(room);
    socket.emit("ready");
  });
  server.listen({ host: "127.0.0.1", port: Number(port), backlog: 4096 });
}

main(...process.argv.slice(2));

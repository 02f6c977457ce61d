// Node's ws, with a set of connections for each room. Usage: ws.js PORT [deflate]
"use strict";
const { WebSocket, WebSocketServer } = require("ws");

const rooms = new Map();
const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  backlog: 4096,
  perMessageDeflate: process.argv[3] === "deflate",
});

server.on("connection", (socket, request) => {
  const name = request.url.slice("/ws/".length);
  if (!rooms.has(name)) rooms.set(name, new Set());
  const room = rooms.get(name).add(socket);

  socket.on("error", console.error);
  socket.on("close", () => {
    room.delete(socket);
    if (room.size === 0) rooms.delete(name);
  });
  socket.on("message", (data, isBinary) => {
    for (const member of room) {
      if (member.readyState === WebSocket.OPEN) member.send(data, { binary: isBinary });
    }
  });
  socket.send("ready");
});

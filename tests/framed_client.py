"""The client's half of the framing, and a client that speaks it to an endpoint in this process."""

from __future__ import annotations

import json
from typing import Any

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from fastapi_rooms import Namespace, Socket
from fastapi_rooms.testing import WebSocketClient, eventually
from fastapi_rooms.worker.resume import Joined

Message = str | bytes


class Framing:
    """What a client keeps from one connection to the next, and does with each frame."""

    def __init__(self) -> None:
        self.token: str | None = None
        self.positions: dict[str, str] = {}
        self.joins: list[tuple[str, bool | None]] = []
        """The rooms joined, and whether they were recovered."""
        self.said = 0
        """How many frames were no messages."""

    def greet(self, first: Message) -> str:
        """What to answer to the hello."""
        assert isinstance(first, str)
        assert first[:2] == "\0h"
        hello = json.loads(first[2:])
        assert hello["version"] == 1
        self.token = self.token or hello["token"]
        return "\0r" + json.dumps({"token": self.token, "positions": self.positions})

    def read(self, frame: Message) -> list[Message]:
        """The message in a frame, if there is one."""
        start: Message = frame[:2]
        kind = start if isinstance(start, str) else start.decode("latin-1")
        if kind[:1] != "\0":
            return [frame]
        if kind == "\0.":
            return [frame[2:]]
        if kind == "\0m":
            header, message = _split(frame)
            self._advance(json.loads(header))
            return [message]
        assert isinstance(frame, str)
        if kind == "\0b":
            return []
        self.said += 1
        said = json.loads(frame[2:])
        if kind == "\0p":
            self._advance(said)
        elif kind == "\0j":
            self.joins.append((said["room"], said["recovered"]))
            if not said["recovered"]:
                self.positions.pop(said["room"], None)
        else:
            assert kind == "\0l"
            self.positions.pop(said["room"], None)
        return []

    def _advance(self, said: dict[str, Any]) -> None:
        before, after = self.positions.get(said["room"]), said["position"]
        assert (
            before is None or before.split(".")[0] != after.split(".")[0] or _n(before) < _n(after)
        )
        self.positions[said["room"]] = after


def _n(position: str) -> int:
    return int(position.split(".")[1])


def _split(frame: Message) -> tuple[Message, Message]:
    if isinstance(frame, str):
        header, _, message = frame[2:].partition("\n")
        return header, message
    start, _, rest = frame[2:].partition(b"\n")
    return start, rest


class FramedMember(WebSocketClient):
    """A framed client; its endpoint joins some rooms, and waits for it to go.

    Args:
        framing: what it has kept from its connection before.
        sid: an id of its own choice.
    """

    def __init__(
        self,
        namespace: Namespace,
        *rooms: str,
        framing: Framing | None = None,
        sid: str | None = None,
        query: str = "fastapi_rooms=1",
    ) -> None:
        routes = [WebSocketRoute("/", self._endpoint)]
        super().__init__(Starlette(routes=routes), f"/?{query}")
        self._namespace = namespace
        self._names = rooms
        self._sid = sid
        self.framing = framing or Framing()
        self.joined: Joined | None = None
        self._socket: Socket | None = None
        self._messages: list[Message] = []
        self.heard: list[Message] = []
        """What the endpoint has heard of the client."""

    @property
    def socket(self) -> Socket:
        assert self._socket is not None, "the member is not in yet"
        return self._socket

    async def open(self, timeout: float = 10.0) -> None:
        await super().open(timeout)
        await self.send_text(self.framing.greet(await super().receive(timeout)))
        await eventually(lambda: self._socket is not None)

    async def receive(self, timeout: float = 10.0) -> Message:
        """The next message; what else is said is read on the way."""
        while not self._messages:
            self._messages += self.framing.read(await super().receive(timeout))
        return self._messages.pop(0)

    def take_in(self) -> list[Message]:
        """All messages that have come, without waiting."""
        while self._inbox:
            self._messages += self.framing.read(self._inbox.popleft())
        messages, self._messages = self._messages, []
        return messages

    async def _endpoint(self, websocket: WebSocket) -> None:
        async with self._namespace.connect(websocket, sid=self._sid) as socket:
            if self._names:
                self.joined = await socket.join(*self._names)
            self._socket = socket
            while (message := await socket._receive())["type"] != "websocket.disconnect":
                text = message.get("text")
                self.heard.append(message["bytes"] if text is None else text)

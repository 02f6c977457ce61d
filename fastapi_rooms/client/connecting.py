"""What users call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from ssl import SSLContext
from typing import Any, Literal

from fastapi_rooms.client.options import Asked, BufferLimits, ClientOptions, StateChange
from fastapi_rooms.client.socket import ClientSocket
from fastapi_rooms.core.json_codec import DEFAULT_JSON, JsonCodec
from fastapi_rooms.core.names import check_room
from fastapi_rooms.errors import ConfigurationError
from fastapi_rooms.types import Room


def connect(
    url: Asked[str],
    *,
    token: Asked[str | None] = None,
    headers: Asked[Mapping[str, str] | None] = None,
    positions: Mapping[Room, str] | None = None,
    on_state: Callable[[StateChange], object] | None = None,
    on_recovered: Callable[[Room, bool], object] | None = None,
    buffer: BufferLimits | None = None,
    json: JsonCodec = DEFAULT_JSON,
    subprotocols: Sequence[str] | None = None,
    ssl: SSLContext | None = None,
    proxy: str | Literal[True] | None = True,
    compression: Literal["deflate"] | None = "deflate",
    max_size: int | None = 1_048_576,
    max_queue: int = 16,
    ping_interval: float | None = 20.0,
    ping_timeout: float | None = 20.0,
    **options: Any,
) -> ClientSocket:
    """Connect to a WebSocket endpoint, and stay connected.

        async with connect("wss://chat.example.com/chat/tea", token=get_token) as socket:
            async for message in socket:
                print(message.text)

    Entering the block waits for the first connection, as long as it takes; leaving it closes the
    connection with 1000. What is lost in between is connected again, and in rooms with a history
    goes on where it was.

    Args:
        url: of the endpoint, beginning with `ws://` or `wss://`. This, `token` and `headers` are a
            value, or a function, plain or async, that is asked before every attempt. It is given
            `refresh`: true once the server has refused the token, by 4401 or HTTP status 401. If it
            does so again, it is over. Where none of the three is a function, it is over at once.
        token: the query parameter `token`, as the browser client sends it.
        headers: HTTP headers, such as `Authorization`.
        positions: of an earlier process, `ClientSocket.positions`: what was said since follows.
        on_state: called with each `StateChange` as it happens. It must not wait for anything.
        on_recovered: called with a room, and whether all that was missed in it follows: false if
            it has to be read again from wherever it is kept. It is called by the iteration, in its
            place among the messages, and awaited if it is async.
        buffer: what is kept that is sent while there is no connection. Left out: sending raises
            `NotConnected`.
        json: what reads and writes JSON.
        subprotocols: to be offered, in order of preference.
        ssl: for `wss://`; left out, the system's certificate authorities are trusted.
        proxy: the URL of a proxy; true: what the system says; `None`: none.
        compression: `None` to have none.
        max_size: bytes that a message may have, `None` for any number. A longer one ends it for
            good, with code 1009.
        max_queue: messages that are received before they are asked for. Then the client stops
            reading, and the server holds back what follows, or closes with 1013.
        ping_interval: seconds between pings; `None` for none.
        ping_timeout: seconds after which a ping without an answer means that nobody is there.
        **options: what else `websockets.asyncio.client.connect` takes.

    Raises:
        ConfigurationError: an option is not valid, or `websockets` is not installed.
    """
    if find_spec("websockets") is None:
        raise ConfigurationError(
            "fastapi_rooms.client.connect needs the library websockets: "
            'pip install "fastapi-rooms[client]"'
        )
    websocket = {
        "subprotocols": subprotocols,
        "proxy": proxy,
        "compression": compression,
        "max_size": max_size,
        "max_queue": max_queue,
        "ping_interval": ping_interval,
        "ping_timeout": ping_timeout,
        **options,
    }
    if ssl is not None:
        websocket["ssl"] = ssl
    for room, position in (positions or {}).items():
        check_room(room)
        if not isinstance(position, str):
            raise ConfigurationError(f"The position of a room is a str, not {position!r}.")
    return ClientSocket(
        ClientOptions(
            url=url,
            token=token,
            headers=headers,
            on_state=on_state,
            on_recovered=on_recovered,
            buffer=buffer,
            json=json,
            max_queue=max_queue,
            websocket=websocket,
        ),
        positions or {},
    )

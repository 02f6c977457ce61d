"""How an endpoint and its client part: what the one does, and what the other."""

from __future__ import annotations

from fastapi_rooms import RoomManager, Socket
from tests.integration.raw import RawClient, wait_for_client

TEXT, CLOSE = 1, 8


def begin_framing(client: RawClient) -> None:
    """What a client says first that has asked for the framing."""
    assert client.read_frame().data.startswith(b"\0h")
    client.send(TEXT, b"\0r{}")


async def stays(rooms: RoomManager, socket: Socket) -> None:
    """Until its client goes."""
    await wait_for_client(socket)


async def returns(rooms: RoomManager, socket: Socket) -> None:
    """After a word."""
    await socket.send_text("so long")


async def is_dismissed(rooms: RoomManager, socket: Socket) -> None:
    """Others disconnect the socket."""
    await rooms.to(socket.sid).disconnect_sockets()
    await wait_for_client(socket)


def says_nothing(client: RawClient) -> None:
    """Its connection is lost."""
    client.close()


def says_goodbye(client: RawClient) -> None:
    """It closes, and waits for the answer."""
    client.send(CLOSE, b"\x03\xe8")
    client.read_to_close()


def reads_on(client: RawClient) -> None:
    """It answers the server's close."""
    closing = client.read_to_close()[-1]
    client.send(CLOSE, closing.data)

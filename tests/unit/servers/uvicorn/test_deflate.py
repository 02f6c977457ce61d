"""What a connection negotiated is read from it, and from then on its window is shared."""

from __future__ import annotations

import zlib
from types import SimpleNamespace
from typing import Any

import pytest
import websockets
import wsproto
from websockets.extensions.permessage_deflate import PerMessageDeflate as Websockets
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.extensions import PerMessageDeflate as Wsproto

from fastapi_rooms.core.compression import Compression
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.servers.uvicorn.deflate import deflate_of

POLICY = Compression()
OURS = Payload(b"something else that comes in between; " * 10, binary=False)
THEIRS = b"the same words again and again, " * 10


def of_websockets(bits: int = 12, *, keeps: bool = True, kind: Any = Websockets) -> Any:
    conn = ServerProtocol()
    conn.extensions = [kind(False, not keeps, 15, bits, {"memLevel": 5})]
    return conn


def of_wsproto(bits: int = 12, *, keeps: bool = True, kind: Any = Wsproto) -> Any:
    extension = kind(server_max_window_bits=bits, server_no_context_takeover=not keeps)
    extension._enabled = True
    conn = WSConnection(ConnectionType.SERVER)
    conn.connection = Connection(ConnectionType.SERVER, [extension])
    return conn


def extension_of(conn: Any) -> Any:
    conn = conn if isinstance(conn, ServerProtocol) else conn.connection._proto
    [extension] = conn.extensions
    return extension


def theirs(conn: Any) -> bytes:
    """The server's own message, compressed."""
    if isinstance(conn, ServerProtocol):
        return bytes(extension_of(conn).encode(Frame(Opcode.TEXT, THEIRS)).data)
    return bytes(conn.send(wsproto.events.TextMessage(THEIRS.decode()))[2:])


EACH = pytest.mark.parametrize("make", [of_websockets, of_wsproto])


@EACH
@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize(("bits", "ours"), [(9, 9), (11, 9), (12, 12), (14, 12), (15, 15)])
def test_what_was_negotiated_is_found(make: Any, bits: int, keeps: bool, ours: int) -> None:
    deflate = deflate_of(make(bits, keeps=keeps), POLICY)
    assert deflate is not None
    assert (deflate.window_bits, deflate.keeps_window) == (ours, keeps)
    assert deflate_of(make(bits, keeps=keeps), POLICY) is deflate


@EACH
@pytest.mark.parametrize("before", [0, 1])
def test_the_servers_own_messages_refer_to_nothing_before_ours(make: Any, before: int) -> None:
    conn, inflater = make(), zlib.decompressobj(-12)

    def read(data: bytes) -> bytes:
        return inflater.decompress(data + b"\x00\x00\xff\xff")

    for _ in range(before):
        assert read(theirs(conn)) == THEIRS
    deflate = deflate_of(conn, POLICY)
    for _ in range(3):
        frame = OURS.frame_for(deflate)
        assert frame[0] == 0xC1
        assert read(frame[2:]) == OURS.data
        assert read(theirs(conn)) == THEIRS


@EACH
def test_no_compressor_is_kept_for_a_connection(make: Any) -> None:
    conn = make()
    theirs(conn)
    deflate_of(conn, POLICY)
    for _ in range(2):
        extension = extension_of(conn)
        assert not [v for v in vars(extension).values() if type(v) is type(zlib.compressobj())]
        theirs(conn)


@EACH
def test_without_a_policy_the_connection_is_left_alone(make: Any) -> None:
    conn = make()
    assert deflate_of(conn, None) is None
    assert theirs(conn) != theirs(conn), "it refers to what it has sent before"


class OtherWebsockets(Websockets):
    pass


class OtherWsproto(Wsproto):
    pass


@pytest.mark.parametrize(
    "conn",
    [
        of_websockets(kind=OtherWebsockets),
        of_wsproto(kind=OtherWsproto),
        ServerProtocol(),
        WSConnection(ConnectionType.SERVER),
        SimpleNamespace(extensions=[extension_of(of_websockets())] * 2),
        object(),
    ],
)
def test_what_is_not_known_is_not_compressed_for(conn: Any) -> None:
    assert deflate_of(conn, POLICY) is None


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (of_websockets, "local_max_window_bits", "12"),
        (of_websockets, "local_no_context_takeover", None),
        (of_websockets, "encoder", None),
        (of_wsproto, "_server_max_window_bits", None),
        (of_wsproto, "server_no_context_takeover", 0),
        (of_wsproto, "_compressor", None),
    ],
)
def test_attributes_that_are_not_as_expected_leave_the_connection_alone(
    make: Any, name: str, value: object
) -> None:
    conn = make()
    extension = extension_of(conn)
    if value is None:
        delattr(extension, name)
    else:
        setattr(extension, name, value)
    before = dict(vars(extension))
    assert deflate_of(conn, POLICY) is None
    assert vars(extension) == before


@pytest.mark.parametrize(
    ("make", "library", "version"),
    [
        (of_websockets, websockets, "99.0"),
        (of_wsproto, wsproto, "99.0"),
        (of_wsproto, wsproto, "1.1.0"),
    ],
)
def test_versions_that_were_not_tested_are_left_alone(
    make: Any, library: Any, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "__version__", version)
    conn = make()
    assert deflate_of(conn, POLICY) is None
    assert theirs(conn) != theirs(conn)

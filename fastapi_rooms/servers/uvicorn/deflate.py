"""What a connection of uvicorn's negotiated for permessage-deflate, and sharing its window.

Frames that are compressed once for many clients pass through the window of each. The server has a
compressor for each connection, for what an endpoint sends by itself, and it refers to what it has
sent before as if nothing of ours had come between. So before our first frame it is told to begin
anew for each message, as if the client had asked for that (`server_no_context_takeover`). That is
sound at any time between two messages: a compressor that has just been made refers to nothing that
it has not seen itself, and a client keeps its window all the same, if that was agreed.

It depends on these internals:

* websockets, used by uvicorn's default implementation: `conn.extensions` has what was negotiated. A
  `PerMessageDeflate` with `local_no_context_takeover` makes a new `encoder` for each message, and
  needs none before; then we remove the one that it has, which frees some 30 KB.
* wsproto: `conn` has a `connection`, that has a `_proto`, and that has `extensions`. A
  `PerMessageDeflate` with `server_no_context_takeover` removes its `_compressor` behind each
  message, and makes one when there is none.
* uvicorn sends a message as one frame, so between two of its writes no message is half sent.

If anything is not as expected, what is written directly is not compressed, which is always sound.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeGuard

from fastapi_rooms.core.compression import Compression, Deflate, deflate_for
from fastapi_rooms.servers.uvicorn.server import is_tested_websockets, is_tested_wsproto


class _Window(NamedTuple):
    """The window by which a client decompresses."""

    bits: int
    is_kept: bool
    """From one message to the next."""


def deflate_of(conn: Any, compression: Compression | None) -> Deflate | None:
    """How to compress for a connection; `None` if that was not negotiated, or is not to be.

    From then on, the server compresses each of its own messages by itself.
    """
    if compression is None:
        return None
    window = _from_websockets(conn) or _from_wsproto(conn)
    if window is None:
        return None
    return deflate_for(compression, window.bits, keeps_window=window.is_kept)


def _from_websockets(conn: Any) -> _Window | None:
    """The client's window, which the connection's encoder then leaves to us as well."""
    extension = _only(getattr(conn, "extensions", None))
    if not (_is_deflate(extension, "websockets.extensions") and is_tested_websockets()):
        return None
    window = _window(extension, "local_max_window_bits", "local_no_context_takeover")
    if window is None or window.is_kept is not ("encoder" in vars(extension)):
        return None
    extension.local_no_context_takeover = True
    vars(extension).pop("encoder", None)
    return window


def _from_wsproto(conn: Any) -> _Window | None:
    """As `_from_websockets`."""
    proto = getattr(getattr(conn, "connection", None), "_proto", None)
    extension = _only(getattr(proto, "extensions", None))
    if not (_is_deflate(extension, "wsproto.extensions") and is_tested_wsproto()):
        return None
    window = _window(extension, "server_max_window_bits", "server_no_context_takeover")
    if window is None or "_compressor" not in vars(extension):
        return None
    extension.server_no_context_takeover = True
    extension._compressor = None
    return window


def _only(extensions: object) -> object:
    """The extension that a connection has, if it has one and no other."""
    return extensions[0] if isinstance(extensions, list) and len(extensions) == 1 else None


def _is_deflate(extension: object, package: str) -> TypeGuard[Any]:
    kind = type(extension)
    return kind.__name__ == "PerMessageDeflate" and kind.__module__.startswith(package)


def _window(extension: object, bits: str, is_emptied: str) -> _Window | None:
    size, emptied = getattr(extension, bits, None), getattr(extension, is_emptied, None)
    if type(size) is not int or type(emptied) is not bool:
        return None
    return _Window(size, not emptied)

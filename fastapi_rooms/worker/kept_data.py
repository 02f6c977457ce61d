"""What the edge of a client keeps of `socket.data`, for the endpoint that comes after this one."""

from __future__ import annotations

from typing import Any

from fastapi_rooms.core.json_values import NotKept, copy_kept
from fastapi_rooms.errors import UsageError
from fastapi_rooms.worker.socket import Socket


class KeptData:
    """That of one socket, as the edge was told last."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: dict[str, Any] | None = None

    def changed(self, socket: Socket) -> dict[str, Any] | None:
        """What is to be told: all of it, a copy; `None` if nothing has changed.

        Raises `UsageError` for what would come back as something else.
        """
        try:
            if socket.data == self._told:
                return None
        except Exception:  # noqa: BLE001, S110 -- some things cannot be compared: they are none of ours
            pass
        return _copy_of(socket)

    def told(self, data: dict[str, Any]) -> None:
        """The edge was told this, or is about to be."""
        self._told = data


def _copy_of(socket: Socket) -> dict[str, Any]:
    try:
        return copy_kept(socket.data)
    except NotKept as error:
        where = "".join(f"[{key!r}]" for key in error.path)
        raise UsageError(
            f"socket.data{where} of {socket} {error}. The edge of this client keeps `socket.data` "
            "for the next endpoint, as JSON: None, bool, int, finite float, str, and lists and "
            "dicts of these with str as keys. Convert it to such, or keep it in a variable."
        ) from None

"""What a manager, or an emitter, is told of the Socket.IO servers on its Redis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from fastapi_rooms.core.checks import check_one_of
from fastapi_rooms.core.names import check_namespace, check_prefix
from fastapi_rooms.errors import ConfigurationError, UsageError
from fastapi_rooms.wire.socketio import msgpack
from fastapi_rooms.wire.socketio.channels import Channels
from fastapi_rooms.wire.socketio.events import EventCodec, Events

Mode: TypeAlias = Literal["peer", "receive", "send"]
"""How far a worker takes part."""


@dataclass(frozen=True, slots=True)
class SocketIO:
    """The Socket.IO servers on the same Redis: `RoomManager(url, socketio=SocketIO())`.

    Raises:
        ConfigurationError: a setting has a value that it cannot have, or the extra `socketio` is
            not installed.
        InvalidNamespace: so does a namespace.
    """

    key: str = "socket.io"
    """The `key` of their adapters and emitters, which is the first part of their channels."""
    namespaces: Sequence[str] = ("/",)
    """The namespaces that both sides have. The others are this side's alone."""
    mode: Mode = "peer"
    """`peer`: messages go both ways, and each side answers for its sockets when the other asks.
    `receive`: what Node servers and emitters broadcast is heard, and nothing is said. `send`: what
    is sent here, or done with sockets, is told to Node servers, and nothing is heard."""
    codec: EventCodec = field(default_factory=Events)
    """How events become native messages, and back."""

    def __post_init__(self) -> None:
        msgpack.ensure_installed()
        try:
            check_prefix(self.key)
        except ConfigurationError as error:
            raise ConfigurationError(f"SocketIO(key=…): {error}") from None
        check_one_of("mode", self.mode, get_args(Mode))
        if isinstance(self.namespaces, str) or not self.namespaces:
            raise ConfigurationError(
                f"namespaces must be a list of names, at least one, not {self.namespaces!r}."
            )
        names = tuple(dict.fromkeys(map(check_namespace, self.namespaces)))
        object.__setattr__(self, "namespaces", names)
        for method in ("to_native", "to_event"):
            if not callable(getattr(self.codec, method, None)):
                raise ConfigurationError(
                    "codec must have the methods `to_native` and `to_event`, as `Events` has; "
                    f"{self.codec!r} does not."
                )

    @property
    def channels(self) -> Channels:
        """The channels of Node servers."""
        return Channels(self.key, self.namespaces)

    @property
    def sends(self) -> bool:
        """Whether Node servers are told anything."""
        return self.mode != "receive"

    @property
    def receives(self) -> bool:
        """Whether they are heard."""
        return self.mode != "send"

    def shares(self, namespace: str) -> bool:
        """Whether a namespace is shared, and Node servers are told what happens in it."""
        return self.sends and namespace in self.namespaces

    def check_prefix(self, prefix: str) -> None:
        """Raise `ConfigurationError` for a prefix by which Node servers would hear the workers."""
        if prefix in (self.key, f"{self.key}-request", f"{self.key}-response"):
            raise ConfigurationError(
                f"The prefix {prefix!r} and the key of Socket.IO have the same channels. What "
                "workers say to each other would end every Node server: choose another prefix."
            )

    def check_namespace(self, namespace: str) -> None:
        """Raise `UsageError` for a namespace that Socket.IO does not share."""
        if namespace not in self.namespaces:
            raise UsageError(
                f"{namespace!r} is not one of the namespaces that are shared with Socket.IO: "
                f"SocketIO(namespaces={[*self.namespaces, namespace]!r}) would share it."
            )

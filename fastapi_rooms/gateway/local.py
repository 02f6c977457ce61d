"""What a backend sends to its own clients alone, with `local`: its edges deliver it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from fastapi_rooms.core.target import Target
from fastapi_rooms.gateway.socket import owner_of
from fastapi_rooms.types import NodeId, Sid
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.gateway import Frame
from fastapi_rooms.worker.local_namespace import LocalNamespace
from fastapi_rooms.worker.runtime import Runtime


def deliver(frame: Frame, runtime: Runtime) -> None:
    """Deliver a message to those here whose endpoints its sender runs.

    Raises `MalformedEnvelope`.
    """
    message = codec.decode_broadcast(frame.body)
    here = runtime.living.get(message.namespace)
    if here is not None:
        target, rooms = message.target, here.rooms
        named: Iterable[Sid] = here.sids
        if target.rooms is not None:
            named = dict.fromkeys(chain.from_iterable(rooms.get(name, ()) for name in target.rooms))
        left_out = set(chain.from_iterable(rooms.get(name, ()) for name in target.except_))
        sids = tuple(sid for sid in _of(frame.origin, here, named) if sid not in left_out)
        if sids:
            here.receive(Target(sids), message.payload, volatile=message.volatile)


def _of(node: NodeId, here: LocalNamespace, sids: Iterable[Sid]) -> Iterator[Sid]:
    """Those whose endpoints a backend runs."""
    for sid in sids:
        socket = here.clients.socket(sid)
        found = None if socket is None else owner_of(socket)
        if found is not None and found.owner.backend == node:
            yield sid

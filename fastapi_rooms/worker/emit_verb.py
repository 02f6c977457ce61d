"""Sending events, which Socket.IO's clients get as they are, and native ones as messages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import UsageError
from fastapi_rooms.wire.socketio.packets import event_payload
from fastapi_rooms.wire.socketio.values import check_name, json_values
from fastapi_rooms.worker.peer_run import PeerRun

if TYPE_CHECKING:
    from fastapi_rooms.worker.runtime import Runtime


class EmitVerb:
    """The part of a namespace on this worker that is about events."""

    name: str
    runtime: Runtime

    async def send(self, target: Target, payload: Payload, *, local: bool, volatile: bool) -> None:
        """Send a message."""
        raise NotImplementedError

    async def emit(
        self, target: Target, event: str, args: tuple[Any, ...], *, local: bool, volatile: bool
    ) -> None:
        """Send an event to the target's sockets, and to Socket.IO's clients unless `local`."""
        runtime = self.runtime
        socketio = runtime.settings.socketio
        if socketio is None:
            raise UsageError(
                "`emit` sends events to Socket.IO's clients, too, and this manager was not told "
                "of any: RoomManager(url, socketio=SocketIO()). For native clients alone use "
                "`send_json`."
            )
        socketio.check_namespace(self.name)
        values = json_values(args, runtime.settings.json)
        payload = event_payload(check_name(event), values, socketio.codec)
        if not isinstance(payload, bytes):
            await self.send(target, payload, local=local, volatile=volatile)
            return
        run = runtime.run
        run.check_size(len(payload))
        if isinstance(run, PeerRun) and not local:
            accepted = run.publish_foreign(self.name, target, payload, volatile=volatile)
            if accepted is not None:
                await runtime.attribute(accepted)
            if run.spend_turn(len(payload)):
                await asyncio.sleep(0)

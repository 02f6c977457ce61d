"""Requests to the workers and to Socket.IO's servers together: one result of both."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from fastapi_rooms.core.names import check_room
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import RequestError, RequestTimeout
from fastapi_rooms.operators.dispatcher import ClusterRequest, Part, ResponseReader, T
from fastapi_rooms.operators.remote import ServerReply
from fastapi_rooms.socketio.peer import NODE, Peer
from fastapi_rooms.wire.socketio.drafts import COMMANDS
from fastapi_rooms.wire.socketio.requests import Kind
from fastapi_rooms.wire.socketio.values import check_server_name
from fastapi_rooms.wire.verbs import Verb

_COMMANDS: Final = {
    verb: kind for verb, kind in COMMANDS.items() if kind is not Kind.SERVER_SIDE_EMIT
}
_QUESTIONS: Final = {
    Verb.FETCH: Kind.FETCH,
    Verb.COUNT: Kind.SOCKETS,
    Verb.ROOMS: Kind.ALL_ROOMS,
    Verb.EMIT: Kind.SERVER_SIDE_EMIT,
}


def is_shared(peer: Peer, namespace: str, request: ClusterRequest) -> bool:
    """Whether Socket.IO's servers have to do with a request."""
    if not (request.elsewhere and peer.shares(namespace)):
        return False
    if request.verb in _QUESTIONS and peer.settings.mode != "peer":
        return False
    if request.verb not in _QUESTIONS and request.verb not in _COMMANDS:
        return False
    if request.node is not None:
        return request.node == NODE
    return request.verb == Verb.EMIT or request.target.rooms != ()


async def notify(peer: Peer, namespace: str, arguments: Mapping[str, Any]) -> None:
    """Have Socket.IO's servers call their handlers of an event."""
    check_server_name(arguments["event"])
    await peer.command(namespace, Kind.SERVER_SIDE_EMIT, data=_event(arguments))


async def request_both(
    peer: Peer,
    namespace: str,
    request: ClusterRequest,
    reader: ResponseReader[Part, T],
    timeout: float,
    native: Coroutine[Any, Any, T],
) -> T:
    """The result of the workers, by `native`, and of Socket.IO's servers, together.

    Raises what `native` does; `RequestTimeout` also if servers of Socket.IO did not answer.
    """
    verb = Verb(request.verb)
    try:
        if verb is Verb.EMIT:
            check_server_name(request.arguments["event"])
        if verb in _COMMANDS:
            foreign = asyncio.ensure_future(_command(peer, namespace, verb, request))
        else:
            foreign = asyncio.ensure_future(_ask(peer, namespace, verb, request, reader, timeout))
    except BaseException:
        native.close()
        raise
    foreign.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        if request.node is not None:  # a socket of theirs
            parts, _ = await foreign
            return reader.merge(parts)
        await asyncio.sleep(0)  # both are under way before anything is awaited
        refused: RequestError | None = None
        try:
            result = await native
        except RequestError as error:
            refused, result = error, error.partial
        parts, silent = await foreign
    finally:
        foreign.cancel()
        native.close()  # it may not have begun
    merged: T = _merged(reader, verb, result, parts)
    if refused is not None or silent:
        raise _unanswered(verb, timeout, merged, refused, silent)
    return merged


def _merged(reader: ResponseReader[Part, T], verb: Verb, result: Any, parts: list[Any]) -> Any:
    """One result: a reader makes the same of parts as of results, but for replies."""
    if verb is Verb.EMIT:
        return [*result, *parts]
    return reader.merge([result, *parts]) if parts else result


def _unanswered(
    verb: Verb, timeout: float, partial: Any, error: RequestError | None, silent: int
) -> RequestError:
    if error is not None and not silent:
        error.partial = partial
        return error
    nodes = error.silent if isinstance(error, RequestTimeout) else frozenset[str]()
    others = error.unidentified if isinstance(error, RequestTimeout) else 0
    return RequestTimeout(
        str(verb),
        timeout,
        nodes,
        partial,
        {} if error is None else error.refusals,
        others + silent,
        frozenset() if error is None else error.unsupported,
    )


async def _command(
    peer: Peer, namespace: str, verb: Verb, request: ClusterRequest
) -> tuple[list[Any], int]:
    rooms = tuple(request.arguments.get("rooms", ()))
    await peer.command(namespace, _COMMANDS[verb], _target(request), rooms=rooms)
    return [], 0


async def _ask(
    peer: Peer,
    namespace: str,
    verb: Verb,
    request: ClusterRequest,
    reader: ResponseReader[Part, T],
    timeout: float,
) -> tuple[list[Any], int]:
    """What the reader makes of each answer, and how many servers have not answered.

    A server without a handler of an event does not answer: that is no failure.
    """
    kind, target, data = _QUESTIONS[verb], _target(request), None
    if verb is Verb.EMIT:
        data = _event(request.arguments)
    elif verb is Verb.COUNT and target.except_:
        kind = Kind.FETCH  # the other question has no exceptions
    values, silent = await peer.ask(namespace, kind, target, timeout, data)
    if verb is Verb.EMIT:
        replies = [ServerReply(NODE, value, None) for value in values]
        none = f"no answer in {timeout:g} s: a server without a handler gives none"
        return [*replies, *(ServerReply(NODE, None, none) for _ in range(silent))], 0
    if verb is Verb.COUNT:
        return [reader.read(NODE, len(value)) for value in values], silent
    return [reader.read(NODE, value) for value in values], silent


def _event(arguments: Mapping[str, Any]) -> list[Any]:
    return [arguments["event"], *arguments["args"]]


def _target(request: ClusterRequest) -> Target:
    sid = request.arguments.get("sid")
    return request.target if sid is None else Target((check_room(sid),))

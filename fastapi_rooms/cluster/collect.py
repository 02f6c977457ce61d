"""One result from the responses of many workers, or the error that holds what there is of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi_rooms.cluster.pending import PendingRequest
from fastapi_rooms.concurrency import in_slices
from fastapi_rooms.core.json_codec import DEFAULT_JSON
from fastapi_rooms.errors import RequestRefused, RequestTimeout
from fastapi_rooms.operators.dispatcher import ClusterRequest, Part, ResponseReader, T
from fastapi_rooms.types import NodeId


async def collect(
    request: ClusterRequest,
    reader: ResponseReader[Part, T],
    pending: PendingRequest,
    timeout: float,
) -> T:
    """What the reader makes of all responses; `timeout` is how long they were waited for.

    Raises:
        RequestTimeout: some workers have not answered.
        RequestRefused: some have answered that they would not, or could not.
    """
    parts = []
    refusals = dict(pending.refusals)
    for node, data in pending.responses.items():
        try:
            parts += [part async for part in _read(reader, node, DEFAULT_JSON.loads(data))]
        except Exception as error:  # noqa: BLE001 -- the caller is told
            refusals[node] = f"its answer makes no sense: {error}"
    result = reader.merge(parts)
    verb, unsupported = str(request.verb), frozenset(pending.unsupported)
    if pending.missing or pending.unidentified:
        silent = frozenset(pending.missing)
        raise RequestTimeout(
            verb, timeout, silent, result, refusals, pending.unidentified, unsupported
        )
    if refusals:
        raise RequestRefused(verb, result, refusals, unsupported)
    return result


async def _read(
    reader: ResponseReader[Part, T], node: NodeId, response: Any
) -> AsyncIterator[Part]:
    if reader.in_parts and isinstance(response, list):
        async for some in in_slices(response):
            yield reader.read(node, some)
    else:
        yield reader.read(node, response)

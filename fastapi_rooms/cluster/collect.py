"""One result from the responses of many workers, or the error that holds what there is of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi_rooms.cluster.pending import PendingRequest
from fastapi_rooms.concurrency import in_slices
from fastapi_rooms.core.json_codec import WIRE_JSON
from fastapi_rooms.core.printable import printable
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
            parts += [part async for part in _read(reader, node, data)]
        except Exception as error:  # noqa: BLE001 -- the caller is told
            refusals[node] = f"its answer makes no sense: {printable(str(error))}"
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


async def _read(reader: ResponseReader[Part, T], node: NodeId, data: bytes) -> AsyncIterator[Part]:
    start, end = 0, data.find(b"\n") if reader.in_parts else -1
    while end >= 0:  # a long list comes in lines, each of which is a list
        async for part in _read_one(reader, node, data[start:end]):
            yield part
        await asyncio.sleep(0)
        start, end = end + 1, data.find(b"\n", end + 1)
    async for part in _read_one(reader, node, data[start:]):
        yield part


async def _read_one(
    reader: ResponseReader[Part, T], node: NodeId, data: bytes
) -> AsyncIterator[Part]:
    response = WIRE_JSON.loads(data)
    if reader.in_parts and isinstance(response, list):
        async for some in in_slices(response):
            yield reader.read(node, some)
    else:
        yield reader.read(node, response)

"""Envelopes, sent to all workers or to one, in the name of this one."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.cluster.sender import Sender
from fastapi_rooms.wire.envelope import Heartbeat, HeartbeatKind
from tests.unit.cluster.support import ANN, CHANNELS, ME, Carrier
from tests.unit.support import WORKERS

HELLO = Heartbeat("", 0, HeartbeatKind.HELLO, 1)


@pytest.fixture
def sender(carrier: Carrier) -> Sender:
    return Sender(ME, carrier, CHANNELS, itertools.count(7).__next__)


async def test_each_envelope_has_this_workers_id_and_the_next_number(
    carrier: Carrier, sender: Sender
) -> None:
    await sender.send(None, HELLO)
    sender.send_volatile(ANN, HELLO)
    await sender.send(ANN, HELLO)
    assert carrier.sent == [
        (WORKERS, HELLO._replace(origin=ME, sequence=7)),
        (CHANNELS.of_node(ANN), HELLO._replace(origin=ME, sequence=9)),
    ]
    assert carrier.volatile == [(CHANNELS.of_node(ANN), HELLO._replace(origin=ME, sequence=8))]


@pytest.mark.parametrize("receivers", [None, 0, 3])
async def test_how_many_receive_it_is_what_the_carrier_says(
    carrier: Carrier, sender: Sender, receivers: int | None
) -> None:
    carrier.receivers[WORKERS] = receivers
    assert await sender.send(None, HELLO) == receivers


async def test_what_the_adapter_does_not_accept_or_confirm_raises(
    carrier: Carrier, sender: Sender
) -> None:
    await sender.confirm([WORKERS])
    carrier.down = True
    with pytest.raises(AdapterUnavailable):
        await sender.send(None, HELLO)
    with pytest.raises(AdapterUnavailable):
        await sender.confirm([WORKERS])


def test_it_is_connected_while_the_adapter_is(carrier: Carrier, sender: Sender) -> None:
    assert sender.connected
    carrier.health = replace(carrier.health, connected=False)
    assert not sender.connected

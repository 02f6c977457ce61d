"""The write loop: one message to many clients, and whatever is wrong with one harms no other."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import pytest

from fastapi_rooms.core.compression import Compression, deflate_for
from fastapi_rooms.core.payload import Batch, Outgoing, Payload, frame_of
from fastapi_rooms.transports.write_loop import write
from tests.unit.support import FakeTransport


def _transports(count: int) -> list[FakeTransport]:
    return [FakeTransport() for _ in range(count)]


@pytest.mark.parametrize("volatile", [False, True])
def test_a_transport_is_told_whether_the_message_is_volatile(volatile: bool) -> None:
    transports = _transports(2)
    write(transports, Payload.of_text("a"), volatile=volatile)
    assert [transport.writes for transport in transports] == [[["a"]], [["a"]]]
    assert [transport.volatile for transport in transports] == [[volatile], [volatile]]


@pytest.mark.parametrize("volatile", [False, True])
def test_a_client_that_keeps_up_gets_the_finished_frame_and_its_transport_nothing(
    volatile: bool,
) -> None:
    transports = _transports(2)
    transports[0].keep_up()
    batch = Batch([Payload.of_text("a"), Payload.of_bytes(b"b")])
    write(transports, batch, volatile=volatile)
    assert transports[0].frames() == [frame_of(b"a", binary=False) + frame_of(b"b", binary=True)]
    assert transports[0].writes == []
    assert transports[1].writes == [["a", "b"]]
    transports[0].hang_up()


def test_the_frame_is_built_once_for_all_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    transports = _transports(3)
    message = Payload.of_text("a")
    written: list[bytes] = []

    def take(fd: int, frame: bytes) -> int:
        written.append(frame)
        return len(frame)

    for transport in transports:
        transport.fd = 0
    monkeypatch.setattr(os, "write", take)
    write(transports, message, volatile=False)
    monkeypatch.undo()
    assert len(written) == 3
    assert all(frame is written[0] for frame in written)


def test_each_client_gets_the_form_that_it_negotiated() -> None:
    twelve = deflate_for(Compression(), 12, keeps_window=True)
    nine = deflate_for(Compression(), 9, keeps_window=False)
    kinds = [None, twelve, twelve, nine, None, twelve]
    transports = _transports(len(kinds))
    for transport, kind in zip(transports, kinds, strict=True):
        transport.deflate = kind
        transport.keep_up()
    parts = [Payload.of_text(f"{number} words " * 100) for number in range(2)]
    messages: list[Outgoing] = [parts[0], Batch(parts)]
    for message in messages:
        write(transports, message, volatile=False)
        got = [transport.frames() for transport in transports]
        assert got == [[message.frame_for(kind)] for kind in kinds]
    for transport in transports:
        transport.hang_up()


@pytest.mark.parametrize("volatile", [False, True])
def test_what_the_kernel_does_not_take_is_the_transports(volatile: bool) -> None:
    transports = _transports(3)
    ours, clients = socket.socketpair()
    with ours, clients:
        ours.setblocking(False)
        transports[1].fd = ours.fileno()
        text = "x" * (1 << 24)
        write(transports, Payload.of_text(text), volatile=volatile)
        write(transports, Payload.of_text("b"), volatile=volatile)
        clients.setblocking(False)
        taken = b""
        with suppress(BlockingIOError):
            while part := clients.recv(1 << 20):
                taken += part
    assert taken == Payload.of_text(text).frame[: len(taken)]
    already_sent = transports[1].already_sent
    assert already_sent == [len(taken), 0], "a part of the first, nothing of the next"
    assert transports[1].texts == [text, "b"]
    assert transports[2].texts == [text, "b"]


def test_a_socket_that_is_broken_is_left_to_its_transport() -> None:
    transports = _transports(2)
    transports[0].keep_up()
    transports[0].lose_client()
    write(transports, Payload.of_text("a"), volatile=False)
    transports[0].hang_up()
    assert (transports[0].texts, transports[0].already_sent) == (["a"], [0])
    assert transports[1].texts == ["a"]


@pytest.mark.parametrize("volatile", [False, True])
def test_a_transport_that_raises_is_logged_and_harms_no_other(
    volatile: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the handle is closed")

    transports = _transports(3)
    monkeypatch.setattr(transports[1], "write_volatile" if volatile else "write", fail)
    write(transports, Payload.of_text("a"), volatile=volatile)
    assert [transport.texts for transport in transports] == [["a"], [], ["a"]]
    [record] = caplog.records
    assert "Writing to a socket failed" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], RuntimeError)

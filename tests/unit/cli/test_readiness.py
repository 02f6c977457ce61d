"""How a process without a port says that it is ready."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from fastapi_rooms.cli import readiness
from fastapi_rooms.testing import eventually


async def test_systemd_is_told_when_it_is_ready_for_the_first_time_and_of_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "EVERY", 0.0)
    address = str(tmp_path / "notify")
    ready, looks = False, 0

    def is_ready() -> bool:
        nonlocal looks
        looks += 1
        return ready

    async def looked_again() -> None:
        before = looks
        await eventually(lambda: looks > before + 1)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        async with readiness.readiness(is_ready, ""):
            await looked_again()
            with pytest.raises(BlockingIOError):
                systemd.recv(99)
            for now in (True, False, True):
                ready = now
                await looked_again()
        assert [systemd.recv(99) for _ in range(2)] == [b"READY=1", b"STOPPING=1"]
        with pytest.raises(BlockingIOError):
            systemd.recv(99)


async def test_systemd_may_have_a_socket_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("")  # Linux chooses an address, which begins with a zero byte
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + systemd.getsockname()[1:].decode())
        async with readiness.readiness(lambda: True, ""):
            assert await asyncio.get_running_loop().sock_recv(systemd, 99) == b"READY=1"


async def test_a_file_is_there_as_long_as_it_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "EVERY", 0.01)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))  # which disturbs nothing
    file = tmp_path / "ready"
    ready = True
    async with readiness.readiness(lambda: ready, str(file)):
        await eventually(file.exists)
        ready = False
        await eventually(lambda: not file.exists())
        ready = True
        await eventually(file.exists)
    assert not file.exists()
    with pytest.raises(FileNotFoundError):
        async with readiness.readiness(lambda: True, str(tmp_path / "nowhere" / "ready")):
            pytest.fail("there can be no such file")

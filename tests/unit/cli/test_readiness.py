"""How a process without a port says that it is ready."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fastapi_rooms.cli import readiness
from fastapi_rooms.testing import eventually


async def test_systemd_is_told_of_the_start_and_of_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        async with readiness.readiness(lambda: True, ""):
            assert systemd.recv(99) == b"READY=1"
        assert systemd.recv(99) == b"STOPPING=1"


async def test_systemd_may_have_a_socket_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("")  # Linux chooses an address, which begins with a zero byte
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + systemd.getsockname()[1:].decode())
        async with readiness.readiness(lambda: True, ""):
            assert systemd.recv(99) == b"READY=1"


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

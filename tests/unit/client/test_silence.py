from __future__ import annotations

import asyncio

from fastapi_rooms.client.silence import Silence
from fastapi_rooms.testing import eventually


async def test_a_connection_without_a_sound_is_ended() -> None:
    ended = asyncio.Event()
    silence = Silence(0.02, ended.set)
    await ended.wait()
    assert silence.is_over


async def test_while_nobody_listens_it_is_not() -> None:
    ended: list[bool] = []
    silence = Silence(0.001, lambda: ended.append(True))
    silence.is_listening = False
    first = silence._timer
    await eventually(lambda: silence._timer is not first)
    assert ended == []
    silence.is_listening = True
    await eventually(lambda: ended)


async def test_what_has_come_puts_it_off() -> None:
    loop = asyncio.get_running_loop()
    silence = Silence(1_000, lambda: None)
    assert silence._timer is not None
    silence._heard -= 600  # as if it had been made then
    silence._look()
    assert 300 < silence._timer.when() - loop.time() <= 400
    silence.heard()
    silence._look()
    assert 900 < silence._timer.when() - loop.time() <= 1_000
    silence.stop()
    assert silence._timer.cancelled()


async def test_a_plain_server_may_be_silent() -> None:
    silence = Silence(None, lambda: None)
    assert silence._timer is None
    silence.stop()

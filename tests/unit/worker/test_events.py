"""Events: every handler is told, and none can harm another."""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings
import weakref
from contextlib import suppress
from typing import Any, cast, get_args

import pytest

from fastapi_rooms.errors import ConfigurationError
from fastapi_rooms.testing import eventually
from fastapi_rooms.worker.events import EventHandlers, EventName, Events
from tests.unit.support import other_tasks


def test_a_handler_is_called_with_what_the_event_tells() -> None:
    events = Events(EventHandlers())
    calls: list[Any] = []
    events.handlers.on("join-room")(lambda room, socket: calls.append((room, socket)))
    events.emit("join-room", "lobby", "ann")
    events.emit("leave-room", "lobby", "ann")
    assert calls == [("lobby", "ann")]


def test_handlers_are_called_in_the_order_they_were_registered() -> None:
    events = Events(EventHandlers())
    calls: list[Any] = []
    for number in range(3):
        events.handlers.on("connect")(lambda _socket, number=number: calls.append(number))
    events.emit("connect", None)
    assert calls == [0, 1, 2]


def test_on_gives_the_handler_back() -> None:
    def handler(room: str) -> None: ...

    assert EventHandlers().on("create-room")(handler) is handler


@pytest.mark.parametrize("event", get_args(EventName))
def test_every_event_that_is_documented_can_be_handled(event: EventName) -> None:
    events = Events(EventHandlers())
    calls: list[Any] = []
    events.handlers.on(event)(lambda *args: calls.append(args))
    events.emit(event, "told")
    assert calls == [("told",)]


def test_an_event_that_does_not_exist_is_refused_and_the_others_are_named() -> None:
    with pytest.raises(ConfigurationError, match="no event 'joined'") as raised:
        EventHandlers().on(cast(Any, "joined"))
    for event in get_args(EventName):
        assert event in str(raised.value)


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_handler_that_raises_is_logged_and_the_next_is_still_called(
    caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    events = Events(EventHandlers())
    calls: list[Any] = []

    @events.handlers.on("create-room")
    def broken(room: str) -> None:
        raise error("broken")

    events.handlers.on("create-room")(calls.append)
    events.emit("create-room", "lobby")
    assert calls == ["lobby"]
    [record] = caplog.records
    assert (record.name, record.levelno) == ("fastapi_rooms", logging.ERROR)
    assert "'create-room'" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], error)


async def test_an_async_handler_runs_as_a_task_and_the_caller_goes_on() -> None:
    events, may_end = Events(EventHandlers()), asyncio.Event()
    calls: list[str] = []

    @events.handlers.on("delete-room")
    async def handler(room: str) -> None:
        await may_end.wait()
        calls.append(room)

    events.emit("delete-room", "lobby")
    assert calls == []
    may_end.set()
    await eventually(lambda: calls == ["lobby"])
    await eventually(lambda: not other_tasks())


@pytest.mark.parametrize("error", [ValueError, SystemExit])
async def test_an_async_handler_that_raises_is_logged(
    caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    events = Events(EventHandlers())

    @events.handlers.on("gap")
    async def broken(gap: object) -> None:
        await asyncio.sleep(0)
        raise error("broken")

    events.emit("gap", None)
    await eventually(lambda: caplog.records)
    assert "'gap'" in caplog.text
    assert f"{error.__name__}: broken" in caplog.text


async def test_a_handler_that_is_cancelled_before_it_begins_is_no_warning() -> None:
    events = Events(EventHandlers())

    @events.handlers.on("gap")
    async def handler(gap: object) -> None: ...

    with warnings.catch_warnings(record=True) as caught:
        events.emit("gap", None)
        [task] = other_tasks()
        task.cancel()
        await asyncio.wait((task,))
        gc.collect()
    assert not caught


async def test_a_handler_that_has_ended_is_not_kept() -> None:
    events = Events(EventHandlers())

    @events.handlers.on("create-room")
    async def handler(room: str) -> None: ...

    events.emit("create-room", "lobby")
    [task] = other_tasks()
    ended = weakref.ref(task)
    await task
    await asyncio.sleep(0)
    del task
    gc.collect()
    assert ended() is None


async def test_close_lets_the_handlers_that_still_run_finish() -> None:
    events = Events(EventHandlers())
    may_finish = asyncio.Event()
    finished: list[str] = []

    @events.handlers.on("disconnect")
    async def slow(socket: str) -> None:
        await may_finish.wait()
        finished.append(socket)

    events.emit("disconnect", "ann")
    closing = asyncio.create_task(events.close(600))
    await asyncio.sleep(0)
    may_finish.set()
    await closing
    assert finished == ["ann"]
    assert not other_tasks()


async def test_a_handler_that_begins_while_others_are_waited_for_may_finish_as_well() -> None:
    events = Events(EventHandlers())
    may_finish = asyncio.Event()
    finished: list[str] = []

    @events.handlers.on("disconnect")
    async def slow(socket: str) -> None:
        if socket == "ann":
            await may_finish.wait()
            events.emit("disconnect", "bob")
        else:
            for _ in range(20):
                await asyncio.sleep(0)
        finished.append(socket)

    events.emit("disconnect", "ann")
    closing = asyncio.create_task(events.close(600))
    await asyncio.sleep(0)
    may_finish.set()
    await closing
    assert finished == ["ann", "bob"]
    assert not other_tasks()


async def test_close_cancels_the_handlers_that_take_too_long_and_waits_for_them() -> None:
    events = Events(EventHandlers())
    cleaned_up: list[str] = []

    @events.handlers.on("connect")
    async def endless(socket: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned_up.append(socket)

    events.emit("connect", "ann")
    events.emit("connect", "bob")
    await eventually(lambda: len(other_tasks()) == 2)
    await asyncio.sleep(0)  # both have begun
    await events.close(0.01)
    assert sorted(cleaned_up) == ["ann", "bob"]
    assert not other_tasks()


async def test_a_handler_that_will_not_end_is_named_and_left_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events = Events(EventHandlers())
    go = asyncio.Event()

    @events.handlers.on("connect")
    async def stubborn(socket: str) -> None:
        while not go.is_set():
            with suppress(asyncio.CancelledError):
                await go.wait()

    events.emit("connect", "ann")
    await asyncio.sleep(0)
    await events.close(0.01)
    assert "A handler of 'connect' was cancelled and has not ended" in caplog.text
    go.set()
    await eventually(lambda: not other_tasks(), what="it has ended")


async def test_closing_with_nothing_running_is_harmless() -> None:
    await Events(EventHandlers()).close(600)


# Taking a handler back.


def test_a_handler_that_is_taken_back_is_told_nothing_more() -> None:
    events = Events(EventHandlers())
    calls: list[str] = []

    def handler(room: str) -> None:
        calls.append(room)

    events.handlers.on("create-room")(handler)
    events.handlers.on("delete-room")(handler)
    events.handlers.on("create-room")(lambda room: calls.append(f"other {room}"))
    events.emit("create-room", "lobby")
    events.handlers.off("create-room", handler)
    events.emit("create-room", "bar")
    events.emit("delete-room", "bar")
    assert calls == ["lobby", "other lobby", "other bar", "bar"]


def test_a_bound_method_is_taken_back_and_one_that_was_registered_twice_once() -> None:
    events = Events(EventHandlers())
    calls: list[str] = []
    for _ in range(2):
        events.handlers.on("create-room")(calls.append)
    events.handlers.off("create-room", calls.append)
    events.emit("create-room", "lobby")
    assert calls == ["lobby"]


def test_a_handler_may_take_itself_back() -> None:
    events = Events(EventHandlers())
    calls: list[str] = []

    def once(room: str) -> None:
        events.handlers.off("create-room", once)
        calls.append(room)

    events.handlers.on("create-room")(once)
    events.handlers.on("create-room")(calls.append)
    for room in ("lobby", "bar"):
        events.emit("create-room", room)
    assert calls == ["lobby", "lobby", "bar"], "the next one is told all the same"


def test_what_is_no_handler_cannot_be_taken_back() -> None:
    handlers = EventHandlers()
    handlers.on("create-room")(print)
    with pytest.raises(ConfigurationError, match="no handler of 'delete-room'"):
        handlers.off("delete-room", print)
    with pytest.raises(ConfigurationError, match="no event 'joined'"):
        handlers.off(cast(Any, "joined"), print)
    handlers.off("create-room", print)
    with pytest.raises(ConfigurationError, match="no handler"):
        handlers.off("create-room", print)

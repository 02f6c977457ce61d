"""How a client comes to its connection: what it asks, what refuses it, and what is wrong."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from fastapi_rooms import ConfigurationError, Disconnected, InvalidRoomName, RoomsError, UsageError
from fastapi_rooms.client import BufferLimits, StateChange, connect
from fastapi_rooms.client import socket as socket_module
from fastapi_rooms.testing import Certificates, eventually
from tests.unit.client.server import FakeServer, Served


async def ends(served: Served) -> None:
    await served.hello()
    await served.close()


async def expired(served: Served) -> None:
    await served.hello()
    await served.close(4401, "expired")


async def run(
    url: Any, states: list[StateChange] | None = None, /, **options: Any
) -> list[StateChange]:
    """Connect, and read to the end."""
    states = [] if states is None else states
    async with connect(url, on_state=states.append, **options) as socket:
        async for _ in socket:
            pass
    return states


def codes(states: list[StateChange]) -> list[int | None]:
    return [change.code for change in states if change.state in ("waiting", "closed")]


# What is asked.


async def test_everything_is_asked_before_every_attempt() -> None:
    asked: list[object] = []

    async def url(refresh: bool) -> str:
        asked.append(refresh)
        return f"{server.url}&n={len(asked)}&token=old#fragment"

    def token(refresh: bool) -> str:
        return f"t&{len(asked)}"

    async def headers(refresh: bool) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {len(asked)}"}

    async with FakeServer((503, ""), ends) as server:
        await run(url, token=token, headers=headers)
    assert asked == [False, False]
    assert server.paths == [f"/chat?a=1&n={n}&fastapi_rooms=1&token=t%26{n}" for n in (1, 2)]
    assert [r.headers["Authorization"] for r in server.requests] == ["Bearer 1", "Bearer 2"]


async def test_values_are_sent_as_they_are() -> None:
    async with FakeServer(ends) as server:
        url = server.url.replace("ws://", "http://ann:secret@")
        await run(url, token="a b", headers={"X-Name": "1"}, subprotocols=["chat"])
    (request,) = server.requests
    assert request.path == "/chat?a=1&fastapi_rooms=1&token=a+b"
    assert request.headers["X-Name"] == "1"
    assert request.headers["Sec-WebSocket-Protocol"] == "chat"
    assert request.headers["Authorization"] == ("Basic " + base64.b64encode(b"ann:secret").decode())


@pytest.mark.parametrize("option", ["url", "token", "headers"])
@pytest.mark.parametrize("refusal", [expired, (401, "")], ids=["4401", "401"])
async def test_a_refused_token_is_refreshed_once(option: str, refusal: Any) -> None:
    asked: list[bool] = []

    def ask(refresh: bool) -> Any:
        asked.append(refresh)
        return server.url if option == "url" else None

    async def run_with_it() -> list[StateChange]:
        return await (run(ask) if option == "url" else run(server.url, **{option: ask}))

    async with FakeServer(refusal, ends) as server:
        assert codes(await run_with_it()) == [4401, 1000]
    assert asked == [False, True]
    asked.clear()
    async with FakeServer(refusal) as server:
        with pytest.raises(Disconnected) as raised:
            await run_with_it()
    assert (raised.value.code, asked) == (4401, [False, True])


@pytest.mark.parametrize("refusal", [expired, (401, "")], ids=["4401", "401"])
async def test_where_nobody_can_be_asked_a_refused_token_ends_it(refusal: Any) -> None:
    async with FakeServer(refusal) as server:
        with pytest.raises(Disconnected):
            await run(server.url, token="old")
    assert len(server.requests) == 1


async def test_a_token_that_worked_for_a_while_may_be_refreshed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket_module, "LASTED", 0.0)
    asked: list[bool] = []

    def token(refresh: bool) -> str:
        asked.append(refresh)
        return "new"

    async def expires(served: Served) -> None:
        await served.hello()
        await served.receive()
        await served.close(4401)

    async with (
        FakeServer(expires, expires, expires, ends) as server,
        connect(server.url, token=token) as socket,
    ):
        for served in range(1, 4):
            await eventually(lambda count=served: len(server.served) == count)  # type: ignore[misc]
            await socket.wait_open()
            await socket.send_text("it expires")
        assert [message async for message in socket] == []
    assert asked == [False, True, True, True]


async def test_what_fails_that_is_asked_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    asked = 0

    async def token(refresh: bool) -> str:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise RuntimeError("the login is away")
        return "new"

    async with FakeServer(ends) as server:
        states = await run(server.url, token=token)
    assert codes(states) == [1006, 1006, 1000]
    assert states[1].reason == "RuntimeError"
    assert "the login is away" in caplog.text


async def test_who_is_asked_cannot_close(caplog: pytest.LogCaptureFixture) -> None:
    async def token(refresh: bool) -> str:
        with pytest.raises(UsageError, match="cannot close"):
            await socket.close()
        return "it was not closed"

    async with FakeServer(ends) as server:
        socket = connect(server.url, token=token)
        async with socket:
            pass
    assert not caplog.records


# What refuses.


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (403, "", "Forbidden"),
        (404, '{"detail":"no such room"}', "no such room"),
        (404, '{"detail":[]}', '{"detail":[]}'),
        (400, "no name", "no name"),
        (409, "x" * 200, "x" * 123),
    ],
)
async def test_a_refusal_for_good_is_raised_with_its_status(
    status: int, body: str, reason: str
) -> None:
    async with FakeServer((status, body)) as server:
        with pytest.raises(Disconnected, match=re.escape(f"HTTP {status}: {reason}")) as raised:
            await run(server.url)
    error = raised.value
    assert (error.code, error.status, error.reason) == (4000 + status, status, reason)
    assert isinstance(error, RoomsError)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_a_refusal_for_now_is_tried_again(status: int) -> None:
    async with FakeServer((status, ""), ends) as server:
        assert codes(await run(server.url)) == [4000 + status, 1000]


async def test_an_answer_that_is_no_websocket_s_ends_it() -> None:
    async with FakeServer((200, "<html>")) as server:
        with pytest.raises(Disconnected, match="no WebSocket endpoint") as raised:
            await run(server.url)
    assert (raised.value.code, raised.value.status) == (1002, 200)


async def test_nobody_there_is_tried_again() -> None:
    async with FakeServer(ends) as server:
        await server.stop()
        states: list[StateChange] = []
        running = asyncio.create_task(run(server.url, states))
        await eventually(lambda: len(states) > 3)
        await server.listen()
        lost = codes(await running)
    assert lost[-1] == 1000
    assert {*lost[:-1]} == {1006}


@pytest.mark.parametrize(
    "answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 101 x\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"]
)
async def test_what_answers_something_else_harms_nobody(answer: bytes) -> None:
    """It is tried again if it may have been an accident."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    states: list[StateChange] = []
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    socket = connect(url, on_state=states.append)
    async with server:
        if b"HTTP" in answer:
            with pytest.raises(Disconnected):
                await socket.__aenter__()
        else:
            entering = asyncio.create_task(socket.__aenter__())
            await eventually(lambda: len(states) > 3)
            assert states[1].code == 1006
            entering.cancel()
            await asyncio.wait((entering,))


async def test_an_attempt_takes_ten_seconds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_module, "CONNECT_TIMEOUT", 0.1)
    asked = 0

    async def token(refresh: bool) -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(3600 if asked == 1 else 0)
        return "here"

    async with FakeServer(ends) as server:
        states = await run(server.url, token=token)
    assert states[1] == StateChange("waiting", 1006, "no answer", 0.01)


async def test_a_certificate_has_to_be_valid_and_may_become_so(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.certificate, certificates.key)
    states: list[StateChange] = []
    async with FakeServer(ends, tls=tls) as server:
        trusting = ssl.create_default_context(cafile=certificates.authority)
        assert codes(await run(server.url, ssl=trusting)) == [1000]
        entering = asyncio.create_task(connect(server.url, on_state=states.append).__aenter__())
        await eventually(lambda: len(states) > 5)
        entering.cancel()
        await asyncio.wait((entering,))
    assert states[1].code == 1006
    assert "certificate verify failed" in states[1].reason
    warnings = [record for record in caplog.records if "no connection" in record.message]
    assert len(warnings) == 1, "not one for each attempt"


async def test_a_message_that_is_too_long_ends_it() -> None:
    """It would be sent again and again."""

    async def script(served: Served) -> None:
        await served.hello()
        await served.send("before")
        await served.send("x" * 2_000)
        await served.closed()

    heard: list[str] = []

    async def read(url: str) -> None:
        async with connect(url, max_size=1_000) as socket:
            async for message in socket:
                heard.append(message.text)  # noqa: PERF401 -- it ends in an error

    async with FakeServer(script) as server:
        with pytest.raises(Disconnected) as raised:
            await read(server.url)
    assert (raised.value.code, heard) == (1009, ["before"])


# What is wrong.


@pytest.mark.parametrize(
    "url", ["", "chat", "/chat", "ftp://x", "ws://", "ws://[", "ws://x:y", None, b"ws://x"]
)
def test_a_url_that_is_none_is_refused_at_once(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="has to begin with ws://"):
        connect(url)


async def test_a_url_that_is_none_ends_it_where_it_is_asked_for() -> None:
    with pytest.raises(ConfigurationError, match="has to begin with ws://") as raised:
        await run(lambda refresh: "wss:/secret")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [{"max_queue": 0}, {"max_queue": 1.5}, {"positions": {"tea": 1}}, {"positions": {"": "1"}}],
    ids=repr,
)
def test_options_that_make_no_sense_are_refused(options: Any) -> None:
    with pytest.raises((ConfigurationError, InvalidRoomName)):
        connect("ws://localhost", **options)


@pytest.mark.parametrize(
    "limits", [{"messages": 0}, {"bytes": -1}, {"age": 0}, {"age": float("inf")}], ids=repr
)
def test_limits_of_a_buffer_are_above_zero(limits: Any) -> None:
    with pytest.raises(ConfigurationError):
        BufferLimits(**limits)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zip"},
        {"nonsense": 1},
        {"ssl": ssl.create_default_context()},
        {"proxy": "ftp://ann:secret@proxy"},
    ],
    ids=["compression", "unknown", "ssl", "proxy"],
)
async def test_options_that_websockets_refuses_end_it(options: Any) -> None:
    async with FakeServer(ends) as server:
        with pytest.raises(ConfigurationError) as raised:
            await run(server.url, **options)
    assert "secret" not in str(raised.value)


async def test_a_url_that_websockets_refuses_ends_it() -> None:
    with pytest.raises(ConfigurationError, match="is not valid"):
        await run("ws://ann@localhost/")


def test_without_websockets_only_connect_is_missing() -> None:
    program = (
        "import sys; sys.modules['websockets'] = None\n"
        "from fastapi_rooms.client import connect, files\n"
        "try: connect('ws://localhost')\n"
        "except ValueError as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("ConfigurationError ")
    assert 'pip install "fastapi-rooms[client]"' in done.stdout

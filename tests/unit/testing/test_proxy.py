"""The proxy, between clients and a server that echoes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fastapi_rooms.testing import Direction, Proxy, eventually

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo:
    """Sends back what it gets, and says bye when the client has nothing more to say."""

    def __init__(self) -> None:
        self.received = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.received += data
                writer.write(data)
                await writer.drain()
            writer.write(b" bye")
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, Proxy]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    before = asyncio.all_tasks()
    async with server:
        async with Proxy("127.0.0.1", port) as proxy:
            yield echo, proxy
        await eventually(lambda: len(asyncio.all_tasks()) <= len(before))


async def connect(proxy: Proxy) -> Streams:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(b"hi")
    assert await reader.readexactly(2) == b"hi"
    return reader, writer


async def close(*connections: Streams) -> None:
    for _, writer in connections:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_bytes_go_through_both_ways_and_so_does_the_end(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    reader, writer = await connect(proxy)
    data = bytes(range(256)) * 4096
    writer.write(data)
    writer.write_eof()
    assert await reader.read(-1) == data + b" bye"
    await close((reader, writer))
    await eventually(lambda: not proxy.connections)
    assert proxy.accepted == 1


async def test_cut_resets_every_connection_and_lets_new_ones_through(
    echo: tuple[Echo, Proxy],
) -> None:
    _, proxy = echo
    first, second = await connect(proxy), await connect(proxy)
    assert len(proxy.connections) == 2
    proxy.cut()
    for reader, _ in (first, second):
        with pytest.raises(ConnectionResetError):
            await reader.read()
    third = await connect(proxy)
    await eventually(lambda: len(proxy.connections) == 1)
    assert proxy.accepted == 3
    await close(first, second, third)


async def test_one_connection_can_be_cut_alone(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    first, second = await connect(proxy), await connect(proxy)
    proxy.connections[0].cut()
    with pytest.raises(ConnectionResetError):
        await first[0].read()
    second[1].write(b"still here")
    assert await second[0].readexactly(10) == b"still here"
    await close(first, second)


async def test_refuse_holds_the_port_and_accept_opens_it_again(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    first = await connect(proxy)
    proxy.refuse()
    proxy.refuse()
    with pytest.raises(ConnectionResetError):
        await first[0].read()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(proxy.host, proxy.port)
    await proxy.accept()
    await proxy.accept()
    await close(first, await connect(proxy))


async def test_a_stall_holds_back_one_direction_until_it_is_resumed(
    echo: tuple[Echo, Proxy],
) -> None:
    server, proxy = echo
    reader, writer = await connect(proxy)
    proxy.stall(Direction.TO_CLIENT)
    writer.write(b" there")
    await eventually(lambda: server.received == b"hi there")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.02)
    proxy.resume()
    proxy.stall(Direction.TO_SERVER)
    assert await reader.readexactly(6) == b" there"
    writer.write(b" again")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.02)
    assert server.received == b"hi there"
    proxy.resume()
    assert await reader.readexactly(6) == b" again"
    await close((reader, writer))


async def test_a_stall_of_all_takes_new_connections_and_tells_them_nothing(
    echo: tuple[Echo, Proxy],
) -> None:
    _, proxy = echo
    proxy.stall()
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(b"hi")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.02)
    proxy.resume()
    assert await reader.readexactly(2) == b"hi"
    await close((reader, writer))


async def test_one_connection_can_be_stalled_alone(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    first, second = await connect(proxy), await connect(proxy)
    stalled = proxy.connections[0]
    stalled.stall()
    first[1].write(b"mute")
    second[1].write(b"loud")
    assert await second[0].readexactly(4) == b"loud"
    stalled.resume()
    assert await first[0].readexactly(4) == b"mute"
    await close(first, second)


async def test_a_stall_stops_a_flood_at_its_source(echo: tuple[Echo, Proxy]) -> None:
    server, proxy = echo
    reader, writer = await connect(proxy)
    proxy.stall(Direction.TO_SERVER)
    writer.write(b"x" * 64 * 1024 * 1024)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(writer.drain(), 0.05)
    assert server.received == b"hi"
    proxy.cut()
    await close((reader, writer))


async def test_a_delay_takes_so_long_each_way_and_not_for_every_chunk(
    echo: tuple[Echo, Proxy],
) -> None:
    _, proxy = echo
    reader, writer = await connect(proxy)
    proxy.slow(0.05)
    clock = asyncio.get_running_loop().time
    begin = clock()
    for _ in range(10):
        writer.write(b"0123456789")
        await asyncio.sleep(0.001)
    assert await reader.readexactly(100) == b"0123456789" * 10
    assert clock() - begin >= 0.1
    assert clock() - begin < 0.5
    await close((reader, writer))


async def test_a_delay_can_be_one_way_only(echo: tuple[Echo, Proxy]) -> None:
    server, proxy = echo
    reader, writer = await connect(proxy)
    proxy.slow(3600, Direction.TO_CLIENT)
    writer.write(b"heard")
    await eventually(lambda: server.received == b"hiheard")
    proxy.cut()
    await close((reader, writer))
    proxy.slow(0, Direction.TO_CLIENT)
    proxy.slow(3600, Direction.TO_SERVER)
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(b"waits")
    await eventually(lambda: proxy.connections)
    proxy.connections[0].inject(b"past it", Direction.TO_CLIENT)
    assert await reader.readexactly(7) == b"past it"
    assert server.received == b"hiheard"
    proxy.cut()
    await close((reader, writer))


async def test_healed_it_is_as_before_whatever_was_done_to_it(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    proxy.slow(3600)
    proxy.stall(Direction.TO_CLIENT)
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(proxy.host, proxy.port)
    await proxy.heal()
    await close(await connect(proxy))
    proxy.stall()
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(b"what waited")
    await proxy.heal()
    assert await reader.readexactly(11) == b"what waited"
    await close((reader, writer))


async def test_words_can_be_put_into_either_mouth(echo: tuple[Echo, Proxy]) -> None:
    server, proxy = echo
    reader, writer = await connect(proxy)
    proxy.connections[0].inject(b"boo")
    assert await reader.readexactly(3) == b"boo"
    proxy.connections[0].inject(b"!", Direction.TO_SERVER)
    assert await reader.readexactly(1) == b"!"
    assert server.received == b"hi!"
    await close((reader, writer))


async def test_a_server_that_is_not_there_ends_the_connection() -> None:
    async with Proxy("127.0.0.1", 1) as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        assert await reader.read() == b""
        assert proxy.connections == []
        await close((reader, writer))

"""The commands."""

from __future__ import annotations

import base64
import sys
from collections import Counter
from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar

import orjson
import typer

from fastapi_rooms import (
    Gap,
    RemoteSocket,
    RequestError,
    RequestTimeout,
    RoomMessage,
    UsageError,
    Worker,
    __version__,
)
from fastapi_rooms.cli.doctor import examine
from fastapi_rooms.cli.output import (
    complain,
    duration,
    json_line,
    printable,
    show,
    to_person,
)
from fastapi_rooms.cli.session import FAILED, WRONG_USAGE, Group, Session, check_connected, run

T = TypeVar("T")

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, also to a terminal.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def common(
    ctx: typer.Context,
    url: Annotated[
        str, typer.Option(envvar="ROOMS_URL", help="The Redis of the application, as a URL.")
    ] = "",
    prefix: Annotated[str, typer.Option(help="The prefix of the application's manager.")] = "rooms",
    namespace: Annotated[str, typer.Option(help="The namespace.")] = "/",
    timeout: Annotated[
        float, typer.Option(help="Seconds that Redis, and the workers, have to answer.", min=0.01)
    ] = 5.0,
    version: Annotated[  # noqa: ARG001 -- its callback does it
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version, and end."
        ),
    ] = False,
) -> None:
    """Look at, and talk to, the rooms of a running application.

    These options may stand before a command or after it. Where the output is no terminal it is
    JSON. The exit code is 0 when all went well, 1 when something failed, and 2 for wrong usage.
    """
    ctx.obj = Session(url, prefix, namespace, timeout)


@app.command()
def emit(
    ctx: typer.Context,
    *,
    to: Annotated[
        list[str] | None,
        typer.Argument(metavar="ROOM", help="The rooms or sids that get it."),
    ] = None,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="The message; - reads it from standard input.")
    ],
    except_: Annotated[
        list[str] | None, typer.Option("--except", help="A room or sid that does not get it.")
    ] = None,
    everyone: Annotated[
        bool, typer.Option("--everyone", help="Send to everyone in the namespace.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The message is JSON; refuse it if it is not.")
    ] = False,
) -> None:
    """Send a message to rooms.

    \b
    fastapi-rooms emit tea "The kettle is on"
    fastapi-rooms emit tea coffee '{"degrees": 90}' --json --except muted
    date | fastapi-rooms emit --everyone - --namespace /clock
    """
    session: Session = ctx.obj

    async def work() -> None:
        if bool(to) == everyone:
            raise UsageError("To whom? Name rooms before the message, or say --everyone.")
        async with session.emitter() as emitter:
            message = _message(text, as_json=as_json)
            target = emitter.of(session.namespace).except_(*except_ or ())
            await (target.to(*to) if to else target).send_text(message)

    run(work())


def _message(text: str, *, as_json: bool) -> str:
    """The message, just as it was given."""
    try:
        message = sys.stdin.buffer.read().decode().removesuffix("\n") if text == "-" else text
        message.encode()
        if as_json:
            orjson.loads(message)
    except UnicodeError:
        raise UsageError("The message is not UTF-8 text.") from None
    except orjson.JSONDecodeError as error:
        raise UsageError(f"The message is not JSON: {error}") from None
    return message


@app.command()
def rooms(
    ctx: typer.Context,
    every: Annotated[
        bool, typer.Option("--all", help="Also those that sockets have by their own sid.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the rooms, and how many sockets are in each.

    \b
    fastapi-rooms rooms
    fastapi-rooms rooms --namespace /chat --json
    """
    session: Session = ctx.obj

    async def work() -> None:
        async with session.rooms() as rooms:
            sockets, error = await _what_is_known(rooms.fetch_sockets())
        sids = {socket.sid for socket in sockets}
        counts = Counter(room for socket in sockets for room in socket.rooms)
        rows = [
            {"room": room, "sockets": number}
            for room, number in sorted(counts.items())
            if every or room not in sids
        ]
        columns = {"room": "room", "sockets": "sockets"}
        show(rows, columns, as_json=as_json, nothing="There are no rooms.")
        _raise(error)

    run(work())


@app.command()
def sockets(
    ctx: typer.Context,
    room: Annotated[
        str | None, typer.Argument(metavar="ROOM", help="Only those in a room, or of a sid.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the sockets: their sids, workers, rooms and data.

    \b
    fastapi-rooms sockets
    fastapi-rooms sockets tea --json
    """
    session: Session = ctx.obj

    async def work() -> None:
        async with session.rooms() as rooms:
            target = rooms if room is None else rooms.to(room)
            found, error = await _what_is_known(target.fetch_sockets())
        rows = [_row_of(socket) for socket in sorted(found, key=lambda s: (s.node, s.sid))]
        columns = {"sid": "sid", "node": "node", "rooms": "rooms", "data": "data"}
        if to_person(as_json):  # the sid is among the rooms only for programs
            rows = [
                {
                    **row,
                    "node": row["node"][:8],
                    "rooms": [r for r in row["rooms"] if r != row["sid"]],
                }
                for row in rows
            ]
        show(rows, columns, as_json=as_json, nothing="There are no sockets.")
        _raise(error)

    run(work())


def _row_of(socket: RemoteSocket) -> dict[str, Any]:
    return {
        "sid": socket.sid,
        "node": socket.node,
        "rooms": sorted(socket.rooms),
        "data": socket.data,
    }


@app.command()
def nodes(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the workers: where they run, since when, with how many sockets.

    \b
    fastapi-rooms nodes
    """
    session: Session = ctx.obj

    async def work() -> None:
        manager = session.manager()
        async with manager:
            check_connected(manager)
            workers, error = await _what_is_known(manager.workers())
        rows: list[dict[str, Any]] = [worker._asdict() for worker in workers]
        if error is not None:
            silent = error.silent if isinstance(error, RequestTimeout) else frozenset()
            for node, why in error.refusals.items():
                rows.append(_unknown(node, "unknown" if node in error.unsupported else "refused"))
                if node not in error.unsupported:
                    complain(f"{node} would not say anything: {why}")
            rows += [_unknown(node, "no answer") for node in sorted(silent)]
        if to_person(as_json):
            rows = [
                {**r, "uptime": "" if r["uptime"] is None else duration(r["uptime"])} for r in rows
            ]
        columns = {name: name for name in Worker._fields}
        show(rows, columns, as_json=as_json, nothing="No worker is there.")
        if isinstance(error, RequestTimeout):
            raise error
        if any(row["version"] == "refused" for row in rows):  # else it is merely older
            raise typer.Exit(FAILED)

    run(work())


def _unknown(node: str, version: str) -> dict[str, Any]:
    return {**dict.fromkeys(Worker._fields), "node": node, "version": version}


@app.command()
def tail(
    ctx: typer.Context,
    room: Annotated[list[str], typer.Argument(metavar="ROOM", help="The rooms.")],
    count: Annotated[int | None, typer.Option(help="End after so many messages.", min=1)] = None,
    as_json: AsJson = False,
) -> None:
    """Show what is sent to rooms, as it is sent, until Ctrl+C.

    What is sent to everyone in the namespace is not shown.

    \b
    fastapi-rooms tail tea
    fastapi-rooms tail tea coffee --json | jq .text
    """
    session: Session = ctx.obj

    async def work() -> None:
        async with session.rooms() as rooms:

            @rooms.on("gap")
            def gap(gap: Gap) -> None:
                complain(f"messages may be missing here, of {gap.until - gap.since:.1f} s")

            async with rooms.listen(*room) as messages:
                if to_person(as_json):
                    complain(f"listening to {', '.join(room)}; Ctrl+C ends it")
                heard = 0
                async for message in messages:
                    typer.echo(_line_of(message, as_json=as_json))
                    heard += 1
                    if heard == count:
                        return

    run(work(), endless=True)


def _line_of(message: RoomMessage, *, as_json: bool) -> str:
    if to_person(as_json):
        said = repr(message.bytes) if message.binary else message.text
        return f"{printable(message.room)}  {printable(said)}"
    if message.binary:
        return json_line({"room": message.room, "bytes": base64.b64encode(message.bytes).decode()})
    return json_line({"room": message.room, "text": message.text})


@app.command()
def disconnect(
    ctx: typer.Context,
    name: Annotated[
        list[str], typer.Argument(metavar="NAME", help="Sids, or rooms whose sockets are meant.")
    ],
    code: Annotated[int, typer.Option(help="The close code: 1000, or 3000 to 4999.")] = 1000,
    reason: Annotated[str, typer.Option(help="What the clients are told.")] = "",
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask, though it is more than one socket.")
    ] = False,
) -> None:
    """Close sockets, wherever they are connected.

    \b
    fastapi-rooms disconnect 0a0657e0d0001936.dN6ZxKcM1yQhV3Tb
    fastapi-rooms disconnect tea --code 4000 --reason "closing time" --yes
    """
    session: Session = ctx.obj

    async def count() -> int:
        async with session.rooms() as rooms:
            return await rooms.to(*name).count()

    async def work() -> None:
        async with session.rooms() as rooms:
            await rooms.to(*name).disconnect_sockets(code, reason)

    number = run(count())
    if number > 1 and not yes:
        _confirm(f"Disconnect {number} sockets?")
    run(work())
    if to_person(False):
        typer.echo(f"Disconnected: {number}")
    else:
        typer.echo(json_line({"disconnected": number}))


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        complain(f"{question} Nobody is there to ask: say --yes.")
        raise typer.Exit(WRONG_USAGE)
    if not typer.confirm(question, err=True):
        complain("nothing was done")
        raise typer.Exit(FAILED)


@app.command()
def doctor(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Say what is wrong with Redis and the workers, and how to mend it.

    Ends with 1 if anything is.

    \b
    fastapi-rooms doctor --url redis://localhost:6379
    """
    session: Session = ctx.obj

    async def work() -> None:
        findings = []
        async for finding in examine(session):
            findings.append(finding)
            if to_person(as_json):
                typer.echo(
                    f"{finding.grade.value:>7}  {finding.subject}: {printable(finding.text)}"
                )
                if finding.advice:
                    typer.echo(f"         → {finding.advice}")
        if not to_person(as_json):
            show([f.as_row() for f in findings], {}, as_json=True, nothing="")
        if any(finding.is_wrong for finding in findings):
            raise typer.Exit(FAILED)

    run(work())


async def _what_is_known(answer: Awaitable[T]) -> tuple[T, RequestError | None]:
    """An answer, or the part of it that came and the error that says what did not."""
    try:
        return await answer, None
    except RequestError as error:
        return error.partial, error


def _raise(error: RequestError | None) -> None:
    if error is not None:
        raise error

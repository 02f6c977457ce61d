"""The commands of `fastapi-rooms`, and what they print."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict, fields
from typing import Annotated, Any

import typer

from fastapi_rooms import RequestError, RequestTimeout, Worker, __version__
from fastapi_rooms.cli.backend import backend
from fastapi_rooms.cli.disconnecting import Disconnection
from fastapi_rooms.cli.doctor import examine
from fastapi_rooms.cli.edge import edge
from fastapi_rooms.cli.messages import emit, history, tail
from fastapi_rooms.cli.output import (
    AsJson,
    duration,
    for_terminal,
    json_line,
    print_line,
    print_rows,
    print_stderr,
    printable,
)
from fastapi_rooms.cli.people import who
from fastapi_rooms.cli.session import (
    EXIT_FAILED,
    EXIT_USAGE,
    CommonOptionsGroup,
    Session,
    check_connected,
    run,
    with_partial,
)

_WORKER_COLUMNS = tuple(field.name for field in fields(Worker))

app = typer.Typer(
    cls=CommonOptionsGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(__version__)
        raise typer.Exit


@app.callback()
def common(
    ctx: typer.Context,
    url: Annotated[
        str,
        typer.Option(envvar="ROOMS_URL", help="The application's Redis or RabbitMQ, as a URL."),
    ] = "",
    prefix: Annotated[str, typer.Option(help="The prefix of the application's manager.")] = "rooms",
    namespace: Annotated[str, typer.Option(help="The namespace.")] = "/",
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait for it, and for the workers.", min=0.01)
    ] = 5.0,
    version: Annotated[  # noqa: ARG001 -- its callback does it
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Inspect, and send to, the rooms of a running application.

    These options may be given before or after the command. If the output is not a terminal, it is
    JSON. The exit code is 0 for success, 1 for a failure, and 2 for wrong usage.
    """
    ctx.obj = Session(url, prefix, namespace, timeout)


app.command()(emit)
app.command()(edge)
app.command()(backend)


@app.command()
def rooms(
    ctx: typer.Context,
    every: Annotated[
        bool, typer.Option("--all", help="Include the room of each socket's own sid.")
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
            sockets, error = await with_partial(rooms.fetch_sockets())
        sids = {socket.sid for socket in sockets}
        counts = Counter(room for socket in sockets for room in socket.rooms)
        rows = [
            {"room": room, "sockets": number}
            for room, number in sorted(counts.items())
            if every or room not in sids
        ]
        columns = {"room": "room", "sockets": "sockets"}
        print_rows(rows, columns, as_json=as_json, if_empty="There are no rooms.")
        _raise(error)

    run(work())


@app.command()
def sockets(
    ctx: typer.Context,
    room: Annotated[
        str | None,
        typer.Argument(metavar="ROOM", help="Only those in this room, or with this sid."),
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
            found, error = await with_partial(target.fetch_sockets())
        rows = [asdict(socket) for socket in sorted(found, key=lambda s: (s.node, s.sid))]
        columns = {"sid": "sid", "node": "node", "rooms": "rooms", "data": "data"}
        if for_terminal(as_json):  # a socket is always in the room of its sid
            rows = [
                {
                    **row,
                    # The beginning of a sid that was generated says the rest of it.
                    "node": row["node"][: 8 if row["sid"].startswith(row["node"]) else None],
                    "rooms": [r for r in row["rooms"] if r != row["sid"]],
                }
                for row in rows
            ]
        print_rows(rows, columns, as_json=as_json, if_empty="There are no sockets.")
        _raise(error)

    run(work())


@app.command()
def nodes(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the workers: their versions, hosts, uptimes and sockets.

    \b
    fastapi-rooms nodes
    """
    session: Session = ctx.obj

    async def work() -> None:
        manager = session.manager()
        async with manager:
            check_connected(manager)
            workers, error = await with_partial(manager.workers())
        rows: list[dict[str, Any]] = [asdict(worker) for worker in workers]
        if error is not None:
            silent = error.silent if isinstance(error, RequestTimeout) else frozenset()
            for node, why in error.refusals.items():
                version = "unknown" if node in error.unsupported else "refused"
                rows.append(_row_without_details(node, version))
                if node not in error.unsupported:
                    print_stderr(f"{node} refused to answer: {why}")
            rows += [_row_without_details(node, "no answer") for node in sorted(silent)]
        columns = {name: name for name in _WORKER_COLUMNS}
        if for_terminal(as_json):
            rows = [_for_people(row) for row in rows]
            roles = {"edge", "backend"}
            columns = {n: n for n in columns if n not in roles or any(row[n] for row in rows)}
        print_rows(rows, columns, as_json=as_json, if_empty="There are no workers.")
        if isinstance(error, RequestTimeout):
            raise error
        # An older worker, whose version is unknown, is no failure.
        if any(row["version"] == "refused" for row in rows):
            raise typer.Exit(EXIT_FAILED)

    run(work())


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    edge, backend = row["edge"], row["backend"]
    names = sorted(set(edge["routes"].values())) if edge else []
    return {
        **row,
        "uptime": "" if row["uptime"] is None else duration(row["uptime"]),
        "edge": f"{edge['clients']} to {', '.join(names)}" if edge else "",
        "backend": f"{backend['name']}, {backend['clients']} of {backend['capacity']}"
        if backend
        else "",
    }


def _row_without_details(node: str, version: str) -> dict[str, Any]:
    return {**dict.fromkeys(_WORKER_COLUMNS), "node": node, "version": version}


app.command()(tail)
app.command()(history)
app.command()(who)


@app.command()
def disconnect(
    ctx: typer.Context,
    name: Annotated[
        list[str], typer.Argument(metavar="NAME", help="The sids or rooms to disconnect.")
    ],
    code: Annotated[int, typer.Option(help="The close code: 1000, or 3000 to 4999.")] = 1000,
    reason: Annotated[str, typer.Option(help="The close reason that clients get.")] = "",
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Disconnect several sockets without asking.")
    ] = False,
) -> None:
    """Disconnect sockets, whichever worker they are on.

    \b
    fastapi-rooms disconnect 0a0657e0d0001936.dN6ZxKcM1yQhV3Tb
    fastapi-rooms disconnect tea --code 4000 --reason "closing time" --yes
    """
    session: Session = ctx.obj
    shows = for_terminal(False)  # before anybody is disconnected: if it cannot, it ends
    disconnection = Disconnection(session, name, code, reason)
    found = None
    if not yes:
        found = run(disconnection.find())
        if len(found) > 1:
            _confirm(f"Disconnect {len(found)} sockets?")

    async def work() -> None:
        number, error = await disconnection.carry_out(found)
        if not shows:
            print_line(json_line({"disconnected": number}))
        elif number or error:
            print_line(f"Disconnected: {number}")
        else:
            print_line("Nobody was disconnected: no socket has such a sid, or is in such a room.")
        _raise(error)

    run(work())


def _confirm(question: str) -> None:
    if sys.stdin is None or not sys.stdin.isatty():
        print_stderr(f"{question} Without a terminal to ask at, use --yes.")
        raise typer.Exit(EXIT_USAGE)
    if not typer.confirm(question, err=True):
        print_stderr("nothing was done")
        raise typer.Exit(EXIT_FAILED)


@app.command()
def doctor(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Check the carrier and the workers, and say how to fix faults.

    The exit code is 1 if anything is wrong.

    \b
    fastapi-rooms doctor --url redis://localhost:6379
    """
    session: Session = ctx.obj

    async def work() -> None:
        findings = []
        async for finding in examine(session):
            findings.append(finding)
            if for_terminal(as_json):
                print_line(
                    f"{finding.grade.value:>7}  {finding.subject}: {printable(finding.text)}"
                )
                if finding.advice:
                    print_line(f"         → {printable(finding.advice)}")
        if not for_terminal(as_json):
            print_rows([f.as_row() for f in findings], {}, as_json=True, if_empty="")
        if any(finding.is_wrong for finding in findings):
            raise typer.Exit(EXIT_FAILED)

    run(work())


def _raise(error: RequestError | None) -> None:
    if error is not None:
        raise error

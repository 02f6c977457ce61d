"""The commands about messages: `emit` sends them, `tail` and `history` show them."""

from __future__ import annotations

import base64
import sys
from typing import Annotated, Any

import orjson
import typer

from fastapi_rooms import Gap, RoomMessage, UsageError
from fastapi_rooms.cli.output import (
    AsJson,
    for_terminal,
    json_line,
    print_line,
    print_stderr,
    printable,
)
from fastapi_rooms.cli.session import Session, run


def emit(
    ctx: typer.Context,
    *,
    to: Annotated[
        list[str] | None,
        typer.Argument(metavar="ROOM", help="The rooms or sids to send to."),
    ] = None,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="The message; - reads it from standard input.")
    ],
    except_: Annotated[
        list[str] | None, typer.Option("--except", help="A room or sid to leave out.")
    ] = None,
    everyone: Annotated[
        bool, typer.Option("--everyone", help="Send to everyone in the namespace.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Refuse a message that is not JSON.")
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
            raise UsageError("Name rooms before the message, or use --everyone instead.")
        async with session.emitter() as emitter:
            message = _message(text, as_json=as_json)
            target = emitter.of(session.namespace).except_(*except_ or ())
            await (target.to(*to) if to else target).send_text(message)

    run(work())


def _message(text: str, *, as_json: bool) -> str:
    """The message, unchanged. Raises `UsageError` if it cannot be sent."""
    if text == "-" and sys.stdin is None:  # so Python has it where a shell has closed it: <&-
        raise UsageError("There is no standard input to read the message from.")
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


def tail(
    ctx: typer.Context,
    room: Annotated[
        list[str] | None, typer.Argument(metavar="ROOM", help="The rooms to listen to.")
    ] = None,
    everyone: Annotated[
        bool, typer.Option("--everyone", help="Show what is sent to everyone in the namespace.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="POSITION", help="First what came after it, in one room with a history."
        ),
    ] = None,
    count: Annotated[int | None, typer.Option(help="Stop after this many messages.", min=1)] = None,
    as_json: AsJson = False,
) -> None:
    """Show messages as they are sent, until Ctrl+C.

    \b
    fastapi-rooms tail tea
    fastapi-rooms tail tea coffee --json | jq .text
    fastapi-rooms tail --everyone
    fastapi-rooms tail tea --since 0f6c1e0d9a7b3c58.41.d2a7c5e19b0f4386
    """
    session: Session = ctx.obj

    async def work() -> None:
        if not (room or everyone):
            raise UsageError("Name rooms, or use --everyone.")
        if since is not None and (everyone or len(room or ()) != 1):
            raise UsageError("A position is one in one room: name that room, and no other.")
        remembers = room[0] if room and since is not None else None
        async with session.rooms(remembers) as rooms:

            @rooms.on("gap")
            def gap(gap: Gap) -> None:
                print_stderr(f"messages of {gap.until - gap.since:.1f} s may be missing here")

            async with rooms.listen(*room or (), everyone=everyone, since=since) as messages:
                if for_terminal(as_json):
                    heard = [*(room or ()), *["what is sent to everyone"] * everyone]
                    print_stderr(f"listening to {', '.join(heard)}; stop with Ctrl+C")
                if messages.recovered is False:
                    print_stderr(
                        "the room does not know this position any more: what came after it may be "
                        "missing here"
                    )
                received = 0
                async for message in messages:
                    print_line(_line(message, as_json=as_json))
                    received += 1
                    if received == count:
                        return

    run(work(), endless=True)


def history(
    ctx: typer.Context,
    room: Annotated[str, typer.Argument(metavar="ROOM", help="The room.")],
    limit: Annotated[int, typer.Option(help="How many messages, at most.", min=1)] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the last messages of a room that has a history.

    \b
    fastapi-rooms history tea
    fastapi-rooms history tea --limit 1 --json | jq -r .position
    """
    session: Session = ctx.obj

    async def work() -> None:
        async with session.rooms(room) as rooms:
            messages = await rooms.recent(room, limit)
        for message in messages:
            if for_terminal(as_json):
                print_line(f"{message.position}  {_content(message)}")
            else:
                print_line(_line(message, as_json=as_json))
        if not messages and for_terminal(as_json):
            print_line("There are no messages.")

    run(work())


def _line(message: RoomMessage, *, as_json: bool) -> str:
    if for_terminal(as_json):
        return f"{printable(message.room) or '(everyone)'}  {_content(message)}"
    values: dict[str, Any] = {"room": message.room or None}
    if message.binary:
        values["bytes"] = base64.b64encode(message.bytes).decode()
    else:
        values["text"] = message.text
    if message.position is not None:
        values["position"] = message.position
    return json_line(values)


def _content(message: RoomMessage) -> str:
    return printable(repr(message.bytes) if message.binary else message.text)

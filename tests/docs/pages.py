"""The pages, and the blocks of code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "SECURITY.md")),
    ROOT / "example_app" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

_FENCE = re.compile(
    r"^```(?P<language>\w*)(?P<options>[^\n]*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
_TITLE = re.compile(r'title="([^"]+)"')
_PART_OF_A_FILE = '--8<-- "'
"""Such a block shows a file of the project, which has a test of its own."""


@dataclass(frozen=True)
class Block:
    """A fenced block. One with a title is a whole file; a Python one without is a fragment."""

    page: str
    number: int
    """Which of the page's blocks it is."""
    language: str
    title: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}-{self.title or self.number}"


def name_of(page: Path) -> str:
    """The page's path in the project."""
    return page.relative_to(ROOT).as_posix()


def blocks(*languages: str, page: str = "") -> list[Block]:
    """Every block in one of these languages, of one page or of all, in their order."""
    found = []
    for path in PAGES:
        for number, match in enumerate(_FENCE.finditer(path.read_text()), 1):
            title = _TITLE.search(match["options"])
            found.append(
                Block(
                    page=name_of(path),
                    number=number,
                    language=match["language"],
                    title=title[1] if title else "",
                    code=match["code"],
                )
            )
    return [
        b
        for b in found
        if b.language in languages
        and page in ("", b.page)
        and not b.code.startswith(_PART_OF_A_FILE)
    ]


def find(page: str, title: str, *, version: int = 1) -> Block:
    """A file of a page. A tutorial writes one several times; `version` counts them."""
    found = [block for block in blocks("python", page=page) if block.title == title]
    assert len(found) >= version, f"{page} has {len(found)} versions of {title}, not {version}"
    return found[version - 1]


def files_of(page: str) -> dict[str, str]:
    """What is in the reader's directory at the end of a page."""
    made = blocks("python", "html", "toml", page=page)
    return {block.title: block.code for block in made if block.title}


def prose_of(page: Path) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", page.read_text())

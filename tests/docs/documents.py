"""The pages of this project as the tests read them: their code, and what that is said to print."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)

_FENCED = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


class Fenced(NamedTuple):
    """A fenced block: where it is, what it is said to be, and what it holds."""

    page: Path
    line: int
    info: str
    text: str

    @property
    def place(self) -> str:
        """``README.md:12``."""
        return f"{self.page.name}:{self.line}"


class Example(NamedTuple):
    """A block of Python, and what the block after it says that it prints."""

    code: Fenced
    output: str

    @property
    def runs(self) -> bool:
        """A block of ``python`` runs; one of ``py`` is a fragment, which is only compiled."""
        return self.code.info.split()[0] == "python"


def fenced(page: Path) -> list[Fenced]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Fenced(page, text.count("\n", 0, found.start()) + 1, found["info"], found["text"])
        for found in _FENCED.finditer(text)
    ]


def examples() -> Iterator[Example]:
    """Every block of Python on the pages."""
    for page in PAGES:
        blocks = fenced(page)
        for number, block in enumerate(blocks):
            if block.info.split()[:1] in (["python"], ["py"]):
                following = blocks[number + 1 : number + 2]
                yield Example(block, "".join(each.text for each in following if each.info == "output"))


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def between(text: str, name: str) -> str:
    """What stands between the comments ``name:start`` and ``name:end``."""
    return text.split(f"<!-- {name}:start -->\n")[1].split(f"<!-- {name}:end -->")[0]

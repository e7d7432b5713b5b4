"""The pages of this project as the tests read them: their programs and commands, and what these are said to print.

A fenced block is read by its first line:

- ``python`` is a program. It runs in an empty folder, and prints what the ``output`` block after it says.
- ``python title="shop.py"`` is a file in the folder of the page. It runs only if an ``output`` block follows.
- ``console`` holds commands after ``$ `` and what they print. They run in the folder of the page, one after the other.
  In what they print, ``…`` stands for any text of a line, and a line of nothing but ``…`` for any lines.
- ``py`` is a fragment, which is only compiled. ``sh`` is for commands that a test cannot run.
"""

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
_TITLE = re.compile(r'title="([^"]+)"')


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

    @property
    def language(self) -> str:
        return self.info.partition(" ")[0]

    @property
    def title(self) -> str | None:
        """The name of the file that the block is."""
        found = _TITLE.search(self.info)
        return found and found[1]


class Example(NamedTuple):
    """A block of Python, and what the block after it says that it prints. None: nothing is said."""

    code: Fenced
    output: str | None

    @property
    def runs(self) -> bool:
        """A program runs; a fragment does not, nor does a file unless its output is shown."""
        return self.code.language == "python" and (self.code.title is None or self.output is not None)


class Command(NamedTuple):
    """A command of a ``console`` block, and what it is said to print."""

    block: Fenced
    text: str
    output: str


def fenced(page: Path) -> list[Fenced]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Fenced(page, text.count("\n", 0, found.start()) + 1, found["info"], found["text"])
        for found in _FENCED.finditer(text)
    ]


def examples(pages: tuple[Path, ...] = PAGES) -> Iterator[Example]:
    """Every block of Python on the pages."""
    for page in pages:
        blocks = fenced(page)
        for number, block in enumerate(blocks):
            if block.language in ("python", "py"):
                following = blocks[number + 1 : number + 2]
                shown = [each.text for each in following if each.info == "output"]
                yield Example(block, shown[0] if shown else None)


def commands(block: Fenced) -> list[Command]:
    """The commands of a ``console`` block."""
    found: list[Command] = []
    for line in block.text.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append(Command(block, line[2:].strip(), ""))
        else:
            assert found, f"{block.place}: a console block begins with '$ ' and a command"
            found[-1] = found[-1]._replace(output=found[-1].output + line)
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def between(text: str, name: str) -> str:
    """What stands between the comments ``name:start`` and ``name:end``."""
    return text.split(f"<!-- {name}:start -->\n")[1].split(f"<!-- {name}:end -->")[0]

"""Write `llms.txt`, a list of the pages for language models, in the order of `mkdocs.yml`: `python tools/llms.py`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
_START: Final = """# Jobify

> A durable job scheduler and task queue for Python: one decorator, one SQLite file, no broker and no server. An
> independent implementation of the published Jobify interface; the package `jobify` on PyPI is another project.

`task.delay(...)` stores a job from anywhere, `await task.push(...)` in a running app, `app.enqueue("name", ...)` by
name. `jobify worker module:app` runs jobs. Jobs run at least once.
"""


def text() -> str:
    """The whole file."""
    parts = [_START]
    for line in (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2].splitlines():
        if section := re.match(r"  - (\w[\w ]*):", line):
            parts.append(f"\n## {section[1]}\n\n")
        if page := re.search(r"[\w/-]+\.md$", line):
            parts.append(f"- [{heading(page[0])}](docs/{page[0]}): {summary(page[0])}\n")
    return "".join(parts)


def heading(page: str) -> str:
    return (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()[0].lstrip("# ")


def summary(page: str) -> str:
    """The first sentence of the first paragraph of prose."""
    body = (ROOT / "docs" / page).read_text(encoding="utf-8").partition("\n")[2]
    blocks = (block for block in re.sub(r"^```.*?^```$", "", body, flags=re.DOTALL | re.MULTILINE).split("\n\n"))
    prose = next(block for block in blocks if block.strip() and block.strip()[0] not in "#|-!<")
    plain = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", " ".join(prose.split()))
    return re.split(r"(?<=[.:])\s", plain, maxsplit=1)[0].rstrip(":")


if __name__ == "__main__":
    (ROOT / "llms.txt").write_text(text(), encoding="utf-8")

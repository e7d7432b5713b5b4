"""An app that indexes files: the tasks of `make demo`. Its database is `jobify.db` in the current folder.

jobify worker indexer:app          # in a folder of your own, with --app-dir examples
"""

from __future__ import annotations

import ast
import asyncio
import hashlib
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from jobify import Jobify, RunMode, SmartRetry, current_job

PROSE = {".md", ".rst", ".txt"}
TEXT = PROSE | {".py", ".pyi", ".sql", ".toml", ".cfg", ".ini", ".yml", ".yaml", ".json", ".sh"}
LARGE = 4_000  # bytes from which parsing is worth the way to another process
SKIPPED = {"build", "dist", "node_modules", "__pycache__"}  # and all folders that begin with a dot
REFUSALS = 2  # how often the search service does not answer

app = Jobify()


@app.task(name="prose")
async def index_prose(path: str, pace: float) -> int:
    """Count the words of a text, on the event loop. `pace` is a pause in seconds, so that one can watch it."""
    await asyncio.sleep(pace)
    return words(path)


@app.task(name="text")
def index_text(path: str, pace: float) -> int:
    """The same in a thread: a `def` may wait for the disk."""
    time.sleep(pace)
    return words(path)


@app.task(name="source", run_mode=RunMode.PROCESS)
def index_source(path: str, pace: float) -> int:
    """Count functions and classes. Parsing keeps a core busy, so it is done in another process."""
    time.sleep(pace)
    return symbols(Path(path).read_text("utf-8", "replace"))


@app.task(name="announce", retry=SmartRetry(retries=5, initial_delay=0.2, jitter=False))
async def announce() -> str:
    """Tell a search service that an index is coming. It does not answer the first two times."""
    if current_job.attempt <= REFUSALS:
        raise ConnectionError("the search service does not answer")
    return "announced"


@app.task(name="checksum")
def checksum(path: str) -> str:
    """The digest of a file: a step of the workflow."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@app.task(name="summary")
def summary(digests: list[str]) -> str:
    """The last step of the workflow: it gets the results of all steps before it."""
    return f"{len(digests)} files, {hashlib.sha256(''.join(digests).encode()).hexdigest()[:8]}"


@app.task(name="tick", cron="* * * * * * *")
async def tick() -> None:
    """A cron of seven fields: every second."""


def words(path: str) -> int:
    return len(Path(path).read_text("utf-8", "replace").split())


def symbols(source: str) -> int:
    """Functions and classes in a Python source; 0 if it is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the indexed code
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            return 0
    return sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in ast.walk(tree))


def find_text_files(folder: Path) -> Iterator[str]:
    """The text files below `folder`, in a stable order, without hidden and built folders."""
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in SKIPPED)
        yield from (os.path.join(path, name) for name in sorted(names) if Path(name).suffix in TEXT)


def task_of(path: str) -> str:
    """The name of the task for a file."""
    suffix = Path(path).suffix
    if suffix in PROSE:
        return "prose"
    return "source" if suffix == ".py" and os.path.getsize(path) >= LARGE else "text"

"""Index a folder with durable jobs. Kill it whenever you like and start it again: it carries on where it was.

    python examples/indexer.py [FOLDER]

Every text file becomes one job whose id is the file's path, and the path decides where it runs: on the event loop, in
a thread or in a process of its own. `jobify.db` in the current folder holds the jobs, `journal.jsonl` what they found.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import hashlib
import logging
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from journal import Facts, Journal
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from jobify import INJECT, JobContext, Jobify, RunMode, ScheduleBuilder, SmartRetry, State
from jobify.exceptions import DuplicateJobError
from jobify.middleware import BaseMiddleware, CallNext

PROSE = {".md", ".rst", ".txt"}
TEXT = PROSE | {".py", ".pyi", ".sql", ".toml", ".cfg", ".ini", ".yml", ".yaml", ".json", ".sh"}
LARGE = 4_000  # bytes from which parsing is worth the way to another process
SKIPPED = {"build", "dist", "node_modules", "__pycache__"}  # and all folders that begin with a dot

AT_ONCE = 8  # async jobs; threads and processes have their own numbers

ANNOUNCE, REPORT = "announce", "report"  # the ids of the two jobs that are not files
REFUSALS = 2  # how often the announcement fails before it goes through
REPORT_AFTER = 2.0  # seconds

app = Jobify(concurrency=AT_ONCE)  # and no storage: that means jobify.db in the current folder


# -- the jobs ---------------------------------------------------------------------------------------------------------


@app.task
async def index_prose(path: str) -> Facts:
    """Prose is short: read it right here, on the event loop."""
    return analyse(path)


@app.task
def index_text(path: str) -> Facts:
    """A `def` runs in a thread: waiting for the disk and hashing leave the event loop free."""
    return analyse(path)


@app.task(run_mode=RunMode.PROCESS)
def index_source(path: str) -> Facts:
    """Parsing a large source keeps a whole core busy: that belongs into another process."""
    return analyse(path)


@app.task(retry=SmartRetry(retries=5, initial_delay=0.2, max_delay=1.0, jitter=False))
async def announce(state: State = INJECT) -> Facts:
    """Tell the search service that an index is coming. It is not up yet when it is asked first, and second."""
    if state.journal.failures(ANNOUNCE) < REFUSALS:
        raise ConnectionError("the search service is not up yet")
    return {}


@app.task
async def report(state: State = INJECT) -> Facts:
    """Scheduled for a while after the start, whether this process is still the same then or not."""
    indexed = [state.journal.facts(job_id) for job_id in state.files]
    return {"indexed by then": sum(facts is not None for facts in indexed)}


@app.task(cron="* * * * * * *", durable=False)
async def tick(state: State = INJECT) -> None:
    """Every second (seven fields: the first are the seconds), and not worth storing."""
    state.display.tell()


def analyse(path: str) -> Facts:
    """The words, the symbols (functions and classes) and the digest of a file."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:  # deleted, or not ours to read: a fact as well, and no reason to try again
        return {"error": str(error)}
    text = content.decode("utf-8", "replace")
    return {
        "words": len(text.split()),
        "symbols": count_symbols(text) if path.endswith(".py") else 0,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def count_symbols(source: str) -> int:
    """Functions and classes in a Python source; 0 when it is not one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the indexed code does is not our concern
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            return 0
    return sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in ast.walk(tree))


# -- around the jobs --------------------------------------------------------------------------------------------------


class Recorder(BaseMiddleware):
    """Writes down every attempt, and makes a repeated one harmless.

    A process can die after a job's work is done and before its end is stored. The job then runs again, which no queue
    can avoid; what can be avoided is that it does its work again.
    """

    def __init__(self, journal: Journal, display: Display, *, pace: float, kill_after: int | None) -> None:
        self._journal = journal
        self._display = display
        self._pace = pace
        self._kill_after = kill_after

    async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
        if context.job.is_cron():
            return await call_next(context)
        job_id, task = context.job.id, short_name(context.runnable.name)
        known = self._journal.facts(job_id)
        if known is not None:
            self._journal.write("recognised", job_id, task)
            return known
        return await self._attempt(job_id, task, call_next, context)

    async def _attempt(self, job_id: str, task: str, call_next: CallNext, context: JobContext) -> Facts:
        self._journal.write("started", job_id, task)
        try:
            await asyncio.sleep(self._pace)
            facts: Facts = await call_next(context)
        except Exception as error:
            self._journal.write("failed", job_id, task, error=repr(error))
            raise
        self._journal.write("finished", job_id, task, facts=facts)
        self._display.done(job_id)
        if self._kill_after is not None and self._display.files_done >= self._kill_after:
            self._display.bar.refresh()
            os.kill(os.getpid(), signal.SIGKILL)  # the worst moment: done, and Jobify does not know it yet
        return facts


class Display:
    """How far it is: a bar on a terminal, and a line every second anywhere."""

    def __init__(self, journal: Journal, files: list[str]) -> None:
        self._total = len(files)
        self._missing_files = {path for path in files if journal.facts(path) is None}
        self._missing_extras = {job_id for job_id in (ANNOUNCE, REPORT) if journal.facts(job_id) is None}
        self.console = Console(highlight=False)
        self.bar = Progress(
            TextColumn("indexing"), BarColumn(None), MofNCompleteColumn(), console=self.console, expand=True
        )
        self.bar.disable = not self.console.is_terminal
        self._line = self.bar.add_task("indexing", total=self._total, completed=self.files_done)
        self.all_done = asyncio.Event()
        self._look()

    @property
    def files_done(self) -> int:
        return self._total - len(self._missing_files)

    def done(self, job_id: str) -> None:
        """One job has finished."""
        self._missing_files.discard(job_id)
        self._missing_extras.discard(job_id)
        self._look()

    def tell(self) -> None:
        """A line with the numbers."""
        self.console.print(f"[dim]tick[/] {self.files_done} of {self._total} files", soft_wrap=True)

    def _look(self) -> None:
        self.bar.update(self._line, completed=self.files_done)
        if not self._missing_files and not self._missing_extras:
            self.all_done.set()


def short_name(task: str) -> str:
    """`index_text` for the task `indexer:index_text`: its module is no news here."""
    return task.rpartition(":")[2]


def find_text_files(folder: Path) -> Iterator[str]:
    """The text files below `folder`, in a stable order, without hidden and built folders."""
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in SKIPPED)
        yield from (os.path.join(path, name) for name in sorted(names) if Path(name).suffix in TEXT)


def order(path: str) -> ScheduleBuilder[Facts]:
    """The task for a file, with the file as its argument."""
    suffix = Path(path).suffix
    if suffix in PROSE:
        return index_prose.schedule(path)
    if suffix == ".py" and os.path.getsize(path) >= LARGE:
        return index_source.schedule(path)
    return index_text.schedule(path)


async def push(path: str, journal: Journal) -> bool:
    """One job for one file, unless an earlier life has finished it or has left its job in the database."""
    if journal.facts(path) is not None:
        return False
    schedule = order(path)
    try:
        await schedule.push(job_id=path)
    except DuplicateJobError:
        return False
    journal.write("pushed", path, short_name(schedule.name))
    return True


async def push_extras(journal: Journal) -> None:
    """The two jobs that are not files, once in all lives."""
    try:
        if journal.facts(REPORT) is None:
            await report.schedule().delay(REPORT_AFTER, job_id=REPORT)
        if journal.facts(ANNOUNCE) is None:
            await announce.schedule().push(job_id=ANNOUNCE)
    except DuplicateJobError:
        pass


async def main(folder: Path, *, pace: float, kill_at: float | None) -> None:
    """Index `folder`. `kill_at` is the share of files (0 to 1) after which the process kills itself."""
    journal = Journal(Path("journal.jsonl"))
    files = list(find_text_files(folder))
    display = Display(journal, files)
    app.state.update(journal=journal, files=files, display=display)
    kill_after = None if kill_at is None else max(1, round(len(files) * kill_at))
    app.add_middleware(Recorder(journal, display, pace=pace, kill_after=kill_after))
    with display.bar:
        async with app:
            await push_extras(journal)
            pushed = sum(await asyncio.gather(*(push(path, journal) for path in files)))
            display.console.print(f"{pushed} of {len(files)} files pushed as new jobs", soft_wrap=True)
            await display.all_done.wait()
    journal.close()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Index the text files of a folder with durable jobs.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(), help="what to index (default: this folder)")
    parser.add_argument("--pace", type=float, default=0.0, help="extra seconds per file, to be able to watch it")
    parser.add_argument("--kill-at", type=float, help="kill this process when this share of the files is done")
    return parser.parse_args()


if __name__ == "__main__":
    options = parse()
    logging.basicConfig(level=logging.ERROR)  # that a job is tried again, or was interrupted, is shown in other ways
    asyncio.run(main(options.folder.resolve(), pace=options.pace, kill_at=options.kill_at))

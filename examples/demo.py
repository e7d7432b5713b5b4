"""Kill a worker in the middle of its work, start it again, and check that nothing is lost.

    make demo        # or: python examples/demo.py [FOLDER]

A worker indexes the files of a folder. It is killed when half of them are done (`kill -9`, so it cannot clean up), and
started again. Exits with 0 only if every job is complete, each file has one job, and the retry, the workflow and the
cron did what they should.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

HERE = Path(__file__).resolve().parent
SLOTS = {"prose": 4, "text": 6, "source": 2}
"""Jobs at once of each kind."""
PLACES = {
    "prose": "event loop",
    "text": "threads",
    "source": "child processes",
    "announce": "event loop, retried",
    "checksum": "threads, workflow",
    "summary": "threads, workflow",
}
PATIENCE = 100  # seconds until the demo gives up
MOST_FILES = 160
CHECKSUMS = 12  # steps of the workflow
SHOWN = 6  # recovered jobs in the table

console = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Record:
    """What the database knows of one job when all is over."""

    task: str
    status: str
    attempts: int
    outcomes: tuple[str, ...]
    """How the attempts before the last one ended: `lost` with the worker, or `retry at`."""

    @property
    def lost(self) -> int:
        return self.outcomes.count("lost")


@dataclass(frozen=True, slots=True)
class Story:
    """Everything that can be checked at the end."""

    files: list[str]
    first_exit: int | None
    second_exit: int | None
    seconds: float
    """From the start of the second worker to the end of the last job."""
    ticks: int
    jobs: Mapping[str, Record]

    def problems(self) -> Iterator[str]:
        """What is not as it should be."""
        if self.first_exit != -signal.SIGKILL:
            yield f"the first worker should have been killed, and ended with {self.first_exit}"
        if self.second_exit != 0:
            yield f"the second worker ended with {self.second_exit}"
        for path in self.files:
            if path not in self.jobs:
                yield f"{path} has no job"
        for name, job in self.jobs.items():
            if job.status != "complete":
                yield f"{name} is {job.status}"
            if job.lost > 1:
                yield f"{name} was lost {job.lost} times, but only one worker died"
        retried = [job for job in self.jobs.values() if job.task == "announce"]
        if [job.outcomes.count("retry at") for job in retried] != [2]:
            yield "the announcement was not tried again twice"
        if not self.ticks:
            yield "the cron never ran"


class Demo:
    """A folder with a database, a worker, and what is asked of both."""

    def __init__(self, folder: Path, state: Path, seconds: float) -> None:
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True)
        os.chdir(state)
        sys.path.insert(0, str(HERE))
        import indexer  # its app opens jobify.db in the folder that is the current one now

        self.indexer, self.app, self.state = indexer, indexer.app, state
        files = list(indexer.find_text_files(folder))
        self.files = files[:: -(-len(files) // MOST_FILES) or 1]  # some of everywhere
        counts = Counter(map(indexer.task_of, self.files))
        self._pace = {kind: min(0.5, seconds * SLOTS[kind] / max(1, counts[kind])) for kind in SLOTS}

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start `jobify worker`, as one would in a terminal."""
        slots = ("--concurrency", SLOTS["prose"], "--threads", SLOTS["text"], "--children", SLOTS["source"])
        options = ["--app-dir", str(HERE), *map(str, slots), "--log-level", "error"]
        worker = subprocess.Popen([sys.executable, "-m", "jobify", "worker", "indexer:app", *options], cwd=self.state)
        console.print(
            f"[bold]worker {worker.pid}[/] starts: jobify worker indexer:app {' '.join(map(str, slots))}",
            soft_wrap=True,
        )
        return worker

    def enqueue(self) -> None:
        """Store a job for each file, one that is retried, and a workflow."""
        from jobify import chord, group

        steps = group(self.indexer.checksum.s(path) for path in self.files[:CHECKSUMS])
        chord(steps, self.indexer.summary.s()).apply()
        self.indexer.announce.configure(job_id="announce").delay()
        for path in self.files:
            task = self.indexer.task_of(path)
            self.app.enqueue(task, (path, self._pace[task]), job_id=path)
        jobs = self.app.stats()["pending"] + self.app.stats()["running"]
        console.print(f"[bold]enqueued[/] {jobs} jobs for {len(self.files)} files, from this process")

    def watch(self, worker: subprocess.Popen[bytes], share: float) -> None:
        """Show a bar until so many of the jobs are complete, or the worker or the patience is at its end."""
        columns = TextColumn("  complete"), BarColumn(30), MofNCompleteColumn()
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            line = bar.add_task("", total=None)
            end = time.monotonic() + PATIENCE
            while worker.poll() is None and time.monotonic() < end:
                stats = self.app.stats()
                total = sum(stats.values()) - 1  # but for the cron, which has no end
                bar.update(line, completed=stats["complete"], total=total)
                if stats["complete"] >= share * total:
                    break
                time.sleep(0.05)

    def records(self) -> dict[str, Record]:
        """All jobs but the cron."""
        found: dict[str, Record] = {}
        page: list[Any] = self.app.jobs(limit=1000)
        while page:
            for job in page:
                if job.task_name != "tick":
                    lines = tuple(line["outcome"] for line in job.errors)
                    found[job.id] = Record(job.task_name, job.status, job.attempt, lines)
            page = self.app.jobs(limit=1000, after=page[-1].id)
        return found


def tell(demo: Demo) -> Story:
    """Both lives of the worker."""
    console.rule("first life")
    first = demo.start_worker()
    demo.enqueue()
    demo.watch(first, 0.5)
    first.kill()
    first_exit = first.wait()
    console.print(f"[bold red]kill -9 {first.pid}[/]: {demo.app.stats()['running']} jobs were running\n")
    console.rule("second life")
    started = time.monotonic()
    second = demo.start_worker()
    demo.watch(second, 1.0)
    seconds = time.monotonic() - started
    second.send_signal(signal.SIGTERM)
    second_exit = second.wait(PATIENCE)
    (cron,) = demo.app.schedules()
    return Story(demo.files, first_exit, second_exit, seconds, cron.run_count, demo.records())


def show(story: Story) -> None:
    """The table of all jobs, and the jobs that were recovered."""
    console.rule("what the database says")
    table = new_table("task", "runs on", "jobs", "complete", "attempts", "retried", "recovered")
    rows = [row_of(task, place, story.jobs.values()) for task, place in PLACES.items()]
    for task, place, *numbers in rows:
        table.add_row(*map(str, (task, place, *numbers)))
    totals = (sum(int(row[column]) for row in rows) for column in range(2, 7))
    table.add_row("all", "", *map(str, totals), style="bold")
    console.print(table)
    recovered = [name for name, job in story.jobs.items() if job.lost]
    console.print(f"The cron ran {story.ticks} times. Recovered from the killed worker, and run again:")
    for name in recovered[:SHOWN]:
        console.print(f"  {story.jobs[name].task:<9} {Path(name).name}", soft_wrap=True)
    if len(recovered) > SHOWN:
        console.print(f"  … and {len(recovered) - SHOWN} more")
    console.print(f"The second life took {story.seconds:.1f} s.")


def row_of(task: str, place: str, jobs: Any) -> tuple[str | int, ...]:
    """A line of the table; attempts are the sum of completed, retried and recovered ones."""
    mine = [job for job in jobs if job.task == task]
    done = sum(job.status == "complete" for job in mine)
    retried, lost = (sum(job.outcomes.count(word) for job in mine) for word in ("retry at", "lost"))
    return task, place, len(mine), done, sum(job.attempts for job in mine), retried, lost


def new_table(*headings: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < 2 else "right", no_wrap=True)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill a worker in the middle of its work, and check what is left.")
    parser.add_argument(
        "folder", type=Path, nargs="?", default=HERE.parent, help="what to index (default: this project)"
    )
    parser.add_argument("--state", type=Path, default=Path("build/demo"), help="where the database is kept")
    parser.add_argument("--seconds", type=float, default=3.0, help="about how long the work takes, without the kill")
    options = parser.parse_args()
    demo = Demo(options.folder.resolve(), options.state.resolve(), options.seconds)
    story = tell(demo)
    show(story)
    problems = list(story.problems())
    for problem in problems:
        console.print(f"[red]✗[/] {problem}", soft_wrap=True)
    if not problems:
        console.print(
            f"[green]✓[/] all {len(story.jobs)} jobs are complete; each of the {len(story.files)} files has one job"
        )
    database = os.path.relpath(demo.state / "jobify.db", options.folder.resolve())
    console.print(f"Look at it: jobify jobs list --database {database}", soft_wrap=True)
    console.print("Try next: docs/start/first-job.md, a job of your own in five minutes", soft_wrap=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

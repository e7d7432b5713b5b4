"""The story of a crash: run the indexer, let it kill itself half-way, start it again, and check every file.

    make demo        # or: python examples/demo.py [FOLDER]

Exits with 0 only if everything is accounted for: every file indexed, nothing pushed twice, the failing job retried,
the delayed one run, and no attempt lost but those that the killed process had in its hands.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from indexer import ANNOUNCE, REFUSALS, REPORT, find_text_files
from journal import History, Journal
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
INDEXER = HERE / "indexer.py"
PATIENCE = 120  # seconds that one life of the indexer may take
WIDE = 72  # columns
SHOWN = 12  # lines at most in the list of interrupted jobs
RUNS_ON = {
    "index_prose": "event loop",
    "index_text": "thread",
    "index_source": "process",
    "announce": "event loop, fails twice",
    "report": "event loop, delayed",
}

console = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Life:
    """One run of the indexer: how it ended, and when (seconds since 1970)."""

    exit_code: int | None
    """None if it had to be stopped because it did not come to an end."""
    ended_at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Story:
    """Both lives, and what the journal tells about them."""

    files: list[str]
    folder: Path
    first: Life
    second: Life
    jobs: Mapping[str, History]

    @property
    def interrupted(self) -> dict[str, History]:
        """The jobs whose attempt died with the first process."""
        return {job_id: history for job_id, history in self.jobs.items() if history.lost}

    @property
    def recovery(self) -> float:
        """Seconds from the kill until a job was running again."""
        starts = [at for history in self.jobs.values() for _, at in history.starts if at > self.first.ended_at]
        return min(starts, default=float("inf")) - self.first.ended_at

    def problems(self) -> Iterator[str]:
        """Everything that is not as it was promised."""
        if self.first.exit_code != -signal.SIGKILL:
            yield f"the first life was to be killed, but ended with {self.first.exit_code}"
        if self.second.exit_code != 0:
            yield f"the second life ended with {self.second.exit_code}"
        for job_id in (*self.files, ANNOUNCE, REPORT):
            if job_id not in self.jobs or self.jobs[job_id].facts is None:
                yield f"{self.name(job_id)} never finished"
        for job_id, history in self.jobs.items():
            if history.pushes > 1:
                yield f"{self.name(job_id)} was pushed {history.pushes} times"
            if history.lost > 1:
                yield f"{self.name(job_id)} was lost {history.lost} times, but only one process died"
        if ANNOUNCE in self.jobs and self.jobs[ANNOUNCE].failures != REFUSALS:
            yield f"the announcement failed {self.jobs[ANNOUNCE].failures} times, not {REFUSALS}"

    def name(self, job_id: str) -> str:
        """A job as a reader knows it: files below the folder by their relative path."""
        return str(Path(job_id).relative_to(self.folder)) if job_id in self.files else job_id


def live(folder: Path, state: Path, pace: float, *more: str) -> Life:
    """Run the indexer once, to whichever end."""
    command = [sys.executable, str(INDEXER), str(folder), "--pace", str(pace), *more]
    started = time.time()
    try:
        exit_code = subprocess.run(command, cwd=state, timeout=PATIENCE, check=False).returncode
    except subprocess.TimeoutExpired:
        exit_code = None
    finally:
        console.show_cursor(True)  # a killed progress bar cannot give it back
    ended = time.time()
    return Life(exit_code, ended, ended - started)


def tell(folder: Path, pace: float) -> Story:
    """Both lives in a temporary folder of their own, which is gone afterwards."""
    files = list(find_text_files(folder))
    with tempfile.TemporaryDirectory(prefix="jobify-demo-") as name:
        state = Path(name)
        console.rule(f"first life: {len(files)} files to index")
        first = live(folder, state, pace, "--kill-at", "0.5")
        console.print("\n[bold red]killed[/] with SIGKILL: no clean-up, no goodbye")
        console.rule("second life: the same command again")
        second = live(folder, state, pace)
        journal = Journal(state / "journal.jsonl")
        journal.close()
    return Story(files, folder, first, second, journal.jobs)


def show(story: Story) -> None:
    """What was done by which kind of task, and what was caught by the crash."""
    console.rule("what happened")
    console.print(_by_task(story))
    if story.interrupted:
        console.print(_interrupted(story))
        console.print(
            f"[bold]{story.recovery:.2f} s[/] after the kill a job was running again, Python's start included."
        )
    console.print(f"The lives took {story.first.seconds:.1f} s and {story.second.seconds:.1f} s.")


def _by_task(story: Story) -> Table:
    table = Table(title="Every job", title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in ("task", *_if_wide("runs on")):
        table.add_column(heading, no_wrap=True)
    for heading in ("jobs", "done", "runs", "failed", "lost"):
        table.add_column(heading, justify="right")
    for task, place in RUNS_ON.items():
        histories = [history for history in story.jobs.values() if history.task == task]
        count: Counter[str] = Counter()
        for history in histories:
            count.update(done=int(history.facts is not None), runs=len(history.starts))
            count.update(failed=history.failures, lost=history.lost)
        numbers = (len(histories), count["done"], count["runs"], count["failed"], count["lost"])
        table.add_row(task, *_if_wide(place), *map(str, numbers))
    return table


def _interrupted(story: Story) -> Table:
    title = "In the hands of the killed process, and so run twice"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("job", overflow="fold")
    for heading in _if_wide("task"):
        table.add_column(heading)
    table.add_column("process → process", justify="right", no_wrap=True)
    interrupted = sorted(story.interrupted.items())
    for job_id, history in interrupted[:SHOWN]:
        processes = f"{history.starts[0][0]} → {history.starts[-1][0]}"
        table.add_row(story.name(job_id), *_if_wide(history.task), processes)
    if len(interrupted) > SHOWN:
        table.add_row(f"… and {len(interrupted) - SHOWN} more")
    return table


def _if_wide(cell: str) -> tuple[str, ...]:
    """A cell that a narrow terminal has no room for."""
    return (cell,) if console.width >= WIDE else ()


def main() -> int:
    parser = argparse.ArgumentParser(description="Index a folder, crash half-way, recover, and check everything.")
    parser.add_argument(
        "folder", type=Path, nargs="?", default=HERE.parent, help="what to index (default: this project)"
    )
    parser.add_argument("--pace", type=float, default=0.1, help="extra seconds per file, to be able to watch it")
    options = parser.parse_args()
    story = tell(options.folder.resolve(), options.pace)
    show(story)
    problems = list(story.problems())
    for problem in problems:
        console.print(f"[red]✗[/] {problem}")
    if not problems:
        console.print(f"[green]✓[/] all {len(story.files)} files accounted for, each job stored once")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

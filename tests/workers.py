"""Workers as processes of their own, in a folder with an app; and a client of its database in this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobify import Jobify
from jobify.model.records import AttemptRecord, JobRecord
from support import PATIENCE, durable, storage_code, until

APP = """
    import asyncio, os, time
    from pathlib import Path
    from jobify import Cron, Jobify, RunMode

    app = Jobify(storage=STORAGE)
    GO = Path("go")

    def note(text):
        descriptor = os.open("notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.write(descriptor, f"{text} {os.getpid()}\\n".encode())
        os.close(descriptor)

    def hold(name):
        note(name)
        while not GO.exists():
            time.sleep(0.01)
        return name

    @app.task(name="quick")
    async def quick(number):
        note(f"quick-{number}")
        return number

    @app.task(name="hold_on_loop")
    async def hold_on_loop():
        note("hold_on_loop")
        while not GO.exists():
            await asyncio.sleep(0.01)
        return "held"

    @app.task(name="hold_in_thread")
    def hold_in_thread():
        return hold("hold_in_thread")
"""
PROCESS_TASK = """
    @app.task(name="hold_in_process", run_mode=RunMode.PROCESS)
    def hold_in_process():
        return hold("hold_in_process")
"""
CRON_TASK = """
    @app.task(name="tick", cron=Cron("* * * * * * *"))
    async def tick():
        note("tick")
"""


class Site:
    """The folder. ``code`` is added to the app's module."""

    def __init__(self, folder: Path, *code: str) -> None:
        self.folder = folder
        (folder / "plant.py").write_text(storage_code(folder) + "".join(map(textwrap.dedent, (APP, *code))))
        self.app = Jobify(storage=durable(folder))
        self.storage = durable(folder)
        self.storage.open()
        self._commands: list[Command] = []

    def worker(self, *options: str, is_awaited: bool = True, app: str = "plant:app", ignores: int = 0) -> Command:
        """A worker, at work. ``ignores``: a signal that its parent ignores."""
        command = Command(self.folder, ["worker", app, *options], ignores)
        self._commands.append(command)
        if is_awaited:
            command.until("At work")
        return command

    def close(self) -> None:
        """End whatever still runs."""
        for command in self._commands:
            command.end()
        self.storage.close()

    # -- what there is to see ------------------------------------------------------------------------------------------

    def enqueue(self, task: str, *arguments: object, **options: object) -> str:
        """A job, enqueued from a process that has none of the tasks; its id."""
        return self.app.enqueue(task, arguments, **options).id  # type: ignore[arg-type]

    def row(self, id: str) -> JobRecord:
        (row,) = self.storage.get([id])
        return row

    def until(self, id: str, status: str) -> JobRecord:
        """The row, when it says so."""
        until(lambda: self.row(id).status == status, f"{id} {status}")
        return self.row(id)

    def history(self, id: str) -> list[AttemptRecord]:
        return self.storage.attempts(id)

    def notes(self) -> list[tuple[str, int]]:
        """What tasks have written: a text, and the process."""
        try:
            lines = (self.folder / "notes").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(text, int(pid)) for text, pid in (line.split(" ") for line in lines)]

    def until_noted(self, text: str, times: int = 1) -> int:
        """The process that wrote ``text``, when it is there so many times."""
        until(lambda: sum(found == text for found, _ in self.notes()) >= times, text)
        return [pid for found, pid in self.notes() if found == text][-1]

    def go(self) -> None:
        """Let the tasks that hold return."""
        (self.folder / "go").touch()


Make = Callable[..., Site]


class Command:
    """``python -m jobify …`` in a session of its own, as a terminal would start it; its log is a file."""

    _count = 0

    def __init__(self, folder: Path, arguments: list[str], ignores: int = 0) -> None:
        Command._count += 1
        self._log = folder / f"log-{Command._count}"
        before = signal.signal(ignores, signal.SIG_IGN) if ignores else None
        with open(self._log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "jobify", *arguments],
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if ignores:
            signal.signal(ignores, before)
        self.pid = self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    def until(self, text: str, times: int = 1) -> None:
        """Return when the log says so."""

        def is_said() -> bool:
            assert self.process.poll() is None or text in self.log, self.log
            return self.log.count(text) >= times

        until(is_said, text)

    def tell(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def insist(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it again and again, as an impatient operator does, until it hurries; its exit code."""

        def is_in_a_hurry() -> bool:
            self.tell(number)
            time.sleep(0.1)
            return "Stopping at once" in self.log or "A task blocks the event loop" in self.log

        until(is_in_a_hurry, "a hurry")
        return self.exit_code()

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait()

    def exit_code(self) -> int:
        """When it has ended by itself."""
        try:
            return self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end: {self.log}") from None

    def stop(self) -> int:
        """Tell it to stop; its exit code."""
        self.tell()
        return self.exit_code()

    def end(self) -> None:
        if self.process.poll() is None:
            self.kill()

    def children(self) -> list[int]:
        """The workers of a supervisor, by what the system says."""
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        try:
            return [int(pid) for pid in path.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            return []

    def interrupt_group(self, number: signal.Signals = signal.SIGINT) -> None:
        """What a terminal does at Ctrl-C."""
        os.killpg(self.pid, number)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Make]:
    """Makes a folder with an app and a database; ends what was started there."""
    made: list[Site] = []

    def make(*code: str) -> Site:
        made.append(Site(tmp_path, *code))
        return made[-1]

    yield make
    for each in made:
        each.close()

"""An app in a folder, a database with jobs in every state, and the command line that looks at them."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest

from jobify.cli.main import run
from jobify.model.ids import new_id
from jobify.model.records import (
    AttemptRecord,
    ClaimRequest,
    NewJob,
    OwnerProfile,
    OwnerRole,
    Parking,
    Settlement,
    TaskSlots,
)
from jobify.storage import SQLiteStorage

APP = """
    from jobify import Jobify
    from jobify.storage import SQLiteStorage

    app = Jobify(storage=SQLiteStorage("shop.db", synchronous="normal"))
    number = 3

    @app.task(name="pack")
    async def pack(what: str = "a box") -> str:
        return f"packed {what}"
"""
SECOND = 1_000_000
RULE = '{"expression": "*/5 * * * *", "zone": "UTC"}'
TRACEBACK = 'Traceback (most recent call last):\n  File "shop.py", line 3, in pack\nValueError: no box'


class Terminal(io.StringIO):
    """Standard output that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


def lines_of(said: str) -> list[str]:
    """The lines of what a terminal got, without its colours."""
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said).splitlines()]


class Answer(NamedTuple):
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def table(self) -> list[dict[str, str]]:
        """The lines of a pipe, by column."""
        assert self.code == 0, self.err
        head, *lines = (line.split("\t") for line in self.out.splitlines())
        return [dict(zip(head, line, strict=True)) for line in lines]


class Shop:
    """The folder, with ``shop.py`` in it; the database is opened when the first job is added."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        (folder / "shop.py").write_text(textwrap.dedent(APP))
        self.storage = SQLiteStorage(folder / "shop.db", synchronous="normal")
        self.database = str(folder / "shop.db")
        """The path as the commands say it: relative ones are made absolute."""
        self.now = time.time_ns() // 1000

    def __call__(self, *arguments: str) -> Answer:
        """Run ``jobify …`` in this process."""
        sys.modules.pop("shop", None)
        self._capsys.readouterr()
        code = run(arguments)
        return Answer(code, *self._capsys.readouterr())

    def on_terminal(self, width: int, *arguments: str) -> list[str]:
        """The lines that ``jobify …`` shows on a terminal of so many columns; it is run in this process."""
        sys.modules.pop("shop", None)
        with patch.dict(os.environ, COLUMNS=str(width), LINES="50", TERM="xterm"), redirect_stdout(Terminal()) as out:
            assert run(arguments) == 0
        return lines_of(out.getvalue())

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def add(self, **fields: Any) -> str:
        """A job that waits; its id."""
        defaults: dict[str, Any] = {
            "id": new_id(),
            "task": "pack",
            "queue": "default",
            "priority": 0,
            "status": "scheduled",
            "ready": True,
            "due_at": self.now,
            "created_at": self.now,
            "payload": b'[["tea"],{}]',
        }
        blank = dict.fromkeys(NewJob._fields)
        job = NewJob(**{**blank, "fence": 0, "attempt": 0, "parents": (), **defaults, **fields})  # type: ignore[arg-type]
        assert self.storage.insert([job]) == [True]
        return job.id

    def worker(self, *tasks: str, queues: tuple[str, ...] | None = None) -> int:
        """A process that claims jobs of these tasks; its owner id."""
        profile = OwnerProfile(OwnerRole.WORKER, queues, tasks or ("pack",), 4)
        return self.storage.register(profile, now=self.now)

    def running(self, owner: int, **fields: Any) -> str:
        """A job that ``owner`` runs."""
        id = self.add(priority=1_000_000, **fields)
        task = fields.get("task", "pack")
        (claim,) = self.storage.claim(ClaimRequest(owner, (TaskSlots((task,), 1),)), now=self.now).claims
        assert claim.id == id
        return id

    def claim(self, owner: int, task: str = "pack") -> str:
        """Let ``owner`` run the next job; its id."""
        (claim,) = self.storage.claim(ClaimRequest(owner, (TaskSlots((task,), 1),)), now=self.now).claims
        return claim.id

    def ended(self, owner: int, status: str, *, is_dead: bool = False, **fields: Any) -> str:
        """A job that has ended, with a line of history if it failed."""
        id = self.running(owner, **fields)
        self.settle(owner, id, status, is_dead=is_dead)
        return id

    def settle(self, owner: int, id: str, status: str, *, is_dead: bool = False) -> None:
        """End a job that runs."""
        (row,) = self.storage.get([id])
        error = None if status == "success" else "ValueError: no box"
        line = AttemptRecord(id, 1, self.now, "failed", error, TRACEBACK, self.now, self.now + SECOND, owner)
        settlement = Settlement(
            status=status,
            ready=False,
            due_at=row.due_at,
            offset_at=None,
            attempt=1,
            run_count=0,
            failure_count=0,
            result=b'"packed"' if status == "success" else None,
            error=error,
            finished_at=self.now + SECOND,
            delete_at=None,
            is_dead=is_dead,
            is_lost=False,
            id=id,
            owner=owner,
            fence=row.fence,
            history=() if error is None else (line,),
        )
        assert all(self.storage.settle([settlement]))

    def parked(self, owner: int, reason: str, at: int, **fields: Any) -> str:
        """A job whose stored call did not fit the code of ``owner``."""
        id = self.running(owner, **fields)
        (row,) = self.storage.get([id])
        settlement = Settlement(
            status="scheduled",
            ready=True,
            due_at=row.due_at,
            offset_at=None,
            attempt=0,
            run_count=0,
            failure_count=0,
            result=None,
            error=reason,
            finished_at=None,
            delete_at=None,
            is_dead=False,
            is_lost=False,
            id=id,
            owner=owner,
            fence=row.fence,
            parking=Parking(reason, at, ("a-code",)),
        )
        assert all(self.storage.settle([settlement]))
        return id

    def schedule(self, id: str, **fields: Any) -> str:
        """A schedule, due in an hour."""
        due_at = self.now + 3600 * SECOND
        return self.add(id=id, rule=RULE, ready=False, due_at=due_at, offset_at=due_at, **fields)

    def status(self, id: str) -> str:
        """The word in the row."""
        (row,) = self.storage.get([id])
        return row.status


@contextmanager
def open_shop(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shop]:
    """The shop, in the current folder, its database open, its app the one that commands look at."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("JOBIFY_APP", "shop:app")
    monkeypatch.delenv("JOBIFY_DEBUG", raising=False)
    shop = Shop(folder, capsys)
    shop.storage.open()
    try:
        yield shop
    finally:
        shop.storage.close()
        sys.modules.pop("shop", None)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shop]:
    """A database with an app, and the command line that looks at it."""
    with open_shop(tmp_path, monkeypatch, capsys) as opened:
        yield opened

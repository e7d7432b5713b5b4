"""Counts of what a stretch of a program does, none of which depends on how fast the machine is.

``opcodes``     instructions of Python, in every module but those of the event loop and of threads: how often those come
                round is a matter of time.
``statements``  SQL statements, on every connection of the process.
``pages``       pages appended to the write-ahead log.
``commits``     transactions that wrote; with ``synchronous=FULL`` each is one flush to the disk.

A thread goes on until it waits for something: a long switch interval sees to that, so that groups are as large in each
run. What is left of chance (a service whose turn has come, a hand-over that came early) adds; so a scenario measures
several windows, and the least of each count is what the work costs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import queue
import selectors
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

__all__ = ("COUNTS", "Counters")

COUNTS = ("opcodes", "statements", "pages", "commits")

_NO_SWITCH = 60.0
_LONG_LOG = 1_000  # pages with which a log starts over, and what it held is gone
_HEAD, _FRAME_HEAD = 32, 24

_LOOPS = (asyncio, concurrent.futures, queue, selectors, threading)
_UNCOUNTED = (
    str(Path(__file__).parent),
    *(str(Path(str(module.__file__)).with_suffix("")).removesuffix("__init__") for module in _LOOPS),
)


class Counters:
    """Counts from now on, in threads and on connections that begin later; so make one before the app."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._log = database.with_name(f"{database.name}-wal")
        self._is_counting = False
        self._opcodes = self._statements = 0
        self._counted: dict[CodeType, bool] = {}
        self._windows: list[dict[str, float]] = []
        self._watch_statements()
        sys.setswitchinterval(_NO_SWITCH)
        gc.disable()  # when it runs is a matter of chance, too
        self._watch_opcodes()

    @contextmanager
    def window(self, jobs: int) -> Iterator[None]:
        """Count inside of this block, for each of that many jobs."""
        before = _read(self._log)
        self._opcodes = self._statements = 0
        self._is_counting = True
        yield
        self._is_counting = False
        after = _read(self._log)
        if before.salts not in (b"", after.salts) or after.pages >= _LONG_LOG:
            raise SystemExit("the log has started over within a window: measure fewer jobs")
        totals = (self._opcodes, self._statements, after.pages - before.pages, after.commits - before.commits)
        self._windows.append({name: total / jobs for name, total in zip(COUNTS, totals, strict=True)})

    def empty_log(self) -> None:
        """Before a window, for which the log must have room. The first job afterwards may do more than others."""
        with closing(sqlite3.connect(self._database)) as connection:
            is_busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_busy:
            raise SystemExit("the log cannot be emptied: something still writes")

    def least(self) -> dict[str, float]:
        """The least of each count over all windows. Nothing is counted afterwards."""
        if sys.version_info >= (3, 12):
            sys.monitoring.set_events(sys.monitoring.PROFILER_ID, 0)
        sys.settrace(None)
        return {name: round(min(window[name] for window in self._windows), 4) for name in COUNTS}

    # -- opcodes -------------------------------------------------------------------------------------------------------

    def _watch_opcodes(self) -> None:
        if sys.version_info >= (3, 12):
            self._monitor_opcodes()
        else:
            threading.settrace(self._on_call)
            sys.settrace(self._on_call)

    if sys.version_info >= (3, 12):

        def _monitor_opcodes(self) -> None:
            tool, start = sys.monitoring.PROFILER_ID, sys.monitoring.events.PY_START
            sys.monitoring.use_tool_id(tool, "perf")
            sys.monitoring.register_callback(tool, start, self._on_start)
            sys.monitoring.register_callback(tool, sys.monitoring.events.INSTRUCTION, self._on_instruction)
            sys.monitoring.set_events(tool, start)

        def _on_start(self, code: CodeType, _offset: int) -> None:
            if code not in self._counted and self._counts(code):
                sys.monitoring.set_local_events(sys.monitoring.PROFILER_ID, code, sys.monitoring.events.INSTRUCTION)

        def _on_instruction(self, _code: CodeType, _offset: int) -> None:
            if self._is_counting:
                self._opcodes += 1

    def _on_call(self, frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        if not self._counts(frame.f_code):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._on_opcode

    def _on_opcode(self, _frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        if self._is_counting and event == "opcode":
            self._opcodes += 1
        return self._on_opcode

    def _counts(self, code: CodeType) -> bool:
        known = self._counted.get(code)
        if known is None:
            known = self._counted[code] = not code.co_filename.startswith(_UNCOUNTED)
        return known

    # -- the database --------------------------------------------------------------------------------------------------

    def _watch_statements(self) -> None:
        connect: Callable[..., sqlite3.Connection] = sqlite3.connect

        def connect_watched(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **options)
            connection.set_trace_callback(self._on_statement)
            return connection

        sqlite3.connect = connect_watched  # type: ignore[assignment]  # it has overloads

    def _on_statement(self, text: str) -> None:
        # What begins with -- is a statement inside of a trigger; how often a pragma is set depends on the disk: what is
        # written while a flush is under way shares it.
        if self._is_counting and not text.startswith(("--", "PRAGMA")):
            self._statements += 1


class _Log(NamedTuple):
    """What a write-ahead log holds (sqlite.org/fileformat2.html): its pages, and how many of them end a transaction."""

    pages: int
    commits: int
    salts: bytes
    """New ones each time that it starts over; none while it is empty."""


def _read(log: Path) -> _Log:
    content = log.read_bytes() if log.exists() else b""
    page_size, salts = int.from_bytes(content[8:12], "big"), content[16:24]
    if not any(salts):  # nothing was written, although there may be room
        return _Log(0, 0, b"")
    heads = (content[start : start + _FRAME_HEAD] for start in range(_HEAD, len(content), _FRAME_HEAD + page_size))
    frames = [head for head in heads if head[8:16] == salts]
    return _Log(len(frames), sum(any(head[4:8]) for head in frames), salts)

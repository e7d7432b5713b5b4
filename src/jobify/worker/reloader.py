"""``jobify worker --reload``: restart the workers when the source of the app changes. For development.

The supervisor checks the modification times of all ``.py`` files below the folders from which the app is imported. It
needs nothing else, so it works on every file system. When files have changed, and the next check finds no more changes,
the workers stop as after a SIGTERM: running jobs have the grace period to finish, the rest is released without a lost
attempt. Then new workers start. Workers that cannot start (a syntax error) are restarted after the next change.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from jobify.runtime.logs import get_logger
from jobify.runtime.signals import describe_exit
from jobify.worker.control_socket import DRAIN
from jobify.worker.supervisor import Supervisor, WorkerSlot

__all__ = ("Reloader", "SourceFiles")

log = get_logger("jobify.supervisor")

_PAUSE: Final = 0.5
"""Seconds between two checks."""
_SHARE: Final = 20
"""A pause is at least this many times as long as a check took, so that a large folder causes little load."""
_NEVER: Final = float("inf")
_LEFT_OUT: Final = frozenset({"__pycache__", "node_modules", "site-packages"})


class SourceFiles:
    """The ``.py`` files below some folders, without hidden folders, virtual environments and installed packages."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = folders
        self._known = self._scan()

    def changed(self) -> list[str]:
        """The files that were changed, added or removed since the last call."""
        before, self._known = self._known, self._scan()
        return sorted({path for path, _ in before.items() ^ self._known.items()})

    def _scan(self) -> dict[str, tuple[int, int]]:
        return {entry.path: stamp for folder in self._folders for entry in _files(folder) if (stamp := _stamp(entry))}


def _files(folder: str) -> Iterator[os.DirEntry[str]]:
    """Links to folders are not followed, because they may form a circle."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError:  # it was removed, or may not be read
        return
    if any(entry.name == "pyvenv.cfg" for entry in found):
        return
    for entry in found:
        if entry.name.startswith(".") or entry.name in _LEFT_OUT:
            continue
        if entry.name.endswith(".py"):
            yield entry
        elif _is_folder(entry):
            yield from _files(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int] | None:
    try:
        status = os.stat(entry.path)  # not the entry's own, which is cached on Windows
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


class Reloader(Supervisor):
    """A supervisor of ``count`` workers that restarts them when ``files`` have changed."""

    def __init__(self, command: Sequence[str], count: int, *, grace: float | None, files: SourceFiles) -> None:
        super().__init__(command, count, grace=grace)
        self._files = files
        self._next_check = 0.0
        self._changes: list[str] = []
        """Changes so far; the workers restart at the first check that finds no more."""
        self._draining: set[WorkerSlot] = set()
        self._drained_until = _NEVER
        self._restart_options = ()  # the database need not be there yet

    def run(self) -> int:
        """See :meth:`Supervisor.run`."""
        log.warning("The workers restart when a source file changes (--reload). Use it for development only.")
        return super().run()

    def _next_event(self) -> float:
        until = super()._next_event()
        return until if self._stop_requested else min(until, self._next_check, self._drained_until)

    def _step(self, now: float) -> None:
        if not self._stop_requested:
            if now >= self._next_check:
                self._check_files(now)
            if now >= self._drained_until:
                self._drained_until = _NEVER
                log.error("Workers still run after the time to stop; they are killed.")
                for slot in self._draining:
                    slot.kill()
        super()._step(now)

    def _check_files(self, now: float) -> None:
        found, before = self._files.changed(), self._changes
        taken = time.monotonic() - now
        self._next_check = now + max(_PAUSE, _SHARE * taken)
        self._changes = [*before, *found]
        if self._changes and not found:
            self._changes = []
            self._restart_all(before, now)

    def _restart_all(self, files: Sequence[str], now: float) -> None:
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        log.info("%s%s changed; the workers restart.", Path(files[0]).name, more)
        for slot in self._slots:
            if slot.process is None:
                slot.start_at = now
            else:
                self._draining.add(slot)
                slot.send(DRAIN)
        self._has_worked = True  # all of them may start
        self._drained_until = now + self._stop_timeout() if self._draining else _NEVER

    def _on_worker_exit(self, slot: WorkerSlot, now: float) -> None:
        if self._stop_requested:
            super()._on_worker_exit(slot, now)
        elif slot in self._draining:
            self._draining.discard(slot)
            slot.on_exit(now)
            slot.start_at = now
            if not self._draining:
                self._drained_until = _NEVER
        elif slot.ready_at is None:
            assert slot.process is not None
            end = describe_exit(slot.process.returncode)
            slot.on_exit(now)
            slot.start_at = _NEVER
            self._has_worked = True
            log.error("The worker ended with %s before it was ready; it restarts after the next change.", end)
        else:
            super()._on_worker_exit(slot, now)

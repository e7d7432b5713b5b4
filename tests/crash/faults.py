"""What can happen to processes and to their database besides a kill: each fault lasts a moment and is undone.

A fault is a function of the arena. It returns when it is over, so faults do not overlap, except with what it caused.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from .databases import CrashDatabase, FileDatabase, ServerDatabase
from .killing import Arena

__all__ = ("clock_is_wrong", "disk_is_full", "faults_of", "file_is_moved_away", "file_is_replaced", "small_disk")

Fault: TypeAlias = Callable[[Arena], None]

YEAR: Final = 365 * 86_400
JUMPS: Final = (3600, -3600, 5 * YEAR, -5 * YEAR, 2, -2)
"""Seconds by which a clock is wrong."""
BALLAST: Final = "ballast"


def process_is_killed(arena: Arena) -> None:
    arena.kill_some()


def process_is_stopped(arena: Arena) -> None:
    """SIGSTOP, as a debugger, a suspended laptop or a starved container does it: the process is not dead."""
    victim = random.choice(arena.victims)
    victim.process.send_signal(signal.SIGSTOP)
    time.sleep(random.uniform(0.1, 3.0))
    victim.process.send_signal(signal.SIGCONT)


def descriptors_are_refused(arena: Arena) -> None:
    """EMFILE in one process: no file, socket or child process can be opened there."""
    victim = random.choice(arena.victims)
    pid = victim.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max((int(name) for name in os.listdir(f"/proc/{pid}/fd")), default=0)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1, before[1]))
    time.sleep(random.uniform(0.2, 3.0))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def faults_of(database: CrashDatabase) -> dict[str, Fault]:
    """Those that an arena with such a database can have."""
    anywhere = {
        "kill": process_is_killed,
        "stop": process_is_stopped,
        "descriptors": descriptors_are_refused,
    }
    if isinstance(database, FileDatabase):
        return {**anywhere, "lock": file_is_locked, "locks deleted": locks_are_deleted}
    return {**anywhere, "lock": tables_are_locked, "connections ended": connections_are_ended}


# -- the database ------------------------------------------------------------------------------------------------------


def file_is_locked(arena: Arena) -> None:
    """Another program holds the write lock, as a backup or a shell does."""
    with closing(sqlite3.connect(_file_of(arena), isolation_level=None, timeout=10)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(random.uniform(0.1, 3.0))
        connection.execute("ROLLBACK")


def locks_are_deleted(arena: Arena) -> None:
    """A cleaner of temporary files takes the folder of locks away, as a whole or a file of it."""
    folder = Path(f"{_file_of(arena)}-owners")
    found = [path for path in folder.glob("*") if path.is_file()]
    for path in found if random.random() < 0.5 else random.sample(found, min(1, len(found))):
        path.unlink(missing_ok=True)
    time.sleep(random.uniform(0.1, 1.5))


def tables_are_locked(arena: Arena) -> None:
    """Another session keeps everybody from the jobs, as a migration of a careless tool does."""
    with _server_of(arena).connected() as connection, connection.transaction():
        connection.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        time.sleep(random.uniform(0.1, 3.0))


def connections_are_ended(arena: Arena) -> None:
    """An operator has the server end all connections of Jobify, or some of them."""
    with _server_of(arena).connected() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'jobify' AND datname = current_database() AND random() < %s",
            (random.choice((0.3, 1)),),
        )
    time.sleep(random.uniform(0.1, 1.5))


def _file_of(arena: Arena) -> Path:
    assert isinstance(arena.database, FileDatabase)
    return arena.database.path


def _server_of(arena: Arena) -> ServerDatabase:
    assert isinstance(arena.database, ServerDatabase)
    return arena.database


# -- the disk ----------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """Have a small file system of its own in ``folder``; whether that is possible here (it takes root on Linux)."""
    folder.mkdir()
    is_mounted = os.system(f"mount -t tmpfs -o size={megabytes}m tmpfs '{folder}' 2>/dev/null") == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            os.system(f"umount -l '{folder}'")


def disk_is_full(arena: Arena) -> None:
    """The file system of the database has not one free block."""
    ballast = _file_of(arena).parent / BALLAST
    with open(ballast, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65_536)
        except OSError:
            pass
        time.sleep(random.uniform(0.5, 3.0))
    ballast.unlink()


# -- the file ----------------------------------------------------------------------------------------------------------


def _companions(database: Path) -> list[Path]:
    return [path for path in (Path(f"{database}{end}") for end in ("", "-wal", "-shm")) if path.exists()]


def file_is_moved_away(arena: Arena) -> None:
    """All files of the database are moved to another folder, and moved back when no process uses them any more."""
    aside = arena.directory / "aside"
    aside.mkdir(exist_ok=True)
    begun_at = time.time_ns() // 1000
    database = _file_of(arena)
    for path in _companions(database):
        path.rename(aside / path.name)
    time.sleep(random.uniform(0.5, 2.5))
    arena.stop_all(since=begun_at)
    for path in _companions(database):
        path.unlink()
    for path in _companions(aside / database.name):
        path.rename(database.parent / path.name)
    arena.start_all()


def file_is_replaced(arena: Arena) -> None:
    """A backup is restored over the file while processes use it: what was enqueued after the backup is gone."""
    backup = arena.directory / "backup.db"
    database, begun_at = _file_of(arena), time.time_ns() // 1000
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(backup)) as copy:
        source.backup(copy)
    time.sleep(random.uniform(0.0, 0.5))
    backup.rename(database)
    with open(arena.directory / "restores", "a") as restores:
        restores.write(f"{begun_at} {time.time_ns() // 1000}\n")
    time.sleep(random.uniform(0.5, 2.5))
    arena.stop_all(since=begun_at)
    for end in ("-wal", "-shm"):
        Path(f"{database}{end}").unlink(missing_ok=True)
    arena.start_all()


# -- the clock ---------------------------------------------------------------------------------------------------------


def clock_is_wrong(arena: Arena) -> None:
    """The wall clock of all processes jumps, and is mended after some seconds."""
    before = 0
    for offset in (random.choice(JUMPS), 0):
        if offset < before:
            with open(arena.directory / "set_back", "a") as set_back:
                set_back.write(f"{time.time_ns() // 1000}\n")
        before = offset
        with open(arena.directory / "clock", "r+b") as clock:  # in place: the processes have mapped it
            clock.write((offset * 1_000_000).to_bytes(8, "little", signed=True))
        time.sleep(random.uniform(0.5, 4.0))

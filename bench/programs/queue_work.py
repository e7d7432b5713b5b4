"""The work of a queue, done by one product: the same calls, the same clock, whichever it is.

Runs in an empty folder as ``python queue_work.py PRODUCT MODE COUNT`` and prints one JSON object of numbers. The
product's tasks are in ``queue_PRODUCT.py``. Its worker is a process of its own, started as its documentation says; the
tasks call :func:`ran` or :func:`picked_up` here, and the last call leaves the numbers in a file.

``drain``: one worker, COUNT jobs that do nothing, all there before it starts; from the first to the last of them.
``sustained``: one worker, while 100 jobs a call are enqueued; from the first call to the start of the last job.
``single``, ``bulk``: calls that enqueue one job; calls that enqueue 500.
``pickup``: an idle worker; from just before the enqueuing call to the first line of the task.
``idle``: what a worker with nothing to do costs.
``memory``: what a worker takes that has run COUNT jobs.
``queries``: how many transactions an idle worker asks of PostgreSQL.

With ``{"workers": 4}`` in the settings there are so many workers.
"""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Protocol

from measuring import percentile, report

SETTINGS = "BENCH_STORAGE"
REDIS = "BENCH_REDIS"
POSTGRES = "BENCH_POSTGRES"
_COUNT = "BENCH_COUNT"
_SHARED = "BENCH_SHARED"
"""Set where several workers run the jobs."""
_NUMBERS = Path("numbers.json")
_STAMPS = Path("stamps")
_STAMP = struct.Struct("d")
_READY = Path("ready")
_BULK = 500
_CALL = 100
_PATIENCE = 300
_LEAST_PAUSE, _MOST_PAUSE = 0.02, 0.06
_WARM = 20
"""Jobs before the measured ones, so that no import counts."""

_stamps = array("d")  # not a list: the memory of the worker is measured, too


class Product(Protocol):
    """One queue, as its users use it."""

    worker: Sequence[str]
    """The command of a worker, run in the folder of the program."""

    def noop(self, number: int) -> object:
        """Enqueue one job that calls :func:`ran`."""

    def noops(self, numbers: Sequence[int]) -> object:
        """Enqueue many of them with one call, or as the product does it."""

    def measure(self, sent_ns: int) -> object:
        """Enqueue one job that calls ``picked_up(sent_ns)``."""


def settings() -> dict[str, object]:
    """What the driver wants this product to be set to."""
    found: dict[str, object] = json.loads(os.environ.get(SETTINGS, "{}"))
    return found


def ran() -> None:
    """In the worker: one more job has begun."""
    if _SHARED in os.environ:
        ran_in_child()
        return
    _stamps.append(time.perf_counter())
    if len(_stamps) == _count():
        _leave_rate(_stamps)


def ran_in_child() -> None:
    """The same where several processes run the jobs: they share a file of stamps."""
    file = os.open(_STAMPS, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, _STAMP.pack(time.perf_counter()))
        if os.fstat(file).st_size == _STAMP.size * _count():
            _leave_rate([moment for (moment,) in _STAMP.iter_unpack(_STAMPS.read_bytes())])
    finally:
        os.close(file)


def picked_up(sent_ns: int) -> None:
    """In the worker: a job that was enqueued at this wall-clock time begins."""
    _stamps.append((time.time_ns() - sent_ns) / 1e6)
    if len(_stamps) == _WARM:
        _READY.touch()
    if len(_stamps) == _count() + _WARM:
        measured = _stamps[_WARM:]
        _leave(p50_ms=percentile(measured, 0.5), p99_ms=percentile(measured, 0.99))


def main(name: str, mode: str, number: str) -> None:
    """Do what the command line says."""
    product: Product = import_module(f"queue_{name}").product
    count = int(number)
    os.environ[_COUNT] = str(count)
    if (prepare := getattr(product, "prepare", None)) is not None:  # where a database has to be made ready
        prepare()
    modes = {
        "drain": _drain, "sustained": _sustained, "single": _single, "bulk": _bulk, "pickup": _pickup, "idle": _idle,
        "memory": _memory, "queries": _queries,
    }  # fmt: skip
    modes[mode](product, count)


def _drain(product: Product, count: int) -> None:
    _fill(product, count)
    workers = int(str(settings().get("workers", 1)))
    if workers > 1:
        os.environ[_SHARED] = "1"
    with ExitStack() as stack:
        for _ in range(workers):
            stack.enter_context(_Worker(product))
        report(**_numbers())


def _sustained(product: Product, count: int) -> None:
    os.environ[_COUNT] = str(count + 2 * _WARM)  # some run before, so that the start of the worker is not measured
    os.environ[_SHARED] = "1"
    with _Worker(product):
        product.noops(range(2 * _WARM))
        _wait_until(lambda: _STAMPS.exists() and _STAMPS.stat().st_size >= 2 * _WARM * _STAMP.size)
        started = time.perf_counter()
        for start in range(0, count, _CALL):
            product.noops(range(start, min(start + _CALL, count)))
        _numbers()
        (last,) = _STAMP.unpack(_STAMPS.read_bytes()[-_STAMP.size :])
        report(per_second=count / (last - started))


def _memory(product: Product, count: int) -> None:
    _fill(product, count)
    with _Worker(product) as worker:
        _numbers()
        report(memory_mb=worker.memory_mb())


def _fill(product: Product, count: int) -> None:
    for start in range(0, count, _BULK):
        product.noops(range(start, min(start + _BULK, count)))


def _single(product: Product, count: int) -> None:
    product.noop(0)
    started = time.perf_counter()
    for number in range(count):
        product.noop(number)
    report(per_second=count / (time.perf_counter() - started))


def _bulk(product: Product, count: int) -> None:
    product.noops(range(1))
    started = time.perf_counter()
    for start in range(0, count, _BULK):
        product.noops(range(start, start + _BULK))
    report(per_second=count / (time.perf_counter() - started))


def _pickup(product: Product, count: int) -> None:
    with _Worker(product):
        for number in range(_WARM + count):
            if number == _WARM:
                _wait_for(_READY)  # what is enqueued while the worker starts is not measured
            product.measure(time.time_ns())
            time.sleep(random.uniform(_LEAST_PAUSE, _MOST_PAUSE))
        report(**_numbers())


def _idle(product: Product, seconds: int) -> None:
    os.environ[_COUNT] = "2"
    with _Worker(product) as worker:
        product.noops(range(2))
        _numbers()
        time.sleep(2)  # what comes after the first job: imports, the first rounds of its services
        before = worker.cpu_seconds()
        time.sleep(seconds)
        report(cpu_percent=(worker.cpu_seconds() - before) / seconds * 100, memory_mb=worker.memory_mb())


def _queries(product: Product, seconds: int) -> None:
    import psycopg

    os.environ[_COUNT] = "2"
    asked = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    with _Worker(product), psycopg.connect(os.environ[POSTGRES], autocommit=True) as database:
        product.noops(range(2))
        _numbers()
        time.sleep(13)  # a session that becomes idle says only after ten seconds how many transactions it has made
        before = database.execute(asked).fetchone()
        time.sleep(seconds)
        after = database.execute(asked).fetchone()
        assert before is not None
        assert after is not None
        report(per_second=max(after[0] - before[0] - 1, 0) / seconds)


class _Worker:
    """A worker process of the product, in a group of its own."""

    def __init__(self, product: Product) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        with Path("worker.log").open("wb") as log:
            self._process = subprocess.Popen(
                product.worker, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def cpu_seconds(self) -> float:
        """Time on a core of all threads of the group so far. (The clock ticks of /proc/PID/stat are 10 ms long.)"""
        schedules = [path.read_text() for folder in self._folders() for path in folder.glob("task/*/schedstat")]
        return sum(int(text.split()[0]) for text in schedules) / 1e9

    def memory_mb(self) -> float:
        """Resident memory of the group."""
        pages = sum(int((folder / "statm").read_text().split()[1]) for folder in self._folders())
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def _folders(self) -> list[Path]:
        """/proc/PID of each process in the group."""
        return [stat.parent for stat in Path("/proc").glob("[0-9]*/stat") if _group(stat) == self._process.pid]


def _group(stat: Path) -> int | None:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[2])
    except OSError:  # it ended meanwhile
        return None


def _numbers() -> dict[str, float]:
    """What the worker has measured, once it is there."""
    _wait_for(_NUMBERS)
    numbers: dict[str, float] = json.loads(_NUMBERS.read_text())
    return numbers


def _wait_for(path: Path) -> None:
    """Wait until the worker has left this file."""
    _wait_until(path.exists)


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            sys.exit(f"the worker did not do its work:\n{Path('worker.log').read_text()[-2000:]}")
        time.sleep(0.01)


def _count() -> int:
    return int(os.environ[_COUNT])


def _leave_rate(stamps: Sequence[float]) -> None:
    _leave(per_second=(len(stamps) - 1) / (max(stamps) - min(stamps)))


def _leave(**numbers: float) -> None:
    part = _NUMBERS.with_suffix(".part")
    part.write_text(json.dumps(numbers))
    part.rename(_NUMBERS)


if __name__ == "__main__":
    import queue_work  # by the name under which the tasks find it

    queue_work.main(*sys.argv[1:])

"""Our throughput while a transaction is held open: nothing that has ended since can be vacuumed.

Runs as ``python postgres_held.py SECONDS [held|free] [AFTER]``; AFTER more seconds once it has ended. A worker runs
jobs that do nothing, and a producer keeps a thousand of them waiting. Each ten seconds a line says how many ran, and
how large the table and its indexes are; the last line holds the numbers. The first ten seconds are not counted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from measuring import report

_STEP = 10
_WAITING, _CALL = 1000, 100
_STAMP = 8
_SIZES = """
SELECT pg_table_size('jobify.jobs') / 1000000.0, pg_indexes_size('jobify.jobs') / 1000000.0,
    (SELECT n_dead_tup FROM pg_stat_all_tables WHERE relid = 'jobify.jobs'::regclass)
"""


def main(seconds: str, which: str = "held", after: str = "0") -> None:
    os.environ.update(BENCH_COUNT="1000000000", BENCH_SHARED="1", PYTHONPATH=str(Path(__file__).parent))
    from queue_jobify_postgres import product

    product.noops(range(_CALL))
    with psycopg.connect(os.environ["BENCH_POSTGRES"]) as holder, Path("worker.log").open("wb") as log:
        holder.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        if which == "held":
            holder.execute("SELECT count(*) FROM jobify.jobs")
        worker = subprocess.Popen(product.worker, stdout=log, stderr=subprocess.STDOUT)
        try:
            rates = _rates(int(seconds), int(after), product, holder.rollback)
        finally:
            worker.kill()
            worker.wait()
    held = rates[: int(seconds) // _STEP]
    report(first=held[1], last=held[-1], kept_percent=sum(held[-3:]) / sum(held[1:4]) * 100)


def _rates(seconds: int, after: int, product: object, end: Callable[[], object]) -> list[float]:
    """Jobs a second that have begun, for each step; ``end`` is called after so many seconds."""
    enqueued, before, rates = _CALL, 0, []
    started = time.monotonic()
    with psycopg.connect(os.environ["BENCH_POSTGRES"], autocommit=True) as looker:
        for step in range(1, (seconds + after) // _STEP + 1):
            while time.monotonic() < started + step * _STEP:
                if enqueued - _ran() < _WAITING:
                    product.noops(range(_CALL))  # type: ignore[attr-defined]
                    enqueued += _CALL
                else:
                    time.sleep(0.001)
            ran = _ran()
            rates.append((ran - before) / _STEP)
            before = ran
            table, indexes, dead = looker.execute(_SIZES).fetchone() or (0, 0, 0)
            sizes = f"table {table:.0f} MB, indexes {indexes:.0f} MB, {ran} rows, {dead} dead"
            if step == seconds // _STEP:
                end()
            print(f"{step * _STEP:5} s {rates[-1]:8.0f}/s {sizes}", flush=True)
    return rates


def _ran() -> int:
    stamps = Path("stamps")
    return stamps.stat().st_size // _STAMP if stamps.exists() else 0


if __name__ == "__main__":
    main(*sys.argv[1:])

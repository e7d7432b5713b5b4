"""The facts about a machine that decide what its numbers mean, and none that would identify it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import time
from pathlib import Path

_ASK = """
import json, platform, sqlite3
from importlib.metadata import PackageNotFoundError, version
def found(name):
    try:
        return [f"{name} {version(name)}"]
    except PackageNotFoundError:
        return []
products = "jobify flexiq huey celery rq redis pgqueuer procrastinate asyncpg psycopg"
names = [text for name in products.split() for text in found(name)]
print(json.dumps([", ".join(names), platform.python_version(), sqlite3.sqlite_version]))
"""


def describe_interpreter(python: str) -> str:
    """The releases that `python` would run: of the products, Python and SQLite."""
    answer = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=True).stdout
    products, own, sqlite = json.loads(answer)
    return f"{products} on Python {own}, SQLite {sqlite}"


def describe_machine(folder: Path) -> str:
    """Cores, system, and what a flush to the disk below `folder` costs, which is what FULL durability pays for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lowest, middle, highest = (f"{cost:.2f}" for cost in _flush_ms(folder))
    flush = (
        f"a flush (fdatasync of a page that was appended) takes {middle} ms ({lowest}–{highest}, 1 of 10 beyond each)"
    )
    return f"{cores} cores, {platform.system()} {platform.machine()}, {flush}"


def describe_redis() -> str:
    """The release of the Redis server that the bench starts."""
    program = shutil.which("redis-server")
    if program is None:
        return "no redis-server: Celery and RQ were not run"
    words = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()
    return f"Redis {next(word[2:] for word in words if word.startswith('v='))}"


def describe_postgres(url: str, ours: str, peer: str | None) -> str:
    """The release of the PostgreSQL server that the bench has started, and of those that use it."""
    import psycopg

    with psycopg.connect(url) as database:
        release = database.info.server_version // 10_000
    theirs = "no rivals" if peer is None else describe_interpreter(peer)
    return f"PostgreSQL {release}, flushing its commits, by a socket: {describe_interpreter(ours)}; {theirs}"


def _flush_ms(folder: Path, times: int = 200) -> tuple[float, float, float]:
    """What it costs to append a page and flush it, in milliseconds: the first decile, the median, the last decile."""
    probe = folder / "flush-probe"
    flush = getattr(os, "fdatasync", os.fsync)
    costs: list[float] = []
    with probe.open("wb", buffering=0) as file:
        for _ in range(times):
            started = time.perf_counter()
            file.write(bytes(4096))
            flush(file.fileno())
            costs.append((time.perf_counter() - started) * 1000)
    probe.unlink()
    deciles = statistics.quantiles(costs, n=10)
    return deciles[0], statistics.median(costs), deciles[-1]

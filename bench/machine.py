"""The facts about a machine that decide what its numbers mean, and none that would identify it."""

from __future__ import annotations

import json
import os
import platform
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
names = [text for name in ("jobify", "flexiq", "huey") for text in found(name)]
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
    return f"{cores} cores, {platform.system()} {platform.machine()}, one fsync takes {_fsync_ms(folder):.2f} ms"


def _fsync_ms(folder: Path, times: int = 50) -> float:
    """The median cost of writing and flushing one page, in milliseconds."""
    probe = folder / "fsync-probe"
    costs: list[float] = []
    with probe.open("wb", buffering=0) as file:
        for _ in range(times):
            started = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            costs.append((time.perf_counter() - started) * 1000)
    probe.unlink()
    return statistics.median(costs)

"""How long a command takes from its start to its end, in milliseconds: `--help`, and a list of an app's jobs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from measuring import argument, percentile, report

_APP = """from jobify import Jobify

app = Jobify()


@app.task(name="noop")
def noop(number: int) -> int:
    return number
"""


def p50_ms(times: int, *arguments: str) -> float:
    """The median of a command run so often, after one run that fills the caches."""
    command = [str(Path(sys.executable).with_name("jobify")), *arguments]
    durations: list[float] = []
    for _ in range(times + 1):
        started = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        durations.append((time.perf_counter() - started) * 1000)
    return percentile(durations[1:], 0.5)


def main(times: int) -> None:
    Path("shop.py").write_text(_APP)
    report(help_ms=p50_ms(times, "--help"), list_ms=p50_ms(times, "jobs", "list", "--app", "shop:app"))


main(argument(10))

"""Numbers in and out of a measured program, whatever product it measures."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence


def argument(default: int) -> int:
    """The only command line argument, a whole number: how many jobs or timers."""
    return int(sys.argv[1]) if len(sys.argv) > 1 else default


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of `values` lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def report(**numbers: float) -> None:
    """Print the measured numbers where the driver reads them: the last line of the output."""
    print(json.dumps(numbers))

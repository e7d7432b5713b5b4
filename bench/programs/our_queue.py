"""Our side of the queue programs: the same calls, whatever kind of task they enqueue."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any


class OurQueue:
    """Enqueues the tasks of a module; its worker is `jobify worker`."""

    def __init__(self, module: str, noop: Any, measure: Any) -> None:
        self.worker = (sys.executable, "-m", "jobify", "worker", f"{module}:app")
        self._noop, self._measure = noop, measure

    def noop(self, number: int) -> object:
        return self._noop.delay(number)

    def noops(self, numbers: Sequence[int]) -> object:
        return self._noop.map([(number,) for number in numbers])

    def measure(self, sent_ns: int) -> object:
        return self._measure.delay(sent_ns)

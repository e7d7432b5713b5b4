"""FlexiQ, as the settings of the driver have it (its constructor's arguments)."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from flexiq import Queue  # type: ignore[import-not-found]  # the peer's environment has it
from queue_work import picked_up, ran, settings

queue = Queue(db_path="bench.db", **settings())
logging.getLogger("flexiq").setLevel(logging.WARNING)  # two lines per job would be measured, too


@queue.task(name="noop")  # type: ignore[untyped-decorator]  # it has no types here
def noop(number: int) -> int:
    ran()
    return number


@queue.task(name="measure")  # type: ignore[untyped-decorator]  # it has no types here
def measure(sent_ns: int) -> None:
    picked_up(sent_ns)


class FlexiQ:
    worker = (str(Path(sys.executable).with_name("flexiq")), "worker", "--app", "queue_flexiq:queue")

    def noop(self, number: int) -> object:
        return noop.delay(number)  # pyright: ignore[reportFunctionMemberAccess]  # no types here

    def noops(self, numbers: Sequence[int]) -> object:
        return noop.map([(number,) for number in numbers])  # pyright: ignore[reportFunctionMemberAccess]

    def measure(self, sent_ns: int) -> object:
        return measure.delay(sent_ns)  # pyright: ignore[reportFunctionMemberAccess]


product = FlexiQ()

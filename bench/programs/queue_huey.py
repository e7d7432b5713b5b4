"""huey on SQLite. ``{"synchronous": "normal"}`` sets what huey itself has no option for: it knows FULL and OFF only.

The consumer is given ``worker`` options by the driver: ``{"worker": ["--delay=0.001"]}`` has it look all the time.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huey import SqliteHuey  # type: ignore[import-not-found]  # the peer's environment has it
from huey.storage import SqliteStorage  # type: ignore[import-not-found]
from queue_work import picked_up, ran, settings


class _NormalStorage(SqliteStorage):  # type: ignore[misc]
    def _create_connection(self) -> Any:
        connection = super()._create_connection()
        connection.execute("pragma synchronous = normal")
        return connection


_is_normal = settings().get("synchronous") == "normal"
huey = SqliteHuey("bench", filename="bench.db", **({"storage_class": _NormalStorage} if _is_normal else {}))
logging.getLogger("huey").setLevel(logging.WARNING)


@huey.task()  # type: ignore[untyped-decorator]  # it has no types here
def noop(number: int) -> int:
    ran()
    return number


@huey.task()  # type: ignore[untyped-decorator]  # it has no types here
def measure(sent_ns: int) -> None:
    picked_up(sent_ns)


class Huey:
    worker = (
        str(Path(sys.executable).with_name("huey_consumer")),
        "queue_huey.huey",
        "--quiet",
        *settings().get("worker", ()),  # type: ignore[misc]
    )

    def noop(self, number: int) -> object:
        return noop(number)

    def noops(self, numbers: Sequence[int]) -> object:
        return [noop(number) for number in numbers]  # there is no call for many

    def measure(self, sent_ns: int) -> object:
        return measure(sent_ns)


product = Huey()

"""Procrastinate with psycopg, as its documentation sets it up."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import procrastinate  # type: ignore[import-not-found]  # the peer's environment has it
from queue_work import POSTGRES, picked_up, ran

_URL = os.environ[POSTGRES]
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=_URL))


@app.task(name="noop")  # type: ignore[untyped-decorator]  # it is not installed here
async def noop(number: int) -> None:
    ran()


@app.task(name="measure")  # type: ignore[untyped-decorator]
async def measure(sent_ns: int) -> None:
    picked_up(sent_ns)


class Procrastinate:
    worker = (
        str(Path(sys.executable).with_name("procrastinate")), "--app=queue_procrastinate.app", "worker"
    )  # fmt: skip

    def __init__(self) -> None:
        self._is_open = False

    def prepare(self) -> None:
        self._opened().schema_manager.apply_schema()

    def noop(self, number: int) -> object:
        return self._opened().configure_task("noop").defer(number=number)

    def noops(self, numbers: Sequence[int]) -> object:
        return self._opened().configure_task("noop").batch_defer(*[{"number": number} for number in numbers])

    def measure(self, sent_ns: int) -> object:
        return self._opened().configure_task("measure").defer(sent_ns=sent_ns)

    def _opened(self) -> procrastinate.App:
        if not self._is_open:
            app.open()
            self._is_open = True
        return app


product = Procrastinate()

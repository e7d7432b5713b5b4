"""What type checkers must accept of tasks with ``batch=``, and refuse. Read by ``test_typing.py``, never run. A wrong
line carries the error that a checker must find there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack, assert_type

from jobify import Batch, Call, Job, Jobify, JobResult, RouteOptions

app = Jobify()


@dataclass
class Row:
    table: str
    number: int = 0


@app.task(batch=Batch(500, wait=1.0, key="table"), retry=3)
def load(rows: list[Row]) -> list[int | Exception]:
    return [row.number for row in rows]


@app.task(batch=Batch(5))
async def aload(rows: list[Row]) -> list[int]:
    return [row.number for row in rows]


@app.task(batch=Batch(5))
async def store(calls: list[Call]) -> None: ...


@app.task(batch=Batch(5))
def either(rows: list[Row]) -> Sequence[str | LookupError]:
    return [row.table for row in rows]


def passed_on(**options: Unpack[RouteOptions]) -> None:
    app.task(**options)


async def calls() -> None:
    assert_type(load.delay(table="a"), JobResult[int])
    assert_type(load.delay("a", number=1).result(), int)
    assert_type(await load.push("a"), Job[int])
    assert_type(await aload.push("a"), Job[int])
    assert_type(await load.configure(queue="slow").adelay("a"), JobResult[int])
    assert_type(store.delay(1, b=2), JobResult[None])
    load.dealy("a")  # type: ignore[attr-defined]

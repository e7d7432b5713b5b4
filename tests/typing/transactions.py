"""What type checkers must accept and refuse of jobs in a user's transaction. Read by ``test_typing.py``, never run.
Each wrong line carries the error that a checker must find there.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Any, assert_type

from jobify import Jobify, JobResult, chain, current_job, group

app = Jobify()
connection = sqlite3.connect("shop.db")


@app.task
async def number(x: int) -> int:
    return x


@app.task
def text(x: int, y: str = "") -> str:
    return y


async def right() -> None:
    using = text.using(connection)
    assert_type(using.delay(1), JobResult[str])
    assert_type(await using.adelay(1, y="a"), JobResult[str])
    assert_type(using.apply_async((1,), priority=2), JobResult[str])
    assert_type(await using.aapply_async((1,), {"y": "a"}), JobResult[str])
    assert_type(using.map([(1,), (2, "a")]), list[JobResult[str]])
    assert_type(await using.amap([(1,)], queue="a"), list[JobResult[str]])
    assert_type(await using.push(1, "a"), JobResult[str])
    assert_type(await using.schedule(1).delay(5), JobResult[str])
    assert_type(await using.schedule(1, "a").at(datetime.now()), JobResult[str])
    assert_type(await using.schedule(1).push(job_id="a"), JobResult[str])
    assert_type(number.using(connection).delay(1), JobResult[int])
    assert_type(text.configure(delay=5).using(connection).delay(1, "a"), JobResult[str])
    assert_type(using.configure(priority=3).delay(1), JobResult[str])
    assert_type(app.using(connection).enqueue(text, (1,)), JobResult[str])
    assert_type(await app.using(connection).aenqueue("name", (1,), delay=60), JobResult[Any])
    assert_type(app.using(connection).enqueue_many([number.s(1)]), list[JobResult[int]])
    assert_type(await app.using(connection).aenqueue_many(text, [(1,)]), list[JobResult[str]])
    assert_type(chain(number.s(1), text.s()).using(connection).apply(), JobResult[str])
    assert_type(await group(number.s(1), number.s(2)).using(connection).aapply(), list[JobResult[int]])
    assert_type(number.s(1).using(connection).apply(), JobResult[int])
    with current_job.transaction(connection) as tx:
        tx.execute("SELECT 1")
        assert_type(tx.complete("paid"), str)
    async with current_job.transaction(connection) as tx:
        assert_type(tx.complete(1), int)


async def wrong() -> None:
    text.using(connection).delay()  # type: ignore[call-arg]
    text.using(connection).delay("a")  # type: ignore[arg-type]
    await text.using(connection).push(1, z="a")  # type: ignore[call-arg]
    text.using(connection).schedule("a")  # type: ignore[arg-type]
    text.using(connection).apply_async((1,), priorty=2)  # type: ignore[call-arg]
    app.using()  # type: ignore[call-arg]

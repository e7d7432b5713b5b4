"""What type checkers must accept and refuse of the calls that any process may make. Read by ``test_typing.py``, never
run. Each wrong line carries the error that a checker must find there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any, assert_type

from jobify import (
    Jobify,
    JobResult,
    JobRouter,
    JobStatus,
    PublicStatus,
    SmartRetry,
    chain,
    chord,
    chunks,
    group,
    starmap,
)
from jobify.canvas import Signature

app = Jobify()
router = JobRouter(prefix="r")
app.include_router(router)


@app.task
async def async_task(x: int, y: str = "") -> int:
    return x


@app.task(queue="quick", priority=5)
def sync_task(x: int, y: str = "") -> int:
    return x


@router.task
def on_router(x: int, y: str = "") -> int:
    return x


def right_calls() -> None:
    for task in (async_task, sync_task, on_router):
        assert_type(task.delay(1), JobResult[int])
        assert_type(task.delay(1, "a"), JobResult[int])
        assert_type(task.delay(x=1, y="a"), JobResult[int])
        assert_type(task.apply_async((1,), {"y": "a"}, priority=1, delay=5, queue="q"), JobResult[int])
        assert_type(task.apply_async([1], eta=datetime.now(UTC), retry=SmartRetry(1), timeout=5), JobResult[int])
        assert_type(task.map([(1,), (2, "a")]), list[JobResult[int]])
        assert_type(task.s(1), Signature[int])
        assert_type(task.si(1).set(priority=1), Signature[int])
        assert_type(task.s(1).apply(), JobResult[int])
        assert_type(app.enqueue(task, (1,), unique_key="k", unique_scope="all"), JobResult[int])
        job = task.delay(1)
        assert_type(job.result(), int)
        assert_type(job.result(timeout=None), int)
        task.apply_async((1,), depends_on=job, expires=5, metadata={"a": 1}, result_ttl=5, job_id="mine")
        task.apply_async((1,), depends_on=[job, "id"])
        assert_type(app.enqueue_many(task, [(1,)], priority=1), list[JobResult[int]])
    assert_type(app.enqueue("name", (1,)), JobResult[Any])
    assert_type(app.enqueue_many([async_task.s(1)]), list[JobResult[int]])


async def right_awaits() -> None:
    for task in (async_task, sync_task, on_router):
        assert_type(await task.adelay(1, y="a"), JobResult[int])
        assert_type(await task.aapply_async((1,), priority=1), JobResult[int])
        assert_type(await task.amap([(1,)]), list[JobResult[int]])
        assert_type(await task.s(1).aapply(), JobResult[int])
        assert_type(await app.aenqueue(task, (1,)), JobResult[int])
        assert_type(await (await task.adelay(1)).aresult(), int)


def handles(job: JobResult[int]) -> None:
    assert_type(job.id, str)
    assert_type(job.created, bool)
    assert_type(job.status, PublicStatus)
    assert_type(job.public_status, PublicStatus)
    assert_type(job.job_status, JobStatus)
    assert_type(job.exec_at, datetime)
    assert_type(job.cron_expression, str | None)
    assert_type(job.note, str)
    if job.status == "sucess":  # type: ignore[comparison-overlap]
        print("a misspelt word")
    assert_type(job.progress, float | None)
    assert_type(job.error, str | None)
    assert_type(job.errors, list[dict[str, Any]])
    assert_type(job.dependencies, list[str])
    assert_type(job.eta, datetime)
    assert_type(job.finished_at, datetime | None)
    assert_type(job.to_dict(), dict[str, Any])
    assert_type(job.cancel(), bool)
    assert_type(job.retry(), bool)
    assert_type(job.stream(), Iterator[Any])
    assert_type(job.astream(), AsyncIterator[Any])
    wider: JobResult[object] = job
    print(wider)


def the_app() -> None:
    assert_type(app.get_job("a"), JobResult[Any])
    assert_type(app.jobs(status="dead", task=async_task, limit=5, after="a"), list[JobResult[Any]])
    assert_type(app.stats(task="a"), dict[str, int])
    assert_type(app.retention.preview(), dict[str, int])
    assert_type(app.workers()[0].queues, tuple[str, ...] | None)
    assert_type(app.queues()[0].problem, str | None)
    assert_type(app.schedules()[0].next_at, datetime | None)
    assert_type(app.schedules()[0].status, PublicStatus)
    assert_type(app.schedules()[0].is_stopped, bool)
    app.jobs(status=["failed", "dead"])
    app.jobs(status="sucess")  # type: ignore[arg-type]


def workflows() -> None:
    assert_type(async_task.s(1) | sync_task.s(), chain[JobResult[int]])
    assert_type(group(async_task.s(1), sync_task.s(1)).apply(), list[JobResult[int]])
    assert_type(group(async_task.s(n) for n in range(3)), group[int])
    chord([async_task.s(1)], sync_task.s("a")).apply()
    assert_type(chunks(async_task, [1, 2, 3], 2), group[int])
    assert_type(starmap(async_task, [(1, "a")]), group[int])


async def wrong_calls() -> None:
    for task in (async_task, sync_task, on_router):
        task.delay()  # type: ignore[call-arg]
        task.delay("a")  # type: ignore[arg-type]
        task.delay(1, 2)  # type: ignore[arg-type]
        task.delay(1, z="a")  # type: ignore[call-arg]
        await task.adelay("a")  # type: ignore[arg-type]
        task.apply_async((1,), priorty=1)  # type: ignore[call-arg]
        task.apply_async((1,), priority="high")  # type: ignore[arg-type]
        task.apply_async((1,), unique_scope="app")  # type: ignore[arg-type]
        task.s(1).set(delay="5")  # type: ignore[arg-type]
        wrong: JobResult[str] = task.delay(1)  # type: ignore[assignment]
        other: str = task.delay(1).result()  # type: ignore[assignment]
        print(wrong, other)
    app.enqueue(5)  # type: ignore[call-overload]
    app.jobs(stats="dead")  # type: ignore[call-arg]
    chain(async_task)  # type: ignore[call-overload]

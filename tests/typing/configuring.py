"""What type checkers must accept and refuse of tasks with options, of workflows' ends, and of routers in several apps.
Read by ``test_typing.py``, never run. Each wrong line carries the error that a checker must find there.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type

from jobify import Job, Jobify, JobResult, JobRouter, ScheduleBuilder, chain, chord, chunks, group, starmap
from jobify.canvas import Signature
from jobify.router import ConfiguredTask, Route

app = Jobify()
router = JobRouter()


@app.task
async def number(x: int) -> int:
    return x


@router.task(queue="texts")
def text(x: int, y: str = "") -> str:
    return y


@app.task
def nothing() -> None: ...


urgent = text.configure(queue="images", delay=5, priority=9)


async def configured() -> None:
    for task in (urgent, urgent.configure(delay=timedelta(minutes=1), job_id="mine"), text.configure()):
        assert_type(task.delay(1), JobResult[str])
        assert_type(task.delay(1, y="a"), JobResult[str])
        assert_type(await task.adelay(1, "a"), JobResult[str])
        assert_type(await task.push(1, "a"), Job[str])
        assert_type(await (await task.push(1, "a")), str)
        assert_type(task.schedule(1, "a"), ScheduleBuilder[str])
        assert_type(await task.schedule(1).delay(5), Job[str])
        assert_type(task.map([(1,), (2, "a")]), list[JobResult[str]])
        assert_type(await task.amap([(1,)]), list[JobResult[str]])
        assert_type(task.s(1), Signature[str])
        assert_type(task.si(1, "a"), Signature[str])
        assert_type(task.apply_async((1,), priority=2), JobResult[str])
        assert_type(await task.aapply_async((1,), {"y": "a"}), JobResult[str])
        assert_type(app.enqueue(task, (1,)), JobResult[str])
        assert_type(await app.aenqueue_many(task, [(1,)]), list[JobResult[str]])
    assert_type(nothing.configure(queue="a"), ConfiguredTask[[], None])
    assert_type(nothing.configure(unique_key="k", unique_scope="all").delay().result(), None)


async def wrongly_configured() -> None:
    urgent.delay()  # type: ignore[call-arg]
    urgent.delay("a")  # type: ignore[arg-type]
    urgent.delay(1, 2)  # type: ignore[arg-type]
    urgent.delay(1, z="a")  # type: ignore[call-arg]
    await urgent.adelay("a")  # type: ignore[arg-type]
    await urgent.push("a")  # type: ignore[arg-type]
    await urgent.push(1, "a", 3)  # type: ignore[call-arg]
    urgent.schedule("a")  # type: ignore[arg-type]
    await urgent.schedule(1).delay("5")  # type: ignore[arg-type]
    urgent.si("a")  # type: ignore[arg-type]
    text.si("a")  # type: ignore[arg-type]
    urgent.map([1])  # type: ignore[list-item]
    text.configure(queu="images")  # type: ignore[call-arg]
    text.configure(priority="high")  # type: ignore[arg-type]
    text.configure(unique_scope="app")  # type: ignore[arg-type]
    urgent.configure(delay="5")  # type: ignore[arg-type]
    urgent.apply_async((1,), priorty=5)  # type: ignore[call-arg]
    urgent.apply_async(1)  # type: ignore[arg-type]
    text.apply_async(1)  # type: ignore[arg-type]
    other: JobResult[int] = urgent.delay(1)  # type: ignore[assignment]
    print(other)


async def ends() -> None:
    assert_type((number.s(1) | text.s()).apply(), JobResult[str])
    assert_type((number.s(1) | text.s() | number.s()).apply().result(), int)
    assert_type(await (number.s(1) | text.s()).aapply(), JobResult[str])
    assert_type((number.s(1) | text.s()).delay(), JobResult[str])
    assert_type(chain(number.s(1), text.s()).apply(), JobResult[str])
    assert_type(chain(number.s(1), number.s(), text.s(), number.s(), number.s(), text.s()).apply(), JobResult[str])
    assert_type(chain(text.s(1)).apply(), JobResult[str])
    assert_type(chain([text.s(1), text.s()]).apply(), JobResult[str])
    assert_type(chain(number.s(1), chain(text.s(), number.s())).apply(), JobResult[int])
    assert_type(chain(number.s(1), group(text.s(), text.s())).apply(), list[JobResult[str]])
    assert_type((number.s(1) | group(text.s())).apply()[0].result(), str)
    assert_type(group(number.s(1), number.s(2)).apply(), list[JobResult[int]])
    assert_type(await group(number.s(1), number.s(2)).aapply(), list[JobResult[int]])
    assert_type(group(number.s(n) for n in range(3)).apply(), list[JobResult[int]])
    assert_type(group(number.s(1) | text.s(), chain(number.s(1), text.s())).apply(), list[JobResult[str]])
    assert_type(group(group(number.s(1)), group(number.s(1))).apply(), list[JobResult[int]])
    assert_type(group(number.s(1), group(text.s(1))).apply(), list[JobResult[Any]])
    assert_type(chord([text.s(1)], number.s()).apply(), JobResult[int])
    assert_type(chord(group(text.s(1)), number.s() | text.s()).apply(), JobResult[str])
    assert_type((group(number.s(1)) | text.s()).apply(), JobResult[str])
    assert_type(chunks(number, [1], 2).apply(), list[JobResult[int]])
    assert_type(starmap(urgent, [(1,)]).apply(), list[JobResult[str]])
    assert_type(urgent.s(1).set(priority=5).apply(), JobResult[str])
    wider: chain[JobResult[object]] = number.s(1) | text.s()
    print(wider)


def wrong_ends() -> None:
    first: JobResult[int] = (number.s(1) | text.s()).apply()  # type: ignore[assignment]
    second: list[JobResult[int]] = group(text.s(1)).apply()  # type: ignore[assignment]
    third: JobResult[int] = group(number.s(1)).apply()  # type: ignore[assignment]
    fourth: str = chord([text.s(1)], number.s()).apply().result()  # type: ignore[assignment]
    print(first, second, third, fourth)
    chain(number)  # type: ignore[call-overload]
    group(number.s(1), 5)  # type: ignore[call-overload]
    chord([number.s(1)], text)  # type: ignore[arg-type]
    number.s(1) | text  # type: ignore[operator]
    chunks(5, [1], 2)  # type: ignore[arg-type]


def several_apps() -> None:
    assert_type(app.task_for(nothing), Route[[], None])
    assert_type(app.task_for(text).delay(1, "a"), JobResult[str])
    app.task_for(text).delay("a")  # type: ignore[arg-type]
    app.task_for("text")  # type: ignore[arg-type]

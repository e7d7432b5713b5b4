"""``task.configure(...)``: the same task, with options for each way to enqueue it."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobify import Job, Jobify, JobRouter, JobStatus, SmartRetry, chain, chunks, current_job, group, starmap
from jobify.exceptions import ConfigurationError, DuplicateJobError, UnknownOptionError
from jobify.middleware import BaseOuterMiddleware, CallNextOuter
from jobify.router import ConfiguredTask
from support import durable, eventually, run

pytestmark = pytest.mark.promise("f39")

jobs = Jobify(storage=False)


@jobs.task
def at_top_level(number: int) -> int:
    return number


@pytest.fixture(params=["memory", "sqlite"])
def app(request: Any, tmp_path: Path) -> Iterator[Jobify]:
    app = Jobify(storage=False if request.param == "memory" else durable(tmp_path))
    yield app
    app.close()


def task_of(app: Jobify) -> Any:
    @app.task(name="tell", metadata={"task": "own"})
    async def tell(number: int, word: str = "") -> list[Any]:
        return [number, word, current_job.queue_name, current_job.metadata]

    return tell


EXPECTED = [1, "a", "images", {"task": "own", "mine": 1}]

WAYS: dict[str, Callable[[Any], Any]] = {
    "push": lambda task: task.push(1, "a"),
    "adelay": lambda task: task.adelay(1, word="a"),
    "schedule push": lambda task: task.schedule(1, "a").push(),
    "schedule delay": lambda task: task.schedule(1, "a").delay(0.01),
    "schedule at": lambda task: task.schedule(1, word="a").at(datetime.now(UTC)),
    "schedule replace": lambda task: task.schedule(1, "a").push(job_id="it", replace=True),
    "aapply_async": lambda task: task.aapply_async((1,), {"word": "a"}),
    "amap": lambda task: task.amap([(1, "a")]),
    "s": lambda task: task.s(1, "a").aapply(),
    "si": lambda task: task.si(1, "a").aapply(),
    "starmap": lambda task: starmap(task, [(1, "a")]).aapply(),
}


async def result_of(job: Any) -> Any:
    if isinstance(job, list):
        (job,) = job
    return await job if isinstance(job, Job) else await job.aresult(30)


@pytest.mark.parametrize("way", WAYS)
async def test_the_options_hold_whatever_the_way(app: Jobify, way: str) -> None:
    task = task_of(app)

    async with app:
        configured = task.configure(queue="images", metadata={"mine": 1})
        assert await result_of(await WAYS[way](configured)) == EXPECTED
        assert (await result_of(await WAYS[way](task)))[2:] == ["default", {"task": "own"}]


def test_without_an_app_that_runs(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    task = task_of(app).configure(queue="images", metadata={"mine": 1})
    made = [
        task.delay(1, "a"),
        task.apply_async((1, "a")),
        *task.map([(1, "a")]),
        task.s(1, "a").apply(),
        app.enqueue(task, (1, "a")),
        *app.enqueue_many(task, [(1, "a")]),
        chain(task.si(1, "a")).apply(),
        *group(task.si(1, "a")).apply(),
        *chunks(task, [1], 1).apply(),
    ]
    assert [one.id for one in app.jobs(queue="images", task=task, newest_first=False)] == [one.id for one in made]
    assert all(one.metadata == {"mine": 1} for one in made)
    app.close()


async def test_priority_retry_and_timeout(app: Jobify) -> None:
    ran: list[str] = []

    @app.task(name="fail", retry=5)
    async def fail(name: str) -> None:
        ran.append(name)
        raise ValueError(name)

    @app.task(name="slow")
    async def slow() -> None:
        await asyncio.sleep(60)

    async with app:
        job = await fail.configure(retry=SmartRetry(1, initial_delay=0.01)).push("twice")
        await job.wait()
        assert job.status is JobStatus.FAILED
        assert ran == ["twice", "twice"]
        late = await slow.configure(timeout=0.05).push()
        await late.wait()
        assert late.status is JobStatus.TIMEOUT
        waiting = [await fail.configure(delay=60, priority=number).push("later") for number in (1, 2)]
        assert [app.get_job(one.id).to_dict()["priority"] for one in waiting] == [1, 2]


async def test_a_delay_an_eta_and_an_id(app: Jobify) -> None:
    task = task_of(app)

    async with app:
        before = datetime.now(UTC)
        eta = before + timedelta(hours=2)
        delayed = await task.configure(delay=timedelta(hours=1), job_id="mine").push(1)
        assert delayed.id == "mine"
        assert before + timedelta(minutes=59) < delayed.exec_at < before + timedelta(minutes=61)
        assert abs((await task.configure(eta=eta).push(1)).exec_at - eta) < timedelta(milliseconds=1)
        assert app.find_job("mine") is delayed
        with pytest.raises(DuplicateJobError):
            await task.configure(job_id="mine").push(1)
        with pytest.raises(DuplicateJobError):
            await task.configure(job_id="mine").schedule(1).delay(5)
        assert (await task.configure(job_id="other").schedule(1).delay(0, job_id="first")).id == "first"
        soon = await task.configure(delay=0.01).push(1)
        assert (await soon)[0] == 1


async def test_unique_keys_dependencies_and_expiry(app: Jobify) -> None:
    task = task_of(app)

    async with app:
        unique = task.configure(unique_key="k", delay=60)
        first = await unique.push(1)
        assert await unique.push(2) is first
        assert (await task.configure(unique_key="k").adelay(3)).id == first.id
        await first.cancel()
        gate = await task.configure(delay=60).push(1)
        after = await task.configure(depends_on=iter([gate]), priority=1).push(2)
        assert after.status is JobStatus.SCHEDULED
        await gate.cancel()
        await after.wait()
        assert after.status is JobStatus.CANCELLED
        expiring = await task.configure(delay=60, expires=0.05).push(1)
        await expiring.wait()
        assert expiring.status is JobStatus.CANCELLED
        naive = await task.configure(delay=60, expires=datetime(2000, 1, 1)).push(1)
        await naive.wait()
        assert naive.status is JobStatus.CANCELLED


def test_a_unique_key_holds_under_an_earlier_name(tmp_path: Path) -> None:
    async def push(app: Jobify, task: Any) -> str:
        async with app:
            return (await task.configure(unique_key="k", delay=60).push()).id  # type: ignore[no-any-return]

    async def nothing() -> None: ...

    before, after = Jobify(storage=durable(tmp_path)), Jobify(storage=durable(tmp_path))
    old, new = before.task(nothing, name="old"), after.task(nothing, name="new", aliases=("old",))
    assert run(push(before, old)) == run(push(after, new))


async def test_a_schedule_has_options(app: Jobify) -> None:
    ran: list[Any] = []

    @app.task(name="tick")
    async def tick() -> None:
        ran.append((current_job.queue_name, current_job.metadata))

    async with app:
        task = tick.configure(queue="clock", metadata={"a": 1})
        await task.schedule().cron("* * * * * * *", job_id="every second")
        job = await task.schedule().cron("* * * * * * *", job_id="every second", replace=True)
        await eventually(lambda: ran)
        await job.cancel()
        assert ran[0] == ("clock", {"a": 1})
        once = [{"unique_key": "k"}, {"depends_on": job}, {"expires": 5}]
        for options in once:
            builder = tick.configure(**options).schedule()  # type: ignore[arg-type]
            for refused in (
                builder.cron("* * * * *", job_id="x"),
                builder.delay(5, job_id="x", replace=True),
            ):
                with pytest.raises(ConfigurationError, match=f"The option {next(iter(options))} is for a job"):
                    await refused
        for when in ({"delay": 5}, {"eta": datetime.now(UTC)}):
            with pytest.raises(ConfigurationError, match="says when the job runs"):
                tick.configure(**when).schedule()  # type: ignore[arg-type]


async def test_a_job_of_another_queue_is_left_to_its_workers(tmp_path: Path) -> None:
    from dataclasses import replace

    app = Jobify(storage=durable(tmp_path))
    app.configs.limits = replace(app.configs.limits, queues=("default",))
    task = task_of(app)

    async with app:
        job = await task.configure(queue="images").push(1)
        assert (await (await task.push(2)))[0] == 2
        assert job.status is JobStatus.SCHEDULED
        assert app.get_job(job.id).status == "pending"


class Outer(BaseOuterMiddleware):
    async def __call__(self, call_next: CallNextOuter, context: Any) -> Any:
        context.arguments["word"] = "changed"
        return await call_next(context)


async def test_outer_middleware_sees_it(app: Jobify) -> None:
    app.add_outer_middleware(Outer())
    task = task_of(app)

    async with app:
        configured = task.configure(queue="images", metadata={"mine": 1})
        for made in (configured.push(1), configured.schedule(1).push(job_id="it"), configured.adelay(1)):
            assert await result_of(await made) == [1, "changed", "images", {"task": "own", "mine": 1}]


async def test_a_task_that_stays_in_memory(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="fleeting", durable=False)
    async def fleeting() -> str:
        return current_job.queue_name

    async with app:
        assert await (await fleeting.configure(queue="here").push()) == "here"
        with pytest.raises(ConfigurationError, match="durable=False"):
            await fleeting.configure(queue="here").adelay()
    assert app.jobs() == []


async def test_large_arguments(app: Jobify) -> None:
    @app.task(name="measure")
    async def measure(numbers: list[int]) -> int:
        return len(numbers)

    async with app:
        assert await (await measure.configure(queue="large").push(list(range(50_000)))) == 50_000


def test_unknown_options_are_refused_where_they_are_written() -> None:
    task: Any = at_top_level
    for wrong, meant in (("queu", "queue"), ("priorty", "priority"), ("jobid", "job_id"), ("depend_on", "depends_on")):
        with pytest.raises(UnknownOptionError, match=f"no option '{wrong}'. Did you mean '{meant}'"):
            task.configure(**{wrong: 1})
        with pytest.raises(UnknownOptionError, match=f"Did you mean '{meant}'"):
            task.configure(queue="a").configure(**{wrong: 1})
    for wrong_value in (
        {"priority": "high"},
        {"delay": -1},
        {"unique_scope": "app"},
        {"delay": 1, "eta": datetime.now()},
    ):
        with pytest.raises(ConfigurationError):
            task.configure(**wrong_value)


def test_a_configured_task_is_a_value() -> None:
    urgent = at_top_level.configure(queue="images", priority=9)
    calmer = urgent.configure(priority=1, delay=5)
    assert urgent(3) == 3
    assert (urgent.name, urgent.func) == (at_top_level.name, at_top_level.func)
    assert dict(urgent.options) == {"queue": "images", "priority": 9}
    assert dict(calmer.options) == {"queue": "images", "priority": 1, "delay": 5}
    assert repr(urgent) == "<test_configure:at_top_level.configure(queue='images', priority=9)>"
    assert inspect.iscoroutinefunction(urgent.push)
    again: Any = pickle.loads(pickle.dumps(urgent))
    assert isinstance(again, ConfiguredTask)
    assert again.task is at_top_level
    assert dict(again.options) == dict(urgent.options)


async def test_wrong_arguments_are_refused_where_they_are_awaited() -> None:
    task: Any = at_top_level.configure(queue="a")
    with pytest.raises(TypeError):
        task.delay()
    async with jobs:
        answers = await asyncio.gather(task.push(), task.push(1, 2), task.push(7), return_exceptions=True)
        assert [type(answer) for answer in answers] == [TypeError, TypeError, Job]
        with pytest.raises(ConfigurationError, match="cannot share the job_id"):
            await task.configure(job_id="x").amap([(1,), (2,)])


async def test_of_a_router_in_several_apps() -> None:
    router = JobRouter(prefix="r")

    @router.task(name="tell")
    async def tell() -> str:
        return current_job.queue_name

    configured = tell.configure(queue="q")
    with pytest.raises(RuntimeError, match="not attached"):
        configured.delay()

    for _ in range(3):
        app = Jobify(storage=False)
        app.include_router(router)
        async with app:
            assert await (await configured.push()) == "q"
            assert await (await configured.adelay()).aresult(30) == "q"

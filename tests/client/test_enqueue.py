"""The options of a job that is enqueued, and what is refused where it is written."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from elsewhere import World

from jobify import Job, Jobify, JobResult, JobRouter, SmartRetry
from jobify.exceptions import (
    ConfigurationError,
    DuplicateJobError,
    PayloadError,
    StorageUnavailableError,
    TaskCancelledError,
    UnknownDependencyError,
)
from jobify.middleware import BaseOuterMiddleware, CallNextOuter
from jobify.model.clock import SECOND
from jobify.model.job_options import read_options
from jobify.model.records import JobRecord
from jobify.serializers import JSONSerializer
from jobify.storage import SQLiteStorage
from probes import record_of
from support import durable, run, soon, until


class Tasks:
    """Two tasks of one app."""

    def __init__(self, app: Jobify) -> None:
        @app.task(name="add", queue="math", priority=7)
        def add(x: int, y: int = 1) -> int:
            return x + y

        @app.task(name="say")
        def say(text: str) -> str:
            return text

        self.add, self.say = add, say


@pytest.fixture
def tasks(world: World) -> Tasks:
    return Tasks(world.app)


def row(app: Jobify, job: JobResult[Any]) -> JobRecord:
    """What is stored."""
    return record_of(app, job.id)


# -- options -----------------------------------------------------------------------------------------------------------


def test_durations_are_seconds_or_timedeltas(world: World, tasks: Tasks) -> None:
    hour = timedelta(hours=1)
    before = row(world.app, tasks.add.delay(1)).created_at
    job = row(world.app, tasks.add.apply_async((1,), delay=hour, expires=2 * hour, timeout=hour, result_ttl=hour))
    assert job.due_at - job.created_at == 3600 * SECOND
    assert job.expires_at is not None
    assert job.created_at + 7200 * SECOND >= job.expires_at > before + 7200 * SECOND
    options = read_options(job.options)
    assert (options.timeout, options.result_ttl) == (3600.0, 3600.0)
    for option in ("timeout", "expires"):
        with pytest.raises(ConfigurationError, match="must be more than 0"):
            tasks.add.apply_async((1,), **{option: timedelta(0)})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="priority of the job"):
        tasks.add.apply_async((1,), priority=hour)  # type: ignore[arg-type]


def test_queue_and_priority_are_the_tasks_unless_given(world: World, tasks: Tasks) -> None:
    plain = row(world.app, tasks.add.delay(1))
    stored = row(world.app, tasks.add.apply_async((1,), queue="quick", priority=0))
    bare = row(world.app, tasks.say.delay("a"))
    assert (plain.queue, plain.priority) == ("math", 7)
    assert (stored.queue, stored.priority) == ("quick", 0)
    assert (bare.queue, bare.priority) == ("default", 0)


def test_a_delay_is_seconds_from_now(world: World, tasks: Tasks) -> None:
    record = row(world.app, tasks.add.apply_async((1,), delay=3600))
    assert record.due_at == record.created_at + 3_600_000_000
    assert not record.ready


def test_an_eta_without_a_zone_is_read_in_the_apps(world: World, tasks: Tasks) -> None:
    job = tasks.add.apply_async((1,), eta=datetime(2100, 1, 1))
    assert job.eta == datetime(2100, 1, 1, tzinfo=UTC)


def test_what_the_engine_is_to_know_stands_in_the_row(world: World, tasks: Tasks) -> None:
    job = tasks.add.apply_async(
        (1,), retry=SmartRetry(2, exclude_exceptions=(KeyError,)), timeout=5, result_ttl=60, metadata={"a": 1}
    )
    options = read_options(row(world.app, job).options)
    assert options.policy() == SmartRetry(2, exclude_exceptions=(KeyError,))
    assert (options.timeout, options.result_ttl, options.metadata) == (5.0, 60.0, {"a": 1})
    assert read_options(row(world.app, tasks.add.apply_async((1,), retry=3)).options).policy() == SmartRetry(3)
    assert row(world.app, tasks.add.delay(1)).options is None


def test_one_that_waited_too_long_is_cancelled_as_expired(world: World, tasks: Tasks) -> None:
    late = tasks.add.apply_async((1,), expires=0.001, delay=3600)
    past = tasks.add.apply_async((1,), expires=datetime(2020, 1, 1))
    with world.running(Tasks):
        for job in (late, past):
            job.wait(20)
            assert (job.status, job.reason, job.error) == ("cancelled", "expired", None)


def test_a_chosen_id_must_be_free(world: World, tasks: Tasks) -> None:
    job = tasks.add.apply_async((1,), job_id="mine")
    with pytest.raises(DuplicateJobError, match="mine"):
        tasks.add.apply_async((2,), job_id="mine")
    assert job.cancel()
    assert tasks.add.apply_async((2,), job_id="mine", delay=60).status == "pending"


def test_metadata_is_seen_where_the_job_runs(world: World) -> None:
    seen: list[Any] = []

    def declare(app: Jobify) -> None:
        async def note(call_next: Any, context: Any) -> Any:
            seen.append(context.route_options["metadata"])
            return await call_next(context)

        app.add_middleware(note)  # type: ignore[arg-type]
        app.task(lambda: None, name="noted", metadata={"a": 1, "b": 1})

    with world.running(declare):
        world.app.enqueue("noted", metadata={"b": 2}).wait(20)
    assert seen == [{"a": 1, "b": 2}]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"priorty": 1}, "Did you mean 'priority'"),
        ({"priority": "high"}, "priority of the job"),
        ({"priority": True}, "priority of the job"),
        ({"priority": 2**70}, "priority of the job"),
        ({"delay": -1}, "delay of the job"),
        ({"delay": 1e15}, "no calendar reaches"),
        ({"delay": 1, "eta": datetime(2100, 1, 1)}, "Leave one of them out"),
        ({"eta": 5}, "use delay="),
        ({"queue": ""}, "queue of the job"),
        ({"retry": -1}, "retry"),
        ({"retry": SmartRetry(1, include_exceptions=(type("Local", (Exception,), {}),))}, "another process"),
        ({"timeout": 0}, "timeout of the job"),
        ({"unique_key": ""}, "unique_key of the job"),
        ({"unique_key": "a", "unique_scope": "app"}, "'task' or 'all'"),
        ({"metadata": [1]}, "must be a dict"),
        ({"metadata": {"a": object()}}, "metadata of a job cannot be stored"),
        ({"depends_on": 5}, "depends_on"),
        ({"depends_on": [5]}, "depends_on"),
        ({"expires": 0}, "expires of the job"),
        ({"expires": 1e15}, "no calendar reaches"),
        ({"result_ttl": "a day"}, "result_ttl of the job"),
        ({"job_id": 5}, "job_id"),
    ],
)
def test_an_option_that_cannot_be_is_refused_where_it_is_written(
    world: World, tasks: Tasks, options: dict[str, Any], words: str
) -> None:
    for call in (
        lambda: tasks.add.apply_async((1,), **options),
        lambda: world.app.enqueue("add", (1,), **options),
        lambda: world.app.enqueue_many("add", [(1,)], **options),
        lambda: tasks.add.s(1).set(**options),
        lambda: run(tasks.add.aapply_async((1,), **options)),
    ):
        with pytest.raises(ConfigurationError, match=words):
            call()
    assert world.app.stats()["pending"] == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda tasks: tasks.add.delay(),
        lambda tasks: tasks.add.delay(1, 2, 3),
        lambda tasks: tasks.add.delay(1, z=2),
        lambda tasks: tasks.add.apply_async(),
        lambda tasks: tasks.add.map([(1,), ()]),
        lambda tasks: tasks.add.s().apply(),
        lambda tasks: run(tasks.add.adelay()),
        lambda tasks: run(tasks.add.amap([()])),
    ],
)
def test_arguments_that_do_not_fit_are_refused(world: World, tasks: Tasks, call: Callable[[Tasks], object]) -> None:
    with pytest.raises(TypeError, match=r"add\(\)"):
        call(tasks)
    assert world.app.stats()["pending"] == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda app: app.enqueue("add", "text"),
        lambda app: app.enqueue("add", 5),
        lambda app: app.enqueue("add", (), [("x", 1)]),
        lambda app: app.enqueue("add", (), {1: 2}),
        lambda app: app.enqueue(5),
        lambda app: app.enqueue(""),
        lambda app: app.enqueue_many(5),
        lambda app: app.enqueue_many([5]),
        lambda app: app.enqueue_many("add", [(1,)], [{}, {}]),
        lambda app: app.enqueue_many("add", [(1,), (2,)], job_id="one"),
        lambda app: app.enqueue_many([], [(1,)]),
        lambda app: app.enqueue_many("add", 5),
        lambda app: app.enqueue("half \ud800"),
        lambda app: Tasks(app).add.map(["12"]),
        lambda app: Tasks(app).add.map([1, 2]),
        lambda app: Tasks(app).add.map(5),
        lambda app: Tasks(app).add.map([(1,), (2,)], job_id="one"),
    ],
)
def test_what_is_no_call_is_refused(world: World, call: Callable[[Jobify], object]) -> None:
    with pytest.raises(ConfigurationError):
        call(world.app)
    assert world.app.stats()["pending"] == 0


def test_texts_may_be_members_of_an_enum(world: World, tasks: Tasks) -> None:
    class Word(StrEnum):
        SAY = "say"

    job = world.app.enqueue(Word.SAY, ("a",), job_id=Word.SAY, queue=Word.SAY, unique_key=Word.SAY)
    assert (repr(job.id), job.task_name, job.queue_name) == ("'say'", "say", "say")
    assert world.app.jobs(queue=Word.SAY, task=Word.SAY) == [world.app.get_job(Word.SAY)] == [job]


def test_none_stands_for_no_arguments(world: World, tasks: Tasks) -> None:
    jobs = [tasks.say.apply_async(None, {"text": "a"}), world.app.enqueue("say", None, {"text": "b"})]
    with world.running(Tasks):
        assert [job.result() for job in jobs] == ["a", "b"]


def test_a_task_of_a_router_without_an_app_says_so() -> None:
    task = JobRouter(prefix="lonely").task(lambda: None, name="a")
    for call in (task.delay, task.apply_async, task.s, lambda: Jobify(storage=False).enqueue(task)):
        with pytest.raises(RuntimeError, match="include_router"):
            call()


@pytest.mark.parametrize(
    "call",
    [
        lambda tasks, app: tasks.add.apply_async((1,), dellay=5),
        lambda tasks, app: tasks.add.map([(1,)], dellay=5),
        lambda tasks, app: run(tasks.add.amap([(1,)], dellay=5)),
        lambda tasks, app: app.enqueue("add", (1,), dellay=5),
        lambda tasks, app: app.enqueue_many("add", [(1,)], dellay=5),
        lambda tasks, app: tasks.add.s(1).set(dellay=5),
    ],
)
@pytest.mark.parametrize("kind", [TypeError, ValueError, ConfigurationError])
def test_an_unknown_option_is_an_unexpected_argument_and_a_wrong_value(
    world: World, tasks: Tasks, call: Callable[[Tasks, Jobify], object], kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=r"no option 'dellay'. Did you mean 'delay'\?"):
        call(tasks, world.app)
    assert world.app.stats()["pending"] == 0


@pytest.mark.parametrize(
    "metadata", [{1: 2}, {"a": (1, 2)}, {"a": datetime(2030, 1, 1, tzinfo=UTC)}, {"a": b"x"}, {"a": float("nan")}]
)
def test_metadata_that_json_would_change_is_refused(world: World, tasks: Tasks, metadata: Any) -> None:
    with pytest.raises(ConfigurationError, match="JSON would change"):
        tasks.add.apply_async((1,), metadata=metadata)
    assert world.app.stats()["pending"] == 0


def test_an_id_in_use_is_refused_with_what_can_be_done(tasks: Tasks) -> None:
    tasks.add.apply_async((1,), job_id="mine", delay=3600)
    with pytest.raises(DuplicateJobError, match=r"Choose another job_id, or .*app.get_job\(job_id\)") as caught:
        tasks.add.apply_async((1,), job_id="mine")
    assert "replace" not in str(caught.value)


# -- many --------------------------------------------------------------------------------------------------------------


def test_many_are_stored_in_one_transaction(world: World, tasks: Tasks) -> None:
    jobs = tasks.add.map([(n,) for n in range(3)])
    jobs += world.app.enqueue_many(tasks.add, [(n,) for n in range(3)])
    jobs += world.app.enqueue_many("add", [(n,) for n in range(3)], [{"y": 1}] * 3, priority=2)
    jobs += world.app.enqueue_many("say", kwargs_list=[{"text": "a"}])
    jobs += world.app.enqueue_many([tasks.add.s(1).set(priority=3), tasks.say.s("b")])
    assert len({job.id for job in jobs}) == 12
    with world.running(Tasks):
        assert [job.result() for job in jobs] == [1, 2, 3, 1, 2, 3, 1, 2, 3, "a", 2, "b"]
    assert tasks.add.map([]) == world.app.enqueue_many("add") == []


def test_many_of_one_task_share_their_options(world: World, tasks: Tasks) -> None:
    parent = tasks.say.apply_async(("a",), delay=3600)
    jobs = tasks.add.map([(1,), (2,)], queue="quick", depends_on=parent)
    jobs += run(tasks.add.amap([(3,), (4,)], queue="quick", depends_on=parent))
    assert {job.queue_name for job in jobs} == {"quick"}
    assert parent.dependents == [job.id for job in jobs]
    first, second = tasks.add.map([(5,), (6,)], unique_key="only")
    assert (first == second, first.created, second.created) == (True, True, False)


def test_if_one_of_many_cannot_be_none_is_stored(world: World, tasks: Tasks) -> None:
    if world.kind != "memory":
        with pytest.raises(PayloadError, match="Nothing was stored"):
            world.app.enqueue_many("say", [("a",), (object(),)])
    with pytest.raises(UnknownDependencyError):
        world.app.enqueue_many([tasks.say.s("a"), tasks.say.s("b").set(depends_on="gone")])
    tasks.say.apply_async(("a",), job_id="mine")
    with pytest.raises(DuplicateJobError):
        world.app.enqueue_many([tasks.say.s("a"), tasks.say.s("b").set(job_id="mine")])
    assert world.app.stats()["pending"] == 1


async def test_async_twins_do_the_same(world: World, tasks: Tasks) -> None:
    with world.running(Tasks):
        jobs = [await tasks.add.adelay(1), await tasks.add.aapply_async((1,), priority=2)]
        jobs += await tasks.add.amap([(1,)])
        jobs += [await world.app.aenqueue("add", (1,))]
        jobs += await world.app.aenqueue_many("add", [(1,)])
        jobs += await world.app.aenqueue_many([tasks.add.s(1)])
        jobs += [await tasks.add.s(1).aapply(), await tasks.add.s().adelay(1), await tasks.add.s(1).aapply_async()]
        assert await soon(asyncio.gather(*[job.aresult() for job in jobs])) == [2] * len(jobs)


async def test_async_calls_share_a_commit(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Counting(SQLiteStorage):
        def insert(self, jobs: Any) -> list[bool]:
            sizes.append(len(jobs))
            return super().insert(jobs)

    app = Jobify(storage=Counting(tmp_path / "jobs.db", synchronous="normal"))
    tasks = Tasks(app)

    await asyncio.gather(*[tasks.add.adelay(n) for n in range(500)])
    app.close()
    assert sum(sizes) == 500
    assert max(sizes) > 1


async def test_one_bad_call_does_not_spoil_those_that_share_its_commit(world: World, tasks: Tasks) -> None:
    ids = iter(["a", "b", "a", "c"])
    app = Jobify(storage=world.storage(), uuid_generator=lambda: next(ids))
    task = Tasks(app).add

    answers = await asyncio.gather(*[task.adelay(n) for n in range(4)], return_exceptions=True)
    app.close()
    assert [isinstance(answer, DuplicateJobError) for answer in answers] == [False, False, True, False]


# -- by name -----------------------------------------------------------------------------------------------------------


def test_a_process_that_never_imported_a_task_enqueues_it_by_name(world: World) -> None:
    with world.running(Tasks):
        assert world.app.enqueue("add", (1,), {"y": 5}).result() == 6


@dataclass
class Point:
    """Something with a type."""

    x: int


async def test_types_are_known_where_they_are_needed(tmp_path: Path) -> None:
    def declare(app: Jobify) -> Any:
        @app.task(name="move")
        def move(point: Point, by: int) -> Point:
            return Point(point.x + by)

        return move

    here = Jobify(storage=durable(tmp_path), serializer=JSONSerializer())
    move = declare(here)
    job = move.delay(Point(1), 2)
    fed = (move.s(Point(1), 2) | move.s(5)).apply()

    app = Jobify(storage=durable(tmp_path), serializer=JSONSerializer())
    declare(app)
    async with app:
        assert await soon(job.aresult()) == Point(3)
        assert await soon(fed.aresult()) == Point(8)
    here.close()


# -- unique keys -------------------------------------------------------------------------------------------------------


@pytest.mark.promise("t12")
def test_a_unique_key_is_the_tasks_own(world: World, tasks: Tasks) -> None:
    first = tasks.add.apply_async((1,), unique_key="k")
    again = tasks.add.apply_async((2,), unique_key="k")
    other = tasks.say.apply_async(("a",), unique_key="k")
    assert (first.created, again.created, other.created) == (True, False, True)
    assert again.id == first.id != other.id


def test_a_unique_key_may_be_everybodys(world: World, tasks: Tasks) -> None:
    first = tasks.add.apply_async((1,), unique_key="k", unique_scope="all")
    other = tasks.say.apply_async(("a",), unique_key="k", unique_scope="all")
    own = tasks.say.apply_async(("a",), unique_key="k")
    assert (other.id, other.created) == (first.id, False)
    assert own.created


def test_a_unique_key_is_free_when_its_job_has_ended(world: World, tasks: Tasks) -> None:
    first = tasks.add.apply_async((1,), unique_key="k")
    assert first.cancel()
    assert tasks.add.apply_async((1,), unique_key="k").created


def test_of_many_with_one_key_the_first_is_stored(world: World, tasks: Tasks) -> None:
    jobs = world.app.enqueue_many("add", [(1,), (2,)], unique_key="k")
    assert [job.created for job in jobs] == [True, False]
    assert len({job.id for job in jobs}) == 1


def test_many_threads_with_one_key_make_one_job(world: World, tasks: Tasks) -> None:
    jobs: list[JobResult[int]] = []
    barrier = threading.Barrier(8)

    def enqueue() -> None:
        app = Jobify(storage=world.storage())
        barrier.wait(20)
        jobs.extend(app.enqueue("add", (1,), unique_key="k") for _ in range(10))
        app.close()

    threads = [threading.Thread(target=enqueue) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(jobs) == 80
    assert len({job.id for job in jobs}) == 1
    assert sum(job.created for job in jobs) == 1


# -- dependencies ------------------------------------------------------------------------------------------------------


def test_it_waits_for_what_it_depends_on(world: World, tasks: Tasks) -> None:
    parent = tasks.add.apply_async((1,), delay=3600)
    child = tasks.add.apply_async((2,), depends_on=parent)
    with world.running(Tasks):
        other = tasks.add.delay(5)
        assert other.result() == 6
        assert child.status == "pending"


def test_it_begins_when_all_of_them_are_complete(world: World, tasks: Tasks) -> None:
    parents = tasks.add.map([(1,), (2,)])
    child = tasks.add.apply_async((3,), depends_on=[*parents, parents[0].id])
    with world.running(Tasks):
        assert child.result() == 4
    assert [parent.status for parent in parents] == ["complete"] * 2


def test_an_unknown_dependency_is_refused(world: World, tasks: Tasks) -> None:
    with pytest.raises(UnknownDependencyError, match="no such job"):
        tasks.add.apply_async((1,), depends_on="gone")
    assert world.app.stats()["pending"] == 0


@pytest.mark.promise("f15")
async def test_a_schedule_is_no_dependency(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="declared", cron="0 0 1 1 *")
    async def declared() -> None: ...

    @app.task(name="add")
    async def add(a: int) -> int:
        return a

    async with app:
        schedule = await add.schedule(1).cron("0 0 1 1 *", job_id="yearly")
        for ids in ("yearly", ["yearly"], [(await add.adelay(1)).id, schedule.id], app.schedules()[0].id):
            with pytest.raises(UnknownDependencyError, match="which is a schedule"):
                add.apply_async((1,), depends_on=ids)
            with pytest.raises(UnknownDependencyError, match="which is a schedule"):
                await add.aapply_async((1,), depends_on=ids)


@pytest.mark.promise("f15")
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_job_that_others_wait_for_becomes_no_schedule(tmp_path: Path, kind: str) -> None:
    app = Jobify(storage=False if kind == "memory" else durable(tmp_path))

    @app.task(name="add")
    async def add(a: int) -> int:
        return a

    async with app:
        first = await add.configure(delay=3600, job_id="first").adelay(1)
        child = await add.configure(depends_on=first).adelay(2)
        with pytest.raises(UnknownDependencyError, match="would become a schedule") as caught:
            await add.schedule(1).cron("0 0 1 1 *", job_id="first", replace=True)
        assert (caught.value.job_id, caught.value.parent_id) == (child.id, "first")
        assert first.cron_expression is None
        await add.schedule(1).delay(7200, job_id="first", replace=True)  # which has an end
        child.cancel()
        await add.schedule(1).cron("0 0 1 1 *", job_id="first", replace=True)
        assert first.cron_expression == "0 0 1 1 *"


async def test_it_may_depend_on_a_job_that_was_pushed(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    tasks = Tasks(app)
    async with app:
        pushed: Job[int] = await tasks.add.push(1)
        child = await tasks.add.aapply_async((2,), depends_on=pushed)
        assert await soon(child.aresult()) == 3
    app.close()


# -- outer middleware --------------------------------------------------------------------------------------------------


class Louder(BaseOuterMiddleware):
    """Changes arguments, stops some, notes when."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def __call__(self, call_next: CallNextOuter, context: Any) -> Any:
        await asyncio.sleep(0)
        self.seen.append(dict(context.arguments))
        if context.arguments["text"] == "stop":
            return None
        context.arguments["text"] += "!"
        return await call_next(context)


@pytest.fixture
def louder(world: World, tasks: Tasks) -> Louder:
    layer = Louder()
    world.app.add_outer_middleware(layer)
    return layer


def test_outer_middleware_runs_around_each_job(world: World, tasks: Tasks, louder: Louder) -> None:
    async def main() -> list[JobResult[str]]:
        jobs = [tasks.say.delay("from inside a loop"), await tasks.say.adelay("b")]
        return [*jobs, *await tasks.say.amap([("c",)]), await tasks.say.s("d").aapply()]

    jobs = [tasks.say.delay("a"), *tasks.say.map([("x",), ("y",)]), *run(main())]
    with world.running(Tasks):
        said = [job.result() for job in jobs]
    assert said == ["a!", "x!", "y!", "from inside a loop!", "b!", "c!", "d!"]
    assert len(louder.seen) == len(said)


def test_a_job_that_outer_middleware_stops_is_not_stored(world: World, tasks: Tasks, louder: Louder) -> None:
    stopped = tasks.say.delay("stop")
    first, second = tasks.say.map([("stop",), ("a",)])
    assert (stopped.created, first.created, second.created) == (False, False, True)
    assert world.app.stats()["pending"] == 1
    with pytest.raises(LookupError):
        _ = stopped.status


def test_outer_middleware_sees_a_place_for_what_is_to_come(world: World, tasks: Tasks, louder: Louder) -> None:
    def kept(app: Jobify) -> None:
        Tasks(app)

    class Looks(BaseOuterMiddleware):
        async def __call__(self, call_next: CallNextOuter, context: Any) -> Any:
            seen.append(repr(context.arguments))
            return await call_next(context)

    seen: list[str] = []
    app = Jobify(storage=world.storage(), outer_middleware=[Looks()])
    add = Tasks(app).add
    job = (add.s(1) | add.s(5)).apply()
    with world.running(kept):
        assert job.result() == 7
    app.close()
    assert seen == ["{'x': 1}", "{'x': <the result of the job before>, 'y': 5}"]


async def test_an_error_of_outer_middleware_reaches_the_caller(world: World, tasks: Tasks) -> None:
    class Refuses(BaseOuterMiddleware):
        async def __call__(self, call_next: CallNextOuter, context: Any) -> Any:
            raise PermissionError("not you")

    world.app.add_outer_middleware(Refuses())

    with pytest.raises(PermissionError):
        tasks.say.delay("a")
    with pytest.raises(PermissionError):
        tasks.say.delay("a")
    with pytest.raises(PermissionError):
        await tasks.say.adelay("a")
    assert world.app.stats()["pending"] == 0


# -- what cannot be ----------------------------------------------------------------------------------------------------


def test_a_task_that_forgets_its_jobs_is_not_for_others(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    task = app.task(lambda: None, name="forgetful", durable=False)
    with pytest.raises(ConfigurationError, match="durable=False"):
        task.delay()
    with pytest.raises(ConfigurationError, match="durable=False"):
        run(task.adelay())


def test_arguments_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    tasks = Tasks(app)
    with pytest.raises(PayloadError, match="Nothing was stored"):
        tasks.say.delay(object())  # type: ignore[arg-type]
    assert app.stats()["pending"] == 0
    app.close()


@pytest.mark.usefixtures("sqlite_file")
def test_a_locked_file_is_the_callers_error(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path, timeout=0.05))
    tasks = Tasks(app)
    tasks.say.delay("a")
    other = durable(tmp_path)
    other.open()
    with other.transaction():
        other.insert([])
        for call in (
            lambda: tasks.say.delay("b"),
            lambda: tasks.say.map([("b",)]),
            lambda: tasks.say.apply_async(("b",), priority=2),
            lambda: run(tasks.say.adelay("b")),
            lambda: run(tasks.say.aapply_async(("b",), priority=2)),
        ):
            with pytest.raises(StorageUnavailableError):
                call()
    assert app.stats()["pending"] == 1
    assert tasks.say.delay("b").status == "pending"
    other.close()
    app.close()


def test_a_job_that_is_due_later_is_picked_up_when_it_is(world: World, tasks: Tasks) -> None:
    with world.running(Tasks):
        job = tasks.add.apply_async((1,), eta=datetime.now(UTC) + timedelta(milliseconds=20))
        assert job.result() == 2


def test_one_that_was_cancelled_does_not_run(world: World, tasks: Tasks) -> None:
    job = tasks.add.delay(1)
    assert job.cancel()
    with world.running(Tasks):
        assert tasks.add.delay(2).result() == 3
        with pytest.raises(TaskCancelledError):
            job.result()
    until(lambda: job.status == "cancelled")

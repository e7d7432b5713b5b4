"""Tasks that were renamed: what is stored under an earlier name is theirs. Story F34."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobify import Cron, Jobify, JobRouter, RunMode
from jobify.exceptions import ConfigurationError, RouteAlreadyRegisteredError
from jobify.router.router import aliases_below
from jobify.testing.clock import FakeClock
from probes import connection_of
from support import durable, eventually, nudge, opened

pytestmark = pytest.mark.promise("f34")

DAWN = datetime(2030, 6, 1, 0, 0, tzinfo=UTC)
SUFFIX = "__jobify_cron_definition"


def release(directory: Path, name: str, runs: list[Any], **options: Any) -> tuple[Jobify, Any]:
    """An app with one task, under the name that it has in this release."""
    clock = options.pop("clock", None)
    app = Jobify(storage=durable(directory), clock=clock)

    @app.task(name=name, **options)
    async def work(value: int = 0) -> int:
        runs.append((name, value))
        return value

    return app, work


async def test_jobs_and_schedules_of_an_earlier_name_run(tmp_path: Path) -> None:
    runs: list[Any] = []
    old_app, old = release(tmp_path, "mail.send", runs)
    waiting = old.delay(1)
    later = old.apply_async((2,), delay=0.05)
    old_app.close()

    async with release(tmp_path, "mail.send", runs)[0]:
        pass  # the storage is there
    app, new = release(tmp_path, "mail.deliver", runs, aliases=("mail.send", "mail.post"))
    async with app:
        assert await app.get_job(waiting.id).aresult() == 1
        assert await app.get_job(later.id).aresult() == 2
        job = await new.push(3)
        await job.wait()
        named = await app.aenqueue("mail.send", (4,))
        assert await named.aresult() == 4
        assert named.task_name == "mail.deliver"
        assert app.stats(task=new)["complete"] == app.stats(task="mail.send")["complete"] == 4
        assert {found.id for found in app.jobs(task="mail.deliver")} >= {waiting.id, later.id, named.id}
        assert app.unserved() == []
        assert set(app.workers()[0].tasks) == {"mail.deliver", "mail.send", "mail.post"}
    assert {value for _, value in runs} == {1, 2, 3, 4}
    assert [name for name, _ in runs][-2:] == ["mail.deliver", "mail.deliver"]


@pytest.mark.slow
async def test_a_stored_schedule_and_its_handle_go_on(tmp_path: Path) -> None:
    runs: list[Any] = []

    app, old = release(tmp_path, "old", runs)
    async with app:
        await old.schedule(7).cron("* * * * * * *", job_id="every second")
        await eventually(lambda: len(runs) > 0)
    app, new = release(tmp_path, "new", runs, aliases=["old"])
    async with app:
        assert app.find_job("every second") is not None
        assert [job.id for job in app.get_active_jobs()] == ["every second"]
        await eventually(lambda: ("new", 7) in runs)
        await new.schedule(8).cron("* * * * * * *", job_id="every second", replace=True)
        await eventually(lambda: ("new", 8) in runs)
        assert [(one.id, one.task_name) for one in app.schedules()] == [("every second", "new")]


@pytest.mark.parametrize("mode", [RunMode.THREAD, RunMode.PROCESS])
async def test_in_threads_and_processes(tmp_path: Path, mode: RunMode) -> None:
    stored = Jobify(storage=durable(tmp_path)).task(add, name="plus").delay(1, 2)

    app = Jobify(storage=durable(tmp_path))
    app.task(add, name="add", run_mode=mode, aliases=("plus",))
    async with app:
        assert await app.get_job(stored.id).aresult() == 3


def add(one: int, other: int) -> int:
    return one + other


def test_a_unique_key_holds_across_names(tmp_path: Path) -> None:
    _, old = release(tmp_path, "old", [])
    first = old.apply_async((1,), unique_key="k", delay=1000)
    _, new = release(tmp_path, "new", [], aliases=("old",))
    again = new.apply_async((1,), unique_key="k", delay=1000)
    assert (again.id, again.created) == (first.id, False)
    other = new.apply_async((1,), unique_key="other", delay=1000)
    assert other.created


# -- declared crons ----------------------------------------------------------------------------------------------------


async def test_a_declared_cron_goes_on_under_the_new_name(tmp_path: Path) -> None:
    clock, runs = FakeClock(DAWN), list[Any]()
    rule = Cron("0 * * * *", max_runs=5)

    app, _ = release(tmp_path, "old", runs, cron=rule, clock=clock)
    async with app:
        clock.advance(3600)
        await eventually(lambda: app.schedules()[0].run_count == 1)
        history = len(connection_of(app).reader().attempts("old" + SUFFIX))
        app.pause_schedule("old" + SUFFIX)
    clock.advance(1800)
    app, _ = release(tmp_path, "new", runs, cron=rule, clock=clock, aliases=("old",))
    async with app:
        (schedule,) = app.schedules()
        assert (schedule.id, schedule.task_name) == ("new" + SUFFIX, "new")
        assert (schedule.run_count, schedule.is_paused) == (1, True)
        assert schedule.next_at == datetime(2030, 6, 1, 2, 0, tzinfo=UTC)
        assert len(connection_of(app).reader().attempts("new" + SUFFIX)) == history > 0
        app.resume_schedule(schedule.id)
        clock.advance(1800)
        await eventually(lambda: runs[1:] == [("new", 0)])
    async with release(tmp_path, "new", runs, cron=rule, clock=clock, aliases=("old",))[0] as app:
        assert [one.run_count for one in app.schedules()] == [2]


async def test_a_cron_that_is_used_up_stays_so(tmp_path: Path) -> None:
    clock, runs = FakeClock(DAWN), list[Any]()
    rule = Cron("0 * * * *", max_runs=1)

    async with release(tmp_path, "old", runs, cron=rule, clock=clock)[0] as app:
        clock.advance(3600)
        await eventually(lambda: app.schedules()[0].status == "complete")
    async with release(tmp_path, "new", runs, cron=rule, clock=clock, aliases=("old",))[0] as app:
        clock.advance(7200)
        await eventually(lambda: [one.status for one in app.schedules()] == ["complete"])
    assert runs == [("old", 0)]


async def test_a_cron_that_is_no_longer_declared_ends_under_each_name(tmp_path: Path) -> None:
    async with release(tmp_path, "old", [], cron="0 * * * *")[0]:
        pass
    async with release(tmp_path, "new", [], aliases=("old",))[0] as app:
        assert app.schedules() == []


@pytest.mark.slow
async def test_an_old_worker_beside_a_new_one_runs_no_second_cron(tmp_path: Path) -> None:
    """The old one runs the cron when the new one starts, and declares it once more when it is started again."""
    runs: list[Any] = []

    old_app = Jobify(storage=durable(tmp_path))
    begun, may_end = asyncio.Event(), asyncio.Event()

    @old_app.task(name="old", cron="* * * * * * *")
    async def old() -> None:
        begun.set()
        await may_end.wait()

    new_app, _ = release(tmp_path, "new", runs, cron="* * * * * * *", aliases=("old",))
    async with old_app:
        await begun.wait()
        async with new_app:
            assert {one.id for one in new_app.schedules()} == {"old" + SUFFIX, "new" + SUFFIX}
            may_end.set()
            await eventually(lambda: [one.id for one in new_app.schedules()] == ["new" + SUFFIX])
            async with release(tmp_path, "old", [], cron="0 0 1 1 *")[0]:
                await eventually(lambda: [one.id for one in new_app.schedules()] == ["new" + SUFFIX])


async def test_a_cron_of_the_old_name_that_comes_due_is_not_run(tmp_path: Path) -> None:
    """It is due before the new worker has looked for it."""
    runs: list[Any] = []

    async with release(tmp_path, "new", runs, cron="0 0 1 1 *", aliases=("old",))[0] as app:
        async with release(tmp_path, "old", [], cron="0 0 1 1 *")[0]:
            pass
        with opened(durable(tmp_path)) as storage:
            storage.reschedule("old" + SUFFIX, due_at=0, now=app.now())
        nudge(app)
        await eventually(lambda: {one.id for one in app.schedules() if one.next_at is not None} == {"new" + SUFFIX})
    assert runs == []


# -- names -------------------------------------------------------------------------------------------------------------


async def nothing() -> None:
    pass


async def test_aliases_in_routers(tmp_path: Path) -> None:
    """With the prefixes of the router, and as it stands for a task that was moved into the router."""
    outer, inner = JobRouter(prefix="shop"), JobRouter(prefix="mail")
    inner.task(nothing, name="deliver", aliases=("send", "post:letter"))
    outer.include_router(inner)
    app = Jobify(storage=durable(tmp_path))
    app.include_router(outer)
    tasks = ("shop.mail:send", "send", "post:letter", "shop.mail:deliver")
    stored = [app.enqueue(task) for task in tasks]
    by_name = Jobify(storage=durable(tmp_path))
    stored += [by_name.enqueue(task) for task in tasks]

    async with app:
        await asyncio.gather(*(app.get_job(job.id).aresult() for job in stored))


def test_the_bare_name_is_left_to_the_task_that_has_it(tmp_path: Path) -> None:
    app, router = Jobify(storage=durable(tmp_path)), JobRouter(prefix="mail")
    app.task(nothing, name="send")
    router.task(nothing, name="deliver", aliases=("send",))
    app.include_router(router)
    assert aliases_below(app) == {"mail:send": "mail:deliver"}


@pytest.mark.parametrize("aliases", ["old", ("",), (" ",), (3,), 3, {"old"}])
def test_what_is_no_list_of_names_is_refused(aliases: Any) -> None:
    with pytest.raises(ConfigurationError, match="alias"):
        Jobify(storage=False).task(nothing, name="new", aliases=aliases)


def test_an_alias_of_another_task_is_refused() -> None:
    app = Jobify(storage=False)
    app.task(nothing, name="first", aliases=("old", "old", "first"))
    for options in ({"name": "second", "aliases": ("old",)}, {"name": "old"}, {"name": "third", "aliases": ("first",)}):
        with pytest.raises(RouteAlreadyRegisteredError, match="alias"):
            app.task(nothing, **options)
    assert [route.name for route in app.routes] == ["first"]
    app.task(nothing, name="second", aliases=("older",))


def test_an_alias_in_a_router_is_refused_when_it_is_included() -> None:
    app, router = Jobify(storage=False), JobRouter(prefix="mail")
    app.task(nothing, name="mail:send")
    router.task(nothing, name="deliver", aliases=("send",))
    with pytest.raises(RouteAlreadyRegisteredError, match="mail:send"):
        app.include_router(router)
    assert [route.name for route in app.routes] == ["mail:send"]

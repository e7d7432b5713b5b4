"""Workflows that were written down, and what becomes of them when something goes wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from elsewhere import World

from jobify import Jobify, chain, chord, chunks, group, starmap
from jobify.exceptions import TaskCancelledError
from jobify.testing.clock import FakeClock
from support import durable, eventually, execute, run, until

pytestmark = pytest.mark.both_storages

DATA = Path(__file__).parents[1] / "data"


class Shop:
    """Tasks that can be made to fail and to wait."""

    def __init__(self) -> None:
        self.is_down = True
        self.is_held = True
        self.mailed: list[Any] = []

    def declare(self, app: Jobify) -> None:
        """Give the tasks to an app."""

        @app.task(name="load")
        async def load(source: Any) -> str:
            return f"data of {source}"

        @app.task(name="slow")
        async def slow() -> str:
            await eventually(lambda: not self.is_held)
            return "slow"

        @app.task(name="charge")
        async def charge(number: int) -> int:
            if self.is_down:
                raise ConnectionError("payment is down")
            return number

        @app.task(name="mail")
        async def mail(*what: Any) -> list[Any]:
            self.mailed.append(what)
            return list(what)

        self.load, self.slow, self.charge, self.mail = load, slow, charge, mail


@pytest.fixture
def shop(world: World) -> Shop:
    shop = Shop()
    shop.declare(world.app)
    return shop


# -- F11 ---------------------------------------------------------------------------------------------------------------


EMPTY: dict[str, Callable[[Shop], Any]] = {
    "group": lambda shop: group([]),
    "chunks": lambda shop: chunks(shop.mail, [], 3),
    "starmap": lambda shop: starmap(shop.mail, []),
    "two groups": lambda shop: chain(group([]), group([])),
    "a group of empty groups": lambda shop: group(group([]), chain(group([]), group([]))),
}


@pytest.mark.promise("f11")
@pytest.mark.parametrize("kind", EMPTY)
def test_an_empty_group_keeps_the_order(world: World, shop: Shop, kind: str) -> None:
    end = chain(shop.slow.s(), EMPTY[kind](shop), shop.mail.s("after")).apply()
    assert len(end.dependencies) == 1
    with world.running(shop.declare):
        until(lambda: world.app.get_job(end.dependencies[0]).status == "running")
        assert (end.status, shop.mailed) == ("pending", [])
        shop.is_held = False
        assert end.result() == [[], "after"]


@pytest.mark.promise("f11")
@pytest.mark.parametrize("kind", EMPTY)
def test_an_empty_group_hands_failures_on(world: World, shop: Shop, kind: str) -> None:
    end = chain(group(shop.load.s(1), shop.charge.s(1)), EMPTY[kind](shop), shop.mail.si("after")).apply()
    with world.running(shop.declare):
        with pytest.raises(TaskCancelledError, match="charge failed"):
            end.result()
        assert shop.mailed == []
        shop.is_down = False
        assert all(world.app.get_job(id).retry() for id in end.dependencies[1:])
        assert end.result() == ["after"]


@pytest.mark.promise("f11")
def test_it_may_stand_anywhere(world: World, shop: Shop) -> None:
    mail, load = shop.mail, shop.load
    shop.is_down = shop.is_held = False
    assert group([]).apply() == chunks(mail, [], 1).apply() == []
    first = chain(group([]), mail.s("first")).apply()
    in_group = chain(shop.slow.s(), group(load.s(), chain(mail.s(), group([]))), mail.s("last")).apply()
    wide = chain(load.s(1), group([]), group(mail.s("a"), mail.s("b"))).apply()
    ending = chain(mail.s(1), group([])).apply()
    assert (len(in_group.dependencies), [len(job.dependencies) for job in wide], ending) == (2, [1, 1], [])
    with world.running(shop.declare):
        assert first.result() == [[], "first"]
        assert in_group.result() == [["data of slow"], "last"]
        assert [job.result() for job in wide] == [[[], "a"], [[], "b"]]


# -- F12 ---------------------------------------------------------------------------------------------------------------


def _again(app: Jobify, shop: Shop) -> None:
    shop.load.apply_async(("tuesday",), job_id="load")


def _later(app: Jobify, shop: Shop) -> None:
    shop.load.apply_async(("tuesday",), job_id="load", delay=3600)


def _purged(app: Jobify, shop: Shop) -> None:
    assert app.purge_jobs(status="complete") == 0


def _deleted(app: Jobify, shop: Shop) -> None:
    assert app.delete_jobs("load") == 0


@pytest.mark.promise("f12")
@pytest.mark.parametrize("act", [_again, _later, _purged, _deleted])
def test_a_workflow_keeps_the_results_that_it_was_promised(
    world: World, shop: Shop, act: Callable[[Jobify, Shop], None]
) -> None:
    end = chord([shop.load.s("monday").set(job_id="load"), shop.slow.s()], shop.mail.s()).apply()
    with world.running(shop.declare):
        until(lambda: world.app.get_job("load").status == "complete")
        act(world.app, shop)
        shop.is_held = False
        assert end.result() == [["data of monday", "slow"]]


@pytest.mark.promise("f12")
def test_a_new_job_has_its_own_history(world: World, shop: Shop) -> None:
    end = chord([shop.load.s("monday").set(job_id="load"), shop.slow.s()], shop.mail.s()).apply()
    with world.running(shop.declare):
        until(lambda: world.app.get_job("load").status == "complete")
        new = shop.load.apply_async(("tuesday",), job_id="load")
        assert new.result() == "data of tuesday"
        assert (new.dependents, end.dependencies[0]) == ([], "load~1")
        assert world.app.get_job("load~1").result() == "data of monday"
        shop.is_held = False
        end.wait()
    assert world.app.purge_jobs() == 4


@pytest.mark.promise("f12")
async def test_a_failed_step_finds_its_inputs_however_late_it_is_retried(tmp_path: Path) -> None:
    shop, clock = Shop(), FakeClock(datetime(2030, 1, 1, tzinfo=UTC))
    app = Jobify(storage=durable(tmp_path), clock=clock)
    shop.declare(app)

    @app.task(name="bill")
    async def bill(what: str) -> str:
        if shop.is_down:
            raise ConnectionError("payment is down")
        return f"bill for {what}"

    async with app:
        end = await chain(shop.load.s("monday"), bill.s()).aapply()
        await end.await_end(20)
        clock.advance(2 * 86_400)  # load was to be kept for a day
        storage = app.configs.storage
        assert storage.purge(now=clock.now(), limit=100) == 0
        shop.is_down = False
        assert await end.aretry()
        assert await end.aresult() == "bill for data of monday"
        assert storage.purge(now=clock.now(), limit=100) == 1
    app.close()


# -- F13 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.promise("f13")
def test_a_mended_step_goes_on_with_all_that_came_after_it(world: World, shop: Shop) -> None:
    end = chain(shop.charge.s(7), shop.mail.s(), shop.mail.s("receipt")).apply()
    with world.running(shop.declare):
        with pytest.raises(TaskCancelledError, match="charge failed: ConnectionError: payment is down"):
            end.result()
        assert end.retry() is False
        shop.is_down = False
        first = world.app.get_job(world.app.get_job(end.dependencies[0]).dependencies[0])
        assert first.retry()
        assert end.result() == [[7], "receipt"]
        assert end.reason is None


@pytest.mark.promise("f13")
def test_it_can_retry_one_job_alone(world: World, shop: Shop) -> None:
    end = chain(shop.charge.s(7), shop.mail.s()).apply()
    first = world.app.get_job(end.dependencies[0])
    with world.running(shop.declare):
        end.wait()
        shop.is_down = False
        assert run(first.aretry(with_dependents=False))
        assert (first.result(), end.status) == (7, "cancelled")


@pytest.mark.promise("f13")
def test_a_failed_member_of_a_group_is_mended(world: World, shop: Shop) -> None:
    charges = [shop.charge.s(n) for n in range(3)]
    shop.is_held = False
    ends = chain(group(shop.slow.s(), *charges), group(shop.mail.s("a"), shop.mail.s("b"))).apply()
    with world.running(shop.declare):
        for end in ends:
            end.wait()
        slow, *failed = map(world.app.get_job, ends[0].dependencies)
        until(lambda: slow.status == "complete" and all(job.status == "failed" for job in failed))
        shop.is_down = False
        assert [job.retry() for job in failed] == [True] * 3
        assert [end.result() for end in ends] == [[["slow", 0, 1, 2], "a"], [["slow", 0, 1, 2], "b"]]


@pytest.mark.promise("f13")
async def test_jobs_in_memory_come_back_with_their_arguments() -> None:
    app, shop = Jobify(storage=False), Shop()
    shop.declare(app)

    async with app:
        end = await chain(shop.charge.s(7), shop.mail.s("receipt", "now")).aapply()
        await end.await_end(20)
        shop.is_down = False
        assert await app.get_job(end.dependencies[0]).aretry()
        assert await end.aresult() == [7, "receipt", "now"]


# -- F14 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.promise("f14")
def test_a_group_after_a_group_gets_all_results(world: World, shop: Shop) -> None:
    jobs = chain(group(shop.load.s(n) for n in range(3)), group(shop.mail.s("a"), shop.mail.s("b"))).apply()
    assert [len(job.dependencies) for job in jobs] == [3, 3]
    assert len(world.app.get_job(jobs[0].dependencies[0]).dependents) == 2
    with world.running(shop.declare):
        loaded = [f"data of {n}" for n in range(3)]
        assert [job.result() for job in jobs] == [[loaded, "a"], [loaded, "b"]]


@pytest.mark.promise("f14")
def test_its_cost_is_the_sum_of_both(tmp_path: Path) -> None:
    app, shop = Jobify(storage=durable(tmp_path)), Shop()
    shop.declare(app)
    for count in (50, 100):
        chain(group(shop.load.s(n) for n in range(count)), group(shop.mail.s() for _ in range(count))).apply()
        app.enqueue_many("mail", [()] * count, depends_on=group(shop.load.s(n) for n in range(count)).apply())
    app.close()
    storage = durable(tmp_path)
    assert execute(storage, "SELECT count(*) FROM dependencies") == [(2 * (2 * 50 + 2 * 100),)]
    ((longest,),) = execute(storage, "SELECT max(length(options)) FROM jobs")
    assert longest < 100


# -- files of an earlier release ---------------------------------------------------------------------------------------


@pytest.mark.promise("f12", "f13", "f14")
@pytest.mark.usefixtures("sqlite_file")
async def test_workflows_of_an_older_file_go_on(tmp_path: Path) -> None:
    shutil.copy(DATA / "workflow_6.db", tmp_path / "jobs.db")
    app = Jobify(storage=durable(tmp_path), clock=FakeClock(datetime(2031, 1, 1, tzinfo=UTC)))

    @app.task(name="load")
    async def load(source: Any) -> str:
        return f"new data of {source}"

    @app.task(name="slow")
    async def slow() -> str:
        return "slow"

    @app.task(name="report")
    async def report(parts: list[Any], *more: str) -> list[Any]:
        return [parts, *more]

    @app.task(name="charge")
    async def charge(number: int) -> int:
        return number

    @app.task(name="mail")
    async def mail(number: Any) -> str:
        return f"mailed {number}"

    app.enqueue("load", ("tuesday",), job_id="load-1")
    assert app.delete_jobs("spare-1") == 0
    async with app:
        assert await app.get_job("report-1").aresult() == [["data of monday", "slow"], "weekly"]
        for id in ("merge-0", "merge-1"):
            assert await app.get_job(id).aresult() == [["data of 0", "data of 1"]]
        for id in ("charge-1", "charge-2"):
            assert await app.get_job(id).aretry()
        assert await app.get_job("receipt-1").aresult() == "mailed mailed 7"
        assert await app.get_job("report-2").aresult() == [["data of spare", 8]]
        assert app.get_job("stopped-2").status == "cancelled"
    app.close()

"""Tasks with limits, through the app: whatever starts a job waits for them, and whatever ends it releases them."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from itertools import pairwise
from pathlib import Path

import pytest

from jobify import (
    Concurrency,
    Cron,
    Fair,
    Jobify,
    LimitExceededError,
    Rate,
    RateLimited,
    RunMode,
    SmartRetry,
    Snooze,
    chain,
    chord,
    current_job,
)
from probes import backends_of
from support import a_while, eventually, soon

Make = Callable[..., Jobify]


class Meter:
    """Counts what runs at once."""

    def __init__(self) -> None:
        self.running = self.most = self.begun = 0
        self.go = asyncio.Event()
        self._lock = threading.Lock()

    @asynccontextmanager
    async def inside(self, seconds: float = 0.005) -> AsyncIterator[None]:
        self.enter()
        try:
            await asyncio.sleep(seconds)
            yield
        finally:
            self.leave()

    def enter(self) -> None:
        with self._lock:
            self.running += 1
            self.begun += 1
            self.most = max(self.most, self.running)

    def leave(self) -> None:
        with self._lock:
            self.running -= 1


def counts(app: Jobify) -> dict[str, tuple[int, int]]:
    """How many hold each limit, and how many wait."""
    return {limit.name: (limit.active, limit.waiting) for limit in app.limits()}


async def test_whatever_starts_jobs_obeys(make: Make) -> None:
    app, meter = make(), Meter()

    @app.task(limits=[Concurrency(2, name="two")])
    async def task(number: int) -> int:
        async with meter.inside(0.03):
            return number

    async with app:
        pushed = [await task.push(number) for number in range(4)]
        pushed.append(await task.schedule(4).delay(0.01))
        stored = [await task.adelay(5), *await task.amap([(number,) for number in range(6, 10)])]
        for job in pushed:
            await soon(job)
        assert [await soon(job.aresult()) for job in stored] == [5, 6, 7, 8, 9]
        assert (meter.most, meter.begun) == (2, 10)
        await eventually(lambda: counts(app) == {"two": (0, 0)})


async def test_a_schedule_holds_its_limit_only_while_it_runs(make: Make) -> None:
    app, meter = make(), Meter()
    one = Concurrency(1, name="one")

    @app.task(cron=Cron("* * * * * * *", max_runs=2), limits=[one])
    async def tick() -> None:
        async with meter.inside():
            pass

    @app.task(limits=[one])
    async def task() -> None:
        async with meter.inside():
            pass

    async with app:
        for _ in range(5):
            await soon(await task.push())
        await eventually(lambda: meter.begun == 7)
        assert meter.most == 1


async def test_retries_and_snoozes_hold_nothing_while_they_wait(make: Make) -> None:
    app, order = make(), []
    one = Concurrency(1, name="one")

    @app.task(limits=[one], retry=SmartRetry(retries=1, initial_delay=0.3, jitter=False))
    async def flaky() -> None:
        order.append("flaky")
        if order.count("flaky") == 1:
            raise ValueError

    @app.task(limits=[one])
    async def sleepy() -> None:
        order.append("sleepy")
        if order.count("sleepy") == 1:
            raise Snooze(0.3)

    @app.task(limits=[one])
    async def task() -> None:
        order.append("task")

    async with app:
        first, second = await flaky.push(), await sleepy.push()
        await eventually(lambda: order.count("sleepy") == 1 and order.count("flaky") == 1)
        await soon(await task.push())
        assert order.index("task") == 2
        await soon(first)
        await soon(second)
        assert sorted(order[3:]) == ["flaky", "sleepy"]


async def test_rate_limited_closes_one_key_and_costs_no_attempt(make: Make) -> None:
    app, starts = make(), []

    @app.task(limits=[Rate(1000, per=1, key="shop", name="api")])
    async def sync(shop: str, number: int) -> int:
        starts.append((shop, number, time.monotonic()))
        if (shop, number) == ("a", 0) and len([one for one in starts if one[0] == "a"]) == 1:
            raise RateLimited(0.4)
        return current_job.attempt

    async with app:
        first = await sync.push("a", 0)
        await eventually(lambda: len(starts) == 1)
        await eventually(lambda: first.status == "scheduled" or first.is_done())
        others = [await sync.push("a", 1), await sync.push("b", 0)]
        await soon(others[1])
        assert await soon(others[0]) == 1
        assert await soon(first) == 1
        again = [at for shop, _, at in starts if shop == "a"]
        assert min(again[1:]) - again[0] >= 0.39


async def test_a_thread_that_goes_on_holds_until_it_returns(make: Make) -> None:
    app, may_end, ran = make(), threading.Event(), []
    one = Concurrency(1, name="one")

    @app.task(limits=[one], timeout=0.05)
    def stuck() -> None:
        may_end.wait(30)
        ran.append("stuck")

    @app.task(limits=[one])
    async def task() -> None:
        ran.append("task")

    async with app:
        job = await stuck.push()
        await eventually(lambda: job.is_done())
        waiting = await task.push()
        await a_while(0.1)
        assert (ran, counts(app)["one"][0]) == ([], 1)
        may_end.set()
        await soon(waiting)
        assert ran == ["stuck", "task"]
        await eventually(lambda: counts(app) == {"one": (0, 0)})


async def test_jobs_in_child_processes_obey(make_durable: Make) -> None:
    app = make_durable()
    task = app.task(limits=[Concurrency(1, name="one")], run_mode=RunMode.PROCESS)(span)
    async with app:
        spans = sorted([await soon(job) for job in [await task.push() for _ in range(4)]])
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
        await eventually(lambda: counts(app) == {"one": (0, 0)})


def span() -> tuple[float, float]:
    begin = time.monotonic()
    time.sleep(0.01)
    return begin, time.monotonic()


async def test_members_of_workflows_obey_and_have_the_keys_of_their_results(make: Make) -> None:
    app, meter, seen = make(), Meter(), []

    @app.task
    async def number(value: int) -> int:
        return value

    @app.task(limits=[Concurrency(1, key="value", name="each")])
    async def work(value: int) -> int:
        seen.append(value)
        async with meter.inside():
            return value

    @app.task(limits=[Concurrency(1, name="sum")])
    async def total(values: list[int]) -> int:
        return sum(values)

    async with app:
        chains = [chain(number.s(7), work.s()) for _ in range(3)]
        results = [one.delay() for one in chains]
        assert [await soon(one.aresult()) for one in results] == [7, 7, 7]
        assert (seen, meter.most) == ([7, 7, 7], 1)
        result = chord([work.s(value) for value in (1, 1, 2)], total.s()).delay()
        assert await soon(result.aresult()) == 4
        await eventually(lambda: all(one == (0, 0) for one in counts(app).values()))


async def test_what_the_transaction_of_a_task_ends_is_released(make_durable: Make, tmp_path: Path) -> None:
    app = make_durable()

    @app.task(limits=[Concurrency(1, name="one")])
    def task() -> None:
        with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection, current_job.transaction(connection) as tx:
            tx.complete("done")

    async with app:
        for job in [await task.push() for _ in range(3)]:
            await soon(job)
            assert job.result() == "done"
        await eventually(lambda: counts(app) == {"one": (0, 0)})


async def test_a_paused_queue_takes_no_place(make: Make) -> None:
    app, meter = make(), Meter()
    one = Concurrency(1, name="one")

    @app.task(limits=[one])
    async def task() -> None:
        meter.enter()
        await meter.go.wait()

    async with app:
        first = await task.push()
        await eventually(lambda: meter.begun == 1)
        blocked = await task.configure(queue="x").adelay()
        await eventually(lambda: counts(app)["one"] == (1, 1))
        await app.apause_queue("x")
        other = await task.push()
        meter.go.set()
        await soon(first)
        await soon(other)
        assert not blocked.is_done()
        await app.aresume_queue("x")
        await soon(blocked.aresult())


@pytest.mark.parametrize("how", ["cancel", "expire", "replace"])
async def test_what_ends_a_wait_lets_the_next_one_go(make: Make, how: str) -> None:
    app, meter, ran = make(), Meter(), []

    @app.task(limits=[Concurrency(1, name="one")])
    async def task(name: str) -> None:
        ran.append(name)
        meter.enter()
        await meter.go.wait()

    async with app:
        first = await task.push("first")
        await eventually(lambda: meter.begun == 1)
        options = {"expires": 0.05} if how == "expire" else {}
        waiting = await app.aenqueue(task, ["waits"], job_id="waits", **options)
        await eventually(lambda: counts(app)["one"] == (1, 1) or waiting.is_done())  # it may expire before it is seen
        if how == "cancel":
            assert await waiting.acancel()
        elif how == "expire":
            await eventually(waiting.is_done)
        else:
            await task.schedule("replaced").delay(0, job_id="waits", replace=True)
        next_one = await task.push("next")
        meter.go.set()
        await soon(first)
        await soon(next_one)
        if how == "replace":
            await soon(waiting.aresult())
        assert sorted(ran) == sorted(["first", "next", *(["replaced"] if how == "replace" else [])])
        await eventually(lambda: counts(app) == {"one": (0, 0)})


@pytest.mark.parametrize("limits", [[], [Concurrency(3, name="one")], [Rate(1000, per=1, name="one")]])
async def test_jobs_that_wait_go_by_the_limits_of_the_next_start(make: Make, limits: list[Concurrency]) -> None:
    def app_with(some: list[Concurrency]) -> tuple[Jobify, Meter]:
        app, meter = make(grace=0.1), Meter()

        @app.task(name="task", limits=some)
        async def task() -> None:
            meter.enter()
            await meter.go.wait()

        return app, meter

    app, meter = app_with([Concurrency(1, name="one")])
    async with app:
        for _ in range(4):
            await app.aenqueue("task")
        await eventually(lambda: counts(app)["one"] == (1, 3))
    app, meter = app_with(limits)
    async with app:
        await eventually(lambda: meter.running == (3 if limits and isinstance(limits[0], Concurrency) else 4))
        meter.go.set()
        await eventually(lambda: meter.begun == 4)
        await eventually(lambda: all(one == (0, 0) for one in counts(app).values()))


@pytest.mark.parametrize("known", [[], [Concurrency(5, key="user", name="users")]])
async def test_a_worker_of_an_older_release_reads_new_keys(make: Make, known: list[Concurrency]) -> None:
    older, newer, client, most = make(), make(), make(), Meter()

    @older.task(name="task", limits=known)
    @newer.task(name="task", limits=[*known, Concurrency(1, key="shop", name="shops")])
    async def task(user: int, shop: str) -> None:
        async with most.inside():
            pass

    async with older:
        async with newer:
            pass  # its limits are stored, and hold for the older one
        jobs = [await client.aenqueue("task", [user, "a"]) for user in range(4)]
        for job in jobs:
            await soon(job.aresult())
        assert most.most == 1
        await eventually(lambda: counts(client)["shops"] == (0, 0))


async def test_a_long_key_is_a_key(make: Make) -> None:
    app, meter = make(), Meter()

    @app.task(limits=[Concurrency(1, key="text", name="each")])
    async def task(text: str) -> None:
        async with meter.inside():
            pass

    async with app:
        app.set_limit("each", 0, key="x" * 300_000)
        jobs = [await task.push("x" * 300_000) for _ in range(2)]
        await soon(await task.push("x"))
        await eventually(lambda: counts(app)["each"] == (0, 2))
        app.reset_limit("each", key="x" * 300_000)
        for job in jobs:
            await soon(job)
        assert meter.most == 1


async def test_a_process_that_does_not_know_the_limits_obeys_them(make_durable: Make) -> None:
    """An older release pushes jobs of a task that has got a limit meanwhile, and runs them."""
    older, newer = make_durable(), make_durable()
    meter = Meter()

    @older.task(name="task")
    async def task() -> None:
        async with meter.inside(0.02):
            pass

    @newer.task(name="task", limits=[Concurrency(1, name="one")])
    async def limited() -> None:
        async with meter.inside(0.02):
            pass

    async with older, newer:
        await eventually(
            lambda: all("task" in backend.limited_tasks for backend in backends_of(older) if backend.is_durable)
        )
        jobs = [await route.push() for _ in range(5) for route in (task, limited)]
        for job in jobs:
            await soon(job)
        assert meter.most == 1


async def test_a_process_that_does_not_know_the_task_takes_no_place(make_durable: Make) -> None:
    knows, other = make_durable(), make_durable()
    ran: list[str] = []
    one = Concurrency(1, name="one")

    @knows.task(name="known", limits=[one])
    @other.task(name="known", limits=[one])
    async def known() -> None:
        ran.append("known")

    @knows.task(name="only", limits=[one])
    async def only() -> None:
        ran.append("only")

    async with knows:
        pass  # its limits are stored
    async with other:
        waiting = await other.aenqueue("only")
        for _ in range(3):
            await soon((await other.aenqueue("known")).aresult())
        assert ran == ["known"] * 3
    async with knows:
        await soon(waiting.aresult())
    assert ran == [*["known"] * 3, "only"]


async def test_on_excess_skips_or_fails(make: Make) -> None:
    app, meter = make(), Meter()

    @app.task(limits=[Concurrency(1, name="skips", on_excess="skip")])
    async def skips() -> None:
        meter.enter()
        await meter.go.wait()

    @app.task(limits=[Concurrency(1, name="fails", on_excess="fail")])
    async def fails() -> None:
        meter.enter()
        await meter.go.wait()

    async with app:
        first, second = await skips.push(), await fails.push()
        skipped = await skips.adelay()
        assert (skipped.created, skipped.status) == (False, "cancelled")
        assert "skips" in (skipped.reason or skipped.error or "")
        with pytest.raises(LimitExceededError, match="fails"):
            await fails.push()
        with pytest.raises(LimitExceededError, match="fails"):
            await fails.adelay()
        later = await fails.schedule().delay(0.05)  # what is not due waits
        meter.go.set()
        for job in (first, second, later):
            await soon(job)


async def test_a_shutdown_in_the_middle_leaves_nothing_held(make: Make) -> None:
    app, meter = make(grace=0.05), Meter()

    @app.task(name="task", limits=[Concurrency(2, name="two")])
    async def task() -> None:
        meter.enter()
        await meter.go.wait()

    async with app:
        for _ in range(5):
            await app.aenqueue("task")
        await eventually(lambda: meter.begun == 2)
    other = make()
    assert counts(other)["two"][0] == 0
    meter.go.set()
    other.task(name="task", limits=[Concurrency(2, name="two")])(task.func)
    async with other:
        await eventually(lambda: meter.begun == 7)
        await eventually(lambda: counts(other) == {"two": (0, 0)})


async def test_a_job_with_a_high_cost_starts_when_its_rate_allows_it(make: Make) -> None:
    app, starts = make(), []

    @app.task(limits=[Rate(100, per=1, name="rate")])
    async def task() -> None:
        starts.append(time.monotonic())

    async with app:
        first = await app.aenqueue(task)
        second = await app.aenqueue(task, cost=50)
        await soon(first.aresult())
        await soon(second.aresult())
        assert 0.45 <= starts[1] - starts[0] < 3.0


async def test_the_first_job_of_a_key_starts_before_all_of_another(make: Make) -> None:
    app, order, go = make(concurrency=2), list[str](), asyncio.Semaphore(0)

    @app.task(limits=[Fair("shop")])
    async def sync(shop: str) -> None:
        order.append(shop)
        await go.acquire()

    async with app:
        await sync.amap([("a",)] * 20)
        await eventually(lambda: order == ["a", "a"])
        await sync.adelay("b")
        for _ in range(21):
            go.release()
        await eventually(lambda: len(order) == 21)
    assert "b" in order[2:6]


async def test_places_are_taken_before_a_worker_has_started(make_durable: Make) -> None:
    app, order = make_durable(concurrency=2), list[str]()

    @app.task(limits=[Concurrency(1, on_excess="skip")])
    async def once() -> None: ...

    @app.task(limits=[Concurrency(0, on_excess="fail")])
    async def never() -> None: ...

    @app.task(limits=[Fair("shop")])
    async def sync(shop: str) -> None:
        order.append(shop)

    assert [(await once.adelay()).created for _ in range(2)] == [True, False]
    for _ in range(2):  # the first refusal does not take the limit away again
        with pytest.raises(LimitExceededError):
            never.delay()
    await sync.amap([("a",)] * 50)
    await sync.adelay("b")
    async with app:
        await eventually(lambda: len(order) == 51)
    assert "b" in order[:6]

"""One router in many apps: app factories, tests that make an app each, two apps in one process."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jobify import INJECT, JobContext, Jobify, JobRouter, JobStatus, RunMode, State
from jobify.exceptions import ApplicationStateError, ConfigurationError, RouteAlreadyRegisteredError
from jobify.middleware import BaseMiddleware, CallNext, QueueMiddleware
from jobify.router import NodeRoute
from jobify.storage import SQLiteStorage
from support import durable, run

pytestmark = pytest.mark.promise("f38")


class Shop:
    """The module of a shop: its routers, its tasks, and its factory."""

    def __init__(self, **options: Any) -> None:
        self.router = router = JobRouter(prefix="shop", **options)
        self.inner = inner = JobRouter(prefix="mail")
        router.include_router(inner)
        self.ran: list[tuple[Any, str]] = []

        @router.task(name="count")
        async def count(item: str, app: Jobify = INJECT) -> str:
            self.ran.append((app, item))
            return item

        @inner.task(name="send")
        def send(item: str, app: Jobify = INJECT) -> str:
            self.ran.append((app, item))
            return item

        @router.task(name="look")
        async def look(state: State = INJECT) -> dict[str, Any]:
            return dict(state)

        @inner.task(name="follow")
        async def follow(item: str) -> str:
            await send.adelay(item)
            return await (await count.push(item))

        self.count, self.send, self.look, self.follow = count, send, look, follow

    def create_app(self, **options: Any) -> Jobify:
        app = Jobify(**{"storage": False, **options})
        app.include_router(self.router)
        return app


def test_a_factory_is_called_again_and_again(tmp_path: Path) -> None:
    shop = Shop()
    for number in range(5):
        app = shop.create_app(storage=durable(tmp_path) if number % 2 else False)

        async def main(app: Jobify = app, number: int = number) -> None:
            async with app:
                assert await (await shop.count.push(f"push {number}")) == f"push {number}"
                assert await (await shop.send.schedule(f"at {number}").delay(0)) == f"at {number}"
                assert await (await shop.send.adelay(f"delay {number}")).aresult(30) == f"delay {number}"
                assert [app for app, _ in shop.ran[-3:]] == [app] * 3

        run(main())
        names = {route.name for route in app.routes}
        assert names == {"shop:count", "shop:look", "shop.mail:send", "shop.mail:follow"}
        app.close()


@pytest.mark.slow
def test_apps_that_are_out_of_use_do_not_count(tmp_path: Path) -> None:
    """Each test makes an app, starts none, and lets its code enqueue."""
    shop, gone = Shop(), []
    for number in range(4):
        app = shop.create_app(storage=durable(tmp_path))
        job = shop.send.delay(f"{number}")
        assert app.get_job(job.id).id == job.id
        assert [one.id for one in app.jobs(task=shop.send, newest_first=False)][-1] == job.id
        assert shop.send.map([("a",), ("b",)])[1].id
        app.close()
        gone.append(weakref.ref(app))
        del app, job
    gc.collect()
    assert [each() is None for each in gone] == [True] * 4
    with pytest.raises(RuntimeError, match="not attached to any Jobify app"):
        shop.send.delay("nowhere")


def two_apps(shop: Shop, tmp_path: Path) -> tuple[Jobify, Jobify]:
    first, second = (tmp_path / name for name in ("first.db", "second.db"))
    return shop.create_app(storage=SQLiteStorage(first)), shop.create_app(storage=SQLiteStorage(second))


CALLS: list[Callable[[Any], Any]] = [
    lambda task: task.delay("x"),
    lambda task: task.apply_async(("x",), priority=1),
    lambda task: task.map([("x",)]),
    lambda task: task.s("x"),
    lambda task: task.si("x"),
    lambda task: task.schedule("x"),
]


@pytest.mark.slow
def test_which_app_is_meant_is_never_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "collect", lambda: 0)  # for apps out of use, before each error; here are none
    shop = Shop()
    first, second = two_apps(shop, tmp_path)
    words = r"(?s)'shop.*included in 2 apps, of which none run: .*first\.db.*second\.db.*app\.task_for\(task\)"
    for task in (shop.count, shop.send):
        for call in CALLS:
            with pytest.raises(ApplicationStateError, match=words):
                call(task)

    async def main() -> None:
        with pytest.raises(ApplicationStateError, match=words):
            await shop.count.push("x")
        async with first:
            assert (await (await shop.count.push("one"))) == "one"
            assert shop.ran == [(first, "one")]
            async with second:
                for pushed in (shop.count.push("x"), shop.send.adelay("x")):
                    with pytest.raises(ApplicationStateError, match="of which 2 run"):
                        await pushed
                for app in (first, second, first):
                    assert await (await app.task_for(shop.count).push("told")) == "told"
                    assert shop.ran[-1] == (app, "told")
                    assert await app.enqueue(shop.send, ("enqueued",)).aresult(30) == "enqueued"
                    assert shop.ran[-1] == (app, "enqueued")
        async with second:
            await (await shop.count.push("two"))
            assert shop.ran[-1] == (second, "two")

    run(main())
    assert len(first.jobs(task=shop.send)) == 2
    assert second.stats(task=shop.send)["complete"] == 1
    for app in (first, second):
        app.close()


async def test_in_a_job_its_own_app_is_meant(tmp_path: Path) -> None:
    shop = Shop()
    apps = two_apps(shop, tmp_path)

    async with apps[0], apps[1]:
        for app in (*apps, *apps):
            shop.ran.clear()
            job = await app.task_for(shop.follow).push("followed")
            assert await job == "followed"
            await app.wait_all(30)
            assert [owner for owner, _ in shop.ran] == [app] * 2


async def test_two_apps_in_two_threads(tmp_path: Path) -> None:
    """Each event loop has its own app, and a task that is pushed there is a job of that one."""
    shop = Shop()
    apps = two_apps(shop, tmp_path)

    meeting = threading.Barrier(2)

    async def elsewhere(app: Jobify) -> None:
        async with app:
            await asyncio.to_thread(meeting.wait, 30)
            await (await shop.count.push("here"))
            assert (app, "here") in shop.ran
            await asyncio.to_thread(meeting.wait, 30)

    await asyncio.gather(*(asyncio.to_thread(asyncio.run, elsewhere(app)) for app in apps))
    assert {id(app) for app, _ in shop.ran} == {id(app) for app in apps}


async def test_states_stay_apart() -> None:
    entered: list[Any] = []

    @asynccontextmanager
    async def lifespan(router: JobRouter) -> AsyncIterator[dict[str, Any]]:
        entered.append(router)
        router.state.own = router.root.state.name  # type: ignore[attr-defined]
        yield {"pool": f"pool of {router.state.own}"}

    shop = Shop(state=State({"declared": 1}), lifespan=lifespan)

    for name in "abc":
        app = shop.create_app(state=State({"name": name}))
        async with app:
            expected = {"declared": 1, "own": name, "pool": f"pool of {name}", "name": name}
            assert await (await shop.look.push()) == expected
            app.sub_routers[0].state.extra = name
            assert (await (await shop.look.push()))["extra"] == name
        assert entered[-1].root is app
        assert entered[-1] is app.sub_routers[0]
    assert len({id(router.state) for router in entered}) == 3


async def test_an_app_that_runs_keeps_its_state_when_another_one_comes() -> None:
    shop = Shop(state=State({"declared": 1}))

    first = shop.create_app()
    async with first:
        shop.router.state.changed = "in the first"
        job = await shop.count.schedule("later").delay(0.05)
        second = shop.create_app()
        assert await job == "later"
        assert (await (await shop.look.push()))["changed"] == "in the first"
        async with second:
            assert await (await second.task_for(shop.look).push()) == {"declared": 1}
            assert (await (await first.task_for(shop.look).push()))["changed"] == "in the first"


class Noted(BaseMiddleware):
    def __init__(self, notes: list[str], name: str) -> None:
        self.notes = notes
        self.name = name

    async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
        self.notes.append(f"{self.name} around {context.runnable.name}")
        return await call_next(context)


async def test_middleware_stays_apart() -> None:
    notes: list[str] = []
    shop = Shop(middleware=[Noted(notes, "shop"), QueueMiddleware(workers=1)])
    apps = [shop.create_app(middleware=[Noted(notes, name)]) for name in "abc"]
    apps[1].sub_routers[0].add_middleware(Noted(notes, "of b only"))
    shop.router.add_middleware(Noted(notes, "late"))
    layers = [layer for app in apps for layer in app.sub_routers[0].middleware if isinstance(layer, QueueMiddleware)]
    assert len({id(layer) for layer in layers}) == 3

    async with apps[0], apps[1], apps[2]:
        for app, own in zip(apps, "abc", strict=True):
            notes.clear()
            assert await (await app.task_for(shop.count).push("x")) == "x"
            extra = ["of b only"] if own == "b" else []
            assert notes == [f"{layer} around shop:count" for layer in [own, "shop", *extra, "late"]]


async def test_what_is_added_later_is_added_everywhere() -> None:
    shop = Shop()
    apps = [shop.create_app() for _ in range(3)]
    failed: list[str] = []

    @shop.inner.task(name="late")
    async def late() -> str:
        raise KeyError("late")

    added = JobRouter(prefix="added")

    @added.task(name="one")
    async def one() -> int:
        return 1

    shop.inner.include_router(added)
    shop.router.add_exception_handler(KeyError, lambda error, context: failed.append(str(error)))

    for app in apps:
        async with app:
            assert {"shop.mail:late", "shop.mail.added:one"} <= {route.name for route in app.routes}
            await (await late.push())
            assert await (await one.push()) == 1
            with pytest.raises(ApplicationStateError, match="frozen"):
                shop.router.task(late, name="frozen")
    assert len(failed) == 3
    shop.inner.remove_route("late")
    assert not late.is_attached
    assert all("shop.mail:late" not in {route.name for route in app.routes} for app in apps)
    with pytest.raises(RouteAlreadyRegisteredError):
        shop.router.task(late, name="count")


def test_a_name_that_one_app_has_already_is_refused_in_all() -> None:
    shop = Shop()
    apps = [shop.create_app() for _ in range(3)]

    async def work() -> None: ...

    apps[2].task(work, name="shop:taken")
    with pytest.raises(RouteAlreadyRegisteredError, match="shop:taken"):
        shop.router.task(work, name="taken")
    assert all("shop:taken" not in {route.name for route in app.routes} for app in apps[:2])
    added = JobRouter()
    added.task(work, name="taken")
    with pytest.raises(RouteAlreadyRegisteredError, match="shop:taken"):
        shop.router.include_router(added)
    assert all("shop:taken" not in {route.name for route in app.routes} for app in apps[:2])
    assert added.parent is None
    assert added not in shop.router.sub_routers


async def test_a_refused_include_leaves_the_other_apps_as_they_are() -> None:
    shop = Shop()
    first, second = shop.create_app(), Jobify(storage=False)

    async def work() -> None: ...

    second.task(work, name="shop.mail:send")
    with pytest.raises(RouteAlreadyRegisteredError, match=r"shop\.mail:send"):
        second.include_router(shop.router)
    assert second.sub_routers == ()
    assert [route.name for route in second.routes] == ["shop.mail:send"]

    async with first:
        assert await (await shop.send.push("x")) == "x"
    third = shop.create_app()
    assert len(list(third.routes)) == len(list(first.routes)) == 4


async def test_a_router_inside_of_several_routers() -> None:
    """The same tasks below two prefixes, each in its own app; and never twice in one."""
    leaf, left, right = JobRouter(prefix="leaf"), JobRouter(prefix="left"), JobRouter(prefix="right")
    ran: list[str] = []

    @leaf.task(name="work")
    async def work(context: JobContext = INJECT) -> str:
        ran.append(context.runnable.name)
        return context.runnable.name

    for outer in (left, right):
        outer.include_router(leaf)
    with pytest.raises(RuntimeError, match="not attached to any"):
        work.delay()
    one, two, three = (Jobify(storage=False) for _ in range(3))
    one.include_router(left)
    two.include_router(right)
    three.include_router(leaf)
    with pytest.raises(RuntimeError, match="already attached"):
        one.include_router(right)

    async with one, two, three:
        for app, name in ((one, "left.leaf:work"), (two, "right.leaf:work"), (three, "leaf:work")):
            assert await (await app.task_for(work).push()) == name
            assert app.task_for(work).name == name
            assert await app.enqueue(work).aresult(30) == name


def test_no_circles_by_way_of_several_apps() -> None:
    first, second, third = JobRouter(), JobRouter(), JobRouter()
    first.include_router(second)
    third.include_router(second)
    Jobify(storage=False).include_router(first)
    Jobify(storage=False).include_router(first)
    for upper in (first, third):
        with pytest.raises(RuntimeError, match="Circular"):
            second.include_router(upper)


def test_task_for() -> None:
    shop, other = Shop(), Jobify(storage=False)
    app = shop.create_app()
    assert app.task_for(shop.count) is shop.count
    own = app.task(lambda: None)
    assert app.task_for(own) is own
    for stranger in (shop.count, own, "shop:count", None):
        with pytest.raises(ConfigurationError, match="is no task of this app"):
            other.task_for(stranger)  # type: ignore[arg-type]


class Counted(NodeRoute[..., Any]):
    pushes = 0

    async def push(self, *args: Any, **kwargs: Any) -> Any:
        self.pushes += 1
        return await super().push(*args, **kwargs)


@pytest.mark.slow
async def test_route_classes_and_run_modes() -> None:
    router = JobRouter(route_class=Counted)
    task: Any = router.task(os_pid, run_mode=RunMode.PROCESS)
    apps = [Jobify(storage=False) for _ in range(3)]
    for app in apps:
        app.include_router(router)

    for app in apps:
        assert type(app.task_for(task)) is Counted
        async with app:
            assert await (await task.push()) != os_pid()
    assert task.pushes == 3


def os_pid() -> int:
    import os

    return os.getpid()


async def test_crons_of_a_router_in_several_apps(tmp_path: Path) -> None:
    router = JobRouter(prefix="r")

    @router.task(name="yearly", cron="0 0 1 1 *")
    async def yearly() -> None: ...

    for name in ("one", "two", "one"):
        app = Jobify(storage=SQLiteStorage(tmp_path / f"{name}.db"))
        app.include_router(router)
        async with app:
            (job,) = app.get_active_jobs()
            assert job.id == "r:yearly__jobify_cron_definition"
            assert job.status is JobStatus.SCHEDULED

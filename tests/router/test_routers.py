"""Names, routers and registration: documented behaviour 1-4, and what a router is given."""

from __future__ import annotations

import functools
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from checklist_tasks import process_id, report
from jobify import INJECT, Cron, Job, JobContext, Jobify, JobRouter, JobStatus, RunMode, State
from jobify.exceptions import ApplicationStateError, ConfigurationError, RouteAlreadyRegisteredError
from jobify.middleware import BaseMiddleware, BaseOuterMiddleware, CallNext, CallNextOuter
from jobify.router import NodeRoute, RootRoute
from support import durable, output, run

# -- 1. names ----------------------------------------------------------------------------------------------------------


@pytest.mark.promise("rule-1", "x18")
def test_a_name_is_module_and_qualname() -> None:
    assert Jobify(storage=False).task(report).name == "checklist_tasks:report"


@pytest.mark.promise("rule-1")
def test_prefixes_are_joined_by_dots_in_front_of_the_name() -> None:
    app, outer, plain, inner = Jobify(storage=False), JobRouter(prefix="a"), JobRouter(), JobRouter(prefix="b")
    outer.include_router(plain)
    plain.include_router(inner)
    before = inner.task(report)
    named = inner.task(report, name="mine")
    assert before.name == "checklist_tasks:report"
    app.include_router(outer)
    assert before.name == "a.b:checklist_tasks:report"
    assert named.name == "a.b:mine"
    assert plain.task(report).name == "a:checklist_tasks:report"
    assert before.func_spec.name == before.name


def test_included_in_any_order_the_names_are_the_same() -> None:
    names = []
    for is_top_first in (True, False):
        app, outer, inner = Jobify(storage=False), JobRouter(prefix="a"), JobRouter(prefix="b")
        route = inner.task(report)
        steps = [(app, outer), (outer, inner)]
        for parent, child in steps if is_top_first else reversed(steps):
            parent.include_router(child)
        names.append(route.name)
    assert names == ["a.b:checklist_tasks:report"] * 2


@pytest.mark.promise("rule-1")
@pytest.mark.parametrize(
    "nameless", [lambda: None, functools.partial(report), functools.partial(functools.partial(report))]
)
async def test_what_has_no_name_needs_one_to_be_durable(nameless: Any, tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    with pytest.raises(ConfigurationError, match="no name that is the same"):
        app.task(nameless)
    assert app.task(nameless, name="named").name == "named"
    first, second = app.task(nameless, durable=False), app.task(nameless, durable=False)
    assert first.name != second.name
    router = JobRouter()
    router.task(nameless)
    with pytest.raises(ConfigurationError, match="no name that is the same"):
        app.include_router(router)

    async with app:
        await (await first.push())


async def test_without_a_database_nothing_needs_a_name() -> None:
    app = Jobify(storage=False)
    task = app.task(lambda x: x + 1)
    async with app:
        assert await (await task.push(1)) == 2


@pytest.mark.slow
@pytest.mark.promise("rule-1", "x18")
def test_one_program_gives_the_same_name_run_or_imported(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tasks.py").write_text(
        "from jobify import Jobify\napp = Jobify(storage=False)\n@app.task\ndef work() -> None: ...\nprint(work.name)\n"
    )
    for arguments in (["-m", "shop.tasks"], ["-c", "import shop.tasks"]):
        assert output(*arguments, cwd=tmp_path) == "shop.tasks:work\n"
    assert output("shop/tasks.py", cwd=tmp_path) == "tasks:work\n"


# -- 2. routers --------------------------------------------------------------------------------------------------------


@pytest.mark.promise("rule-2")
async def test_a_task_of_a_detached_router_cannot_be_scheduled() -> None:
    words = "is not attached to any Jobify app. Did you forget to call app.include_router()?"
    task = JobRouter().task(report)
    with pytest.raises(RuntimeError, match=re.escape(words)):
        task.schedule()

    with pytest.raises(RuntimeError, match=re.escape(words)):
        await task.push()
    assert task() == "done"


@pytest.mark.promise("rule-2", "f38")
def test_a_router_is_included_once_in_an_app() -> None:
    app, router, between = Jobify(storage=False), JobRouter(), JobRouter(prefix="between")
    app.include_router(router)
    app.include_router(between)
    for other in (app, between):
        with pytest.raises(RuntimeError, match="Router is already attached to <Jobify>"):
            other.include_router(router)
    outer = JobRouter()
    outer.include_router(router)
    with pytest.raises(RuntimeError, match="Router is already attached to"):
        app.include_router(outer)
    assert app.sub_routers[1:] == (between,)
    assert len(app.sub_routers) == 2


@pytest.mark.promise("rule-2")
def test_no_circles() -> None:
    first, second, third = JobRouter(), JobRouter(), JobRouter()
    with pytest.raises(RuntimeError):
        first.include_router(first)
    first.include_router(second)
    second.include_router(third)
    with pytest.raises(RuntimeError, match="Circular"):
        third.include_router(first)


@pytest.mark.promise("rule-2")
def test_include_routers() -> None:
    app, routers = Jobify(storage=False), [JobRouter(), JobRouter()]
    with pytest.raises(ValueError, match="At least one router must be provided"):
        app.include_routers()
    app.include_routers(*routers)
    assert app.sub_routers == tuple(routers)
    assert all(router.parent is app and router.root is app for router in routers)
    with pytest.raises(ConfigurationError):
        app.include_router(Jobify(storage=False))  # type: ignore[arg-type]


def test_the_tree_can_be_walked_in_both_directions() -> None:
    app, outer, inner = Jobify(storage=False), JobRouter(), JobRouter()
    app.include_router(outer)
    outer.include_router(inner)
    assert list(app.chain_tail) == [app, outer, inner]
    assert list(inner.chain_head) == [inner, outer, app]
    routes = [router.task(report, name=name) for router, name in ((inner, "i"), (app, "a"), (outer, "o"))]
    assert set(app.routes) == set(routes)
    assert list(inner.routes) == routes[:1]


def test_a_refused_include_changes_nothing() -> None:
    app, router, inner = Jobify(storage=False), JobRouter(), JobRouter()
    app.task(report)
    router.include_router(inner)
    good, clash = router.task(process_id), inner.task(report)
    with pytest.raises(RouteAlreadyRegisteredError, match="checklist_tasks:report"):
        app.include_router(router)
    assert app.sub_routers == ()
    assert router.parent is None
    assert not good.is_attached
    assert not clash.is_attached
    Jobify(storage=False).include_router(router)
    assert good.is_attached
    assert clash.is_attached


def test_what_the_app_cannot_run_is_refused_when_its_router_is_included() -> None:
    app, router = Jobify(storage=False), JobRouter()
    router.task(report, cron="61 * * * *")
    with pytest.raises(ValueError, match="minute"):
        app.include_router(router)


async def test_router_tasks_run() -> None:
    app, outer, inner = Jobify(storage=False), JobRouter(prefix="a"), JobRouter(prefix="b")

    @outer.task
    async def one(x: int) -> int:
        return x

    @inner.task(retry=1)
    def two(x: int) -> int:
        return 2 * x

    outer.include_router(inner)
    app.include_router(outer)
    async with app:
        assert await (await one.push(1)) == 1
        assert await (await two.schedule(1).delay(0)) == 2


async def test_a_task_can_be_added_to_an_included_router() -> None:
    app, router = Jobify(storage=False), JobRouter(prefix="late")
    app.include_router(router)
    task = router.task(report)
    async with app:
        assert await (await task.push()) == "done"


def test_remove_route() -> None:
    app, router = Jobify(storage=False), JobRouter(prefix="a")
    app.include_router(router)
    task = router.task(report)
    router.remove_route(task.name)
    assert list(app.routes) == []
    assert not task.is_attached
    with pytest.raises(ConfigurationError, match="no task"):
        router.remove_route(task.name)
    assert router.task(report).is_attached


# -- 3. frozen while it runs -------------------------------------------------------------------------------------------


@pytest.mark.promise("rule-3")
async def test_nothing_is_configured_while_the_app_runs() -> None:
    app, router = Jobify(storage=False), JobRouter()
    app.include_router(router)
    app.task(process_id)
    async with app:
        for node in (app, router):
            for change in (
                lambda: node.task(report),
                lambda: node.task(name="x")(report),
                lambda: node.add_middleware(Nothing()),
                lambda: node.add_outer_middleware(NothingOuter()),
                lambda: node.add_exception_handler(ValueError, print),
                lambda: node.include_router(JobRouter()),
                lambda: node.remove_route("checklist_tasks:process_id"),
            ):
                with pytest.raises(ApplicationStateError, match="already running and configuration is frozen"):
                    change()
        with pytest.raises(ApplicationStateError, match="frozen"):
            app.add_plugin(Extension())
    app.task(report)


@pytest.mark.promise("rule-3")
async def test_nothing_is_scheduled_before_the_start() -> None:
    app = Jobify(storage=False)
    task = app.task(report)
    for schedule in (
        lambda: task.push(),
        lambda: task.schedule().push(),
        lambda: task.schedule().delay(1),
        lambda: task.schedule().cron("* * * * *", job_id="x"),
    ):
        with pytest.raises(ApplicationStateError, match="is not started"):
            await schedule()
    async with app:
        pass
    with pytest.raises(ApplicationStateError, match="is not started"):
        await task.push()
    with pytest.raises(ApplicationStateError, match="is not started"):
        task.schedule()


class Extension:
    async def startup(self, app: Any) -> None: ...

    async def shutdown(self) -> None: ...


class Nothing(BaseMiddleware):
    async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
        return await call_next(context)


class NothingOuter(BaseOuterMiddleware):
    async def __call__(self, call_next: CallNextOuter, context: Any) -> Any:
        return await call_next(context)


# -- 4. the same function twice ----------------------------------------------------------------------------------------


@pytest.mark.promise("rule-4")
def test_the_same_function_twice() -> None:
    app = Jobify(storage=False)
    first = app.task(report)
    with pytest.raises(RouteAlreadyRegisteredError, match="checklist_tasks:report"):
        app.task(report)
    with pytest.raises(RouteAlreadyRegisteredError):
        app.task(first)
    second = app.task(first, name="x", retry=2)
    assert second.func is report
    assert second.options.get("retry") is not None
    assert "retry" not in first.options
    assert first() == second() == "done"


def test_what_is_no_function_is_refused() -> None:
    for wrong in (5, "name", None):
        with pytest.raises(ConfigurationError, match="callable"):
            Jobify(storage=False).add_route(wrong)  # type: ignore[arg-type]


# -- what a router is given --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"middleware": [Nothing]}, r"Did you mean Nothing\(\)"),
        ({"outer_middleware": [NothingOuter]}, r"Did you mean NothingOuter\(\)"),
        ({"middleware": ["x"]}, "no middleware"),
        ({"exception_handlers": [ValueError]}, "must map"),
        ({"exception_handlers": {ValueError: None}}, "a function"),
        ({"exception_handlers": {"ValueError": print}}, "exception type"),
        ({"exception_handlers": {KeyboardInterrupt: print}}, "exception type"),
        ({"lifespan": 5}, "lifespan"),
        ({"state": 5}, "state"),
    ],
)
def test_bad_arguments_are_refused_where_they_are_written(options: dict[str, Any], words: str) -> None:
    for kind in (functools.partial(Jobify, storage=False), JobRouter):
        with pytest.raises(ConfigurationError, match=words):
            kind(**options)


def test_more_bad_arguments() -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        JobRouter(prefix=5)  # type: ignore[arg-type]
    for node in (Jobify(storage=False), JobRouter()):
        with pytest.raises(ConfigurationError):
            node.add_middleware(Nothing)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError):
            node.add_outer_middleware(NothingOuter)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError):
            node.add_exception_handler(5, print)  # type: ignore[arg-type]


def test_a_plain_dict_as_state() -> None:
    assert Jobify(storage=False, state={"a": 1}).state.a == 1  # type: ignore[arg-type]


async def test_a_function_as_middleware() -> None:
    async def double(call_next: CallNext, context: JobContext) -> Any:
        return 2 * await call_next(context)

    app = Jobify(storage=False, middleware=[double])  # type: ignore[list-item]
    task = app.task(lambda: 3)
    async with app:
        assert await (await task.push()) == 6


# -- route classes -----------------------------------------------------------------------------------------------------


class Counted(RootRoute[..., Any]):
    """A route that changes what a call is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.pushes = 0

    def push(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Job[Any]]:
        self.pushes += 1
        return super().push(*args, **kwargs)


class CountedNode(NodeRoute[..., Any]):
    pushes = 0

    async def push(self, *args: Any, **kwargs: Any) -> Job[Any]:
        self.pushes += 1
        return await super().push(*args, **kwargs)


async def test_routes_can_be_subclassed() -> None:
    app, router = Jobify(storage=False, route_class=Counted), JobRouter(route_class=CountedNode)
    on_app: Any = app.task(report)
    on_router: Any = router.task(report, name="other")
    app.include_router(router)
    async with app:
        assert await (await on_app.push()) == "done"
        assert await (await on_router.push()) == "done"
    assert (on_app.pushes, on_router.pushes) == (1, 1)
    assert repr(on_app) == "<Counted 'checklist_tasks:report'>"


# -- state, and starting again -----------------------------------------------------------------------------------------


@pytest.mark.promise("b39")
async def test_state_is_shared_downwards_and_live() -> None:
    app = Jobify(storage=False, state=State({"a": "app", "b": "app"}))
    outer, inner = JobRouter(state=State({"b": "outer"})), JobRouter(state=State({"c": "inner"}))
    app.include_router(outer)
    outer.include_router(inner)

    @inner.task
    async def look(state: State = INJECT) -> dict[str, Any]:
        state.mine = 1
        return dict(state)

    for _ in range(2):
        async with app:
            expected = {"a": "app", "b": "outer", "c": "inner", "mine": 1}
            assert await (await look.push()) == expected
            app.state.a = "changed"
            assert (await (await look.push()))["a"] == "changed"
            outer.state.b = "changed, too"
            assert (await (await look.push()))["b"] == "changed, too"
            assert app.state == {"a": "changed", "b": "app"}
        app.state.a, outer.state.b = "app", "outer"


async def test_one_state_object_for_all() -> None:
    state = State({"a": 1})
    app, router = Jobify(storage=False, state=state), JobRouter(state=state)
    app.include_router(router)
    task = router.task(look_at_state)
    for _ in range(3):
        async with app:
            assert await (await task.push()) is state
    assert type(state.data) is dict


async def look_at_state(state: State = INJECT) -> State:
    return state


def test_an_app_with_routers_starts_again_and_again(tmp_path: Path) -> None:
    app, router = Jobify(storage=durable(tmp_path)), JobRouter(prefix="r")
    app.include_router(router)

    @router.task(cron=Cron("0 0 1 1 *"))
    async def yearly() -> str:
        return "ran"

    async def main() -> None:
        async with app:
            (job,) = app.get_active_jobs()
            assert job.id == f"{yearly.name}__jobify_cron_definition"
            assert job.status is JobStatus.SCHEDULED
            assert await (await yearly.push()) == "ran"

    for _ in range(3):
        run(main())


async def test_process_tasks_of_routers() -> None:
    app, router = Jobify(storage=False), JobRouter()
    app.include_router(router)
    task = router.task(process_id, run_mode=RunMode.PROCESS)
    async with app:
        assert await (await task.push()) != process_id()

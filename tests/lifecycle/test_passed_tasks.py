"""Tasks as values: pickled, copied, passed to other processes; and methods as tasks."""

from __future__ import annotations

import copy
import functools
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Optional, Protocol, runtime_checkable

import passed_tasks
import pytest
from passed_tasks import Mailer, Tools, again, app, bound, double, send

from jobify import INJECT, Job, JobContext, Jobify, JobRouter, State, TaskTracker, group
from jobify.exceptions import ConfigurationError
from jobify.router import Router
from support import durable

pytestmark = pytest.mark.promise("f36")

TASKS = [double, send, again, Tools.outer, Tools.inner, Tools.plain]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("task", TASKS, ids=str)
def test_a_task_is_pickled_by_its_name(task: Any, protocol: int) -> None:
    assert pickle.loads(pickle.dumps(task, protocol)) is task
    python_pickle: Any = pickle
    assert pickle.loads(python_pickle._dumps(task, protocol)) is task
    assert pickle.loads(pickle.dumps({"tasks": [task]}, protocol))["tasks"][0] is task


def test_a_method_of_a_task_is_pickled() -> None:
    for method in (double.push, double.delay, send.adelay, double.schedule):
        assert pickle.loads(pickle.dumps(method)) == method
    partial = pickle.loads(pickle.dumps(functools.partial(double, 4)))
    assert partial() == 8


def test_a_copy_of_a_task_is_the_task() -> None:
    local = Jobify(storage=False).task(lambda: None)
    for task in (*TASKS, local):
        assert copy.copy(task) is task
        assert copy.deepcopy({"task": [task]})["task"][0] is task


def test_what_has_no_name_is_not_pickled() -> None:
    jobs = Jobify(storage=False)

    @jobs.task
    def local() -> None: ...

    class Caller:
        def __call__(self) -> None: ...

    unnamed = [
        local,
        jobs.task(lambda: None),
        jobs.task(functools.partial(double.func, 1)),
        jobs.task(Caller()),
        jobs.task(double, name="nowhere"),
    ]
    for task in unnamed:
        for refused in (task, [task], task.push):
            with pytest.raises(pickle.PicklingError, match=r"has no name in the module .* app\.enqueue\(name"):
                pickle.dumps(refused)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_process_pool_runs_a_task_as_the_function_it_is(method: str) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        assert pool.submit(double, 21).result(60) == 42
        assert list(pool.map(Tools.outer, [1, 2])) == [2, 3]
        assert pool.submit(call, double, 4).result(60) == (8, "passed_tasks:double")
        with pytest.raises(pickle.PicklingError, match="has no name"):
            pool.submit(Jobify(storage=False).task(lambda: None)).result(60)


def call(task: Any, *args: Any) -> tuple[Any, str]:
    assert task is getattr(passed_tasks, task.__name__)
    return task(*args), task.name


# -- what belongs to its process ---------------------------------------------------------------------------------------


async def test_what_belongs_to_its_process_says_what_to_pass_on(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="add")
    async def add(a: list[int]) -> int:
        return len(a)

    async with app:
        job = await add.push([1])
        found = {
            "app.get_job": [job],
            "Import it": [app],
            "or its name": [
                add.s([1]),
                add.s([1]) | add.si([2]),
                group([add.s([1])]),
                add.schedule([1]),
            ],
        }
        for match, values in found.items():
            for value in values:
                with pytest.raises(pickle.PicklingError, match=match):
                    pickle.dumps(value)
        assert copy.deepcopy([job, app]) == [job, app]
        await job


def test_a_copy_of_a_signature_has_arguments_of_its_own() -> None:
    app = Jobify(storage=False)
    task = app.task(lambda a: a, name="same")
    numbers = [1]
    step = task.s(numbers).set(priority=3)
    deep = copy.deepcopy(step | task.si([2]))
    assert deep.apply().status == "pending"
    own = copy.deepcopy(step)
    assert own == step
    numbers.append(2)
    assert own.args == ([1],)
    assert copy.copy(step) == step


# -- methods -----------------------------------------------------------------------------------------------------------


def declared(node: Router, decorate: Callable[[Any], Any]) -> None:
    class Shop:
        @node.task
        @decorate
        def send(self, to: str) -> None: ...


@pytest.mark.parametrize("make", [lambda: Jobify(storage=False), JobRouter], ids=["app", "router"])
def test_a_method_is_refused_at_the_decorator(make: Callable[[], Router]) -> None:
    def wrapped(func: Any) -> Any:
        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return func(*args, **kwargs)

        return wrapper

    for decorate in (lambda func: func, wrapped, functools.lru_cache, classmethod):
        with pytest.raises(ConfigurationError, match=r"Shop\.send is a (class )?method: .*`@staticmethod`"):
            declared(make(), decorate)
    with pytest.raises(ConfigurationError, match=r"Shop\.create is a method"):

        class Shop:
            @classmethod
            @make().task
            def create(cls, to: str) -> None: ...

    with pytest.raises(ConfigurationError, match=r"Mailer\.send is a method"):
        make().task(Mailer.send, queue="mail")
    with pytest.raises(ConfigurationError, match="must be a function"):
        make().task(property(lambda self: None))  # type: ignore[call-overload]


async def test_what_needs_no_object_is_a_task() -> None:
    def free(self: int) -> int:
        return self

    def made() -> Any:
        class Inner:
            def method(self) -> Any:
                def local(self: int) -> int:
                    return self

                return local

        return Inner().method()

    jobs = Jobify(storage=False)
    tasks: list[Any] = [jobs.task(free), jobs.task(made())]
    async with app, jobs:
        for task in tasks:
            assert await (await task.push(1)) == 1
        assert await (await bound.push("Ada")) == "mail to Ada"
        for tool, expected in ((Tools.outer, 2), (Tools.inner, 3), (Tools.plain, 4), (Tools().inner, 3)):
            assert tool(1) == expected
            assert await (await tool.push(1)) == expected


# -- what is injected --------------------------------------------------------------------------------------------------


class Other:
    pass


class MyApp(Jobify):
    pass


class Unchecked(Protocol):
    def find_job(self, id_: str) -> Any: ...


@runtime_checkable
class Finder(Protocol):
    def find_job(self, id_: str) -> Any: ...


@runtime_checkable
class Cook(Protocol):
    def cook(self) -> None: ...


def asking_for(hint: Any) -> Any:
    def work(x: int, wanted: Any = INJECT) -> None: ...

    work.__annotations__["wanted"] = hint
    return work


@pytest.mark.parametrize("hint", [int, str, dict, Other, object, Any, JobRouter, Job[Any] | State, list[JobContext]])
def test_what_cannot_be_injected_is_refused_at_the_decorator(hint: Any) -> None:
    for node in (Jobify(storage=False), JobRouter()):
        with pytest.raises(ConfigurationError, match=r"Unknown type for injection: .* of parameter 'wanted' of task"):
            node.task(asking_for(hint))
        assert list(node.routes) == []
    with pytest.raises(ConfigurationError, match="'wanted'"):
        Jobify(storage=False).task(asking_for("shop.Database"))


def test_a_router_leaves_to_its_app_what_only_an_app_knows() -> None:
    for hint in (MyApp, "MyApp", "Database", Cook, Unchecked):
        router = JobRouter()
        router.task(asking_for(hint))
        with pytest.raises(ConfigurationError, match="Unknown type for injection"):
            Jobify(storage=False).include_router(router)
    for hint in (MyApp, "MyApp"):
        router = JobRouter()
        router.task(asking_for(hint))
        MyApp(storage=False).include_router(router)


@pytest.mark.parametrize(
    "hint",
    [
        *(JobContext, JobContext | None, Optional[JobContext], Annotated[JobContext | None, "this one"]),  # noqa: UP045
        *("JobContext | None", "None | jobify.JobContext", Job[int], Jobify, "Jobify", TaskTracker, Finder),
    ],
)
async def test_what_can_be_injected_is(hint: Any) -> None:
    jobs = Jobify(storage=False)
    got = []

    def work(wanted: Any = INJECT) -> None:
        got.append(wanted)

    work.__annotations__["wanted"] = hint
    task: Any = jobs.task(work)
    async with jobs:
        await (await task.push())
    assert isinstance(got[0], JobContext | Job | Jobify)

"""Hooks of routers: for their own tasks, before those of the app."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobify import JobFailure, Jobify, JobRouter
from jobify.engine.execution.job_log import JobLog
from jobify.exceptions import ConfigurationError
from jobify.model.retry import SmartRetry
from jobify.router.registry import build_registry
from support import durable, eventually, run


class Shop:
    """A router within a router, each with hooks; ``heard`` has who was called, for which task."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.outer, self.inner = JobRouter(prefix="shop"), JobRouter(prefix="mail")
        self.other = JobRouter()
        for name in ("outer", "inner", "other"):
            self.listen(name, getattr(self, name))
        self.inner.task(self.fails, name="send", retry=SmartRetry(1, initial_delay=0), durable=False)
        self.outer.task(self.fails, name="pack", durable=False)
        self.other.task(self.fails, name="else", durable=False)
        self.outer.include_router(self.inner)

    def listen(self, name: str, place: Any) -> None:
        place.on_failure(lambda failure: self.heard.append((f"{name} failure", failure.task)))
        place.on_retry(lambda failure: self.heard.append((f"{name} retry", failure.task)))

        @place.on_dead
        async def dead(failure: JobFailure) -> None:
            await asyncio.sleep(0)
            self.heard.append((f"{name} dead", failure.task))

    @staticmethod
    async def fails() -> None:
        raise LookupError("the shelf is empty")

    def app(self, name: str = "app") -> Jobify:
        app = Jobify(storage=False)
        app.include_routers(self.outer, self.other)
        app.task(self.fails, name="own")
        self.listen(name, app)
        return app


async def fail(app: Jobify, *tasks: str) -> None:
    async with app:
        for task in tasks:
            job = await app.aenqueue(task)
            await job.await_end(timeout=20)


def test_the_nearest_router_is_called_first_and_others_are_not() -> None:
    shop = Shop()
    run(fail(shop.app(), "shop.mail:send"))
    task = "shop.mail:send"
    order = ["inner retry", "outer retry", "app retry", "inner failure", "outer failure", "app failure"]
    assert shop.heard[:6] == [(name, task) for name in order]
    assert sorted(shop.heard[6:]) == [("app dead", task), ("inner dead", task), ("outer dead", task)]


def test_tasks_beside_and_above_a_router_are_not_its_own() -> None:
    shop = Shop()
    run(fail(shop.app(), "shop:pack", "else", "own"))
    assert shop.heard == [
        ("outer failure", "shop:pack"),
        ("app failure", "shop:pack"),
        ("other failure", "else"),
        ("app failure", "else"),
        ("app failure", "own"),
    ]


def test_a_router_in_several_apps_has_its_hooks_in_each() -> None:
    shop = Shop()
    first, second = shop.app("first"), shop.app("second")
    late: list[str] = []
    shop.inner.on_retry(lambda failure: late.append(failure.task))  # also when it is in them already
    for app in (first, second):
        run(fail(app, "shop.mail:send"))
    assert [name for name, _ in shop.heard if name.endswith("retry")] == [
        *("inner retry", "outer retry", "first retry"),
        *("inner retry", "outer retry", "second retry"),
    ]
    assert late == ["shop.mail:send"] * 2


async def test_an_app_without_hooks_calls_those_of_its_routers(tmp_path: Path) -> None:
    router, heard = JobRouter(), []
    router.on_failure(lambda failure: heard.append(failure.id))
    router.task(Shop.fails, name="fails")

    app = Jobify(storage=durable(tmp_path))
    app.include_router(router)
    async with app:
        job = await app.aenqueue("fails")
        await eventually(lambda: heard == [job.id])


async def test_the_hooks_of_a_router_hear_of_a_job_that_took_its_processes_down() -> None:
    shop = Shop()

    log = JobLog(Jobify(storage=False).configs, build_registry(shop.app()))
    for task in ("shop:pack", "unknown"):
        record: Any = SimpleNamespace(id="a", task=task, queue="default", attempt=3, error=None, rule=None)
        log.condemned(record, 3)
    await eventually(lambda: len(shop.heard) == 2)
    assert shop.heard == [("outer failure", "shop:pack"), ("outer dead", "shop:pack")]


def test_a_hook_of_a_router_is_a_function() -> None:
    with pytest.raises(ConfigurationError, match="cannot be a hook"):
        JobRouter().on_failure(7)  # type: ignore[type-var]  # which is what is tested

"""Lifespans and plugins: documented behaviour 18 and 20, stories B37 and B39."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import MappingProxyType
from typing import Any

import pytest

from jobify import INJECT, JobContext, Jobify, JobRouter, Plugin, State
from jobify.exceptions import ConfigurationError
from jobify.middleware import BaseMiddleware, BaseOuterMiddleware, CallNext, CallNextOuter
from support import run


@pytest.mark.promise("rule-18")
def test_what_it_yields_is_merged_into_the_state() -> None:
    for yielded in ({"db": "pool"}, MappingProxyType({"db": "pool"}), State({"db": "pool"})):

        @asynccontextmanager
        async def lifespan(app: Jobify, yielded: Mapping[str, Any] = yielded) -> AsyncIterator[Mapping[str, Any]]:
            app.state.set_by_hand = 1
            yield yielded

        async def main() -> None:
            app = Jobify(storage=False, lifespan=lifespan, state=State({"kept": 2}))
            async with app:
                assert app.state == {"kept": 2, "set_by_hand": 1, "db": "pool"}

        run(main())


async def test_it_need_not_yield_anything() -> None:
    @asynccontextmanager
    async def lifespan(app: Jobify) -> AsyncIterator[None]:
        yield

    async with Jobify(storage=False, lifespan=lifespan) as app:
        assert app.state == {}


async def test_an_async_generator_function_will_do() -> None:
    log = []

    async def lifespan(app: Jobify) -> AsyncIterator[dict[str, int]]:
        yield {"a": 1}
        log.append("left")

    async with Jobify(storage=False, lifespan=lifespan) as app:  # type: ignore[arg-type]
        assert app.state.a == 1
    assert log == ["left"]


class Resource(AbstractAsyncContextManager[None]):
    """A context manager that is a class."""

    def __init__(self, app: Jobify) -> None:
        self.app = app

    async def __aenter__(self) -> None:
        self.app.state.resource = self

    async def __aexit__(self, *_: object) -> None:
        del self.app.state.resource


async def test_a_class_will_do() -> None:
    app = Jobify(storage=False, lifespan=Resource)
    async with app:
        assert app.state.resource.app is app
    assert app.state == {}


async def test_what_is_no_mapping_is_refused() -> None:
    @asynccontextmanager
    async def lifespan(app: Jobify) -> AsyncIterator[Any]:
        yield 5

    with pytest.raises(ConfigurationError, match="yield a mapping"):
        await Jobify(storage=False, lifespan=lifespan).startup()


@pytest.mark.promise("b37")
async def test_it_gets_the_real_app() -> None:
    """Story B37."""

    @asynccontextmanager
    async def lifespan(app: Jobify) -> AsyncIterator[None]:
        assert isinstance(app, Jobify)
        assert app.configs.app is app
        yield

    async with Jobify(storage=False, lifespan=lifespan):
        pass


@pytest.mark.promise("b37", "rule-18")
async def test_routers_have_their_own() -> None:
    """Each gets its router, after the one above has been entered; they are left in reverse."""
    log: list[str] = []

    def lifespan_of(name: str) -> Any:
        @asynccontextmanager
        async def lifespan(node: Any) -> AsyncIterator[dict[str, str]]:
            log.append(f"{name} in: {node.prefix}")
            yield {name: "here", "last": name}
            log.append(f"{name} out")

        return lifespan

    app = Jobify(storage=False, lifespan=lifespan_of("app"))
    outer = JobRouter(prefix="a", lifespan=lifespan_of("outer"))
    inner = JobRouter(prefix="b", lifespan=lifespan_of("inner"))
    app.include_router(outer)
    outer.include_router(inner)

    @inner.task
    async def look(state: State = INJECT) -> dict[str, str]:
        return dict(state)

    @outer.task
    async def look_above(state: State = INJECT) -> dict[str, str]:
        return dict(state)

    for _ in range(2):
        log.clear()
        async with app:
            assert await (await look.push()) == {"app": "here", "outer": "here", "inner": "here", "last": "inner"}
            assert await (await look_above.push()) == {"app": "here", "outer": "here", "last": "outer"}
            assert app.state == {"app": "here", "last": "app"}
        assert log == ["app in: ", "outer in: a", "inner in: b", "inner out", "outer out", "app out"]


async def test_it_can_schedule() -> None:
    app_ran = []

    @asynccontextmanager
    async def lifespan(app: Jobify) -> AsyncIterator[None]:
        await work.push()
        yield

    app = Jobify(storage=False, lifespan=lifespan)

    @app.task
    async def work() -> None:
        app_ran.append(1)

    async with app:
        await app.wait_all(20)
    assert app_ran == [1]


# -- plugins -----------------------------------------------------------------------------------------------------------


class Extension:
    __hash__ = None  # type: ignore[assignment]  # like a plain dataclass

    def __init__(self, log: list[str], name: str) -> None:
        self.log = log
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Extension)

    async def startup(self, app: Jobify) -> None:
        assert isinstance(app, Jobify)
        self.log.append(f"{self.name} up")

    async def shutdown(self) -> None:
        self.log.append(f"{self.name} down")


class Layer(BaseMiddleware, Extension):
    async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
        return await call_next(context)


class OuterLayer(BaseOuterMiddleware, Extension):
    async def __call__(self, call_next: CallNextOuter, context: Any) -> Any:
        return await call_next(context)


@pytest.mark.promise("b39")
async def test_plugins_and_the_middleware_that_are_plugins() -> None:
    log: list[str] = []
    shared, inner = Layer(log, "shared"), Layer(log, "inner")
    assert isinstance(shared, Plugin)
    app = Jobify(
        storage=False,
        plugins=[Extension(log, "one"), Extension(log, "two")],
        middleware=[shared],
        outer_middleware=[OuterLayer(log, "outer")],
    )
    app.add_plugin(Extension(log, "three"))
    router = JobRouter(middleware=[shared, inner])
    app.include_router(router)
    names = ["one", "two", "three", "shared", "outer", "inner"]
    for _ in range(2):
        async with app:
            assert log == [f"{name} up" for name in names]
            log.clear()
        assert log == [f"{name} down" for name in reversed(names)]
        log.clear()


def test_the_set_of_plugins() -> None:
    log: list[str] = []
    one, two = Extension(log, "one"), Extension(log, "two")
    app = Jobify(storage=False, plugins=[one])
    app.plugins.add(two)
    app.plugins.add(one)
    assert list(app.plugins) == [one, two]
    assert len(app.plugins) == 2
    assert two in app.plugins
    assert Extension(log, "one") not in app.plugins
    assert repr(app.plugins) == f"{{{one!r}, {two!r}}}"
    app.plugins.discard(one)
    app.plugins.discard(one)
    assert next(iter(app.plugins)) is two
    with pytest.raises(ConfigurationError, match="no plugin"):
        app.add_plugin(object())  # type: ignore[arg-type]
    assert len(app.plugins) == 1

"""``app.limits``, ``set_limit``, ``reset_limit``, ``job.waits_for``: without running an app."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from elsewhere import World

from jobify import Concurrency, Fair, Jobify, LimitExceededError, Rate
from jobify.exceptions import ConfigurationError
from support import until


def declare(app: Jobify) -> None:
    @app.task(name="one", limits=[Concurrency(1)])
    async def one() -> None:
        await asyncio.Event().wait()

    @app.task(name="several", limits=[Concurrency(1, key="user"), Rate(100, per=1)])
    async def several(user: str) -> None:
        await asyncio.Event().wait()

    @app.task(name="shared", limits=[Concurrency(2, key="user", name="api"), Rate(50, per=10, burst=3, name="pace")])
    async def shared(user: object) -> None: ...

    @app.task(name="turns", limits=[Fair("user", name="turns")])
    async def turns(user: int) -> None: ...

    @app.task(name="strict", limits=[Concurrency(1, key="user", name="strict", on_excess="fail")])
    async def strict(user: int) -> None: ...

    @app.task(name="skips", limits=[Concurrency(1, name="skips", on_excess="skip")])
    async def skips() -> None: ...


@pytest.fixture
def known(world: World) -> Callable[[], World]:
    """The limits were stored by a worker, and the app of the test does not know the tasks."""
    with world.running(declare):
        pass
    return lambda: world


def test_limits_of_tasks_that_this_process_does_not_know(known: Callable[[], World]) -> None:
    app = known().app
    found = {limit.name: limit for limit in app.limits()}
    assert {"api", "one:concurrency", "pace", "several:concurrency:user", "several:rate"} < found.keys()
    pace = found["pace"]
    assert (pace.kind, pace.limit, pace.per, pace.burst, pace.is_set) == ("rate", 50, 10.0, 3, False)
    assert (found["api"].active, found["api"].waiting, found["api"].keys) == (0, 0, ())


def test_a_limit_is_set_by_its_name_or_by_its_only_task(known: Callable[[], World]) -> None:
    app = known().app
    app.set_limit("pace", 7)
    app.set_limit("one", 3)
    app.set_limit("api", 0, key="shop-7")
    app.set_limit("api", 1, key=None)
    found = {limit.name: limit for limit in app.limits()}
    assert (found["pace"].limit, found["pace"].is_set) == (7, True)
    assert (found["one:concurrency"].limit, found["one:concurrency"].is_set) == (3, True)
    assert (found["api"].limit, found["api"].is_set) == (2, False)
    assert [(key.key, key.limit, key.is_set) for key in found["api"].keys] == [("shop-7", 0, True), (None, 1, True)]
    for name in ("pace", "one"):
        app.reset_limit(name)
    app.reset_limit("api", key="shop-7")
    app.reset_limit("api", key=None)
    assert not any(limit.is_set or limit.keys for limit in app.limits())


async def test_the_same_without_blocking_the_loop(known: Callable[[], World]) -> None:
    app = known().app
    await app.aset_limit("pace", 0)
    assert [limit.limit for limit in await app.alimits() if limit.name == "pace"] == [0]
    await app.areset_limit("pace")
    assert [limit.limit for limit in await app.alimits() if limit.name == "pace"] == [50]


@pytest.mark.parametrize(
    ("name", "limit", "more", "message"),
    [
        ("pase", 1, {}, "There is no limit 'pase'. Did you mean 'pace'"),
        ("several", 1, {}, "several limits without a name.*'several:concurrency:user', 'several:rate'"),
        ("pace", -1, {}, "The limit is -1"),
        ("pace", True, {}, "The limit is True"),
        ("pace", 1.5, {}, "The limit is 1.5"),
        ("pace", 1, {"key": "x"}, "has no key"),
        ("shared", 1, {}, "There is no limit 'shared'"),
        ("turns", 1, {}, "'turns' is a Fair"),
    ],
)
def test_what_makes_no_sense_is_refused(
    known: Callable[[], World], name: str, limit: int, more: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        known().app.set_limit(name, limit, **more)


def test_keys_are_given_without_the_code(world: World) -> None:
    with world.running(declare):
        world.app.set_limit("api", 0)
        job = world.app.enqueue("shared", ["u"], limit_keys={"user": "given"})
        until(lambda: world.app.limits()[0].waiting == 1)
        assert str(job.waits_for).startswith("limit api")
        assert str(job.waits_for).endswith("1st in line")
        assert "api" in str(job.note)
        assert [(key.key, key.waiting) for key in world.app.limits()[0].keys] == [("given", 1)]
        other = world.app.enqueue("shared", [{"read": "there"}])
        until(lambda: world.app.limits()[0].waiting == 2)
        assert {str(key.key) for key in world.app.limits()[0].keys} == {"given", "{'read': 'there'}"}
        world.app.reset_limit("api")
        assert job.result(timeout=30) is None
        assert other.result(timeout=30) is None
        assert job.waits_for is None


def test_limits_refuse_what_is_enqueued_without_the_code(known: Callable[[], World]) -> None:
    app = known().app
    assert [app.enqueue("skips").created for _ in range(2)] == [True, False]
    keys = {"user": 1}
    assert app.enqueue("strict", [1], limit_keys=keys).created
    with pytest.raises(LimitExceededError, match="strict"):
        app.enqueue("strict", [1], limit_keys=keys)
    assert app.enqueue("strict", [2], limit_keys={"user": 2}).created
    with pytest.raises(ConfigurationError, match=r"'pace'.*never admits more than 53"):
        app.enqueue("shared", ["u"], cost=54)
    assert app.enqueue("shared", ["u"], cost=53).created


@pytest.mark.parametrize("keys", [["user"], {"user": object()}.keys(), "user", {1: 2}])
def test_keys_that_are_no_dict_are_refused(world: World, keys: object) -> None:
    with pytest.raises(ConfigurationError, match=r"limit_keys|key of a limit"):
        world.app.enqueue("shared", ["u"], limit_keys=keys)  # type: ignore[arg-type]


@pytest.mark.parametrize("cost", [0, -1, True, 1.5, "2"])
def test_a_cost_is_a_number(world: World, cost: object) -> None:
    with pytest.raises(ConfigurationError, match="cost"):
        world.app.enqueue("shared", ["u"], cost=cost)  # type: ignore[arg-type]

"""The nouns of limits: what is refused, where keys are read, and what a rate admits in any window."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from inspect import signature
from typing import Any

import msgspec
import pytest

from jobify import Concurrency, Fair, Jobify, Rate
from jobify.exceptions import ConfigurationError, PayloadError
from jobify.model.clock import SECOND
from jobify.model.job_options import JobOptions
from jobify.model.limit_gates import NEVER, LimitDefinition, LimitGate, limits_of_options
from jobify.model.limit_keys import KeyReader, as_key, key_at, key_text
from jobify.model.limits import check_cost, check_definitions, check_limits, definition_of, definitions_of


@dataclass
class Shop:
    id: str
    tags: list[str]


def shop_of(order: dict[str, Any], limit: int = 0) -> Any:
    return order["shop"].id


async def _asked(order: Any) -> Any: ...


def _fails(order: Any) -> Any:
    raise LookupError("no shop")


# -- declarations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Concurrency(-1), "limit of a Concurrency is -1"),
        (lambda: Concurrency(True), "limit of a Concurrency is True"),
        (lambda: Concurrency(1.5), "limit of a Concurrency is 1.5"),  # type: ignore[arg-type]
        (lambda: Concurrency(2**31), "must be a whole number"),
        (lambda: Concurrency(1, name=""), "name of a Concurrency"),
        (lambda: Concurrency(1, name="x" * 201), "has 201 characters"),
        (lambda: Fair("user", name="x" * 201), "has 201 characters"),
        (lambda: Concurrency(1, on_excess="drop"), "must be 'wait', 'skip' or 'fail'"),  # type: ignore[arg-type]
        (lambda: Concurrency(1, key="order..id"), "is no path into the arguments"),
        (lambda: Concurrency(1, key=""), "is no path into the arguments"),
        (lambda: Concurrency(1, key="order[0]"), "is no path into the arguments"),
        (lambda: Concurrency(1, key=lambda order: order), "a function at the top level of a module"),
        (lambda: Concurrency(1, key=_asked), "is an async function"),
        (lambda: Concurrency(1, key=7), "must be a path into the arguments"),  # type: ignore[arg-type]
        (lambda: Rate(1, per=0), "per of a Rate"),
        (lambda: Rate(1, per=-1), "per of a Rate"),
        (lambda: Rate(1, per=0.0001), "a millisecond at least"),
        (lambda: Rate(1, per=float("nan")), "per of a Rate"),
        (lambda: Rate(1, per="minute"), "per of a Rate"),  # type: ignore[arg-type]
        (lambda: Rate(-1, per=1), "limit of a Rate is -1"),
        (lambda: Rate(1, per=1, burst=-1), "burst of a Rate is -1"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Concurrency(1), "must be a list"),
        ("openai", "must be a list of limits"),
        (7, "must be a list of limits"),
        ([Concurrency], "Did you mean Concurrency(...)?"),
        ([3], "which is no limit"),
        ([Concurrency(1), Concurrency(2)], "two limits called 'task:concurrency'"),
        ([Concurrency(1, name="x"), Rate(1, 1, name="x")], "two limits called 'x'"),
    ],
)
def test_a_list_of_something_else_is_refused(limits: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        check_limits(limits, "task")


def test_a_limit_without_a_name_is_its_tasks() -> None:
    names = [
        definition_of(limit, "mail").name
        for limit in (Concurrency(1), Concurrency(1, key="to.domain"), Rate(1, 1), Rate(1, 1, key=shop_of))
    ]
    assert names == ["mail:concurrency", "mail:concurrency:to.domain", "mail:rate", f"mail:rate:{key_text(shop_of)}"]
    limits = [Concurrency(1), Concurrency(1, key="user"), Rate(1, 1), Rate(1, 1, key="user")]
    assert len(check_limits(iter(limits), "mail")) == 4


def test_several_rates_without_a_name_are_numbered() -> None:
    per_second, per_hour = Rate(10, per=1), Rate(1000, per=3600)
    assert check_limits([per_second, per_hour, Concurrency(1)], "mail")
    names = [one.name for one in definitions_of([per_second, per_hour, Rate(1, per=1, key="to"), Rate(9, 9)], "mail")]
    assert names == ["mail:rate", "mail:rate:2", "mail:rate:to", "mail:rate:3"]
    with pytest.raises(ConfigurationError, match="two limits called 'mail:rate'"):
        check_limits([per_second, per_second], "mail")


def test_the_time_of_a_rate_may_be_a_timedelta() -> None:
    assert definition_of(Rate(5, per=timedelta(minutes=1)), "task").per == 60 * SECOND
    assert definition_of(Rate(5, per=0.25), "task").per == SECOND // 4


def test_two_declarations_of_one_name_are_refused() -> None:
    first, second = LimitDefinition("openai", "concurrency", 1), LimitDefinition("openai", "concurrency", 2)
    check_definitions([("a", [first]), ("b", [first])])
    with pytest.raises(ConfigurationError, match="Tasks 'a' and 'b' declare the limit 'openai' differently"):
        check_definitions([("a", [first]), ("b", [second])])


async def test_an_app_with_two_declarations_of_one_name_does_not_start() -> None:
    app = Jobify()

    @app.task(limits=[Concurrency(1, name="openai")])
    async def one() -> None: ...

    @app.task(limits=[Concurrency(2, name="openai")])
    async def two() -> None: ...

    with pytest.raises(ConfigurationError, match="openai"):
        async with app:
            pass


def test_a_cost_that_is_never_admitted_is_refused() -> None:
    limits = [LimitDefinition("shop", "rate", 10, SECOND, 2), LimitDefinition("all", "concurrency", 1)]
    check_cost("task", limits, 12)
    with pytest.raises(ConfigurationError, match="never admits more than 12"):
        check_cost("task", limits, 13)


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("order", {"shop": Shop("s", ["a", "b"]), "7": "seven", "lines": [{"sku": 1}]}),
        ("order.shop.id", "s"),
        ("order.shop.tags.1", "b"),
        ("order.shop.tags.2", None),
        ("order.lines.0.sku", 1),
        ("order.7", "seven"),
        ("order.shop.id.0", None),  # a text is no list
        ("order.missing.id", None),
        ("nothing", None),
    ],
)
def test_a_path_leads_through_attributes_keys_and_places(path: str, found: Any) -> None:
    order = {"shop": Shop("s", ["a", "b"]), "7": "seven", "lines": [{"sku": 1}]}
    assert key_at({"order": order}, path) == found


def test_a_key_is_json_and_the_same_for_equal_dicts() -> None:
    assert as_key({"a": 1, "b": 2}) == as_key({"b": 2, "a": 1})
    assert len({as_key(value) for value in (1, "1", None, "null", True, 1.5, [1], "true")}) == 8
    assert as_key(object).startswith('"')


@pytest.mark.parametrize(
    "key", ["x" * 10_000, "\ud800", {1: 2}, {(1, 2): [3]}, ["é" * 300], 2**70, float("nan"), "\x00"]
)
def test_any_value_is_a_short_key(key: Any) -> None:
    assert len(as_key(key).encode()) <= 500
    assert as_key(key) == as_key(key)
    msgspec.json.decode(as_key(key))  # it is shown to users


def test_long_keys_differ_by_their_ends() -> None:
    assert as_key("x" * 10_000 + "a") != as_key("x" * 10_000 + "b")
    assert as_key("x" * 10_000).startswith('"xxx')


def test_an_object_without_a_text_of_its_own_is_no_key() -> None:
    class Plain: ...

    with pytest.raises(PayloadError, match="Plain is no key"):
        as_key(Plain())


def _reader(function: Any, *keys: Any) -> KeyReader:
    return KeyReader("task", signature(function), {key_text(key): key for key in keys})


def test_keys_are_read_with_the_defaults_of_the_task() -> None:
    def task(user: int, shop: str = "main", *rest: int, **more: int) -> None: ...

    read = _reader(task, "user", "shop", "rest.0", "more.x")
    assert limits_of_options(read.options((7,), {})).limit_keys == {
        "user": "7", "shop": '"main"', "rest.0": "null", "more.x": "null",
    }  # fmt: skip
    assert limits_of_options(read.options((7, "b", 5), {"x": 3})).limit_keys == {
        "user": "7", "shop": '"b"', "rest.0": "5", "more.x": "3",
    }  # fmt: skip


def test_a_function_gives_a_key_or_the_reason_why_not() -> None:
    read = _reader(shop_of, shop_of)
    (key,) = limits_of_options(read.options(({"shop": Shop("s", [])},), {})).limit_keys.values()
    assert key == '"s"'
    with pytest.raises(PayloadError, match="_fails raised LookupError: no shop"):
        _reader(_fails, _fails).options((1,), {})


def test_keys_that_were_given_stay() -> None:
    def task(user: int) -> None: ...

    options = _reader(task, "user").options((7,), {}, JobOptions(limit_keys={"user": '"given"'}, cost=3))
    assert limits_of_options(options).limit_keys == {"user": '"given"'}
    assert limits_of_options(options).cost == 3
    assert limits_of_options("no JSON").cost == 1


# -- gates -------------------------------------------------------------------------------------------------------------


def gate(kind: str, maximum: int, per: int = 0, burst: int = 0) -> LimitGate:
    return LimitGate(1, "limit", "", kind, maximum, per, burst)


def test_a_gate_of_jobs_at_once_counts() -> None:
    one = gate("concurrency", 2)
    assert (one.opens_at(), one.room(0), one.is_timed) == (0, 2, False)
    one.take(5, 1)
    one.take(5, 7)  # the cost is for rates
    assert (one.opens_at(), one.room(0)) == (NEVER, 0)
    one.maximum = 1
    one.release()
    assert one.opens_at() == NEVER
    one.release(5)
    assert (one.active, one.opens_at()) == (0, 0)
    one.close(10**9)
    assert one.opens_at() == 0


def test_a_closed_rate_opens_never() -> None:
    one = gate("rate", 0, SECOND, 5)
    assert (one.opens_at(), one.room(0), one.is_timed) == (NEVER, 0, False)


def test_a_rate_that_is_closed_for_a_while_opens_then() -> None:
    one = gate("rate", 10, SECOND)
    one.close(7 * SECOND)
    one.close(5 * SECOND)
    assert one.opens_at() == 7 * SECOND
    assert (one.room(7 * SECOND - 1), one.room(7 * SECOND)) == (0, 1)


def test_room_is_what_can_be_taken() -> None:
    choices = random.Random(1)
    for _ in range(300):
        one = gate("rate", choices.randint(1, 20), choices.randint(1, 10) * SECOND, choices.randint(0, 20))
        now = choices.randint(0, 5 * SECOND)
        for _ in range(10):
            now += choices.choice([0, 1, SECOND, 20 * SECOND])
            room = one.room(now)
            taken = 0
            while one.opens_at() <= now:
                one.take(now, 1)
                taken += 1
            assert taken == room


@pytest.mark.parametrize("seed", range(150))
def test_no_window_holds_more_than_the_maximum_and_the_burst(seed: int) -> None:
    """Random costs, pauses, and clocks that are not quite equal; some starts as early as may be."""
    choices = random.Random(seed)
    maximum, burst = choices.randint(1, 50), choices.choice([0, 0, 1, 10, 100])
    per = choices.choice([7, 1000, SECOND, 60 * SECOND])
    one = gate("rate", maximum, per, burst)
    now, starts = 0, []
    for _ in range(400):
        now += choices.choice([0, 0, 1, per // maximum, per // 3, 5 * per])
        cost = choices.choice([1, 1, 1, 2, maximum, maximum + burst])
        at = max(now - choices.choice([0, 0, per // 10]), 0)
        if choices.random() < 0.5:
            at = now = max(at, one.opens_at(cost))
        if one.opens_at(cost) <= at:
            one.take(at, cost)
            starts.append((at, min(cost, maximum + burst)))
    assert starts
    assert most_in_a_window(starts, per) <= maximum + burst


@pytest.mark.parametrize("seed", range(150))
def test_a_change_of_a_rate_gives_no_more_than_the_higher_of_both(seed: int) -> None:
    choices = random.Random(seed)
    burst, per = choices.choice([0, 1, 10, 99]), choices.choice([1000, SECOND, 60 * SECOND])
    one = gate("rate", choices.randint(1, 200), per, burst)
    now, starts, highest = 0, [], one.maximum
    for _ in range(300):
        now += choices.choice([0, 0, 1, per // 50, per // 3, 2 * per])
        if choices.random() < 0.1:
            former = replace(one)
            one.maximum = choices.choice([1, 2, 5, 50, 200])
            highest = max(highest, one.maximum)
            one.keep_count(former, now)
        cost = choices.choice([1, 1, 3, 20])
        while one.opens_at(cost) <= now and choices.random() < 0.9:
            starts.append((now, min(cost, one.maximum + burst)))
            one.take(now, cost)
    assert most_in_a_window(starts, per) <= highest + burst


def most_in_a_window(starts: list[tuple[int, int]], per: int) -> int:
    """The most tokens in a half-open window of ``per``, of starts with their costs."""
    starts = sorted(starts)
    most = held = first = 0
    for at, cost in starts:
        held += cost
        while starts[first][0] <= at - per:
            held -= starts[first][1]
            first += 1
        most = max(most, held)
    return most

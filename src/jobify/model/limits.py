"""``limits=``: how many jobs of a task may run at once, or start in a time.

::

    from jobify import Concurrency, Rate

    openai = Concurrency(10, name="openai")  # shared by all tasks that list it

    @app.task(limits=[openai, Concurrency(1, key="order.customer_id"), Rate(100, per=60, key="order.shop", burst=10)])
    async def sync(order: Order) -> None: ...

All limits of a job admit it, or it waits and holds none of them. They hold across all processes of a storage.

A *key* is a path into the arguments, such as ``"order.customer_id"``: the name of a parameter, then attributes, keys of
dicts, or places in lists. Where something on the way is missing, the key is None, which is a key like any other. Or it
is a function at the top level of a module, which is called with the arguments of the job and returns the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import msgspec

from jobify.exceptions import ConfigurationError
from jobify.model.clock import seconds
from jobify.model.durations import Duration, check_duration
from jobify.model.ids import check_text
from jobify.model.limit_gates import LimitDefinition, LimitKind
from jobify.model.limit_keys import Key, as_key, key_text

__all__ = (
    "Concurrency",
    "Fair",
    "Limit",
    "OnExcess",
    "Rate",
    "check_cost",
    "check_definitions",
    "check_limits",
    "definition_of",
    "definitions_of",
)

OnExcess: TypeAlias = Literal["wait", "skip", "fail"]
"""What becomes of a job that is enqueued, due at once, while its limit is reached."""

_HIGHEST: Final = 2**31
_LONGEST_NAME: Final = 200
_ON_EXCESS: Final = ("wait", "skip", "fail")


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most ``limit`` jobs run at once.

    ``key``
        Then so many for each key. See :mod:`jobify.model.limits`.
    ``name``
        Tasks that list limits of one name share it. Without a name it is the task's alone.
    ``on_excess``
        ``"wait"``, the default; ``"skip"``: a job that would have to wait is stored as cancelled, and its handle has
        ``created=False``; ``"fail"``: its call raises :class:`~jobify.exceptions.LimitExceededError`, and nothing is
        stored. Both are decided in the transaction that stores a job which is due at once.

    A job holds the limit from its claim to the end of its attempt, and a function that goes on in a thread after its
    timeout or its cancel holds it until it returns. A retry waits for it again. A limit of 0 lets no job run.
    ConfigurationError for values that make no sense. ::

        @app.task(limits=[Concurrency(1, key="user_id")])
        async def export(user_id: int) -> None: ...
    """

    limit: int
    key: Key | None = None
    name: str | None = None
    on_excess: OnExcess = "wait"

    def __post_init__(self) -> None:
        _check_count(self.limit, "limit of a Concurrency", least=0)
        _check_common(self, "Concurrency")


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``limit`` jobs start in ``per`` seconds (or a timedelta), evenly: one in each ``per / limit``.

    ``burst``
        So many more may start at once after a pause. In any time of ``per`` at most ``limit + burst`` start, also after
        an hour without jobs or without workers: ``Rate(100, per=60)`` starts one job each 0.6 seconds, and
        ``Rate(100, per=60, burst=99)`` starts 100 at once, and then one each 0.6 seconds.
    ``key``, ``name``, ``on_excess``
        As those of :class:`Concurrency`.

    Starts count, a retry too; ``cost=`` of a job makes it count as so many. The algorithm is GCRA (ITU-T I.371). ::

        shop_api = Rate(100, per=60, key="order.shop", burst=10, name="shop-api")
    """

    limit: int
    per: Duration
    burst: int = 0
    key: Key | None = None
    name: str | None = None
    on_excess: OnExcess = "wait"

    def __post_init__(self) -> None:
        _check_count(self.limit, "limit of a Rate", least=0)
        _check_count(self.burst, "burst of a Rate", least=0)
        if check_duration(self.per, what="per of a Rate", allow_zero=False) < 1e-3:
            raise ConfigurationError(f"The per of a Rate is {self.per!r}; it must be a millisecond at least.")
        _check_common(self, "Rate")


@dataclass(frozen=True, slots=True)
class Fair:
    """Jobs of several keys take turns: a key with many waiting jobs does not keep the others from starting.

    ``key``
        See :mod:`jobify.model.limits`.
    ``weight``
        How many jobs a key starts when one of weight 1 starts one, for keys that differ from 1: ``{"big-shop": 4}``.
    ``name``
        Tasks that list fair shares of one name share the turns. Without a name they are the task's alone.

    It holds nothing back: while only one key has jobs, it takes all there is. A higher priority still goes first. A job
    with ``cost=`` counts as so many. ::

        @app.task(limits=[Fair("order.shop", weight={"big-shop": 4})])
        async def sync(order: Order) -> None: ...
    """

    key: Key
    weight: Mapping[Any, float] = field(default_factory=dict, hash=False)
    name: str | None = None

    def __post_init__(self) -> None:
        _check_name(self.name, "Fair")
        key_text(self.key)
        if not isinstance(self.weight, Mapping):
            raise ConfigurationError(f"The weight of a Fair is {self.weight!r}; it must be a dict of keys and numbers.")
        for key, weight in self.weight.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 1e-3 <= weight <= 1e3:
                raise ConfigurationError(f"The weight of {key!r} is {weight!r}; it must be a number, 0.001 to 1000.")

    @property
    def on_excess(self) -> OnExcess:
        """It refuses no job."""
        return "wait"


Limit: TypeAlias = Concurrency | Rate | Fair
"""What ``limits=`` of a task may contain."""


_KINDS: Final = {Concurrency: LimitKind.CONCURRENCY, Rate: LimitKind.RATE, Fair: LimitKind.FAIR}


def _check_count(value: Any, what: str, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < _HIGHEST:
        raise ConfigurationError(f"The {what} is {value!r}; it must be a whole number, {least} or more.")


def _check_name(name: Any, kind: str) -> None:
    if name is not None and len(check_text(name, what=f"name of a {kind}")) > _LONGEST_NAME:
        raise ConfigurationError(
            f"The name of a {kind} has {len(name)} characters; it must have {_LONGEST_NAME} at most: {name[:50]!r}…"
        )


def _check_common(limit: Concurrency | Rate, kind: str) -> None:
    _check_name(limit.name, kind)
    if limit.on_excess not in _ON_EXCESS:
        raise ConfigurationError(
            f"The on_excess of a {kind} is {limit.on_excess!r}; it must be 'wait', 'skip' or 'fail'."
        )
    if limit.key is not None:
        key_text(limit.key)


def check_limits(value: Any, task: str) -> tuple[Limit, ...]:
    """The ``limits`` of a task; ConfigurationError if they are none."""
    if isinstance(value, Concurrency | Rate | Fair):
        raise ConfigurationError(f"The limits of task {task!r} must be a list: limits=[{value!r}].")
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigurationError(f"The limits of task {task!r} are {value!r}; they must be a list of limits.")
    limits = tuple(value)
    for limit in limits:
        if not isinstance(limit, Concurrency | Rate | Fair):
            hint = f" Did you mean {limit.__name__}(...)?" if limit in (Concurrency, Rate, Fair) else ""
            raise ConfigurationError(f"The limits of task {task!r} have {limit!r}, which is no limit.{hint}")
    names = [one.name for one in definitions_of(limits, task)]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(
                f"Task {task!r} has two limits called {name!r}. Give them different names, or leave one out."
            )
    fair = [limit for limit in limits if isinstance(limit, Fair)]
    if len(fair) > 1 or (fair and any(limit.on_excess != "wait" for limit in limits)):
        raise ConfigurationError(
            f"Task {task!r} has a Fair beside {'another one' if len(fair) > 1 else 'a limit with on_excess'}: its jobs "
            "stand in one line. Leave one of them out."
        )
    return limits


def definitions_of(limits: Iterable[Limit], task: str) -> tuple[LimitDefinition, ...]:
    """The limits of ``task`` as they are stored. Rates without a name that would be called the same, such as one per
    second and one per hour, get numbers."""
    definitions: list[LimitDefinition] = []
    numbers: dict[str, list[Limit]] = {}
    for limit in limits:
        definition = definition_of(limit, task)
        others = numbers.setdefault(definition.name, [])
        if isinstance(limit, Rate) and limit.name is None and others and limit not in others:
            definition = definition._replace(name=f"{definition.name}:{len(others) + 1}")
        others.append(limit)
        definitions.append(definition)
    return tuple(definitions)


def definition_of(limit: Limit, task: str) -> LimitDefinition:
    """A limit as it is stored for ``task``, if it is the only one of its kind and key."""
    kind = _KINDS[type(limit)]
    key = None if limit.key is None else key_text(limit.key)
    name = limit.name or ":".join([task, kind.value, *([] if key is None else [key])])
    if isinstance(limit, Fair):
        weights = {as_key(one): float(weight) for one, weight in sorted(limit.weight.items(), key=repr)}
        text = msgspec.json.encode(weights).decode() if weights else None
        return LimitDefinition(name, kind.value, 1, key=key, weights=text)
    if isinstance(limit, Concurrency):
        return LimitDefinition(name, kind.value, limit.limit, key=key, on_excess=limit.on_excess)
    per = seconds(check_duration(limit.per, what="per of a Rate"))
    return LimitDefinition(name, kind.value, limit.limit, per, limit.burst, key, limit.on_excess)


def check_cost(task: str, limits: Iterable[LimitDefinition], cost: int) -> None:
    """ConfigurationError for a cost that a rate of the task never admits."""
    for limit in limits:
        if limit.kind == LimitKind.RATE and cost > max(limit.maximum + limit.burst, 1):
            raise ConfigurationError(
                f"The cost of the job is {cost}, and the limit {limit.name!r} of task {task!r} never admits more than "
                f"{limit.maximum + limit.burst} at once. Raise its burst, or make several jobs."
            )


def check_definitions(tasks: Iterable[tuple[str, Sequence[LimitDefinition]]]) -> None:
    """ConfigurationError if two tasks mean different limits by one name."""
    known: dict[str, tuple[str, LimitDefinition]] = {}
    for task, definitions in tasks:
        for definition in definitions:
            first, other = known.setdefault(definition.name, (task, definition))
            if other != definition:
                raise ConfigurationError(
                    f"Tasks {first!r} and {task!r} declare the limit {definition.name!r} differently. Make it once, "
                    "and list that object in both."
                )

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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from jobify.exceptions import ConfigurationError
from jobify.model.clock import seconds
from jobify.model.durations import Duration, check_duration
from jobify.model.ids import check_text
from jobify.model.limit_gates import LimitDefinition, LimitKind
from jobify.runtime.importable import name_of

__all__ = (
    "Concurrency",
    "Key",
    "Limit",
    "OnExcess",
    "Rate",
    "check_cost",
    "check_definitions",
    "check_limits",
    "definition_of",
    "key_text",
)

Key: TypeAlias = str | Callable[..., Any]
"""A path into the arguments, or a function of them."""

OnExcess: TypeAlias = Literal["wait", "skip", "fail"]
"""What becomes of a job that is enqueued, due at once, while its limit is reached."""

_HIGHEST: Final = 2**31
_ON_EXCESS: Final = ("wait", "skip", "fail")


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most ``limit`` jobs run at once.

    ``key``
        Then so many for each key. See :mod:`jobify.model.limits`.
    ``name``
        Tasks that list limits of one name share it. Without a name it is the task's alone.
    ``on_excess``
        ``"wait"``, the default; ``"skip"``: a job that would have to wait is not stored; ``"fail"``: its call raises
        :class:`~jobify.exceptions.LimitExceededError`. Both are decided when a job is enqueued that is due at once.

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


Limit: TypeAlias = Concurrency | Rate
"""What ``limits=`` of a task may contain."""


def _check_count(value: Any, what: str, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < _HIGHEST:
        raise ConfigurationError(f"The {what} is {value!r}; it must be a whole number, {least} or more.")


def _check_common(limit: Limit, kind: str) -> None:
    if limit.name is not None:
        check_text(limit.name, what=f"name of a {kind}")
    if limit.on_excess not in _ON_EXCESS:
        raise ConfigurationError(
            f"The on_excess of a {kind} is {limit.on_excess!r}; it must be 'wait', 'skip' or 'fail'."
        )
    if limit.key is not None:
        key_text(limit.key)


def key_text(key: Key) -> str:
    """The text under which a key is stored: a path, or the name of a function."""
    if isinstance(key, str):
        if not all(part.isidentifier() or part.isdecimal() for part in key.split(".")):
            raise ConfigurationError(
                f"The key {key!r} is no path into the arguments: names (or places in lists) with dots between them, "
                "such as 'order.customer_id'."
            )
        return key
    name = getattr(key, "__qualname__", "<")
    if not callable(key) or "<" in name:
        raise ConfigurationError(
            f"The key {key!r} must be a path into the arguments, such as 'order.customer_id', or a function at the top "
            "level of a module: other processes have to find it by its name."
        )
    return name_of(key)


def check_limits(value: Any, task: str) -> tuple[Limit, ...]:
    """The ``limits`` of a task; ConfigurationError if they are none."""
    if isinstance(value, Concurrency | Rate):
        raise ConfigurationError(f"The limits of task {task!r} must be a list: limits=[{value!r}].")
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigurationError(f"The limits of task {task!r} are {value!r}; they must be a list of limits.")
    limits = tuple(value)
    for limit in limits:
        if not isinstance(limit, Concurrency | Rate):
            hint = f" Did you mean {limit.__name__}(...)?" if limit in (Concurrency, Rate) else ""
            raise ConfigurationError(f"The limits of task {task!r} have {limit!r}, which is no limit.{hint}")
    names = [definition_of(limit, task).name for limit in limits]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(
                f"Task {task!r} has two limits called {name!r}. Give them different names, or leave one out."
            )
    return limits


def definition_of(limit: Limit, task: str) -> LimitDefinition:
    """A limit as it is stored for ``task``."""
    kind = LimitKind.CONCURRENCY if isinstance(limit, Concurrency) else LimitKind.RATE
    key = None if limit.key is None else key_text(limit.key)
    name = limit.name or ":".join([task, kind.value, *([] if key is None else [key])])
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

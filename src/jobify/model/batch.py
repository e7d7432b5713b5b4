"""``batch=``: jobs of a task that are run by one call of its function.

::

    from jobify import Batch

    @dataclass
    class Row:
        table: str
        values: dict[str, Any]

    @app.task(batch=Batch(500, wait=1.0, key="table"))
    def load(rows: list[Row]) -> list[int | Exception]:
        ...  # one result, or one error, for each row

    load.delay("users", {"id": 7})

Each job keeps its own row, claim, timeout, retries and outcome; what they share is the call.
"""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Final, NamedTuple, Union, get_args, get_origin

from jobify.exceptions import ConfigurationError
from jobify.model.clock import seconds
from jobify.model.durations import Duration, check_duration
from jobify.model.element_signature import Element
from jobify.model.limit_keys import Key, key_text
from jobify.model.records import BatchRule
from jobify.model.signature import FuncSpec

__all__ = ("Batch", "BatchFunction", "check_batch", "result_of_one", "rule_of")

_LARGEST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Up to ``size`` jobs of a task are run by one call of its function, which takes a list.

    ``size``
        The most jobs of a call, from 1 to 10,000.
    ``wait``
        How long a job waits for others, in seconds (or a timedelta), from the time at which it could run. Then it runs
        with those that are there. With 0, the default, no job waits for others: jobs share a call if there is a backlog
        of them.
    ``key``
        The jobs of a call have the same key: a path into the arguments, or a function of them, as for limits
        (:mod:`jobify.model.limits`).

    Which jobs run together is decided in the storage when they are claimed, whichever processes have enqueued them. A
    batch takes one slot of its worker, one place of each :class:`~jobify.Concurrency`, and as many starts of each
    :class:`~jobify.Rate` as its jobs cost. All of its jobs are claimed in one transaction; each ends by itself.

    The function returns one result for each job, in their order, or an exception for one that failed. Anything else
    fails all of them with :class:`~jobify.exceptions.BatchResultError`. ConfigurationError for values that make no
    sense, and at the registration of a function that takes no list. ::

        @app.task(batch=Batch(100, wait=0.5))
        async def index(documents: list[Document]) -> list[int | Exception]: ...
    """

    size: int
    wait: Duration = 0
    key: Key | None = None

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or not 1 <= self.size <= _LARGEST:
            raise ConfigurationError(
                f"The size of a Batch is {self.size!r}; it must be a whole number, 1 to {_LARGEST:,}."
            )
        check_duration(self.wait, what="wait of a Batch")
        if self.key is not None:
            key_text(self.key)


def check_batch(value: Any, task: str) -> Batch:
    """The ``batch`` of a task; ConfigurationError if it is none."""
    if isinstance(value, Batch):
        return value
    hint = f"Did you mean Batch({value})?" if isinstance(value, int) else "Write batch=Batch(100, wait=1)."
    raise ConfigurationError(f"The batch of task {task!r} is {value!r}; it must be a Batch. {hint}")


class BatchFunction(NamedTuple):
    """The function of a task with ``batch=``."""

    rule: BatchRule
    element: Element
    """What it takes a list of."""
    spec: FuncSpec[Any]
    """Its own parameters, not those of the task's calls."""

    @property
    def has_results(self) -> bool:
        """Whether it returns a list. None as the annotation of its result says that it does not: then the result of
        each job is None."""
        return self.spec.result_type not in (None, NoneType)


def rule_of(batch: Batch) -> BatchRule:
    """A batch as a storage claims it."""
    wait = seconds(check_duration(batch.wait, what="wait of a Batch"))
    return BatchRule(batch.size, wait, None if batch.key is None else key_text(batch.key))


def result_of_one(result_type: Any) -> Any:
    """The type of one job's result, from that of the function; Any if it does not say.

    >>> result_of_one(list[int | Exception])
    <class 'int'>
    """
    if result_type in (None, NoneType):
        return NoneType
    arguments = get_args(result_type)
    if get_origin(result_type) not in (list, tuple, abc.Sequence) or not arguments:
        return Any
    one = arguments[0]
    if get_origin(one) not in (Union, UnionType):
        return one
    kinds = [kind for kind in get_args(one) if not (isinstance(kind, type) and issubclass(kind, BaseException))]
    return Union[tuple(kinds)] if kinds else Any  # noqa: UP007  made of a tuple

"""What a task says of calls that meet an earlier job: of a unique task, or of a debounced one.

A call of such a task becomes a row like any other, with its keys (:meth:`CallRules.apply`). How it is stored is said in
:mod:`jobify.jobs.merging`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from jobify.exceptions import ConfigurationError
from jobify.jobs.collected_calls import collecting
from jobify.jobs.job_request import JobSpec
from jobify.model.clock import seconds
from jobify.model.debounce import Debounce
from jobify.model.durations import Duration, as_seconds
from jobify.model.job_options import read_options
from jobify.model.limit_keys import CallKey
from jobify.model.records import NewJob
from jobify.model.unique import OnConflict, Unique
from jobify.storage.merging import UNTIL_START
from jobify.types import Microseconds

__all__ = ("UNIQUE_KEY", "CallRules", "CallSeries", "KeyedCall")

UNIQUE_KEY: Final = "unique()"
"""The name of the key of a limit that admits one job at a time of those with a unique key."""


class CallSeries(NamedTuple):
    """How the calls of a debounced task with one key are merged. Times in microseconds."""

    keys: tuple[str, ...]
    """Those of its window: under the name of the task, then under earlier ones."""
    delay: Microseconds
    max_wait: Microseconds | None
    mode: str
    collects: bool

    def due_at(self, first_at: Microseconds, now: Microseconds) -> Microseconds:
        """When the job runs after a call."""
        latest = now + self.delay
        return latest if self.max_wait is None else max(min(latest, first_at + self.max_wait), now)


class KeyedCall(NamedTuple):
    """The row of a call, with what its task says about others with its key."""

    row: NewJob
    on_conflict: OnConflict = "keep"
    former_keys: tuple[str, ...] = ()
    """The unique key under earlier names of the task."""
    series: CallSeries | None = None

    @property
    def may_change_jobs(self) -> bool:
        """Whether an earlier job may have to be changed, so that an insert is not enough."""
        return self.on_conflict not in ("keep", "fail") or self.series is not None

    @property
    def is_conditional(self) -> bool:
        """Whether something has to be known before it may be inserted, besides its id and its key."""
        return bool(self.former_keys) or self.series is not None

    @property
    def unique_keys(self) -> tuple[str, ...]:
        """Its unique key, under each name of the task."""
        return self.former_keys if self.row.unique_key is None else (self.row.unique_key, *self.former_keys)

    @property
    def keys(self) -> list[str]:
        """The keys that it is about."""
        return [*self.unique_keys, *(() if self.series is None else self.series.keys)]


class CallRules:
    """What becomes of the calls of one task. ``names``: its name, then earlier ones."""

    def __init__(
        self,
        names: tuple[str, ...],
        signature: inspect.Signature,
        unique: Unique | None = None,
        debounce: Debounce | None = None,
    ) -> None:
        self._names = names
        self.unique = unique
        self.debounce = debounce
        self._unique_key = None if unique is None else CallKey(names[0], signature, unique.keys)
        self._window_key = None if debounce is None else CallKey(names[0], signature, debounce.keys)
        self._series = None if debounce is None else _series_of(debounce)
        """That of each call, without its keys."""

    def unique_key_of(self, *args: Any, **kwargs: Any) -> str:
        """The unique key of a call, without the name of the task."""
        assert self._unique_key is not None
        return self._unique_key.of(args, kwargs)

    @property
    def has_rules(self) -> bool:
        """Whether the task is unique or debounced, so that any call of it may meet an earlier job."""
        return self.unique is not None or self.debounce is not None

    def apply(
        self, row: NewJob, args: tuple[Any, ...], kwargs: Mapping[str, Any], spec: JobSpec, *, is_complete: bool = True
    ) -> KeyedCall:
        """The row of a call with its keys. One whose arguments are not complete has only a key of its own.

        TypeError if the arguments do not fit, PayloadError if a key cannot be read, ConfigurationError for options that
        the task excludes.
        """
        if row.rule is not None:
            return KeyedCall(row)
        on_conflict: OnConflict = "keep" if self.unique is None else self.unique.on_conflict
        if on_conflict == "replace" and row.parents:
            raise ConfigurationError(
                f"A job of {self._names[0]!r} waits for other jobs, and its task is unique with "
                "on_conflict='replace': what replaces a job cannot wait. Use on_conflict='keep'."
            )
        row, former = self._with_key(row, args, kwargs, spec, is_complete=is_complete)
        call = KeyedCall(row, on_conflict, former)
        if self._series is None or row.parents or not is_complete:
            return call
        return self._in_series(self._series, call, args, kwargs, spec)

    def _with_key(
        self, row: NewJob, args: tuple[Any, ...], kwargs: Mapping[str, Any], spec: JobSpec, *, is_complete: bool
    ) -> tuple[NewJob, tuple[str, ...]]:
        text = spec.unique_key
        if text is None and self._unique_key is not None and is_complete:
            text = self._unique_key.of(args, kwargs)
        if text is None:
            return row, ()
        prefix = UNTIL_START if self.unique is not None and self.unique.until == "start" else ""
        if spec.is_unique_everywhere:
            keys = [f"{prefix}all::{text}"]
        else:
            keys = [f"{prefix}task:{name}:{text}" for name in self._names]
        if prefix:
            options = msgspec.structs.replace(read_options(row.options), start_key=keys[0])
            row = row._replace(options=options.text())
        return row._replace(unique_key=keys[0]), tuple(keys[1:])

    def _in_series(
        self, series: CallSeries, call: KeyedCall, args: tuple[Any, ...], kwargs: Mapping[str, Any], spec: JobSpec
    ) -> KeyedCall:
        assert self._window_key is not None
        row = call.row
        if spec.delay or spec.eta is not None or row.due_at > row.created_at:
            raise ConfigurationError(
                f"A job of {self._names[0]!r} is given a time, and its task is debounced, which says when it runs. "
                "Leave the time out."
            )
        text = self._window_key.of(args, kwargs)
        series = series._replace(keys=tuple(f"{name}:{text}" for name in self._names))
        return call._replace(row=collecting(row) if series.collects else row, series=series)


def _series_of(debounce: Debounce) -> CallSeries:
    longest = debounce.max_wait
    return CallSeries(
        (),
        _microseconds(debounce.delay),
        None if longest is None else _microseconds(longest),
        debounce.mode,
        debounce.collect,
    )


def _microseconds(duration: Duration) -> Microseconds:
    return seconds(as_seconds(duration))

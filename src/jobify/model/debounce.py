"""``debounce=``: many calls in a short time become one run.

::

    @app.task(debounce=Debounce(5, key="user_id", max_wait=60))
    def reindex(user_id: int) -> None: ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from jobify.exceptions import ConfigurationError
from jobify.model.durations import Duration, check_duration
from jobify.model.limit_keys import Key, Keys, checked_keys

__all__ = ("Debounce", "DebounceMode", "check_debounce")

DebounceMode: TypeAlias = Literal["trailing", "leading", "both"]
"""Which call of a series runs."""

_LONGEST: Final = 1e11
"""Seconds: three thousand years."""
_MODES: Final = ("trailing", "leading", "both")


@dataclass(frozen=True, slots=True)
class Debounce:
    """Calls with one key that come in quick succession are merged into one job.

    ``delay``
        How long a call waits for the next one: seconds, or a timedelta, more than 0.
    ``key``
        A path into the arguments, a function at the top level of a module, or a tuple of these. None: all calls of the
        task are merged.
    ``max_wait``
        Seconds, or a timedelta, from the first call; not less than ``delay``. None: a series may go on for ever.
    ``mode``
        ``"trailing"``, the default: the job has the arguments of the last call, and is due ``delay`` after it, but not
        later than ``max_wait`` after the first one. ``"leading"``: the first call runs at once, and calls within
        ``delay`` after it are dropped. ``"both"``: the first call runs at once; if others follow within ``delay``, they
        become one job, as in ``"trailing"``.
    ``collect``
        The function takes a list, as one with :class:`~jobify.Batch` does, and gets all calls that were merged, in
        their order. Each call writes the whole list again: it is for hundreds of calls, not for ten thousands.

    A call that was merged returns the handle of the job that it was merged into, with ``created=False``. Once the job
    of the last call has started, the next call begins a new series; one that began with a job for the first call lasts
    for ``delay``, whether that job has started or not. Each call is decided in one transaction, for all processes of a
    storage. ConfigurationError for what makes no sense, and for a call that is given a time or stored in a transaction
    of the user. PayloadError if its key cannot be read. ::

        @app.task(debounce=Debounce(2, key="document", max_wait=30))
        async def save(document: str, text: str) -> None: ...
    """

    delay: Duration
    key: Key | tuple[Key, ...] | None = None
    max_wait: Duration | None = None
    mode: DebounceMode = "trailing"
    collect: bool = False

    def __post_init__(self) -> None:
        checked_keys(self.key)
        delay = _checked(self.delay, "delay")
        if self.max_wait is not None:
            longest = _checked(self.max_wait, "max_wait")
            if longest < delay:
                raise ConfigurationError(
                    f"The max_wait of a Debounce is {longest:g} seconds, and its delay is {delay:g}. It must not be "
                    "less: the first call already waits for the delay."
                )
        if self.mode not in _MODES:
            raise ConfigurationError(
                f"The mode of a Debounce is {self.mode!r}; it must be 'trailing', 'leading' or 'both'."
            )
        if not isinstance(self.collect, bool):
            raise ConfigurationError(f"The collect of a Debounce is {self.collect!r}; it must be True or False.")
        if self.mode == "leading" and (self.collect or self.max_wait is not None):
            option = "collect" if self.collect else "max_wait"
            raise ConfigurationError(
                f"A Debounce with mode='leading' drops the calls that follow, so {option}= means nothing. Leave it out."
            )

    @property
    def keys(self) -> Keys:
        """Its keys; empty: all calls are merged."""
        return () if self.key is None else checked_keys(self.key)


def _checked(duration: Duration, name: str) -> float:
    seconds = check_duration(duration, what=f"{name} of a Debounce", allow_zero=False)
    if seconds > _LONGEST:
        raise ConfigurationError(f"The {name} of a Debounce is {seconds:g} seconds; no calendar reaches as far.")
    return seconds


def check_debounce(value: Any, task: str) -> Debounce:
    """The ``debounce`` of a task; ConfigurationError if it is none."""
    if not isinstance(value, Debounce):
        hint = f" Write debounce=Debounce({value!r})." if isinstance(value, int | float) else ""
        raise ConfigurationError(f"The debounce of task {task!r} is {value!r}; it must be a Debounce.{hint}")
    return value

"""``unique=``: of the jobs of a task with one key, one waits or runs.

::

    @app.task(unique=Unique("user_id", until="start", on_conflict="keep"))
    def reindex(user_id: int) -> None: ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from jobify.exceptions import ConfigurationError
from jobify.model.limit_keys import Key, Keys, checked_keys

__all__ = ("OnConflict", "Unique", "Until", "check_unique")

OnConflict: TypeAlias = Literal["keep", "fail", "replace", "cancel_running"]
"""What becomes of a call while a job has its key."""

Until: TypeAlias = Literal["end", "start"]
"""How long a job has its key."""

_ON_CONFLICT: Final = ("keep", "fail", "replace", "cancel_running")


@dataclass(frozen=True, slots=True)
class Unique:
    """While a job of the task has a key, no other one is stored with it.

    ``key``
        A path into the arguments, such as ``"order.customer_id"``, a function at the top level of a module, or a tuple
        of these. None: all arguments, with their defaults.
    ``until``
        ``"end"``, the default: a job has its key until it has ended, with all its attempts. ``"start"``: until its
        first attempt starts, so that what has changed since then gets a job of its own. A retry has no key; it waits
        while another job has it.
    ``on_conflict``
        What a call does that meets a job with its key. ``"keep"``, the default: it returns the handle of that job, with
        ``created=False``. ``"fail"``: it raises :class:`~jobify.exceptions.DuplicateJobError`, and nothing is stored.
        ``"replace"``: that job gets the arguments, the time and the options of the call, and keeps its id; if it runs,
        it runs again with them when this attempt is over, and only the last of several calls counts.
        ``"cancel_running"``: that job is cancelled, and the new one starts when it has ended.

    It holds for all processes of a storage, and the check is part of the insert, so of any number of calls at once one
    stores a job. ``unique_key=`` of a job is the key of that job alone. ConfigurationError for what makes no sense;
    PayloadError for a call whose key cannot be read. ::

        @app.task(unique=Unique(("user_id", "day")))
        async def report(user_id: int, day: date, verbose: bool = False) -> None: ...
    """

    key: Key | tuple[Key, ...] | None = None
    until: Until = "end"
    on_conflict: OnConflict = "keep"

    def __post_init__(self) -> None:
        checked_keys(self.key)
        if self.until not in ("end", "start"):
            raise ConfigurationError(f"The until of a Unique is {self.until!r}; it must be 'end' or 'start'.")
        if self.on_conflict not in _ON_CONFLICT:
            raise ConfigurationError(
                f"The on_conflict of a Unique is {self.on_conflict!r}; it must be 'keep', 'fail', 'replace' or "
                "'cancel_running'."
            )
        if self.until == "start" and self.on_conflict == "cancel_running":
            raise ConfigurationError(
                "A Unique with until='start' never meets a job that runs, so it cannot cancel one. Leave until= out."
            )

    @property
    def keys(self) -> Keys:
        """Its keys; None: all arguments."""
        return checked_keys(self.key)


def check_unique(value: Any, task: str) -> Unique:
    """The ``unique`` of a task; ConfigurationError if it is none."""
    if not isinstance(value, Unique):
        hint = " Write unique=Unique()." if value is Unique or value is True else ""
        raise ConfigurationError(f"The unique of task {task!r} is {value!r}; it must be a Unique.{hint}")
    return value

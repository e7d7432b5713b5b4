"""The options of one job that differ from those of its task, as text for the ``options`` of its row.

The client writes them, the engine reads them, users see ``metadata``. Nearly every row has NULL instead, so this module
is not on the hot path. Names that a newer release has added are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from jobify.exceptions import ConfigurationError, PayloadError
from jobify.model.retry import SmartRetry
from jobify.runtime.importable import find, mro, name_of

__all__ = (
    "COLLECTED",
    "START_KEY",
    "JobOptions",
    "ParentResults",
    "StoredRetry",
    "calls_of",
    "metadata_of",
    "read_options",
    "stored_policy",
)


START_KEY: Final = '"start_key"'
"""In the text of options that have a ``start_key``."""
COLLECTED: Final = '"calls"'
"""In the text of options that have ``calls``."""


class ParentResults(msgspec.Struct, frozen=True, omit_defaults=True):
    """Results of other jobs that become arguments when the job begins."""

    parents: tuple[str, ...] = ()
    """The ids of the jobs, in order, where one of them gives several results."""
    is_list: bool = False
    """Whether the results are passed as one list, of any length. If not, the result of the only job is passed itself.
    It is the first argument."""
    count: int = 0
    """The number of jobs, counted from the first that this one depends on."""


class StoredRetry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A :class:`SmartRetry` whose exceptions are names."""

    retries: int
    initial_delay: float = 0.5
    max_delay: float = 60.0
    backoff_factor: float = 2.0
    jitter: bool = True
    include: tuple[str, ...] = ("builtins:Exception",)
    exclude: tuple[str, ...] = ()


class JobOptions(msgspec.Struct, frozen=True, omit_defaults=True, rename={"request_digest": "asked"}):
    """The options of one job. None means that of the task."""

    timeout: float | None = None
    """Seconds per attempt."""
    retry: StoredRetry | None = None
    result_ttl: float | None = None
    """Seconds that the job is kept after a success."""
    metadata: dict[str, Any] | None = None
    inputs: ParentResults | None = None
    expires: float | None = None
    """The requested duration in seconds, if ``expires_at`` is elapsed time."""
    request_digest: str | None = None
    """A digest of the arguments of the caller, if an outer middleware has changed them. Rows name it ``asked``."""

    limit_keys: dict[str, str] = {}
    """The keys of its limits, as JSON, by the text of the limit's key."""
    cost: int = 1
    """How many starts it is for a rate."""
    start_key: str | None = None
    """The unique key that the job has until it starts. A retry waits while another job has it."""
    calls: int = 0
    """How many calls are collected in its arguments. 0: these are those of one call."""

    def text(self) -> str | None:
        """The text for the row. None if there are no options. ConfigurationError if the metadata is no JSON value."""
        try:
            encoded = msgspec.json.encode(self)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ConfigurationError(
                f"The metadata of a job cannot be stored ({error}). Use texts, numbers, booleans, None, lists, dicts."
            ) from error
        return None if encoded == b"{}" else encoded.decode()

    def policy(self, renamed_types: Mapping[str, type] | None = None) -> SmartRetry | None:
        """The retry policy. None means that of the task.

        PayloadError if it names an exception that is neither found here nor in ``renamed_types``, classes by their
        earlier names.
        """
        retry = self.retry
        if retry is None:
            return None
        return SmartRetry(
            retry.retries,
            retry.initial_delay,
            retry.max_delay,
            retry.backoff_factor,
            retry.jitter,
            tuple(_exception(name, renamed_types or {}) for name in retry.include),
            tuple(_exception(name, renamed_types or {}) for name in retry.exclude),
        )


def stored_policy(policy: SmartRetry) -> StoredRetry:
    """``policy`` with the names of its exceptions; ConfigurationError for one without a lasting name."""
    return StoredRetry(*policy[:5], include=tuple(map(_name, policy[5])), exclude=tuple(map(_name, policy[6])))


def read_options(text: str | None) -> JobOptions:
    """The options in a row; PayloadError if they cannot be read."""
    if text is None:
        return _NONE
    try:
        return msgspec.json.decode(text, type=JobOptions)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise PayloadError(f"The options of the job cannot be read: {error}") from error


def calls_of(text: str | None) -> int:
    """How many calls are collected in the arguments of a row; 0 for those of one call, or if the options cannot be
    read."""
    if text is None or COLLECTED not in text:
        return 0
    try:
        return read_options(text).calls
    except PayloadError:
        return 0


def metadata_of(text: str | None) -> dict[str, Any]:
    """The metadata in a row, for display. Empty if there is none, or the options cannot be read."""
    try:
        return dict(read_options(text).metadata or {})
    except PayloadError:  # of a newer release, or damaged
        return {}


_NONE = JobOptions()


def _name(kind: type[BaseException]) -> str:
    name = name_of(kind)
    try:
        if find(name) is kind:
            return name
    except ImportError:
        pass
    raise ConfigurationError(
        f"The retry of a job names {kind!r}, which another process could not find. Define the exception at the top "
        "level of a module, or give the retry to the task."
    )


def _exception(name: str, renamed_types: Mapping[str, type]) -> type[BaseException]:
    try:
        kind: type[BaseException] = renamed_types[name] if name in renamed_types else find(name)
    except ImportError as error:
        raise PayloadError(f"The retry of the job cannot be read: {error}") from error
    if not (issubclass(type(kind), type) and BaseException in mro(kind)):
        raise PayloadError(f"The retry of the job cannot be read: {name!r} is no exception class.")
    return kind

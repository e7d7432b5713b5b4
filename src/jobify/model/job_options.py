"""What one job is told beyond its task, as text for the ``options`` of its row.

The client writes them, the engine reads them, users see ``metadata``. A row without any has NULL, which is nearly every
row; so the hot path never comes here. Names that a newer release has added are kept out of the way, not refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from jobify.exceptions import ConfigurationError, PayloadError
from jobify.model.retry import SmartRetry
from jobify.runtime.importable import find, mro, name_of

__all__ = ("JobOptions", "ParentResults", "StoredRetry", "metadata_of", "read_options", "stored_policy")


class ParentResults(msgspec.Struct, frozen=True, omit_defaults=True):
    """Results of other jobs that become arguments when the job begins."""

    parents: tuple[str, ...] = ()
    """Whose results, in this order, by the ids that they had: in rows of an earlier release."""
    is_list: bool = False
    """All of them as one list, also of one or of none; else the result of the only one as it is. Comes before the
    other arguments."""
    count: int = 0
    """How many of the jobs that this one depends on, from the first on."""


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
    """The options of one job. None: those of the task hold."""

    timeout: float | None = None
    """Seconds per attempt."""
    retry: StoredRetry | None = None
    result_ttl: float | None = None
    """Seconds that the job is kept after a success."""
    metadata: dict[str, Any] | None = None
    inputs: ParentResults | None = None
    expires: float | None = None
    """The seconds after which it was to expire, if it was to: ``expires_at`` is elapsed time then."""
    request_digest: str | None = None
    """A digest of the arguments as the caller gave them, where an outer middleware has changed them. Rows name it
    ``asked``."""

    def text(self) -> str | None:
        """For the row; None if nothing is said. ConfigurationError if the metadata is not made of JSON values."""
        try:
            encoded = msgspec.json.encode(self)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ConfigurationError(
                f"The metadata of a job cannot be stored ({error}). Use texts, numbers, booleans, None, lists, dicts."
            ) from error
        return None if encoded == b"{}" else encoded.decode()

    def policy(self, renamed_types: Mapping[str, type] | None = None) -> SmartRetry | None:
        """The retry policy; None: the task's. PayloadError if it names an exception that cannot be found here, nor
        among ``renamed_types``, classes by earlier names."""
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
    """``policy`` with names for its exceptions; ConfigurationError for one that has none that lasts."""
    return StoredRetry(*policy[:5], include=tuple(map(_name, policy[5])), exclude=tuple(map(_name, policy[6])))


def read_options(text: str | None) -> JobOptions:
    """The options in a row; PayloadError if they cannot be read."""
    if text is None:
        return _NONE
    try:
        return msgspec.json.decode(text, type=JobOptions)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise PayloadError(f"The options of the job cannot be read: {error}") from error


def metadata_of(text: str | None) -> dict[str, Any]:
    """The metadata in a row, to be shown; empty if there is none, or the options cannot be read."""
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

"""The part of the storage port in which a storage says what it is, so that nothing has to guess."""

from __future__ import annotations

from typing import Protocol

from jobify.model.clock import ServerTime

__all__ = ("StorageTraits",)


class StorageTraits(Protocol):
    """What others have to know of a storage to use it well."""

    is_durable: bool
    """What is acknowledged survives the process."""
    is_shared: bool
    """Other processes may read and change the same jobs."""
    is_in_memory: bool
    """Values stay the objects they are, and no call waits; see *Values* in the module's text."""
    claims_first: bool
    """Claims are not flushed, unlike other writes, and wait for none: a thread of their own makes them beside these,
    outside of a ``transaction``."""

    @property
    def poll_interval(self) -> float:
        """Seconds between two looks at what other processes do, at least. 0: a look costs next to nothing."""
        ...

    @property
    def clock(self) -> ServerTime | None:
        """The clock by which the jobs are due, for an app that is given no other: that of the server, synchronised from
        ``open`` on. None: that of the machine."""
        ...

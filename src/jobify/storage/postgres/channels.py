"""The channels by which the processes of a schema wake each other.

Three kinds: one of all workers, one of all clients, and one of each owner, whose name follows from its number. So a
process that notifies need not look up where another one listens. A name has to fit into 63 bytes, which the name of a
schema may fill alone, so it begins with a digest of that.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

__all__ = ("ARRIVAL", "CLIENT_ARRIVAL", "Channels", "channels_of", "work_channel")

ARRIVAL: Final = "+"
"""What is sent when an owner has registered. Else a notification says nothing: what has changed is read."""
CLIENT_ARRIVAL: Final = "+client"
"""The same of a client, which waits for the ends of jobs."""


class Channels(NamedTuple):
    """The names of a schema."""

    workers: str
    clients: str
    prefix: str

    def owner(self, owner: int) -> str:
        """The channel of an owner."""
        return f"{self.prefix}_{owner}"


def channels_of(schema: str) -> Channels:
    """The names of this schema."""
    prefix = f"jobify_{hashlib.sha256(schema.encode()).hexdigest()[:16]}"
    return Channels(f"{prefix}_workers", f"{prefix}_clients", prefix)


def work_channel(schema: str) -> str:
    """Where to say that there are new jobs in a schema: ``SELECT pg_notify(channel, '')``, in the transaction that
    inserts them or after it."""
    return channels_of(schema).workers

"""Job ids: UUID version 7 (RFC 9562), which sort by the time they were made and so append to an index."""

from __future__ import annotations

from uuid_utils import UUID, uuid7

__all__ = ("new_id",)


def new_id() -> UUID:
    """A new time-ordered id; ``str()`` of it is the job's id."""
    return uuid7()

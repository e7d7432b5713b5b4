"""Job ids: UUID version 7 (RFC 9562), which sort by the time they were made and so append to an index."""

from __future__ import annotations

from uuid_utils import uuid7

__all__ = ("new_id",)


def new_id() -> str:
    """A new time-ordered id."""
    return str(uuid7())

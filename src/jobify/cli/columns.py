"""What a table is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

__all__ = ("STATUS_STYLES", "Column", "Row")

STATUS_STYLES: Final[Mapping[str, str]] = {
    "pending": "cyan",
    "running": "bold blue",
    "complete": "green",
    "failed": "red",
    "dead": "bold red",
    "cancelled": "yellow",
}


class Column(NamedTuple):
    """A column of a table."""

    name: str
    from_width: int = 0
    """Terminals that are narrower than this do without it, unless there is room for it."""
    is_number: bool = False
    style: str = ""
    is_kept: bool = False
    """Never cut short."""
    is_rest: bool = False
    """Free text, of which a table has one column at most: it gets the room that the others leave, or lines of its
    own."""


Row: TypeAlias = Sequence[object]
"""What stands in a line of a table."""

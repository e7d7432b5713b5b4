"""How jobs in memory know each other: by number, so that another job with the id of one is not meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from jobify.types import Microseconds

__all__ = ("Barrier", "Edge", "Gate", "Link", "edges_of")


class Edge(NamedTuple):
    """A job, as another one knows it."""

    seq: int
    version: int
    """What was put in the place of a child, or of a cause, is another job; what was put in that of a parent is waited
    for as that was."""
    id: str
    """The id that it had."""


class Gate:
    """A barrier: all behind it wait for all of the same parents, each of which holds the gate instead of so many ties.

    ``behind`` grows while the call goes on that makes it, and never after. How far it is open says :class:`Barrier`.
    """

    __slots__ = ("behind",)

    def __init__(self) -> None:
        self.behind: list[Edge] = []


Link: TypeAlias = Edge | Gate
"""What a parent holds: a child, or a barrier with children behind it."""


class Barrier(NamedTuple):
    """How a gate stands."""

    waiting: int
    """How many of the parents have not succeeded yet."""
    ended_at: Microseconds = 0
    """When the last of those that have ended did."""


def edges_of(links: Iterable[Link]) -> Iterator[Edge]:
    """The children that these links lead to."""
    for link in links:
        if isinstance(link, Gate):
            yield from link.behind
        else:
            yield link

"""The workflow that a job belongs to, as storages tell it: all that is connected with it by dependencies."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ("Kinship", "Relative")


class Relative(NamedTuple):
    """A job of a workflow."""

    number: int
    """Greater than those of the jobs that it depends on."""
    id: str
    task: str
    status: str
    is_dead: bool
    error: str | None
    """The beginning of it."""


class Kinship(NamedTuple):
    """A job, what it depends on, what depends on it, and so on in both directions."""

    jobs: tuple[Relative, ...]
    """In order of their numbers."""
    edges: tuple[tuple[int, int], ...]
    """Numbers: a parent, and what depends on it. A negative one is a barrier: all behind it wait for all before it."""
    is_whole: bool
    """False: there are more jobs; these are the nearest ones."""

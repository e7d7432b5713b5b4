"""Forks: what a process has opened is not its child's.

A child has a copy of every descriptor and every object of its parent, and of its threads only the one that forked.
What it must not use, or must not keep open, is told here: before the fork, and after it on both sides.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ("Forkable", "register")


class Forkable(Protocol):
    """Something with a state that a fork must not tear apart."""

    def before_fork(self) -> None:
        """Come to rest, and let nothing begin."""
        ...

    def after_fork_in_parent(self) -> None:
        """Go on."""
        ...

    def after_fork_in_child(self) -> None:
        """Let go of what is the parent's."""
        ...


_watched: weakref.WeakSet[Forkable] = weakref.WeakSet()
_resting: list[Forkable] = []


def register(forkable: Forkable) -> None:
    """Tell ``forkable`` of every fork, as long as it exists."""
    _watched.add(forkable)


def _before() -> None:
    # Always in the same order, so that two threads that fork do not wait for each other.
    for forkable in sorted(_watched, key=id):
        forkable.before_fork()
        _resting.append(forkable)


def _in_parent() -> None:
    while _resting:
        _resting.pop().after_fork_in_parent()


def _in_child() -> None:
    while _resting:
        _resting.pop().after_fork_in_child()


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows, which has no fork
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)

"""What is needed by others and so is not deleted: the same in every storage.

A job that has succeeded is needed while a job that depends on it has not ended, or may be tried again: it failed, or
was cancelled with one that did. So is one that was cancelled itself, because it may come back with its cause. One that
failed is not needed by any: with its deletion, what was cancelled for it is given up.

What takes the place of a needed job leaves that one under another id (``set aside``), so results are bound to the jobs
that made them, and not to the ids of those. It cannot be found by its old id, and it goes when it is not needed any
more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from itertools import count

from jobify.model.records import NewJob

__all__ = ("ASIDE", "aside_id", "parents_before", "spared")

ASIDE = "~"
"""Stands between the id that a job had and the number that it has got."""


def aside_id(id: str, is_taken: Callable[[str], bool]) -> str:
    """Where the job ``id`` goes that is still needed.

    >>> aside_id("load", {"load~1"}.__contains__)
    'load~2'
    """
    return next(name for number in count(1) if not is_taken(name := f"{id}{ASIDE}{number}"))


def parents_before(jobs: Iterable[NewJob]) -> set[str]:
    """Those ids of ``jobs`` on which an earlier one of them depends: it means the job that had the id before."""
    seen: set[str] = set()
    groups: set[int] = set()
    found: set[str] = set()
    for job in jobs:
        if job.id in seen:
            found.add(job.id)
        if job.parents and id(job.parents) not in groups:
            groups.add(id(job.parents))
            seen.update(job.parents)
    return found


def spared(needs: Iterable[tuple[int, int]], victims: Collection[int]) -> set[int]:
    """Those of ``victims`` that stay, because one that stays needs them.

    ``needs`` are pairs: a needed job, and one that needs it. Negative numbers are barriers: those
    behind them need all before them.

    >>> sorted(spared([(1, 2), (2, 3), (4, 5)], victims={1, 2, 4, 5}))
    [1, 2]
    """
    needed_by = defaultdict[int, list[int]](list)
    for needed, wanting in needs:
        needed_by[wanting].append(needed)
    waiting = [wanting for wanting in needed_by if wanting > 0 and wanting not in victims]
    reached = set(waiting)
    while waiting:
        fresh = [needed for needed in needed_by[waiting.pop()] if needed not in reached]
        reached.update(fresh)
        waiting += fresh
    return {number for number in reached if number in victims}

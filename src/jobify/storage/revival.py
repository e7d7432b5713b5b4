"""What comes back when a job is tried again that others were cancelled for: the same in every storage. Pure.

A job comes back if all that it depends on has succeeded, may still run, or comes back, too. What does not, because
another job before it has failed meanwhile, falls with that one from now on.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from jobify.model.status import TERMINAL, JobStatus
from jobify.storage.end_reasons import Cause, because_of

__all__ = ("Fallen", "Known", "Revival", "plan")

_ENDED = frozenset(status.value for status in TERMINAL)
_SUCCESS = JobStatus.SUCCESS.value


class Known(NamedTuple):
    """A job on which others depend."""

    id: str
    status: str
    root: int
    """What those fall with that depend on it: itself, or what it was cancelled for."""
    cause: Cause | None
    """The same, in words; None: it is gone."""


class Fallen(NamedTuple):
    """Why a job stays cancelled."""

    root: int
    reason: str


class Revival(NamedTuple):
    """What to write. Negative numbers are barriers."""

    blockers: dict[int, int]
    """The jobs that come back, and for how many parents each waits."""
    waiting: dict[int, int]
    """For how many parents barriers wait."""
    opened: list[tuple[int, int]]
    """Dependencies that are open again: parent, child."""
    fallen: dict[int, Fallen]
    """The jobs that fall with another one now."""


def plan(
    candidates: Mapping[int, str],
    edges: Collection[tuple[int, int]],
    known: Mapping[int, Known],
    refused: Iterable[int] = (),
) -> Revival:
    """Say which of ``candidates`` (ids by number) come back.

    ``edges`` are all dependencies of those (parent, child), and of the barriers before them; ``known`` says how the
    parents stand that are jobs. ``refused`` cannot come back: other jobs have their unique keys.
    """
    stuck = _stuck(candidates, edges, known, refused)
    back = candidates.keys() - stuck.keys()
    open_parents = {
        parent
        for parent, _ in edges
        if parent in back or (parent in known and parent not in stuck and known[parent].status not in _ENDED)
    }
    barriers = {parent for parent, child in edges if parent < 0 and child in back}
    waiting = Counter(child for parent, child in edges if child in barriers and parent in open_parents)
    open_parents |= waiting.keys()
    opened = [(parent, child) for parent, child in edges if parent in open_parents and (child in back or child < 0)]
    blockers = Counter(child for _, child in opened if child in back)
    fallen = {number: how for number, how in stuck.items() if how is not None}
    return Revival({number: blockers[number] for number in back}, dict(waiting), opened, fallen)


class _Bad(NamedTuple):
    """A job or barrier that will not let those behind it run."""

    number: int
    id: str
    root: int | None
    """None: nothing can bring them back."""
    cause: Cause | None


def _stuck(
    candidates: Mapping[int, str],
    edges: Iterable[tuple[int, int]],
    known: Mapping[int, Known],
    refused: Iterable[int],
) -> dict[int, Fallen | None]:
    """The candidates that stay cancelled; None: as they are."""
    behind = defaultdict[int, list[int]](list)
    for parent, child in edges:
        behind[parent].append(child)
    stuck: dict[int, Fallen | None] = dict.fromkeys(refused)
    bad = deque(_Bad(number, candidates[number], None, None) for number in stuck)
    for parent in behind:
        if parent > 0 and parent not in candidates:
            job = known.get(parent)
            if job is None:
                bad.append(_Bad(parent, "", None, None))
            elif job.status in _ENDED and job.status != _SUCCESS:
                bad.append(_Bad(parent, job.id, job.root, job.cause))
    passed: set[int] = set()
    while bad:
        one = bad.popleft()
        for child in behind[one.number]:
            if child < 0 and child not in passed:
                passed.add(child)
                bad.append(one._replace(number=child))
            elif child in candidates and child not in stuck:
                stuck[child] = None if one.root is None else Fallen(one.root, because_of(one.id, one.cause))
                bad.append(one._replace(number=child, id=candidates[child]))
    return stuck

"""Which job is blamed for the death of a process.

Pure decisions, which every storage makes in the same way.

A *death* is the end of a process that was an owner. Its *suspects* are the jobs that had begun there; a job that was
claimed and had not begun cannot have done it. Only a suspect that was the only one is blamed: that death is a *crash*
of the job, and ``max_crashes`` of them end it. In company a death is a suspicion and no more, and after
:func:`deaths_allowed` of them the job runs *apart*: ordinary claims pass it over, and a process that runs nothing else
takes it as part of a *trial*. The groups of a trial shrink (:func:`group_size`) until the guilty job is alone.

A death proves nothing while processes die for another reason: when one died within the last seconds that did not run
this job (``CALM``), a death is never a crash. So kills from outside, a deploy or the out-of-memory killer at work,
condemn no job, although each of them may hit the same one. The last crash of all is doubted more: if another process
died within the last minute (``RESTLESS``), the job is *held* for so long as ``CALM`` is, and ends only if none dies for
another reason meanwhile.

``docs/design/01-suspects.md`` has the reasons and the bounds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum, auto
from math import isqrt
from typing import Final, NamedTuple

from jobify.model.records import Recovered, Settlement
from jobify.model.status import JobStatus
from jobify.types import Microseconds

__all__ = (
    "CALM",
    "RESTLESS",
    "Company",
    "Death",
    "HeldCrash",
    "HeldVerdict",
    "Suspicion",
    "Verdict",
    "deaths_allowed",
    "group_size",
    "is_blamed_for_child",
    "is_unfinished",
    "is_verdict_due",
    "judge_held",
    "judged",
)

CALM: Final = 5_000_000
"""Microseconds after the death of a process in which other deaths prove nothing."""

RESTLESS: Final = 60_000_000
"""Microseconds after the death of a process in which the last crash of a job is doubted."""

_FEW: Final = 4
"""So many suspects are a small company: they may die together once more before they run apart. A process that is killed
from outside mostly runs few jobs, and those restart fastest where they need not wait for a process that is idle."""

_ALONE: Final = 16
"""Of so many suspects each is tried alone."""

_SEEN: Final = 16
"""How many of its deaths a suspicion remembers by their ids: more do not fit into the time that ``CALM`` is."""


class Death(NamedTuple):
    """The end of a process that was an owner, and did not leave."""

    id: int
    at: Microseconds
    """When it was found."""
    host: str
    pid: int
    begun: int
    """How many jobs had begun there, as far as that is known."""
    is_trial: bool
    """All of them ran apart: one of them explains the death."""
    jobs: tuple[Recovered, ...]
    """What it held, in the order of insertion."""


class Suspicion(NamedTuple):
    """What is known of a job that had begun in a process that died."""

    attempt: int
    """The attempt that was lost. A job that counts its attempts from 0 again has nothing to do with this any more."""
    deaths: int
    """How many deaths it was a suspect of, alone or in company."""
    seen: tuple[int, ...]
    """The ids of the last of them, the newest last."""
    company: int
    """How many suspects the last one had."""
    is_apart: bool
    """It waits to be tried, or is."""
    is_held: bool = False
    """It waits for its verdict, and is not tried meanwhile."""

    @property
    def death(self) -> int:
        """The id of the last death: those that share it are tried together."""
        return self.seen[-1]


class Company(NamedTuple):
    """A death, as its suspects share it."""

    death: int
    """Its id. Ids grow, and are never used twice."""
    size: int
    """How many jobs had begun in the process, those of other storages included."""
    others: Collection[int]
    """The ids of other deaths at about this time that no trial explains."""
    recent: Collection[int] = ()
    """The ids of those within the last minute."""

    @classmethod
    def of(cls, death: int, size: int, unexplained: Mapping[int, Microseconds], now: Microseconds) -> Company:
        """The company of a death that is found now. ``unexplained`` are all deaths that no trial explains, by their
        ids, with their times: those of the last minute at least."""
        recent = deaths_around(unexplained, now, RESTLESS) - {death}
        return cls(death, size, deaths_around(unexplained, now, CALM) - {death}, recent)


class Verdict(NamedTuple):
    """What a death makes of one of its suspects."""

    crashes: int
    is_condemned: bool
    suspicion: Suspicion


def judged(company: Company, before: Suspicion | None, *, attempt: int, crashes: int, max_crashes: int) -> Verdict:
    """What becomes of a job that had begun in a process that died, in this attempt and after so many crashes.

    With ``max_crashes`` 1 other deaths are not considered, because the setting rules out a second try.
    """
    known = before if before is not None and before.attempt < attempt else None
    deaths, seen = (known.deaths, known.seen) if known is not None else (0, ())
    is_proof = company.size == 1 and (max_crashes == 1 or set(company.others) <= set(seen))
    crashes += is_proof
    is_guilty = is_proof and crashes >= max_crashes
    is_held = is_guilty and max_crashes > 1 and not set(company.recent) <= set(seen)
    is_apart = deaths + 1 >= deaths_allowed(company.size, max_crashes) or (known is not None and known.is_apart)
    suspicion = Suspicion(attempt, deaths + 1, (*seen, company.death)[-_SEEN:], company.size, is_apart, is_held)
    return Verdict(crashes, is_guilty and not is_held, suspicion)


def deaths_around(deaths: Mapping[int, Microseconds], at: Microseconds, distance: Microseconds) -> frozenset[int]:
    """The ids of those deaths that were not further away from this time."""
    return frozenset(id for id, died_at in deaths.items() if abs(died_at - at) <= distance)


def is_verdict_due(died_at: Microseconds, now: Microseconds) -> bool:
    """Whether a job that is held since this death has waited long enough. A clock that was set back ends the wait."""
    return abs(now - died_at) > CALM


class HeldCrash(NamedTuple):
    """The last crash of a job that is held."""

    crashes: int
    died_at: Microseconds | None
    """When its process died; None means that this is not known any more."""
    seen: Collection[int]
    """The ids of the deaths that the job was a suspect of."""


class HeldVerdict(Enum):
    """What becomes of a job that is held."""

    PENDING = auto()
    """It stays held: other processes may still die."""
    DISPROVED = auto()
    """The crash does not count, and the job is tried again: processes died for another reason then, too."""
    SPARED = auto()
    """The crash counts, and the job is tried again: meanwhile more crashes are allowed."""
    CONDEMNED = auto()
    """The crash counts, and the job ends."""


def judge_held(
    crash: HeldCrash, unexplained: Mapping[int, Microseconds], *, max_crashes: int, now: Microseconds
) -> HeldVerdict:
    """Decide about a job that is held. ``unexplained`` are the deaths around that time that no trial explains.

    >>> judge_held(HeldCrash(3, 0, (1,)), {1: 0}, max_crashes=3, now=CALM + 1).name
    'CONDEMNED'
    >>> judge_held(HeldCrash(3, 0, (1,)), {1: 0, 2: CALM}, max_crashes=3, now=CALM + 1).name
    'DISPROVED'
    """
    if crash.died_at is None:
        return HeldVerdict.DISPROVED
    if not is_verdict_due(crash.died_at, now):
        return HeldVerdict.PENDING
    if not deaths_around(unexplained, crash.died_at, CALM) <= set(crash.seen):
        return HeldVerdict.DISPROVED
    return HeldVerdict.CONDEMNED if crash.crashes >= max_crashes else HeldVerdict.SPARED


def is_blamed_for_child(deaths: Collection[Microseconds], *, died_at: Microseconds, is_last: bool) -> bool:
    """Whether a job is blamed for the death of the child process that ran it alone.

    It is not while processes die for another reason: ``deaths`` are the times of those. If it would be the last crash
    that is allowed, this is so for a minute.

    >>> is_blamed_for_child([0], died_at=CALM, is_last=False), is_blamed_for_child([0], died_at=CALM + 1, is_last=False)
    (False, True)
    """
    distance = RESTLESS if is_last else CALM
    return all(abs(died_at - at) > distance for at in deaths)


def is_unfinished(settlement: Settlement, attempt: int, run_count: int) -> bool:
    """Whether this settles an attempt that has not come to an end.

    Such an attempt is not counted, and so says nothing about the job. (A job that is parked is to be run by other code,
    which is not suspected of anything.)
    """
    return (
        settlement.parking is None
        and settlement.status == JobStatus.SCHEDULED
        and settlement.attempt == attempt - 1
        and settlement.run_count == run_count
    )


def deaths_allowed(company: int, max_crashes: int) -> int:
    """After how many deaths a job runs apart, if the last one had so many suspects.

    At most ``max_crashes``: with 1, the first death in company is the last one.
    """
    return min(max_crashes, 3 if company <= _FEW else 2)


def group_size(company: int) -> int:
    """How many of so many suspects are tried together.

    A thousand become 32 groups, the guilty group of 31 becomes seven, and then each is alone: four deaths more, where
    halving would take ten; and about 70 trials at most, where trying each alone would take a thousand.
    """
    return 1 if company <= _ALONE else isqrt(company)

"""The rows that engine, client and storage exchange: plain values, no behaviour, no defaults that hide a decision.

The field order of :class:`NewJob`, :class:`Settlement` and :class:`AttemptRecord` is also the parameter order of the
statements that write them, so that a batch of records *is* a batch of rows and nothing is copied on the hot path.
Times are :data:`~jobify.types.Microseconds`. ``status`` fields hold plain words (``JobStatus.X.value``).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple, Self

from jobify.model.owner_records import OwnerProfile, OwnerRecord, OwnerRole
from jobify.model.status import ClaimScope
from jobify.types import Microseconds

__all__ = (
    "AttemptRecord",
    "CancelResult",
    "Claim",
    "ClaimRequest",
    "Claimed",
    "CountKey",
    "Expired",
    "JobQuery",
    "JobRecord",
    "MessageKind",
    "MessageRecord",
    "NewJob",
    "OwnerProfile",
    "OwnerRecord",
    "OwnerRole",
    "Parking",
    "Progress",
    "Recovered",
    "Relations",
    "Report",
    "Settled",
    "Settlement",
    "SummaryIds",
    "TaskSlots",
)


class NewJob(NamedTuple):
    """A job as it is asked for.

    Either waiting (``status`` scheduled, ``owner``, ``fence`` and ``attempt`` at their defaults) or claimed at birth
    by the process that pushes it (``status`` running, its owner id, ``fence`` and ``attempt`` 1, ``started_at`` given).
    """

    id: str
    task: str
    queue: str
    priority: int
    status: str
    ready: bool
    """Already due: ``due_at`` is not after the time of the insert. Waiting rows that are not ready yet are staged."""
    due_at: Microseconds
    created_at: Microseconds
    payload: bytes
    """The encoded arguments. Storages keep it as it is."""
    rule: str | None = None
    """The schedule's rule as JSON, None for a job that runs once."""
    offset_at: Microseconds | None = None
    """The due time by the rule of this run (a retry is due later). Of a plain job: what its delay is counted from."""
    options: str | None = None
    """Per-job options as JSON, None where the task's own options hold."""
    origin: int | None = None
    """The owner id of the process that asked for it; its handle wants to know how the job ended."""
    owner: int | None = None
    fence: int = 0
    attempt: int = 0
    started_at: Microseconds | None = None
    unique_key: str | None = None
    """While a job with this key has not ended, no other one with it can be added. Scoped by whoever makes it."""
    expires_at: Microseconds | None = None
    """When a job that still waits is cancelled (``expire``); None: never."""
    parents: tuple[str, ...] = ()
    """Not a column: the ids of the jobs that must succeed first. They may stand earlier in the same insert."""


class Progress(NamedTuple):
    """How far a schedule has come; kept when its rule changes."""

    run_count: int
    failure_count: int


class TaskSlots(NamedTuple):
    """Tasks that share slots, and how many of those are free."""

    tasks: tuple[str, ...]
    limit: int


class ClaimRequest(NamedTuple):
    owner: int
    slots: tuple[TaskSlots, ...]
    queues: tuple[str, ...] | None = None
    """Only these queues; None is every queue."""
    ahead: Microseconds = 0
    """Jobs that are due within so long from now are taken, too, to be started on the dot."""
    scope: ClaimScope = ClaimScope.ANY
    code: str = ""
    """Of scope ``PARKED``: the code of the claimant. Calls that did not fit it are not taken."""


class Claim(NamedTuple):
    """A job that its claimant may now run. ``(id, owner, fence)`` is the proof of ownership."""

    id: str
    task: str
    queue: str
    priority: int
    due_at: Microseconds
    created_at: Microseconds
    payload: bytes
    rule: str | None
    offset_at: Microseconds | None
    options: str | None
    origin: int | None
    fence: int
    attempt: int
    """The number of this attempt, from 1."""
    run_count: int
    failure_count: int
    crashes: int
    expires_at: Microseconds | None
    is_snoozed: bool = False  # of a schedule: its task has put this run off


class Claimed(NamedTuple):
    """The answer to a :class:`ClaimRequest`."""

    claims: list[Claim]
    has_more: bool
    """Whether eligible jobs may be left: ask again as soon as a slot is free, at once if one still is."""
    next_due_at: Microseconds | None
    """When the earliest job that was not considered is due; None: nothing waits. Past only while ``has_more``."""
    has_suspects: bool = False
    """Whether jobs that this request could take wait to run apart."""
    has_parked: bool = False
    """Whether any call is parked, of whichever task: ask for it with the scope ``PARKED``."""


class AttemptRecord(NamedTuple):
    """One line of a job's history: an attempt that did not succeed, a schedule's run, or skipped due times."""

    job_id: str
    attempt: int
    due_at: Microseconds
    outcome: str
    """An :class:`~jobify.model.status.Event` value, or ``"skipped"``."""
    error: str | None
    """``Type: message``, or the reason of a skip."""
    traceback: str | None
    started_at: Microseconds | None
    finished_at: Microseconds
    owner: int | None
    code: str | None = None
    """Of the run that stopped a schedule: the fingerprint of its task (:mod:`jobify.runtime.code_fingerprint`)."""


class Parking(NamedTuple):
    """Why a waiting job is parked: its stored call did not fit the code of the processes that have tried it."""

    reason: str
    """Of the last one."""
    at: Microseconds
    codes: tuple[str, ...]
    """The fingerprints of the code that it did not fit (:mod:`jobify.runtime.app_code`), the newest last."""


class Settlement(NamedTuple):
    """What the end of an attempt makes of its job. Applied only if ``(id, owner, fence)`` is still the claim."""

    status: str
    ready: bool
    due_at: Microseconds
    offset_at: Microseconds | None
    attempt: int
    """What the row counts from here: the number of the attempt that ended, or less where it does not count."""
    run_count: int
    failure_count: int
    result: bytes | None
    error: str | None
    finished_at: Microseconds | None
    """Set exactly when the status is an end."""
    delete_at: Microseconds | None
    """When the janitor may delete the row; None: never."""
    is_dead: bool
    """It failed, and its retries are used up (or its schedule was stopped): what a queue calls *dead*."""
    is_lost: bool
    """The attempt took a process down: one crash more, unless the row begins to count anew (``attempt`` is 0)."""
    id: str
    owner: int
    fence: int
    history: tuple[AttemptRecord, ...] = ()
    """Not a column: rows for the job's history, written in the same transaction."""
    parking: Parking | None = None
    """Not a column: the job is parked. Its ``codes`` are added to those that the call did not fit before."""


class JobRecord(NamedTuple):
    """A whole row, as ``get`` and ``find`` return it. ``ready`` says something only while the job waits."""

    id: str
    task: str
    queue: str
    priority: int
    status: str
    ready: bool
    due_at: Microseconds
    created_at: Microseconds
    payload: bytes
    rule: str | None
    offset_at: Microseconds | None
    options: str | None
    origin: int | None
    owner: int | None
    fence: int
    attempt: int
    started_at: Microseconds | None
    finished_at: Microseconds | None
    delete_at: Microseconds | None
    result: bytes | None
    error: str | None
    run_count: int
    failure_count: int
    crashes: int
    is_cancel_requested: bool
    has_successor: bool
    unique_key: str | None
    expires_at: Microseconds | None
    is_dead: bool
    blockers: int
    """What it waits for beside the time: parents that have not ended, a pause, other code. While this is not 0 it is
    not eligible, due or not."""
    progress: float | None
    """What its task has reported last, 0 to 100."""
    is_apart: bool
    """It was a suspect of several deaths, and waits to run apart from other jobs, or does; one of ``blockers``."""
    parking: Parking | None = None
    """It waits for code that its call fits; one of ``blockers``."""


class SummaryIds(tuple[str, ...]):
    """Ids of jobs whose rows may lack large arguments (empty), and large results unless ``with_results``."""

    with_results: bool

    def __new__(cls, ids: Iterable[str], *, with_results: bool = False) -> Self:
        self = super().__new__(cls, ids)
        self.with_results = with_results
        return self


class JobQuery(NamedTuple):
    """Filters of ``find`` and ``count``; None does not filter. Rows come in order of id."""

    statuses: tuple[str, ...] | None = None
    tasks: tuple[str, ...] | None = None
    queues: tuple[str, ...] | None = None
    is_schedule: bool | None = None
    is_dead: bool | None = None
    owner: int | None = None
    """Only what this owner runs."""
    created_after: Microseconds | None = None
    created_before: Microseconds | None = None
    """Only jobs created at the first time or later, and before the second one."""
    metadata: tuple[tuple[str, str | int | float | bool | None], ...] = ()
    """Pairs that ``options["metadata"]`` has, each equal in JSON."""
    is_newest_first: bool = False
    after_id: str | None = None
    """Keyset paging: only ids that come after this one, in the order asked for."""
    limit: int = 100
    has_values: bool = True
    """False: large arguments and results may be left out: empty."""


class CountKey(NamedTuple):
    """What ``count`` counts by."""

    task: str
    queue: str
    status: str
    is_dead: bool


class Settled(IntEnum):
    """What a settlement met. False where nothing was changed."""

    REFUSED = 0
    """The claim did not hold."""
    APPLIED = 1
    CASCADED = 2
    """Applied, and other jobs with it: dependents that became eligible or were cancelled, a replacement."""


class Expired(NamedTuple):
    """A job that waited too long, and is cancelled."""

    id: str
    task: str
    origin: int | None
    queue: str = "default"
    attempt: int = 0


class Relations(NamedTuple):
    """What a job depends on, and what depends on it: ids, in order of insertion."""

    parents: tuple[str, ...]
    children: tuple[str, ...]


class MessageKind(StrEnum):
    """What a running job may report."""

    PROGRESS = "progress"
    """How far it is, 0 to 100: kept in the row."""
    VALUE = "value"
    """A part of the result, for whoever follows the job."""
    LOG = "log"
    """A line for people."""


class Report(NamedTuple):
    """What a running job has to say. Taken only if ``(job_id, owner, fence)`` is still the claim."""

    job_id: str
    owner: int
    fence: int
    kind: MessageKind
    at: Microseconds
    data: Any
    """The percentage, as a float; the encoded value, as bytes; the line, as a text. (In memory a value is itself.)"""
    level: str | None = None
    """Of a log line: debug, info, warning, error."""


class MessageRecord(NamedTuple):
    """A value or a log line that a job has published."""

    number: int
    """1, 2, 3 … for each job, over all its attempts and both kinds."""
    kind: MessageKind
    attempt: int
    at: Microseconds
    data: Any
    level: str | None


class CancelResult(StrEnum):
    """What a cancel met."""

    CANCELLED = "cancelled"
    """It was waiting, and is cancelled now."""
    REQUESTED = "requested"
    """It is running: the request is stored for its owner."""
    ENDED = "ended"
    """It had already ended; nothing was changed."""
    MISSING = "missing"
    """No such job."""


class Recovered(NamedTuple):
    """A job that was taken from a dead owner."""

    id: str
    task: str
    status: str
    """scheduled: it (or its replacement) runs again. failed: ``max_crashes``. cancelled: that was asked for."""
    origin: int | None
    is_crash: bool = True
    """False: its owner had left before (``Storage.leave``); no attempt and no crash were counted."""
    attempt: int = 0
    """The attempt that was lost; 0: none."""

"""The rows that engine, client and storage exchange: values without behaviour.

The field order of :class:`NewJob`, :class:`Settlement` and :class:`AttemptRecord` is also the parameter order of the
statements that write them, so that a batch of records *is* a batch of rows and nothing is copied on the hot path.
Times are :data:`~jobify.types.Microseconds`. ``status`` fields hold plain words (``JobStatus.X.value``).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple, Self

from jobify.model.claim_records import BatchRule, Claim, Claimed, ClaimRequest, TaskSlots
from jobify.model.limit_gates import SettledLimits
from jobify.model.owner_records import OwnerProfile, OwnerRecord, OwnerRole
from jobify.types import Microseconds

__all__ = (
    "AttemptRecord",
    "BatchRule",
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
    """The row of a new job.

    It is either waiting (``status`` scheduled, ``owner``, ``fence`` and ``attempt`` at their defaults) or inserted
    already claimed by the process that pushes it (``status`` running, its owner id, ``fence`` and ``attempt`` 1,
    ``started_at`` given).
    """

    id: str
    task: str
    queue: str
    priority: int
    status: str
    ready: bool
    """Whether ``due_at`` is not after the time of the insert. Waiting rows that are not ready yet are staged."""
    due_at: Microseconds
    created_at: Microseconds
    payload: bytes
    """The encoded arguments. Storages keep it as it is."""
    rule: str | None = None
    """The schedule's rule as JSON. None for a job that runs once."""
    offset_at: Microseconds | None = None
    """Of a schedule: the due time of this run by the rule (a retry is due later). Of a plain job: the time from which
    its delay is counted."""
    options: str | None = None
    """The job's own options as JSON. None means those of its task."""
    origin: int | None = None
    """The owner id of the process that pushed it, which is notified of the end."""
    owner: int | None = None
    fence: int = 0
    attempt: int = 0
    started_at: Microseconds | None = None
    unique_key: str | None = None
    """While a job with this key has not ended, no other one with it can be inserted. The key contains its scope."""
    expires_at: Microseconds | None = None
    """When a job that still waits is cancelled (``expire``). None means never."""
    parents: tuple[str, ...] = ()
    """Not a column: the ids of the jobs that must succeed first. They may come earlier in the same insert."""


class Progress(NamedTuple):
    """The progress of a schedule, which is kept when its rule changes."""

    run_count: int
    failure_count: int


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
    """The reason of the last process."""
    at: Microseconds
    codes: tuple[str, ...]
    """Fingerprints of the app code that the call did not fit (:mod:`~jobify.runtime.code_fingerprint`), newest last."""


class Settlement(NamedTuple):
    """The new state of a job after an attempt. Applied only if ``(id, owner, fence)`` is still the claim."""

    status: str
    ready: bool
    due_at: Microseconds
    offset_at: Microseconds | None
    attempt: int
    """The attempts to count: the number of the ended attempt, or one less if it does not count."""
    run_count: int
    failure_count: int
    result: bytes | None
    error: str | None
    finished_at: Microseconds | None
    """Set if and only if the status is terminal."""
    delete_at: Microseconds | None
    """When the row may be deleted. None means never."""
    is_dead: bool
    """Whether it failed and its retries are used up, or its schedule was stopped: the public status *dead*."""
    is_lost: bool
    """Whether the attempt took a process down: one more crash, unless ``attempt`` is 0 (counting starts again)."""
    id: str
    owner: int
    fence: int
    history: tuple[AttemptRecord, ...] = ()
    """Not a column: rows for the job's history, written in the same transaction."""
    parking: Parking | None = None
    """Not a column: the job is parked. Its ``codes`` are added to those that the call did not fit before."""
    limits: SettledLimits | None = None
    """Not a column: set if and only if the claim's ``limits`` is not NONE."""


class JobRecord(NamedTuple):
    """A whole row, as ``get`` and ``find`` return it. ``ready`` has a meaning only while the job waits."""

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
    """How many things it waits for besides the time: parents, a pause, a limit, other code. It is eligible at 0."""
    progress: float | None
    """The last progress that its task reported, 0 to 100."""
    is_apart: bool
    """Whether it is a suspect of several deaths, which runs or waits to run apart from others; one of ``blockers``."""
    parking: Parking | None = None
    """Set while it waits for code that its call fits; one of ``blockers``."""
    waits_for_limit: bool = False  # a limit has held it back; one of ``blockers``


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
    """Only jobs that this owner runs."""
    created_after: Microseconds | None = None
    created_before: Microseconds | None = None
    """Only jobs created at the first time or later, and before the second one."""
    metadata: tuple[tuple[str, str | int | float | bool | None], ...] = ()
    """Pairs that ``options["metadata"]`` must have, compared as JSON values."""
    is_newest_first: bool = False
    after_id: str | None = None
    """Keyset paging: only ids after this one, in the order of the query."""
    limit: int = 100
    has_values: bool = True
    """If False, large arguments and results may be left out (empty)."""


class CountKey(NamedTuple):
    """A group of ``count``."""

    task: str
    queue: str
    status: str
    is_dead: bool


class Settled(IntEnum):
    """The result of a settlement. False if nothing was changed."""

    REFUSED = 0
    """The claim did not hold."""
    APPLIED = 1
    CASCADED = 2
    """Applied, and other jobs with it: dependents that became eligible or were cancelled, a replacement."""
    FREED = 3  # applied, and what it held of a limit is free for a job that waits


class Expired(NamedTuple):
    """A job that expired and was cancelled."""

    id: str
    task: str
    origin: int | None
    queue: str = "default"
    attempt: int = 0


class Relations(NamedTuple):
    """The ids of the jobs that a job depends on, and of those that depend on it, in order of insertion."""

    parents: tuple[str, ...]
    children: tuple[str, ...]


class MessageKind(StrEnum):
    """The kinds of reports of a running job."""

    PROGRESS = "progress"
    """The progress, 0 to 100, which is kept in the row."""
    VALUE = "value"
    """A partial result for the readers of the job's stream."""
    LOG = "log"
    """A log line."""


class Report(NamedTuple):
    """A report of a running job. Stored only if ``(job_id, owner, fence)`` is still the claim."""

    job_id: str
    owner: int
    fence: int
    kind: MessageKind
    at: Microseconds
    data: Any
    """The percentage as a float, the encoded value as bytes, or the line as a text. (In memory, the value itself.)"""
    level: str | None = None
    """The level of a log line: debug, info, warning, error or critical."""


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
    """The result of a cancel."""

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
    """scheduled: it (or its replacement) runs again. failed: ``max_crashes``. cancelled: a cancel was requested."""
    origin: int | None
    is_crash: bool = True
    """False if its owner had left before (``Storage.leave``): no attempt and no crash was counted."""
    attempt: int = 0
    """The number of the lost attempt, 0 if there is none."""

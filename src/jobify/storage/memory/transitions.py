"""What each event makes of a row: functions from row to row, and nothing else."""

from __future__ import annotations

from jobify.model.records import (
    AttemptRecord,
    Claim,
    ClaimRequest,
    JobRecord,
    MessageKind,
    MessageRecord,
    NewJob,
    Parking,
    Progress,
    Report,
    Settlement,
)
from jobify.model.status import Event, JobStatus, Lost
from jobify.storage.end_reasons import EXPIRED, crash_limit_reached, is_snoozed
from jobify.storage.memory.gate_transitions import past_gate
from jobify.storage.memory.rows import ENDED, RUNNING, SCHEDULED, PendingCancel, Row, changed, runs_apart
from jobify.storage.merging import UNTIL_START
from jobify.storage.parking import merged
from jobify.storage.suspicion import Suspicion, Verdict, is_unfinished
from jobify.types import Microseconds

__all__ = (
    "NO_PROGRESS",
    "admitted",
    "cancelled",
    "claim_of",
    "claimed",
    "expired",
    "lost",
    "new",
    "paused",
    "quarantined",
    "released",
    "released_uncounted",
    "replaced",
    "reported",
    "rescheduled",
    "resumed",
    "retried",
    "revived",
    "settled",
    "suspected",
    "tried_again",
    "unblocked",
    "uncounted",
    "unparked",
    "with_history",
)

_CANCELLED, _FAILED = JobStatus.CANCELLED.value, JobStatus.FAILED.value

NO_PROGRESS = Progress(0, 0)


def new(seq: int, job: NewJob, progress: Progress = NO_PROGRESS) -> Row:
    """A job that was not there before; what its parents mean to it is not looked at yet."""
    record = JobRecord(
        *job[:17], None, None, None, None,
        *progress, 0, False, False, job.unique_key, job.expires_at, False, 0, None, False,
    )  # fmt: skip
    return Row(seq, record)


def replaced(row: Row, job: NewJob, progress: Progress) -> Row:
    """Another job in the same place, so its fence is another one. What the place has said and who waits for it stays;
    so does a pause, of a schedule."""
    is_paused = row.is_paused and job.rule is not None
    record = new(row.seq, job, progress).record._replace(fence=row.record.fence + 1, blockers=int(is_paused))
    return row._replace(
        record=record,
        version=row.version + 1,
        is_paused=is_paused,
        parents=(),
        gate=None,
        codes=(),
        successor=None,
        cancel=None,
        cause=None,
        waits_at=None,
    )


def rescheduled(row: Row, *, due_at: Microseconds, now: Microseconds) -> Row:
    """A waiting job with another due time, at which it may meet another gate of a limit."""
    row = past_gate(row)
    return changed(row, due_at=due_at, ready=due_at <= now, fence=row.record.fence + 1)


def admitted(row: Row, now: Microseconds) -> Row:
    """A job that does not wait for a limit any more; the next claim looks at its limits again."""
    return changed(unblocked(row, now), waits_for_limit=False)._replace(waits_at=None)


def claimed(row: Row, request: ClaimRequest, now: Microseconds) -> Row:
    """A waiting job that runs from now on, or from its due time if that comes within the request's ``ahead``."""
    job, owner = row.record, request.owner
    started_at = job.due_at if now < job.due_at <= now + request.ahead else now
    return changed(
        row._replace(held=(), unit=None, claimed_key=job.unique_key),
        status=RUNNING,
        ready=True,
        owner=owner,
        fence=job.fence + 1,
        attempt=job.attempt + 1,
        started_at=started_at,
        unique_key=_kept_key(job),
    )


def _kept_key(job: JobRecord) -> str | None:
    key = job.unique_key
    return None if key is not None and key.startswith(UNTIL_START) else key


def claim_of(job: JobRecord) -> Claim:
    """What the owner of a running job learns of it."""
    return Claim(
        job.id,
        job.task,
        job.queue,
        job.priority,
        job.due_at,
        job.created_at,
        job.payload,
        job.rule,
        job.offset_at,
        job.options,
        job.origin,
        job.fence,
        job.attempt,
        job.run_count,
        job.failure_count,
        job.crashes,
        job.expires_at,
        job.rule is not None and is_snoozed(job.error),
    )


def settled(row: Row, settlement: Settlement) -> Row:
    """A running job whose attempt has ended: what is pending for it comes first."""
    row = with_history(row, settlement.history)
    if row.record.blockers:
        row = _no_longer_blocked(row, settlement)
    if row.successor is not None:
        return replaced(row, *row.successor)
    if row.cancel is not None and settlement.status == SCHEDULED:
        return cancelled(row, row.cancel)
    row = Row(row.seq, _settled_record(row.record, settlement), *row[2:12])  # what was pending is no more
    return row if settlement.parking is None else _parked(row, settlement.parking)


def _settled_record(job: JobRecord, settlement: Settlement) -> JobRecord:
    """The record of a running job after the end of its attempt."""
    # By position, because this is the one hot place: naming a dozen fields takes three times as long.
    (
        status, ready, due_at, offset_at, attempt, run_count, failure_count, result, error, finished_at, delete_at,
        dead, lost,
    ) = settlement[:13]  # fmt: skip
    return JobRecord(
        *job[:4],
        status,
        ready,
        due_at,
        job.created_at,
        job.payload,
        job.rule,
        offset_at,
        job.options,
        job.origin,
        None,
        job.fence,
        attempt,
        job.started_at,
        finished_at,
        delete_at,
        result,
        error,
        run_count,
        failure_count,
        job.crashes + lost if attempt else 0,
        False,
        False,
        job.unique_key,
        job.expires_at,
        dead,
        job.blockers,
        job.progress,
        job.is_apart,
    )


def _parked(row: Row, parking: Parking) -> Row:
    """A job that waits for code that its call fits."""
    parking = merged(parking, row.codes)
    return changed(row, parking=parking, blockers=row.record.blockers + 1)._replace(codes=parking.codes)


def unparked(row: Row, now: Microseconds) -> Row:
    """A parked job that is due at once, for any code."""
    job = row.record
    record = job._replace(
        parking=None, blockers=job.blockers - 1, ready=True, due_at=now, fence=job.fence + 1, error=None
    )
    return row._replace(record=record, codes=())


def _no_longer_blocked(row: Row, settlement: Settlement) -> Row:
    """A paused schedule, or a job that runs apart, whose attempt has ended."""
    job = row.record
    if runs_apart(row) and not is_unfinished(settlement, job.attempt, job.run_count):
        row = changed(row, blockers=job.blockers - 1, is_apart=False)._replace(suspicion=None)
    if settlement.status in ENDED and row.successor is None:
        row = changed(row, blockers=0)._replace(is_paused=False)
    return row


def released(row: Row) -> Row:
    """A running job whose owner will not say how it ended."""
    if row.successor is not None:
        return replaced(row, *row.successor)
    if row.cancel is not None:
        return cancelled(row, row.cancel)
    return changed(row, status=SCHEDULED, ready=True, owner=None)


def released_uncounted(row: Row, now: Microseconds) -> Row:
    """A running job whose owner has left, before it is released: the attempt is not counted, and a line says so."""
    return uncounted(with_history(row, (_line(row.record, Event.RELEASED, None, now),)))


def uncounted(row: Row) -> Row:
    """Without the attempt that is under way."""
    return changed(row, attempt=max(row.record.attempt - 1, 0))


def lost(row: Row, verdict: Verdict, now: Microseconds) -> Row:
    """A running job that had begun and whose owner is dead, before it is released: a line that says so, and what it
    is suspected of."""
    return changed(with_history(row, (_line(row.record, Event.LOST, Lost().reason, now),)), crashes=verdict.crashes)


def _line(job: JobRecord, event: Event, error: str | None, now: Microseconds) -> AttemptRecord:
    return AttemptRecord(
        job_id=job.id,
        attempt=job.attempt,
        due_at=job.due_at,
        outcome=event.value,
        error=error,
        traceback=None,
        started_at=job.started_at,
        finished_at=now,
        owner=job.owner,
    )


def suspected(row: Row, suspicion: Suspicion) -> Row:
    """A running job that is to be released, and of which so much is known from now on."""
    blockers = row.record.blockers + (suspicion.is_apart and not runs_apart(row))
    return changed(row, blockers=blockers, is_apart=suspicion.is_apart)._replace(suspicion=suspicion)


def tried_again(row: Row, *, crashes: int) -> Row:
    """A job that was held and runs apart once more."""
    assert row.suspicion is not None
    return changed(row, crashes=crashes)._replace(suspicion=row.suspicion._replace(is_held=False))


def quarantined(row: Row, *, now: Microseconds, delete_at: Microseconds | None) -> Row:
    """A job that took too many processes down."""
    delete_at = delete_at if row.record.rule is None else None
    reason = crash_limit_reached(row.record.id, row.record.crashes)
    row = _ended(row, _FAILED, reason, finished_at=now, delete_at=delete_at)
    return changed(row, is_dead=True)


def cancelled(row: Row, cancel: PendingCancel) -> Row:
    """A job that ends as ``cancel`` says."""
    return _ended(row, _CANCELLED, cancel.reason, finished_at=cancel.at, delete_at=cancel.delete_at)


def expired(row: Row, *, now: Microseconds, delete_at: Microseconds | None) -> Row:
    """A job that waited too long."""
    return cancelled(row, PendingCancel(EXPIRED, now, delete_at))


def retried(row: Row, now: Microseconds) -> Row:
    """A job that has ended badly and gets another chance."""
    return changed(
        row._replace(codes=()),
        status=SCHEDULED,
        ready=True,
        due_at=now,
        fence=row.record.fence + 1,
        attempt=0,
        started_at=None,
        finished_at=None,
        delete_at=None,
        result=None,
        error=None,
        failure_count=0,
        crashes=0,
        expires_at=None,
        is_dead=False,
        progress=None,
        is_apart=False,
    )


def revived(row: Row, now: Microseconds, blockers: int) -> Row:
    """A job that was cancelled for one that gets another chance, and waits as before. It has never run."""
    job, due_at = row.record, row.record.due_at
    record = retried(row, now).record._replace(
        due_at=due_at, ready=job.ready or due_at <= now, failure_count=job.failure_count, blockers=blockers
    )
    return row._replace(record=record, cause=None)


def unblocked(row: Row, now: Microseconds) -> Row:
    """A waiting job that waits for one thing less. If its time has come, it need not wait for a claim to see that."""
    job = row.record
    return changed(row, blockers=job.blockers - 1, ready=job.ready or job.due_at <= now)


def paused(row: Row) -> Row:
    """A schedule that waits until it is resumed."""
    return changed(row, blockers=row.record.blockers + 1)._replace(is_paused=True)


def resumed(row: Row, now: Microseconds) -> Row:
    """A schedule that was paused, and is not any more."""
    return unblocked(row, now)._replace(is_paused=False)


def with_history(row: Row, lines: tuple[AttemptRecord, ...]) -> Row:
    """A job with more history."""
    return row._replace(history=(*row.history, *lines)) if lines else row


def reported(row: Row, report: Report) -> Row:
    """A running job that had something to say."""
    if report.kind is MessageKind.PROGRESS:
        return row._replace(record=row.record._replace(progress=report.data))
    number = row.messages[-1].number + 1 if row.messages else 1
    message = MessageRecord(number, report.kind, row.record.attempt, report.at, report.data, report.level)
    return row._replace(messages=(*row.messages, message))


def _ended(row: Row, status: str, error: str, *, finished_at: Microseconds, delete_at: Microseconds | None) -> Row:
    return changed(
        row._replace(cancel=None, is_paused=False, waits_at=None),
        status=status,
        owner=None,
        result=None,
        error=error,
        finished_at=finished_at,
        delete_at=delete_at,
        is_cancel_requested=False,
        blockers=0,
        is_apart=False,
        parking=None,
        waits_for_limit=False,
    )

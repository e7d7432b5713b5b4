"""``jobify jobs wait`` and ``jobify jobs logs``: one job, until it ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from jobify.cli.errors import CommandError
from jobify.client.moments import how_long
from jobify.model.public_status import ENDS, public_status
from jobify.model.records import MessageKind
from jobify.worker.exit_codes import ExitCode

if TYPE_CHECKING:
    from datetime import tzinfo

    from jobify.cli.session import Session
    from jobify.model.records import JobRecord, MessageRecord

__all__ = ("END_CODES", "follow", "message_printer", "wait_for")

END_CODES: Final = {
    "complete": ExitCode.DONE,
    "failed": ExitCode.JOB_FAILED,
    "dead": ExitCode.JOB_FAILED,
    "cancelled": ExitCode.JOB_CANCELLED,
}
"""How a command ends that tells how a job has ended."""

_POLL_INTERVAL: Final = 0.2
"""Seconds between two looks: each is a read of one row and of the messages since."""

Show: TypeAlias = Callable[["MessageRecord"], None]


def wait_for(session: Session, id: str, timeout: float | None) -> tuple[str, str | None]:
    """The status and the error of a job when it has ended. CommandError if it has not within so many seconds, and at
    once for a schedule, which does not end with a run."""
    if session.operations.record(id).rule is not None:
        raise CommandError(f"{id} is a schedule: it does not end with a run. Wait for a job.", ExitCode.USAGE)
    job = session.app.get_job(id)
    try:
        job.wait(timeout)
    except TimeoutError:
        why = f", {note}" if (note := job.note) else ""
        message = f"{id} has not ended within {how_long(timeout or 0)}: it is {job.status}{why}."
        raise CommandError(message, ExitCode.STILL_UNFINISHED) from None
    record = session.operations.record(id)
    return public_status(record.status, record.is_dead), session.operations.error(id) or session.operations.reason(id)


def follow(session: Session, id: str, after: int, show: Show, *, until_end: bool) -> str:
    """Show what a job has published after message ``after``; ``until_end``: also what it does until it ends, and how
    far it says it is. Its status then."""
    progress = None
    while True:
        record = session.operations.record(id)  # before the messages, so that the last ones are not missed
        while page := session.operations.messages(id, after):
            for message in page:
                show(message)
            after = page[-1].number
        if until_end and record.progress is not None and record.progress != progress:
            progress = record.progress
            show(_progress_of(record, after))
        word = public_status(record.status, record.is_dead)
        if not until_end or word in ENDS:
            return word
        time.sleep(_POLL_INTERVAL)


def _progress_of(record: JobRecord, number: int) -> MessageRecord:
    from jobify.model.records import MessageRecord

    at = time.time_ns() // 1000
    return MessageRecord(number, MessageKind.PROGRESS, record.attempt, at, f"{record.progress:g} %", None)


def message_printer(zone: tzinfo, *, as_json: bool) -> Show:
    """What prints one message a line, at once."""
    from jobify.cli.jobdetails import message_document, message_line
    from jobify.cli.output import print_line, print_record

    def show(message: MessageRecord) -> None:
        if as_json:
            print_record(message_document(message))
        else:
            print_line(message_line(message, zone))
        sys.stdout.flush()  # a reader of the pipe waits for it

    return show

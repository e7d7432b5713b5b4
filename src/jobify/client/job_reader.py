"""Reads of one job: its row, history, relations and messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Any

from jobify.client.job_view import (
    PlainCall,
    ValueCodec,
    cancel_reason,
    error_of,
    errors_of,
    failure_of,
    job_to_dict,
    log_lines,
    plain_call_of,
    row_error,
)
from jobify.exceptions import JobNotFoundError, PayloadError, ResultNotStoredError
from jobify.gateway.connection import StorageConnection
from jobify.model.clock import Clock, to_datetime
from jobify.model.job_options import metadata_of
from jobify.model.records import AttemptRecord, JobRecord, MessageKind, MessageRecord, Relations, SummaryIds
from jobify.model.status import JobStatus
from jobify.storage.kinship import Kinship
from jobify.storage.weight import NO_ARGUMENTS
from jobify.types import Microseconds

__all__ = ("JobReader",)

_PAGE = 500
_MOST_RELATIVES = 10_000
"""Jobs of a workflow that are shown."""


class JobReader:
    """Reads from the storage in the caller's thread, and waits for no writer. JobNotFoundError for unknown ids."""

    def __init__(self, connection: StorageConnection, values: ValueCodec, zone: tzinfo, clock: Clock) -> None:
        self._connection = connection
        self._values = values
        self._zone = zone
        self._clock = clock

    def record(self, job_id: str) -> JobRecord:
        """The row, without large arguments or a large result: one select by primary key."""
        return _only(self._connection.reader().get(SummaryIds((job_id,))), job_id)

    def ended_record(self, job_id: str) -> JobRecord:
        """:meth:`record`, with the result."""
        return _only(self._connection.reader().get(SummaryIds((job_id,), with_results=True)), job_id)

    def whole_record(self, job_id: str) -> JobRecord:
        """:meth:`record`, with arguments and result."""
        return _only(self._connection.reader().get((job_id,)), job_id)

    def attempts(self, job_id: str) -> list[AttemptRecord]:
        """The history, the oldest line first."""
        return self._connection.reader().attempts(job_id)

    def relations(self, job_id: str) -> Relations:
        """Parents and children."""
        self.record(job_id)
        return self._connection.reader().relations(job_id)

    def kinship(self, job_id: str) -> Kinship:
        """The workflow that the job belongs to, up to a limit."""
        return self._connection.reader().kinship(job_id, limit=_MOST_RELATIVES)

    def messages(self, job_id: str, after: int, kind: MessageKind | None = None) -> list[MessageRecord]:
        """A page of the messages after number ``after``, of one kind or of any."""
        return self._connection.reader().messages(job_id, after=after, limit=_PAGE, kind=kind)

    def last_message_number(self, job_id: str) -> int:
        """The number of the newest message; 0: there is none. Finds it by bisection, so it reads only a few."""
        storage = self._connection.reader()

        def has_later(number: int) -> bool:
            return bool(storage.messages(job_id, after=number, limit=1))

        low, high = 0, 1
        while has_later(high - 1):
            low, high = high, high * 2
        while high - low > 1:  # there is one with a number of at least ``low``, and none from ``high`` on
            middle = (low + high) // 2
            low, high = (middle, high) if has_later(middle - 1) else (low, middle)
        return low

    def newest_messages(self, job_id: str, count: int) -> list[MessageRecord]:
        """At most ``count`` of the newest messages, in order."""
        after = max(0, self.last_message_number(job_id) - count)
        found: list[MessageRecord] = []
        while len(found) < count and (page := self.messages(job_id, found[-1].number if found else after)):
            found += page
        return found[:count]

    def all_messages(self, job_id: str, kind: MessageKind | None = None) -> list[MessageRecord]:
        """All messages so far, of one kind or of any."""
        found: list[MessageRecord] = []
        while page := self.messages(job_id, found[-1].number if found else 0, kind):
            found += page
        return found

    def published(self, message: MessageRecord) -> Any:
        """The value in a message."""
        return self._values.published(message.data)

    def moment(self, at: Microseconds | None) -> datetime | None:
        """A time of a row, in the app's zone."""
        return None if at is None else to_datetime(at, zone=self._zone)

    def error(self, job_id: str) -> str | None:
        """See :attr:`jobify.JobResult.error`."""
        record = self.record(job_id)
        has_row_error = record.status == JobStatus.SUCCESS or row_error(record) is not None
        return error_of(record, () if has_row_error else self.attempts(job_id))

    def errors(self, job_id: str) -> list[dict[str, Any]]:
        """See :attr:`jobify.JobResult.errors`."""
        self.record(job_id)
        return errors_of(self.attempts(job_id))

    def reason(self, job_id: str) -> str | None:
        """See :attr:`jobify.JobResult.reason`."""
        return cancel_reason(self.record(job_id))

    def note(self, job_id: str) -> str:
        """See :attr:`jobify.JobResult.note`."""
        return self._note(self.record(job_id))

    def _note(self, record: JobRecord) -> str:
        from jobify.client.wait_reasons import explain, read_cluster_state  # of no use to most processes

        storage = self._connection.reader()
        state = read_cluster_state(storage, now=self._clock.now(), zone=self._zone, jobs=(record,))
        return explain(storage, state, record)

    def waits_for(self, job_id: str) -> str | None:
        """See :attr:`jobify.JobResult.waits_for`."""
        from jobify.client.wait_reasons import limit_text  # of no use to most processes

        record = self.record(job_id)
        wait = self._connection.reader().limit_waits((job_id,)).get(job_id) if record.waits_for_limit else None
        return None if wait is None else limit_text(wait)

    def metadata(self, job_id: str) -> dict[str, Any]:
        """See :attr:`jobify.JobResult.metadata`."""
        return metadata_of(self.record(job_id).options)

    def describe(self, job_id: str) -> dict[str, Any]:
        """See :meth:`jobify.JobResult.to_dict`."""
        record = self.whole_record(job_id)
        attempts = self.attempts(job_id)
        try:
            call = self._call(record)
        except PayloadError:
            call = PlainCall()
        try:
            result = self.value(record) if record.status == JobStatus.SUCCESS else None
        except ResultNotStoredError as error:
            result = str(error)
        relations = self._connection.reader().relations(job_id)
        note, metadata = self._note(record), metadata_of(record.options)
        document = job_to_dict(record, attempts, relations, metadata=metadata, call=call, result=result, note=note)
        return {**document, "waits_for": self.waits_for(job_id)}

    def arguments(self, job_id: str) -> PlainCall:
        """See :attr:`jobify.JobResult.args`."""
        return self._call(self.whole_record(job_id))

    def _call(self, record: JobRecord) -> PlainCall:
        """The arguments in a row; PayloadError if they are not stored, or cannot be read here."""
        call = plain_call_of(record)
        if call.args is not None:
            return call
        if record.payload is NO_ARGUMENTS:
            raise PayloadError(f"Job {record.id!r} has ended in memory, where arguments are not kept.")
        return self._values.plain_call(record)

    def logs(self, job_id: str) -> list[dict[str, Any]]:
        """See :meth:`jobify.JobResult.logs`."""
        self.record(job_id)
        return log_lines(self.all_messages(job_id, MessageKind.LOG))

    def outcome(self, record: JobRecord) -> Any:
        """The result of an ended job; raises its error if it has not succeeded."""
        failure = failure_of(record, () if record.status == JobStatus.SUCCESS else self.attempts(record.id))
        if failure is not None:
            raise failure
        return self.value(record)

    def value(self, record: JobRecord) -> Any:
        """The stored result; ResultNotStoredError if there is none, or none that can be read here."""
        failure = failure_of(record, ())
        if failure is not None:
            raise failure
        if record.result is None:
            raise ResultNotStoredError(record.id, "there is none in the database.")
        try:
            return self._values.result(record.task, record.result)
        except PayloadError as error:
            raise ResultNotStoredError(record.id, f"it cannot be read here. {error}") from error


def _only(records: Sequence[JobRecord], job_id: str) -> JobRecord:
    for record in records:
        return record
    raise JobNotFoundError(job_id)

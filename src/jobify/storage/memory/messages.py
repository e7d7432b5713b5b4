"""What running jobs have to say, in their rows."""

from __future__ import annotations

from itertools import islice

from jobify.model.records import MessageKind, MessageRecord, Report
from jobify.storage.memory.rows import Row

__all__ = ("messages_after", "reported")


def reported(row: Row, report: Report) -> Row:
    """A running job that had something to say."""
    if report.kind is MessageKind.PROGRESS:
        return row._replace(record=row.record._replace(progress=report.data))
    number = row.messages[-1].number + 1 if row.messages else 1
    message = MessageRecord(number, report.kind, row.record.attempt, report.at, report.data, report.level)
    return row._replace(messages=(*row.messages, message))


def messages_after(row: Row, number: int, limit: int, kind: MessageKind | None) -> tuple[MessageRecord, ...]:
    """What the job has published after its message of this number, of one kind or of any. The numbers have no gaps."""
    if kind is not None:
        later = (message for message in row.messages if message.number > number and message.kind is kind)
        return tuple(islice(later, max(limit, 0)))
    first = row.messages[0].number if row.messages else 1
    start = max(number + 1 - first, 0)
    return row.messages[start : start + limit]

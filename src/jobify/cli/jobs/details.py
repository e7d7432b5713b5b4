"""``jobify jobs show``: one job in full, as a JSON document or as text for a terminal.

A job that has failed twenty times has mostly failed in one way, so equal tracebacks of its attempts are shown once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from jobify.cli.documents import attempt_document, job_document
from jobify.cli.jobs.workflow import draw, summary, workflow_document
from jobify.cli.output import Column, is_terminal, print_facts, print_line, print_table, terminal_width
from jobify.cli.time_format import how_long, stamp, until
from jobify.client.job_view import cancel_reason, error_of, errors_of, plain_call_of, plain_value
from jobify.model.clock import SECOND, iso
from jobify.model.job_options import metadata_of
from jobify.model.public_status import public_status
from jobify.model.records import AttemptRecord, JobRecord, MessageRecord
from jobify.model.status import JobStatus

if TYPE_CHECKING:
    from datetime import tzinfo

    from jobify.cli.session import Session
    from jobify.client.wait_reasons import ClusterState
    from jobify.model.records import Relations
    from jobify.storage.kinship import Kinship

__all__ = ("Details", "Folded", "folded", "message_document", "message_line", "print_job", "read_details")

_MAX_CHARACTERS: Final = 1000
"""Characters of a value on a terminal."""
_IDS: Final = 4
"""Ids of parents and dependents on a terminal; the drawing of the workflow shows the others."""
_MAX_ATTEMPTS: Final = 20
"""Attempts that a terminal shows."""


class Details(NamedTuple):
    """A job with its attempts, relatives and messages."""

    job: JobRecord
    cluster: ClusterState
    attempts: list[AttemptRecord]
    relations: Relations
    kinship: Kinship
    messages: list[MessageRecord]
    """The newest ones."""
    message_count: int
    """How many it has published, including those that were deleted since."""
    worker: str | None

    @property
    def result(self) -> Any:
        """As JSON, or its size if it is not JSON."""
        stored = self.job.result
        return None if stored is None else value_or_size(stored)

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            **job_document(self.job, self.cluster),
            "error": error_of(self.job, self.attempts),
            "errors": errors_of(self.attempts),
            "arguments": text_or_size(self.job.payload),
            "result": self.result,
            "worker": self.worker,
            "dependencies": list(self.relations.parents),
            "dependents": list(self.relations.children),
            "workflow": workflow_document(self.kinship),
            "attempts": [attempt_document(attempt) for attempt in self.attempts],
            "message_count": self.message_count,
            "messages": [message_document(message) for message in self.messages],
        }


def read_details(session: Session, id: str, *, messages: int) -> Details:
    """Read the job with this id and its newest ``messages``. JobNotFoundError if there is none."""
    job = session.operations.reader.whole_record(id)
    holder = next((one for one in session.app.workers() if one.id == job.owner), None)
    return Details(
        job=job,
        cluster=session.cluster_state((job,)),
        attempts=session.operations.reader.attempts(id),
        relations=session.operations.reader.relations(id),
        kinship=session.operations.reader.kinship(id),
        messages=session.operations.reader.newest_messages(id, messages) if messages else [],
        message_count=session.operations.reader.last_message_number(id),
        worker=None if holder is None else f"{holder.host}, process {holder.pid}",
    )


def text_or_size(data: bytes) -> str:
    """The serialized value as text if it is printable, or else its size.

    It is not decoded, because that may run code of the app (pickle) and fails where its classes do not exist.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"({len(data)} bytes)"
    return text if text.isprintable() else f"({len(data)} bytes)"


def value_or_size(data: bytes) -> Any:
    """The serialized value as plain JSON, or its size if it is not JSON."""
    value = plain_value(data)
    return text_or_size(data) if value is None and data != b"null" else value


def message_document(message: MessageRecord) -> dict[str, Any]:
    """The document of a message."""
    return {
        "number": message.number,
        "kind": message.kind.value,
        "attempt": message.attempt,
        "at": iso(message.at),
        "level": message.level,
        "data": _data(message),
    }


def message_line(message: MessageRecord, zone: tzinfo) -> str:
    """A message as one line of text."""
    level = message.level or message.kind.value
    return f"{stamp(message.at, zone=zone, is_short=True)}  {level:<8} {_data(message)}"


def _data(message: MessageRecord) -> str:
    return text_or_size(message.data) if isinstance(message.data, bytes) else str(message.data)


# -- as text -----------------------------------------------------------------------------------------------------------


def print_job(details: Details, zone: tzinfo) -> None:
    """Print the job, its workflow, attempts and messages, and the tracebacks at the end."""
    print_facts(_facts(details, zone))
    if len(details.kinship.jobs) > 1:
        _print_heading(f"Workflow ({summary(details.kinship)})")
        for line in draw(details.kinship, details.job.id, width=terminal_width() if is_terminal() else None):
            print_line(line.text, line.style)
    if details.attempts:
        _print_heading("Attempts")
        _print_attempts(details.attempts, zone)
    if details.messages:
        shown, count = len(details.messages), details.message_count
        _print_heading("Messages" if shown == count else f"Messages (the last {shown} of {count})")
        for message in details.messages:
            print_line(_cut(message_line(message, zone)))
    for traceback in folded(details.attempts):
        _print_heading(traceback.title)
        print_line(_without_wide_marks(traceback.text))


def _without_wide_marks(traceback: str) -> str:
    """A traceback without the marks (``^^^^``) below lines that the terminal wraps, where they would mislead."""
    if not is_terminal():
        return traceback
    width = terminal_width()
    return "\n".join(line for line in traceback.splitlines() if len(line) <= width or line.strip(" ~^"))


def _first_of(ids: Sequence[str]) -> str:
    """Some of these ids, and how many more there are."""
    if not is_terminal() or len(ids) <= _IDS + 1:
        return " ".join(ids)
    return f"{' '.join(ids[:_IDS])} and {len(ids) - _IDS} more"


def _cut(text: str) -> str:
    """Truncate a long text for a terminal; a pipe gets all of it."""
    return f"{text[:_MAX_CHARACTERS]}… ({len(text)} characters, --json has all)" if _is_too_long(text) else text


def _is_too_long(text: str) -> bool:
    return is_terminal() and len(text) > _MAX_CHARACTERS + 50


def _facts(details: Details, zone: tzinfo) -> list[tuple[str, object]]:
    job, now = details.job, details.cluster.now
    note, error, reason = details.cluster.note(job), error_of(job, details.attempts), cancel_reason(job)
    begun, ended = job.started_at, job.finished_at
    return [
        ("id", job.id),
        ("task", job.task),
        ("status", public_status(job.status, job.is_dead)),
        ("note", "" if note == job.error else note),
        ("error", error),
        ("reason", reason),
        ("queue", job.queue),
        ("priority", job.priority or ""),
        ("attempt", job.attempt or ""),
        ("crashes", job.crashes or ""),
        ("progress", None if job.progress is None else f"{job.progress:g} %"),
        ("worker", details.worker),
        ("created", f"{stamp(job.created_at, zone=zone)} ({until(job.created_at, now=now)})"),
        (
            "due",
            ""
            if begun and job.status != JobStatus.SCHEDULED
            else f"{stamp(job.due_at, zone=zone)} ({until(job.due_at, now=now)})",
        ),
        ("started", stamp(begun, zone=zone)),
        ("finished", stamp(ended, zone=zone)),
        ("took", how_long((ended - begun) / SECOND) if begun and ended else ""),
        ("expires", stamp(job.expires_at, zone=zone)),
        ("kept until", stamp(job.delete_at, zone=zone)),
        ("unique key", job.unique_key),
        ("metadata", ", ".join(f"{key}={value}" for key, value in metadata_of(job.options).items())),
        ("depends on", _first_of(details.relations.parents)),
        ("dependents", _first_of(details.relations.children)),
        ("arguments", _cut(_arguments(job))),
        ("result", "" if job.result is None else _cut(_text(details.result))),
    ]


def _arguments(job: JobRecord) -> str:
    """The arguments as they are written in a call."""
    call = plain_call_of(job)
    if call.args is None or call.kwargs is None:
        return text_or_size(job.payload)
    return ", ".join([*map(_text, call.args), *(f"{name}={_text(value)}" for name, value in call.kwargs.items())])


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _print_heading(title: str) -> None:
    print_line()
    print_line(title if is_terminal() else f"# {title}", "bold")


def _errors(attempts: list[AttemptRecord]) -> list[str | None]:
    """The error of each attempt. A terminal shows a repeated error as a reference to the first one."""
    if not is_terminal():
        return [attempt.error for attempt in attempts]
    first: dict[str, int] = {}
    errors: list[str | None] = []
    for attempt in attempts:
        error = attempt.error
        if error in first:
            is_other_run = first[error] == attempt.attempt  # each run of a schedule begins with attempt 1
            error = "the same" if is_other_run else f"same as attempt {first[error]}"
        elif error:
            first[error] = attempt.attempt
        errors.append(error)
    return errors


def _print_attempts(attempts: list[AttemptRecord], zone: tzinfo) -> None:
    columns = (
        Column("TRY", is_number=True),
        Column("OUTCOME", is_kept=True),
        Column("STARTED", is_kept=True, from_width=70),
        Column("TOOK", is_number=True, from_width=60),
        Column("ERROR", is_rest=True),
    )
    earlier = max(0, len(attempts) - _MAX_ATTEMPTS) if is_terminal() else 0
    rows = [
        (
            attempt.attempt,
            attempt.outcome,
            stamp(attempt.started_at, zone=zone, is_short=True),
            how_long((attempt.finished_at - attempt.started_at) / SECOND) if attempt.started_at else "",
            error,
        )
        for attempt, error in zip(attempts[earlier:], _errors(attempts[earlier:]), strict=True)
    ]
    if earlier:
        print_line(f"… {earlier} earlier ones, --json has all", "dim")
    print_table(columns, rows, nothing="")


# -- tracebacks --------------------------------------------------------------------------------------------------------

_MAX_RANGES: Final = 4
"""Ranges of attempts that a title lists."""
_NUMBERS: Final = re.compile(r"0x[0-9a-fA-F]+|\d+")


class Folded(NamedTuple):
    """A traceback and the attempts that ended with it."""

    text: str
    """The traceback of the newest attempt."""
    attempts: tuple[int, ...]

    @property
    def title(self) -> str:
        if len(self.attempts) == 1:
            return f"Traceback of attempt {self.attempts[0]}"
        count = len(self.attempts)
        if len(list(_runs(self.attempts))) > _MAX_RANGES:  # of a schedule: each of its runs begins with attempt 1
            return f"Traceback of {count} attempts"
        return f"Traceback of attempts {_ranges(self.attempts)} ({count} times)"


def folded(attempts: Iterable[AttemptRecord]) -> list[Folded]:
    """The different tracebacks, in the order of their last occurrence.

    Two are equal if only numbers in their messages differ (an address, a duration); line numbers of frames do count.
    """
    found: dict[str, Folded] = {}
    for attempt in attempts:
        if attempt.traceback:
            key = _without_numbers(attempt.traceback)
            before = found.pop(key, None)
            numbers = () if before is None else before.attempts
            found[key] = Folded(attempt.traceback.rstrip(), (*numbers, attempt.attempt))
    return list(found.values())


def _without_numbers(traceback: str) -> str:
    lines = traceback.rstrip().splitlines()
    return "\n".join(line if line.startswith("  ") else _NUMBERS.sub("#", line) for line in lines)


def _ranges(numbers: Sequence[int]) -> str:
    """
    >>> _ranges([1, 2, 3, 5, 1])
    '1-3, 5, 1'
    """
    return ", ".join(f"{first}-{last}" if first < last else f"{first}" for first, last in _runs(numbers))


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = numbers[0]
    for number in numbers[1:]:
        if number == last + 1:
            last = number
        else:
            yield first, last
            first = last = number
    yield first, last

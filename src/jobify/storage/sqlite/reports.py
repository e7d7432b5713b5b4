"""What running jobs report: progress into their rows, values and log lines into a table, numbered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jobify.model.records import MessageKind, Report
from jobify.storage.sqlite.session import Session
from jobify.storage.sqlite.statements import chunks, decode_rows, row_values, sql

__all__ = ("Reports",)

_Claim = tuple[str, int, int]


class _Reporter(NamedTuple):
    """A job whose claim holds."""

    attempt: int
    last_number: int


class Reports:
    """See :meth:`jobify.storage.base.Storage.report`."""

    def __init__(self, database: Session) -> None:
        self._database = database

    def report(self, reports: Sequence[Report]) -> list[bool]:
        with self._database.atomic():
            return [taken for some in chunks(reports) for taken in self._take(some)]

    def _take(self, reports: Sequence[Report]) -> list[bool]:
        reporters = self._reporters({_claim_of(report): None for report in reports})
        is_taken = [_claim_of(report) in reporters for report in reports]
        taken = [report for report, is_one in zip(reports, is_taken, strict=True) if is_one]
        progress = {report.job_id: report.data for report in taken if report.kind is MessageKind.PROGRESS}
        self._write("progress", list(progress.items()))
        self._write("publish", _numbered([one for one in taken if one.kind is not MessageKind.PROGRESS], reporters))
        return is_taken

    def _reporters(self, claims: dict[_Claim, None]) -> dict[_Claim, _Reporter]:
        rows, values = row_values(list(claims))
        found = decode_rows(self._database.row(sql("reporting", rows=rows), values)[0])
        return {(id, owner, fence): _Reporter(*rest) for id, owner, fence, *rest in found}

    def _write(self, statement: str, lines: Sequence[tuple[Any, ...]]) -> None:
        if lines:
            rows, values = row_values(lines)
            self._database.write(sql(statement, rows=rows), values)


def _claim_of(report: Report) -> _Claim:
    return report.job_id, report.owner, report.fence


def _numbered(reports: Sequence[Report], reporters: dict[_Claim, _Reporter]) -> list[tuple[Any, ...]]:
    """The parameters of ``publish``: each message has the number after that of its job's last one."""
    numbers = {id: reporter.last_number for (id, _, _), reporter in reporters.items()}
    lines = []
    for report in reports:
        number = numbers[report.job_id] = numbers[report.job_id] + 1
        level = 0 if report.level is None else report.level
        attempt = reporters[_claim_of(report)].attempt
        lines.append((report.job_id, number, report.kind.value, attempt, report.at, level, report.data))
    return lines

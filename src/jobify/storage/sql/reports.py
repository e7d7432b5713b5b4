"""What running jobs report: progress into their rows, values and log lines into a table, numbered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jobify.model.records import MessageKind, Report
from jobify.storage.sql.statements import Statements

__all__ = ("Reports",)

_Claim = tuple[str, int, int]


class _Reporter(NamedTuple):
    """A job whose claim holds."""

    attempt: int
    last_number: int


class Reports:
    """See :meth:`jobify.storage.base.Storage.report`."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def report(self, reports: Sequence[Report]) -> list[bool]:
        with self._statements.together():
            reporters = self._reporters({_claim_of(report): None for report in reports})
            is_taken = [_claim_of(report) in reporters for report in reports]
            taken = [report for report, is_one in zip(reports, is_taken, strict=True) if is_one]
            progress = {report.job_id: report.data for report in taken if report.kind is MessageKind.PROGRESS}
            self._statements.run_rows("progress", list(progress.items()))
            messages = [one for one in taken if one.kind is not MessageKind.PROGRESS]
            self._statements.run_rows("publish", _numbered(messages, reporters))
        return is_taken

    def _reporters(self, claims: dict[_Claim, None]) -> dict[_Claim, _Reporter]:
        found = self._statements.rows_of("reporting", list(claims))
        return {(id, owner, fence): _Reporter(*rest) for id, owner, fence, *rest in found}


def _claim_of(report: Report) -> _Claim:
    return report.job_id, report.owner, report.fence


def _numbered(reports: Sequence[Report], reporters: dict[_Claim, _Reporter]) -> list[tuple[Any, ...]]:
    """The parameters of ``publish``: each message has the number after that of its job's last one."""
    numbers = {id: reporter.last_number for (id, _, _), reporter in reporters.items()}
    lines = []
    for report in reports:
        number = numbers[report.job_id] = numbers[report.job_id] + 1
        is_text = isinstance(report.data, str)
        attempt = reporters[_claim_of(report)].attempt
        lines.append((report.job_id, number, report.kind.value, attempt, report.at, report.level, report.data, is_text))
    return lines

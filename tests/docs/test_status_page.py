"""The page of words says what the code means."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from documents import ROOT

import jobify
from jobify.client.views import UNSERVED_NOTES
from jobify.exceptions import ConfigurationError, JobTimeoutError, RemoteError
from jobify.jobs.job import Job
from jobify.jobs.job_result import JobResult
from jobify.model.public_status import ENDS, PUBLIC_STATUSES, PublicStatus, public_status, status_filter
from jobify.model.status import FAILURES, TERMINAL, Event, JobStatus

PAGE = (ROOT / "docs" / "reference" / "status.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, cell by cell."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r" \| ", row.strip("| "))] for row in rows][1:]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_status_has_its_public_words() -> None:
    said = {words(status)[0]: set(words(public)) for status, public, _ in table("The status of a job")}
    meant: dict[str, set[str]] = {}
    for status in JobStatus:
        is_either = status in FAILURES and status is not JobStatus.PERMANENTLY_FAILED
        meant[status.value] = {public_status(status, is_dead) for is_dead in ((False, True) if is_either else (False,))}
    assert said == meant
    assert set().union(*said.values()) == set(PUBLIC_STATUSES) == set(get_args(PublicStatus))
    assert [status for status in said if said[status] & ENDS] == [
        status.value for status in JobStatus if status in TERMINAL
    ]


def test_both_handles_have_the_words_that_mean_the_same() -> None:
    names = [name for row in table("The same on both handles") for name in words(row[0])]
    assert len(names) == len(set(names)) == 9
    for name in names:
        own = name.removesuffix("()")
        for kind in (Job, JobResult):
            assert hasattr(kind, own), f"{kind.__name__} has no {own}"
            assert callable(getattr(kind, own)) is name.endswith("()")


def test_every_outcome_is_listed() -> None:
    attempts = [
        Event.SUCCEEDED,
        Event.RETRY,
        Event.FAILED,
        Event.TIMED_OUT,
        Event.CANCELLED,
        Event.RELEASED,
        Event.LOST,
        Event.PARKED,
    ]
    assert [words(row[0])[0] for row in table("How an attempt ended")] == [
        *(event.value for event in attempts),
        "skipped",
    ]


def test_every_obstacle_is_listed() -> None:
    notes = [words(row[0])[0] for row in table("Why a job does not run")]
    assert set(UNSERVED_NOTES.values()) <= set(notes)


@pytest.mark.parametrize(
    ("status", "error", "is_dead", "public", "text"),
    [
        (JobStatus.FAILED, ValueError("no"), False, "failed", "ValueError: no"),
        (JobStatus.FAILED, ValueError(), True, "dead", "ValueError"),
        (JobStatus.TIMEOUT, JobTimeoutError("a", 1.0), False, "failed", None),
        (JobStatus.PERMANENTLY_FAILED, RemoteError("shop.Closed", "today"), True, "dead", "shop.Closed: today"),
    ],
)
def test_a_job_speaks_in_the_words_of_a_result(
    status: JobStatus, error: Exception, is_dead: bool, public: str, text: str | None
) -> None:
    job: Job[Any] = Job(job_id="a", exec_at=datetime(2030, 1, 1, tzinfo=UTC))
    assert (job.public_status, job.job_status, job.error) == ("pending", JobStatus.PENDING, None)
    assert job.eta == job.exec_at == datetime(2030, 1, 1, tzinfo=UTC)
    job.set_exception(error, status=status, is_dead=is_dead)
    assert (job.public_status, job.job_status) == (public, status)
    assert job.error == text or text is None


def test_a_word_of_the_other_vocabulary_is_recognised() -> None:
    for other, advice in (
        ("success", "'complete'"),
        ("scheduled", "'pending'"),
        ("timeout", "'failed' or 'dead'"),
        ("permanently_failed", "'failed' or 'dead'"),
    ):
        with pytest.raises(ConfigurationError, match=f"a value of Job.status; write {advice}"):
            status_filter([other])
    with pytest.raises(ConfigurationError, match="Did you mean 'complete'"):
        status_filter(["completed"])


def test_the_type_of_the_words_is_public() -> None:
    assert jobify.PublicStatus is PublicStatus

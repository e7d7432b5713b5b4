"""Checklist items 109-115: the errors, their bases, attributes and words."""

from __future__ import annotations

import pickle

import pytest

from jobify.exceptions import (
    ApplicationStateError,
    BaseJobifyError,
    DuplicateJobError,
    JobFailedError,
    JobNotCompletedError,
    JobTimeoutError,
    RouteAlreadyRegisteredError,
)


@pytest.mark.promise("item-109")
def test_base() -> None:
    assert issubclass(BaseJobifyError, Exception)
    for kind in (
        ApplicationStateError,
        JobFailedError,
        JobNotCompletedError,
        JobTimeoutError,
        RouteAlreadyRegisteredError,
    ):
        assert issubclass(kind, BaseJobifyError)


@pytest.mark.promise("item-110")
def test_application_state_error() -> None:
    error = ApplicationStateError(operation="push", reason="The app is not started.", solution="Start it.")
    assert (error.operation, error.reason, error.solution) == ("push", "The app is not started.", "Start it.")
    for text in (error.operation, error.reason, error.solution):
        assert text in str(error)
    assert isinstance(error, RuntimeError)


@pytest.mark.promise("item-111")
def test_duplicate_job_error() -> None:
    error = DuplicateJobError("x")
    assert isinstance(error, RuntimeError)
    assert error.job_id == "x"
    assert str(error).startswith("Job with ID 'x' is already scheduled. Use 'replace=True'")


@pytest.mark.promise("item-112")
def test_job_failed_error() -> None:
    error = JobFailedError("x", reason="it broke")
    assert (error.job_id, error.reason) == ("x", "it broke")
    assert "it broke" in str(error)
    assert "x" in str(error)


@pytest.mark.promise("item-113")
def test_job_not_completed_error() -> None:
    assert str(JobNotCompletedError())
    assert str(JobNotCompletedError("own words")) == "own words"


@pytest.mark.promise("item-114")
def test_job_timeout_error() -> None:
    error = JobTimeoutError(job_id="x", timeout=2.5)
    assert (error.job_id, error.timeout) == ("x", 2.5)
    assert "2.5" in str(error)
    assert isinstance(error, TimeoutError)


@pytest.mark.promise("item-115")
def test_route_already_registered_error() -> None:
    assert "'x'" in str(RouteAlreadyRegisteredError("x"))


@pytest.mark.parametrize(
    "error",
    [
        ApplicationStateError(operation="a", reason="b", solution="c"),
        DuplicateJobError("x"),
        JobFailedError("x", "why"),
        JobNotCompletedError(),
        JobTimeoutError("x", 2.0),
        RouteAlreadyRegisteredError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_can_be_sent_to_another_process(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)

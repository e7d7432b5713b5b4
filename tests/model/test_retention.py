"""How long ended jobs are kept."""

from __future__ import annotations

from typing import Any

import pytest

from jobify import Jobify
from jobify.exceptions import ConfigurationError
from jobify.model.clock import SECOND
from jobify.model.retention import Retention
from jobify.model.status import JobStatus

WINDOWS = Retention(complete=1, failed=2, dead=3, cancelled=4)


@pytest.mark.parametrize(
    ("status", "is_dead", "window"),
    [
        (JobStatus.SUCCESS, False, 1),
        (JobStatus.FAILED, False, 2),
        (JobStatus.TIMEOUT, False, 2),
        (JobStatus.FAILED, True, 3),
        (JobStatus.TIMEOUT, True, 3),
        (JobStatus.PERMANENTLY_FAILED, True, 3),
        (JobStatus.CANCELLED, False, 4),
    ],
)
def test_each_end_has_its_window(status: JobStatus, is_dead: bool, window: int) -> None:
    assert WINDOWS.delete_at(status, is_dead=is_dead, now=100) == 100 + window * SECOND


def test_none_keeps_for_good() -> None:
    assert Retention(failed=None).delete_at(JobStatus.FAILED, is_dead=False, now=100) is None


def test_the_defaults_are_a_day_and_a_week() -> None:
    day = 86_400
    assert Retention() == Retention(complete=day, failed=7 * day, dead=7 * day, cancelled=day)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", True])
def test_a_window_is_a_number_of_seconds(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="retention of dead jobs"):
        Retention(dead=value)


def test_the_app_is_told_by_a_retention_or_by_its_short_form() -> None:
    assert Jobify(storage=False).configs.limits.retention == Retention()
    assert Jobify(storage=False, result_ttl=5).configs.limits.retention == Retention(complete=5)
    assert Jobify(storage=False, retention=WINDOWS).configs.limits.retention == WINDOWS
    with pytest.raises(ConfigurationError, match="both"):
        Jobify(storage=False, retention=WINDOWS, result_ttl=5)
    with pytest.raises(ConfigurationError, match="Retention"):
        Jobify(storage=False, retention=3600)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="result_ttl"):
        Jobify(storage=False, result_ttl=-1)

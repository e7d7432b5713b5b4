"""Exceptions that resist: they cross from a child as what they are, and end their job in every run mode."""

from __future__ import annotations

import asyncio
import re
import urllib.error
from pathlib import Path
from typing import Any

import error_tasks as tasks
import pytest

from jobify import Jobify, RunMode, SmartRetry
from jobify.exceptions import RemoteError, shown
from jobify.model.cron import Cron
from jobify.model.retry import applies_to
from jobify.model.tracebacks import RemoteTraceback, own_traceback
from jobify.runners import protocol
from support import durable, soon

pytestmark = pytest.mark.promise("f18")

REBUILT = [
    *("str_raises", "str_exits", "str_hangs", "answers_all", "reduce_raises", "reduce_exits", "reduce_lies"),
    *("rebuild_exits", "needs_keywords", "grows_text", "slotted", "nameless", "http_error", "chained", "noted"),
    *("group", "lock_beside", "repr_raises"),
]
MODES = ["thread", "process", "main"]
QUICK = SmartRetry(
    2, initial_delay=0.01, include_exceptions=(ConnectionError, urllib.error.HTTPError), exclude_exceptions=(KeyError,)
)


def without_address(value: object) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", shown(value))


def across(name: str) -> Exception:
    """The exception as the parent gets it."""
    with pytest.raises(Exception) as caught:
        try:
            tasks.fail(name)
        except BaseException as error:
            protocol.outcome(protocol.encode_error(error))
    return caught.value


@pytest.mark.parametrize("name", tasks.MAKERS)
def test_an_exception_crosses_with_its_type_and_text_or_with_its_text(name: str) -> None:
    original = tasks.MAKERS[name]()
    found = across(name)
    if name in REBUILT:
        assert type(found) is type(original)
        assert without_address(found) == without_address(original)
    else:
        assert isinstance(found, RemoteError)
        assert found.message == shown(original)
    assert applies_to(QUICK, found)
    assert isinstance(found.__cause__, RemoteTraceback)
    assert own_traceback(found)


def test_attributes_notes_and_members_cross() -> None:
    assert across("needs_keywords").host == "a"  # type: ignore[attr-defined]
    assert across("slotted").code == 7  # type: ignore[attr-defined]
    noted = across("noted")
    assert noted.__notes__ == ["try again later"]
    http = across("http_error")
    assert isinstance(http, urllib.error.HTTPError)
    assert (http.code, str(http)) == (404, "HTTP Error 404: Not Found")
    assert not hasattr(http, "no_such_attribute")
    group = across("group")
    assert isinstance(group, ExceptionGroup)
    first, second, inner = group.exceptions
    assert (type(first), type(second)) == (tasks.NeedsKeywords, RemoteError)
    assert isinstance(inner, ExceptionGroup)
    assert isinstance(inner.exceptions[0], RemoteError)


def test_a_policy_knows_an_exception_that_could_not_be_rebuilt_by_its_classes() -> None:
    hidden = across("local")
    assert isinstance(hidden, RemoteError)
    assert not applies_to(SmartRetry(1, include_exceptions=(ValueError,)), hidden)
    assert applies_to(SmartRetry(1, include_exceptions=(OSError,)), hidden)
    assert not applies_to(SmartRetry(1, exclude_exceptions=(ConnectionError,)), hidden)


@pytest.mark.parametrize("name", tasks.MAKERS)
def test_making_a_traceback_and_a_text_never_fails(name: str) -> None:
    with pytest.raises(BaseException) as caught:
        tasks.fail(name)
    text = own_traceback(caught.value)
    assert "fail(name)" not in text or "in fail" in text
    assert "in fail" in text
    assert isinstance(shown(caught.value), str)


@pytest.mark.parametrize("mode", MODES)
async def test_every_exception_is_retried_and_ends_its_job(mode: str, tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    if mode == "main":
        task: Any = app.task(tasks.fail_async, name="fail", retry=QUICK)
    else:
        task = app.task(tasks.fail, name="fail", retry=QUICK, run_mode=RunMode(mode))
    async with app:
        jobs = {name: await task.push(name) for name in tasks.MAKERS}
        for name, job in jobs.items():
            await soon(asyncio.wait([asyncio.ensure_future(job.wait())]))
            result = app.get_job(job.id)
            assert result is not None
            assert len(result.errors) == 3, name
            assert result.error, name
            assert all("in fail" in line["error"] for line in result.errors), name
            assert without_address(tasks.MAKERS[name]()) in without_address(result.error), name


@pytest.mark.parametrize("mode", MODES)
async def test_a_cron_counts_failures_alike_in_every_mode(mode: str, tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    cron = Cron("* * * * * * *", max_failures=2, args=("answers_all",))
    if mode == "main":
        app.task(tasks.fail_async, name="fail", cron=cron)
    else:
        app.task(tasks.fail, name="fail", cron=cron, run_mode=RunMode(mode))
    async with app:
        await soon(app.wait_all())
        (row,) = app.configs.storage.get(["fail__jobify_cron_definition"])
        assert (row.status, row.failure_count) == ("permanently_failed", 2)

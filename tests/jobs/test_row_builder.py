"""Rows of new jobs are made in one module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobify
from jobify.jobs.row_builder import run_of_schedule, schedule_row
from jobify.model.records import JobRecord

PACKAGE = Path(jobify.__file__).parent


class Task:
    name, queue, priority = "mail:send", "mail", 7


def makers() -> Iterator[str]:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "NewJob":
                yield path.relative_to(PACKAGE).as_posix()


@pytest.mark.slow
def test_one_module_makes_new_jobs() -> None:
    assert {path for path in makers() if not path.startswith("testing/")} == {"jobs/row_builder.py"}


def test_a_schedule_is_ready_when_its_first_run_is_due() -> None:
    waiting = schedule_row(Task(), "nightly", b"()", "{}", due_at=20, now=10)
    assert (waiting.ready, waiting.due_at, waiting.offset_at, waiting.created_at) == (False, 20, 20, 10)
    assert (waiting.task, waiting.queue, waiting.priority) == ("mail:send", "mail", 7)
    assert schedule_row(Task(), "nightly", b"()", "{}", due_at=10, now=10).ready


def test_a_run_out_of_turn_is_a_plain_job_with_the_arguments_of_the_schedule() -> None:
    row = schedule_row(Task(), "nightly", b"(1,)", '{"expression":"@daily"}', due_at=20, now=10)
    stored = JobRecord(**{name: getattr(row, name, None) for name in JobRecord._fields})
    run = run_of_schedule(stored, "once", now=15)
    assert (run.id, run.task, run.queue, run.priority, run.payload) == ("once", "mail:send", "mail", 7, b"(1,)")
    assert (run.rule, run.offset_at, run.due_at, run.ready) == (None, None, 15, True)

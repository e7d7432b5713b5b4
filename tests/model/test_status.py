"""The states of a job: the table is whole, and the picture in the documentation is the table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobify.model.status import TERMINAL, TRANSITIONS, Event, JobStatus, next_status
from jobify.testing.states import diagram

ARCHITECTURE = Path(__file__).parents[2] / "ARCHITECTURE.md"


def test_the_picture_in_the_documentation_is_generated_from_the_table() -> None:
    page = ARCHITECTURE.read_text(encoding="utf-8")
    shown = re.search(r"<!-- states:start -->\n(.*?)<!-- states:end -->", page, re.DOTALL)
    assert shown is not None
    assert shown.group(1) == f"```mermaid\n{diagram()}\n```\n", "run: python -m jobify.testing.states"


def test_every_status_is_reached_and_every_event_leads_somewhere() -> None:
    assert {*TRANSITIONS.values(), JobStatus.PENDING} == set(JobStatus)
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_nothing_leaves_an_ended_state() -> None:
    assert not [before for before, _ in TRANSITIONS if before in TERMINAL]
    with pytest.raises(ValueError, match="the event 'claim' cannot happen to a job that is success"):
        next_status(JobStatus.SUCCESS, Event.CLAIM)
    assert next_status(JobStatus.RUNNING, Event.RETRY) is JobStatus.SCHEDULED

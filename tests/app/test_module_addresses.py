"""Modules that users import from, and whose content is defined elsewhere."""

from __future__ import annotations

from importlib import import_module

import pytest

ADDRESSES = {
    "clock": ("jobify.model.clock", ("SECOND", "Clock", "SystemClock", "from_datetime", "iso", "to_datetime")),
    "context": ("jobify.jobs.context", ("JobContext", "OuterContext", "RunStrategy", "Runnable")),
    "cron": ("jobify.model.cron", ("Cron", "CronContext")),
    "misfire": ("jobify.model.misfire", ("GracePolicy", "MisfirePolicy")),
    "records": (
        "jobify.model.records",
        ("JobQuery", "JobRecord", "NewJob", "OwnerProfile", "Settlement"),
    ),
    "retry": ("jobify.model.retry", ("SmartRetry", "as_retry")),
    "status": ("jobify.model.status", ("ClaimScope", "JobStatus")),
    "triggers": ("jobify.jobs.context", ("At", "CronTrigger", "Push", "Triggers")),
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_an_address_gives_what_is_defined_elsewhere(name: str) -> None:
    home, members = ADDRESSES[name]
    module, defining = import_module(f"jobify.{name}"), import_module(home)
    assert [member for member in members if getattr(module, member) is not getattr(defining, member)] == []

"""Filling in ``INJECT`` parameters by their annotation."""

from __future__ import annotations

from typing import Any

from jobify.context import JobContext, Runnable
from jobify.exceptions import ConfigurationError
from jobify.job import Job
from jobify.options import RouteOptions
from jobify.schedule import ScheduleBuilder
from jobify.settings import JobifyConfiguration
from jobify.state import RequestState, State

__all__ = ("inject",)

_FIELDS: dict[Any, str] = {
    Job: "job",
    State: "state",
    Runnable: "runnable",
    RequestState: "request_state",
    RouteOptions: "route_options",
    JobifyConfiguration: "jobify_config",
    ScheduleBuilder: "schedule_builder",
}


def inject(context: JobContext) -> None:
    """Put what the function's ``INJECT`` parameters ask for into the bound arguments of ``context.runnable``."""
    runnable = context.runnable
    for name, hint in runnable.func_spec.inject_params.items():
        runnable.bound.arguments[name] = _find(context, hint, name)


def _find(context: JobContext, hint: Any, name: str) -> Any:
    if hint is JobContext:
        return context
    field = _FIELDS.get(hint)
    if field is not None:
        return getattr(context, field)
    if isinstance(hint, type) and isinstance(context.app, hint):
        return context.app
    raise ConfigurationError(
        f"Unknown type for injection: {hint!r} of parameter {name!r}. There are: JobContext, Jobify, "
        f"{', '.join(kind.__name__ for kind in _FIELDS)}."
    )

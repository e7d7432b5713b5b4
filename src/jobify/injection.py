"""Filling in ``INJECT`` parameters by their annotation.

An annotation counts by its type, or by its last name where it exists only for type checkers (``if TYPE_CHECKING:``)
and cannot be resolved.
"""

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
_FIELDS_BY_NAME = {kind.__name__: field for kind, field in _FIELDS.items()}


def inject(context: JobContext) -> None:
    """Put what the function's ``INJECT`` parameters ask for into the bound arguments of ``context.runnable``.

    What the caller passed for such a parameter is replaced. ConfigurationError if there is nothing of its type.
    """
    runnable = context.runnable
    for name, hint in runnable.func_spec.inject_params.items():
        runnable.bound.arguments[name] = _find(context, hint, name)


def _find(context: JobContext, hint: Any, name: str) -> Any:
    if isinstance(hint, str):
        return _find_by_name(context, hint, name)
    if hint is JobContext:
        return context
    field = _FIELDS.get(hint)
    if field is not None:
        return getattr(context, field)
    if isinstance(hint, type) and hint is not object and isinstance(context.app, hint):
        return context.app
    raise _unknown(hint, name)


def _find_by_name(context: JobContext, hint: str, name: str) -> Any:
    """``jobify.Job[int]`` is a Job."""
    word = hint.partition("[")[0].rpartition(".")[2].strip()
    if word == JobContext.__name__:
        return context
    field = _FIELDS_BY_NAME.get(word)
    if field is not None:
        return getattr(context, field)
    if word in [kind.__name__ for kind in type(context.app).__mro__]:
        return context.app
    raise _unknown(hint, name)


def _unknown(hint: Any, name: str) -> ConfigurationError:
    return ConfigurationError(
        f"Unknown type for injection: {hint!r} of parameter {name!r}. There are: JobContext, Jobify, "
        f"{', '.join(_FIELDS_BY_NAME)}."
    )

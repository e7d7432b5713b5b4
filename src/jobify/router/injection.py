"""Filling in ``INJECT`` parameters by their annotation.

An annotation is matched by its type, or by its last name if it exists only for type checkers (``if TYPE_CHECKING:``)
and cannot be resolved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from jobify.config import JobifyConfiguration
from jobify.exceptions import ConfigurationError
from jobify.jobs.context import JobContext, Runnable
from jobify.jobs.job import Job
from jobify.jobs.schedule_builder import ScheduleBuilder
from jobify.model.signature import FuncSpec
from jobify.model.state import RequestState, State
from jobify.model.task_options import RouteOptions

__all__ = ("check_injectable", "check_injectable_in_batch", "inject", "inject_shared")

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


_OF_ONE_JOB: Final = frozenset({"job", "runnable", "request_state", "schedule_builder"})


def inject(context: JobContext) -> None:
    """Fill the function's ``INJECT`` parameters in the bound arguments of ``context.runnable``.

    A value that the caller passed for such a parameter is replaced. ConfigurationError if nothing has its type.
    """
    runnable = context.runnable
    for name, hint in runnable.func_spec.inject_params.items():
        runnable.bound.arguments[name] = _find(context, hint, name)


def inject_shared(context: JobContext, spec: FuncSpec[Any]) -> dict[str, Any]:
    """What the ``INJECT`` parameters of a function get that runs many jobs; ``context`` is that of any of them."""
    return {name: _find(context, hint, name) for name, hint in spec.inject_params.items()}


def check_injectable_in_batch(spec: FuncSpec[Any]) -> None:
    """ConfigurationError if an ``INJECT`` parameter is of one job: the function runs many."""
    for name, hint in spec.inject_params.items():
        word = _word(hint) if isinstance(hint, str) else getattr(hint, "__name__", "")
        if word == JobContext.__name__ or _FIELDS_BY_NAME.get(word) in _OF_ONE_JOB:
            raise ConfigurationError(
                f"Parameter {name!r} of task {spec.name!r} is to be a {word}, which is of one job; with batch= the "
                "function runs many. current_job.batch has the jobs; a State or the app can be injected."
            )


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
    word = _word(hint)
    if word == JobContext.__name__:
        return context
    field = _FIELDS_BY_NAME.get(word)
    if field is not None:
        return getattr(context, field)
    if word in _names(context.app):
        return context.app
    raise _unknown(hint, name)


def _word(hint: str) -> str:
    """``jobify.Job[int] | None`` is a Job."""
    parts = [part.strip() for part in hint.split("|")]
    first = next((part for part in parts if part != "None"), "")
    return first.partition("[")[0].rpartition(".")[2].strip()


def _names(app: Any) -> list[str]:
    return [kind.__name__ for kind in type(app).__mro__]


def check_injectable(spec: FuncSpec[Any], *, app: Any = None, may_be_app: Callable[[type], bool] | None = None) -> None:
    """ConfigurationError if an ``INJECT`` parameter has a type that no job has.

    With ``app``, the check is complete. Without it, a type that ``may_be_app`` accepts passes, and so does a name that
    cannot be resolved.
    """
    for name, hint in spec.inject_params.items():
        if not _is_injectable(hint, app, may_be_app):
            raise _unknown(hint, name, task=spec.name)


def _is_injectable(hint: Any, app: Any, may_be_app: Callable[[type], bool] | None) -> bool:
    if isinstance(hint, str):
        word = _word(hint)
        return word == JobContext.__name__ or word in _FIELDS_BY_NAME or app is None or word in _names(app)
    if hint is JobContext or hint in _FIELDS:
        return True
    if not isinstance(hint, type) or hint is object:
        return False
    if app is None:
        return may_be_app is None or may_be_app(hint)
    try:
        return isinstance(app, hint)
    except TypeError:  # a Protocol that is not checked at run time
        return False


def _unknown(hint: Any, name: str, *, task: str | None = None) -> ConfigurationError:
    shown = hint.__name__ if isinstance(hint, type) else repr(hint)
    of_task = "" if task is None else f" of task {task!r}"
    return ConfigurationError(
        f"Unknown type for injection: {shown} of parameter {name!r}{of_task}. There are: JobContext, Jobify, "
        f"{', '.join(_FIELDS_BY_NAME)}. For an object of your own, put it into the state of the app, and write "
        "`state: State = INJECT`."
    )

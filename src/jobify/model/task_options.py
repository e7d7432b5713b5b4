"""The options of ``@app.task``, checked where they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, TypedDict, cast

from jobify.exceptions import ConfigurationError, UnknownOptionError, did_you_mean
from jobify.model.batch import Batch, check_batch
from jobify.model.cron import Cron
from jobify.model.debounce import Debounce, check_debounce
from jobify.model.durations import Duration, check_duration
from jobify.model.ids import check_text
from jobify.model.limits import Limit, check_limits
from jobify.model.retry import SmartRetry, as_retry
from jobify.model.unique import Unique, check_unique
from jobify.types import MappingExceptionHandlers

__all__ = (
    "DEFAULT_QUEUE",
    "RouteOptions",
    "RunMode",
    "TaskOptions",
    "check_duration",
    "check_handlers",
    "check_options",
    "check_priority",
    "resolve_run_mode",
)

DEFAULT_QUEUE = "default"

_HIGHEST: Final = 2**31
"""The bound of a priority, on either side of 0, which any database can store."""


class RunMode(StrEnum):
    """Where a task runs."""

    MAIN = "main"
    """On the app's event loop: for ``async def``, and their default."""
    THREAD = "thread"
    """In a thread of the app's pool: for ``def``, and their default."""
    PROCESS = "process"
    """In a child process, which can be killed at a timeout or a cancel: for ``def``."""


class TaskOptions(TypedDict, total=False):
    """The options of a task that do not change what its calls take.

    ``retry`` is always a ``SmartRetry`` once the task is registered. ``timeout`` is per attempt, and a number of
    seconds once the task is registered. Jobify does not use ``metadata``. ``queue`` is where its jobs wait ("default");
    in a queue, jobs of a higher ``priority`` (0) run first. ``aliases`` are earlier names of the task: jobs, schedules
    and declared crons that are stored under them belong to it. ``limits`` say how many of its jobs may run at once, or
    start in a time; see :mod:`jobify.model.limits`. ``unique`` says that of the jobs with one key one alone waits or
    runs (:class:`~jobify.Unique`), ``debounce`` that calls in quick succession are merged (:class:`~jobify.Debounce`).
    """

    name: str
    aliases: Sequence[str]
    cron: Cron | str | None
    retry: int | SmartRetry | None
    timeout: Duration | None
    durable: bool
    queue: str
    priority: int
    run_mode: RunMode
    metadata: Mapping[str, Any] | None
    exception_handlers: MappingExceptionHandlers | None
    limits: Sequence[Limit]
    unique: Unique | None
    debounce: Debounce | None


class RouteOptions(TaskOptions, total=False):
    """The options of a task, which ``@app.task`` takes and middleware sees: :class:`TaskOptions`, and ``batch``.

    With ``batch`` (none), one call of the function runs many jobs, and takes a list; see :mod:`jobify.model.batch`.
    """

    batch: Batch | None


def check_options(raw: Mapping[str, Any], *, task: str) -> RouteOptions:
    """Check the options of a task. ConfigurationError says what to write instead."""
    known = RouteOptions.__annotations__
    for key in raw:
        if key not in known:
            raise UnknownOptionError(f"Task {task!r} has no option {key!r}. {did_you_mean(key, list(known))}")
    options = {key: value for key, value in raw.items() if value is not None}
    _check_type(options, "name", str, task)
    _check_type(options, "cron", (str, Cron), task)
    _check_type(options, "durable", bool, task)
    _check_type(options, "metadata", Mapping, task)
    check_handlers(options.get("exception_handlers"), f"task {task!r}")
    if "name" in options and not options["name"].strip():
        raise ConfigurationError(f"The name of task {task!r} is empty. Leave it out, or give it a name.")
    check_text(task, what="name of a task")
    if "aliases" in options:
        options["aliases"] = _aliases(options["aliases"], task)
    if "retry" in options:
        options["retry"] = as_retry(options["retry"])
    if "timeout" in options:
        options["timeout"] = check_duration(options["timeout"], what=f"timeout of task {task!r}", allow_zero=False)
    if "run_mode" in options:
        options["run_mode"] = _run_mode(options["run_mode"], task)
    if "queue" in options:
        check_text(options["queue"], what=f"queue of task {task!r}")
    if "priority" in options:
        check_priority(options["priority"], what=f"priority of task {task!r}")
    if "limits" in options:
        options["limits"] = check_limits(options["limits"], task)
    if "batch" in options:
        check_batch(options["batch"], task)
    if "unique" in options:
        check_unique(options["unique"], task)
    if "debounce" in options:
        check_debounce(options["debounce"], task)
    return cast("RouteOptions", options)


def resolve_run_mode(options: RouteOptions, *, is_async: bool, task: str) -> RunMode:
    """The chosen run mode, or the default for the kind of the function; ConfigurationError if it does not fit."""
    mode = options.get("run_mode")
    if mode is None:
        return RunMode.MAIN if is_async else RunMode.THREAD
    if is_async and mode is not RunMode.MAIN:
        raise ConfigurationError(
            f"Task {task!r} is an async function, which runs on the event loop: run_mode={mode.value!r} needs a plain "
            "`def`. Remove run_mode, or write the function without async."
        )
    if not is_async and mode is RunMode.MAIN:
        raise ConfigurationError(
            f"Task {task!r} is a plain function and would block the event loop: run_mode='main' needs `async def`. "
            "Remove run_mode to run it in a thread."
        )
    return mode


def check_priority(value: Any, *, what: str) -> int:
    """``value`` as a priority, or ConfigurationError naming ``what``."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= _HIGHEST:
        raise ConfigurationError(
            f"The {what} is {value!r}; it must be a whole number, not beyond two billion. Jobs with a higher one go "
            "first."
        )
    return value


def check_handlers(handlers: Any, where: str) -> None:
    """ConfigurationError unless ``handlers`` (of ``where``) map exception types to functions, or are None."""
    if handlers is None:
        return
    if not isinstance(handlers, Mapping):
        raise ConfigurationError(f"The exception_handlers of {where} must map exception types to functions.")
    for kind, handler in handlers.items():
        if not (isinstance(kind, type) and issubclass(kind, Exception)) or not callable(handler):
            raise ConfigurationError(
                f"The exception_handlers of {where} have {kind!r}: {handler!r}; each must be an exception type "
                "and a function (exception, context)."
            )


def _aliases(value: Any, task: str) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        hint = f" Did you mean ({value!r},)?" if isinstance(value, str) else ""
        raise ConfigurationError(f"The aliases of task {task!r} are {value!r}; they must be a list of names.{hint}")
    for alias in value:
        if not (isinstance(alias, str) and alias.strip()):
            raise ConfigurationError(f"The aliases of task {task!r} have {alias!r}; each must be a name it had before.")
        check_text(alias, what=f"alias of task {task!r}")
    return tuple(dict.fromkeys(value))


def _run_mode(value: Any, task: str) -> RunMode:
    try:
        return RunMode(value)
    except ValueError:
        modes = [mode.value for mode in RunMode]
        raise ConfigurationError(
            f"Task {task!r} cannot run in mode {value!r}. {did_you_mean(str(value), modes)}"
        ) from None


def _check_type(options: Mapping[str, Any], key: str, expected: type | tuple[type, ...], task: str) -> None:
    if key in options and not isinstance(options[key], expected):
        names = " or ".join(t.__name__ for t in (expected if isinstance(expected, tuple) else (expected,)))
        raise ConfigurationError(f"The {key} of task {task!r} is {options[key]!r}; it must be a {names}.")

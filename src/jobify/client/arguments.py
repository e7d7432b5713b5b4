"""What users write for a task, a job or a list of calls, as the client takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypedDict, TypeVar

from jobify.canvas.signature import Signature
from jobify.exceptions import ConfigurationError, JobNotFoundError, UnknownOptionError, did_you_mean
from jobify.jobs.job import Job
from jobify.jobs.job_request import (
    CallArguments,
    JobRequest,
    build_requests,
    checked_arguments,
    parse_calls,
    validate_options,
)
from jobify.jobs.job_result import JobResult
from jobify.model.ids import check_text, is_storable
from jobify.model.public_status import PublicStatus
from jobify.router import ConfiguredTask, Route

__all__ = (
    "AnyJob",
    "AnyTask",
    "Calls",
    "Filters",
    "JobFilters",
    "filters_of",
    "id_of",
    "ids_of",
    "name_of",
    "parse_batch",
    "parse_request",
)

T = TypeVar("T")

AnyTask: TypeAlias = Route[..., Any] | ConfiguredTask[..., Any] | str
OneOrMore: TypeAlias = T | list[T] | tuple[T, ...] | Set[T]
AnyJob: TypeAlias = JobResult[Any] | Job[Any] | str


class JobFilters(TypedDict, total=False):
    """Filters of jobs; all that are given have to match.

    ``status`` is one of the six public statuses, ``task`` a task or its name; each of these and ``queue`` may be a list
    of alternatives. Times are datetimes (naive ones are read in the app's zone): created at ``created_after`` or later,
    and before ``created_before``. ``metadata``: all of these pairs are in the job's own.
    """

    status: OneOrMore[PublicStatus] | None
    task: OneOrMore[AnyTask] | None
    queue: OneOrMore[str] | None
    created_after: datetime | None
    created_before: datetime | None
    metadata: Mapping[str, Any] | None


class Filters(NamedTuple):
    """Which jobs to find; None does not filter. ``statuses`` are some of the six words."""

    statuses: Sequence[str] | None = None
    tasks: Sequence[str] | None = None
    queues: Sequence[str] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    metadata: Sequence[tuple[str, Any]] = ()
    is_schedule: bool | None = None


class Calls(NamedTuple):
    """Many calls of one task, without options."""

    task: str
    calls: list[CallArguments]


def name_of(task: Any, app: object) -> str:
    """The name that jobs of ``task`` carry in ``app``."""
    if isinstance(task, ConfiguredTask):
        task = task.task
    if isinstance(task, Route):
        return task.name_in(app)
    if not isinstance(task, str) or not task:
        raise ConfigurationError(f"{task!r} is no task. Give a function with @app.task, or the name of a task.")
    return check_text(task, what="name of a task")


def id_of(job: Any) -> str:
    """The id of a job, or of the one behind a handle; JobNotFoundError for a text that can be no id."""
    if isinstance(job, JobResult | Job):
        return job.id
    if not isinstance(job, str):
        raise ConfigurationError(f"{job!r} is no job. Give a JobResult, a Job, or the id of one.")
    if not is_storable(job):
        raise JobNotFoundError(job)
    return job


def ids_of(jobs: Any) -> list[str]:
    """The ids of one job, or of many."""
    if isinstance(jobs, str | JobResult | Job) or not isinstance(jobs, Iterable):
        return [id_of(jobs)]
    return [id_of(job) for job in jobs]


def filters_of(raw: Mapping[str, Any], app: object) -> Filters:
    """Filters, or ConfigurationError for one that there is not."""
    for key in raw:
        if key not in JobFilters.__annotations__:
            raise UnknownOptionError(f"Jobs have no filter {key!r}. {did_you_mean(key, JobFilters.__annotations__)}")
    metadata = raw.get("metadata")
    if not (metadata is None or isinstance(metadata, Mapping)):
        raise ConfigurationError(f"The metadata to look for is {metadata!r}; it must be a dict.")
    return Filters(
        statuses=_some(raw, "status", lambda word: word),
        tasks=_some(raw, "task", partial(name_of, app=app)),
        queues=_some(raw, "queue", partial(check_text, what="queue to look for")),
        created_after=raw.get("created_after"),
        created_before=raw.get("created_before"),
        metadata=tuple((metadata or {}).items()),
    )


def _some(raw: Mapping[str, Any], key: str, checked: Callable[[Any], str]) -> tuple[str, ...] | None:
    """The values of the filter ``key``: one, or any of several."""
    value = raw.get(key)
    if value is None:
        return None
    if not isinstance(value, list | tuple | set | frozenset):
        return (checked(value),)
    if not value:
        raise ConfigurationError(f"The filter {key} is empty and finds nothing. Leave it out to find any.")
    return tuple(map(checked, value))


def parse_request(app: object, task: Any, args: Any, kwargs: Any, options: Mapping[str, Any]) -> JobRequest:
    """One call of a task of ``app``, with options, which go before those that the task is configured with."""
    if isinstance(task, ConfiguredTask):
        options = {**task.options, **options}
    return JobRequest(name_of(task, app), *checked_arguments(args, kwargs), validate_options(options))


def parse_batch(
    app: object, task: Any, args_list: Iterable[Any], kwargs_list: Iterable[Any] | None, options: Mapping[str, Any]
) -> Calls | list[JobRequest]:
    """Many calls: of one task, or signatures."""
    if isinstance(task, ConfiguredTask):
        options = {**task.options, **options}
    elif not isinstance(task, Route | str):
        return _signatures(task, args_list, kwargs_list, options)
    name, calls = name_of(task, app), _calls(args_list, kwargs_list)
    return build_requests(name, calls, options) if options else Calls(name, calls)


def _calls(args_list: Iterable[Any], kwargs_list: Iterable[Any] | None) -> list[CallArguments]:
    if kwargs_list is None:
        return parse_calls(args_list)
    all_args, all_kwargs = list(args_list), list(kwargs_list)
    if not all_args:
        all_args = [()] * len(all_kwargs)
    if len(all_args) != len(all_kwargs):
        raise ConfigurationError(
            f"args_list has {len(all_args)} entries and kwargs_list {len(all_kwargs)}; each job needs one of both."
        )
    return [checked_arguments(args, kwargs) for args, kwargs in zip(all_args, all_kwargs, strict=True)]


_NOTHING: dict[str, Any] = {}


def _signatures(
    signatures: Any, args_list: Iterable[Any], kwargs_list: Iterable[Any] | None, options: Mapping[str, Any]
) -> list[JobRequest]:
    found = list(signatures) if isinstance(signatures, Iterable) else [signatures]
    for signature in found:
        if not isinstance(signature, Signature):
            raise ConfigurationError(f"{signature!r} is no task and no signature. Did you mean task.s(...)?")
    if args_list or kwargs_list or options:
        raise ConfigurationError("Signatures have arguments and options of their own: leave the others out.")
    return [JobRequest(each.task, each.args, each.kwargs, each.spec) for each in found]

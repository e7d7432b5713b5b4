"""Requests to enqueue jobs, and the options of one job, checked where they are written.

The options of a *task* are in :mod:`jobify.model.task_options`, those in a row in :mod:`jobify.model.job_options`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, TypedDict

import msgspec
from msgspec import Struct

from jobify.exceptions import ConfigurationError, UnknownOptionError, did_you_mean
from jobify.jobs.job import Job
from jobify.jobs.job_result import JobResult
from jobify.model.clock import from_datetime, seconds, to_datetime
from jobify.model.cron import Cron
from jobify.model.durations import Duration, check_duration
from jobify.model.ids import check_text, is_storable
from jobify.model.job_options import JobOptions, read_options, stored_policy
from jobify.model.limit_keys import as_key
from jobify.model.retry import SmartRetry, as_retry
from jobify.model.task_options import check_priority
from jobify.types import Microseconds

__all__ = (
    "DEFAULT_SPEC",
    "CallArguments",
    "Dependency",
    "EnqueueOptions",
    "JobRequest",
    "JobSpec",
    "ResultInput",
    "Submitter",
    "TransactionSubmitter",
    "build_requests",
    "checked_arguments",
    "parse_calls",
    "validate_options",
)

Dependency: TypeAlias = str | JobResult[Any] | Job[Any]
"""A job to wait for: its id or a handle."""

CallArguments: TypeAlias = tuple[tuple[Any, ...], Mapping[str, Any]]
"""The positional and the keyword arguments of one job."""


class EnqueueOptions(TypedDict, total=False):
    """The options of one job, for ``apply_async``, ``enqueue``, ``configure`` and ``Signature.set``.

    None means that an option is not given. Durations are seconds or timedeltas. ``delay`` counts from now, ``eta`` is a
    point in time (a naive one is read in the app's zone). ``queue``, ``priority``, ``retry`` and ``timeout`` (of an
    attempt) override those of the task; ``metadata`` is merged into that of the task. While a job with the same
    ``unique_key`` (of the same task, or of all tasks with ``unique_scope="all"``) has not ended, its handle is returned
    and nothing is stored. The job waits until all jobs that it ``depends_on`` are complete; if one of them ends
    otherwise, it is cancelled. It is also cancelled if it has not begun when it ``expires`` (a time, or a duration from
    now). ``result_ttl`` is how long it is kept after a success. ``job_id`` must not be in use. ``limit_keys`` are keys
    of the task's limits, by the text of their ``key=``, where the code of the task is not in this process. ``cost`` is
    how many starts the job is for a :class:`~jobify.Rate` (1). ::

        charge.apply_async((order.id,), queue="payments", unique_key=order.id, expires=timedelta(hours=1))
    """

    priority: int | None
    delay: Duration | None
    eta: datetime | None
    queue: str | None
    retry: int | SmartRetry | None
    timeout: Duration | None
    unique_key: str | None
    unique_scope: Literal["task", "all"]
    metadata: Mapping[str, Any] | None
    depends_on: Dependency | Iterable[Dependency] | None
    expires: Duration | datetime | None
    result_ttl: Duration | None
    job_id: str | None
    limit_keys: Mapping[str, Any] | None
    cost: int | None


class JobSpec(Struct, frozen=True, kw_only=True):
    """Checked :class:`EnqueueOptions`. None means the option of the task."""

    priority: int | None = None
    queue: str | None = None
    delay: float | None = None
    eta: datetime | None = None
    expires: float | datetime | None = None
    unique_key: str | None = None
    is_unique_everywhere: bool = False
    parents: tuple[str, ...] = ()
    job_id: str | None = None
    cron: Cron | None = None
    """The rule of a schedule; ``schedule(...).cron`` sets it."""
    stored: JobOptions = JobOptions()
    """The options that are stored in the ``options`` of the row."""

    def due_at(self, now: Microseconds, zone: tzinfo) -> Microseconds:
        """When the job is due."""
        if self.eta is not None:
            return from_datetime(self.eta, zone=zone)
        return now + seconds(self.delay or 0.0)

    def expires_at(self, now: Microseconds, zone: tzinfo) -> Microseconds | None:
        """When the job is cancelled unless it has begun. None means never."""
        if self.expires is None:
            return None
        if isinstance(self.expires, datetime):
            return from_datetime(self.expires, zone=zone)
        return now + seconds(self.expires)

    def in_zone(self, zone: tzinfo) -> JobSpec:
        """This spec with a naive ``expires`` made aware in the zone of the app."""
        if not isinstance(self.expires, datetime):
            return self
        expires = to_datetime(from_datetime(self.expires, zone=zone), zone=UTC)
        return msgspec.structs.replace(self, expires=expires)

    def options(self) -> JobOptions:
        """The options to store in the row."""
        if self.expires is None or isinstance(self.expires, datetime):
            return self.stored
        return msgspec.structs.replace(self.stored, expires=float(self.expires))


DEFAULT_SPEC: Final = JobSpec()


_MOST_COST: Final = 2**31
_LONGEST: Final = 1e11
"""Seconds of a duration at most: three thousand years."""


class ResultInput(NamedTuple):
    """The jobs of the same batch that a job of a workflow waits for, by their indexes."""

    indexes: tuple[int, ...]
    is_list: bool
    """Whether their results are passed as one list. If not, there is only one."""
    is_taken: bool
    """Whether the results become the first argument. If not, the job only waits for them."""
    after: tuple[int, ...] = ()
    """Further jobs that the job only waits for."""


class JobRequest(Struct, frozen=True):
    """The request for one job."""

    task: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    spec: JobSpec = DEFAULT_SPEC
    result_input: ResultInput | None = None


class Submitter(Protocol):
    """Enqueues jobs, with or without a running app: the part of the client that tasks use.

    When a call returns, its jobs are stored, all in one transaction. ConfigurationError, TypeError or PayloadError for
    an invalid request, StorageUnavailableError if the storage cannot be written to; nothing is stored then.
    """

    def delay(self, task: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> JobResult[Any]:
        """Enqueue one job without options: the fast path."""
        ...

    def submit(self, requests: Sequence[JobRequest]) -> list[JobResult[Any]]:
        """Enqueue a batch, in which a request may use the results of earlier ones."""
        ...

    async def adelay(self, task: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> JobResult[Any]:
        """:meth:`delay` without blocking the event loop."""
        ...

    def delay_all(self, task: str, calls: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> list[JobResult[Any]]:
        """Enqueue many jobs of one task, without options."""
        ...

    async def adelay_all(
        self, task: str, calls: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]
    ) -> list[JobResult[Any]]:
        """:meth:`delay_all` without blocking the event loop."""
        ...

    async def asubmit(self, requests: Sequence[JobRequest]) -> list[JobResult[Any]]:
        """:meth:`submit` without blocking the event loop."""
        ...

    def using(self, connection: object) -> TransactionSubmitter:
        """Enqueues in the transaction of a user's ``connection``. ConfigurationError if it is no connection."""
        ...


class TransactionSubmitter(Submitter, Protocol):
    """Enqueues in a user's transaction."""

    async def areplace(self, request: JobRequest, *, is_force: bool) -> JobResult[Any]:
        """Store the job of ``request`` in the place of the one with its id, if there is one that has not ended."""
        ...


def validate_options(raw: Mapping[str, Any]) -> JobSpec:
    """Check the options of a job. ConfigurationError says what to write instead.

    >>> validate_options({"priorty": 1})
    Traceback (most recent call last):
    jobify.exceptions.UnknownOptionError: A job has no option 'priorty'. Did you mean 'priority'?
    """
    if not raw:
        return DEFAULT_SPEC
    known = EnqueueOptions.__annotations__
    for key in raw:
        if key not in known:
            raise UnknownOptionError(f"A job has no option {key!r}. {did_you_mean(str(key), known)}")
    given = {key: value for key, value in raw.items() if value is not None}
    if "delay" in given and "eta" in given:
        raise ConfigurationError("A job has a delay and an eta. Leave one of them out.")
    spec = JobSpec(
        priority=check_priority(given["priority"], what="priority of the job") if "priority" in given else None,
        queue=check_text(given["queue"], what="queue of the job") if "queue" in given else None,
        delay=_duration(given, "delay"),
        eta=_moment(given, "eta"),
        expires=_expiry(given.get("expires")),
        unique_key=check_text(given["unique_key"], what="unique_key of the job") if "unique_key" in given else None,
        is_unique_everywhere=_is_everywhere(given.get("unique_scope", "task")),
        parents=_parents(given.get("depends_on", ())),
        job_id=check_text(given["job_id"], what="job_id") if "job_id" in given else None,
        stored=_stored_options(given),
    )
    if read_options(spec.stored.text()).metadata != spec.stored.metadata:
        raise ConfigurationError(
            f"The metadata of the job is {given['metadata']!r}, which JSON would change. Use texts (also as keys), "
            "finite numbers, booleans, None, lists, dicts."
        )
    return spec


def _stored_options(given: Mapping[str, Any]) -> JobOptions:
    metadata = given.get("metadata")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise ConfigurationError(f"The metadata of the job is {metadata!r}; it must be a dict.")
    policy = as_retry(given.get("retry"))
    return JobOptions(
        timeout=_duration(given, "timeout", allow_zero=False),
        retry=None if policy is None else stored_policy(policy),
        result_ttl=_duration(given, "result_ttl"),
        metadata=None if metadata is None else dict(metadata),
        limit_keys=_limit_keys(given.get("limit_keys")),
        cost=_cost(given.get("cost", 1)),
    )


def _limit_keys(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigurationError(
            f"The limit_keys of the job are {given!r}; they must be a dict, such as {{'order.shop': 'shop-7'}}."
        )
    return {check_text(path, what="key of a limit"): as_key(value) for path, value in given.items()}


def _cost(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given < _MOST_COST:
        raise ConfigurationError(f"The cost of the job is {given!r}; it must be a whole number, 1 or more.")
    return given


def _duration(given: Mapping[str, Any], key: str, *, allow_zero: bool = True) -> float | None:
    if key not in given:
        return None
    return _bounded(check_duration(given[key], what=f"{key} of the job", allow_zero=allow_zero), key)


def _bounded(duration: float, key: str) -> float:
    if duration > _LONGEST:
        raise ConfigurationError(f"The {key} of the job is {duration:g} seconds; no calendar reaches as far.")
    return duration


def _moment(given: Mapping[str, Any], key: str) -> datetime | None:
    moment = given.get(key)
    if moment is not None and not isinstance(moment, datetime):
        raise ConfigurationError(f"The {key} of the job is {moment!r}; it must be a datetime. For seconds use delay=.")
    return moment


def _expiry(value: Any) -> float | datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta):
        raise ConfigurationError(
            f"The expires of the job is {value!r}; it must be a datetime, a timedelta, or a number of seconds."
        )
    return _bounded(check_duration(value, what="expires of the job", allow_zero=False), "expires")


def _is_everywhere(scope: Any) -> bool:
    if scope not in ("task", "all"):
        raise ConfigurationError(f"The unique_scope of the job is {scope!r}; it must be 'task' or 'all'.")
    return bool(scope == "all")


def _parents(depends_on: Any) -> tuple[str, ...]:
    if isinstance(depends_on, str | JobResult | Job):
        depends_on = (depends_on,)
    if isinstance(depends_on, bytes | Mapping) or not isinstance(depends_on, Iterable):
        raise ConfigurationError(f"depends_on is {depends_on!r}; it must be a job, an id, or a list of these.")
    return tuple(dict.fromkeys(map(_id_of, depends_on)))


def _id_of(job: Any) -> str:
    if isinstance(job, JobResult | Job):
        return job.id
    if not isinstance(job, str) or not job or not is_storable(job):
        raise ConfigurationError(f"depends_on has {job!r}; each must be a JobResult, a Job, or the id of one.")
    return job


def checked_arguments(args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call that are given as a tuple and a dict. None means none.

    ConfigurationError if they are something else.
    """
    if args is None:
        args = ()
    if isinstance(args, str | bytes) or not isinstance(args, Sequence):
        raise ConfigurationError(f"The arguments of the job are {args!r}; they must be a tuple, such as ({args!r},).")
    if kwargs is not None and not (isinstance(kwargs, Mapping) and all(isinstance(name, str) for name in kwargs)):
        raise ConfigurationError(f"The arguments by name are {kwargs!r}; they must be a dict with texts as keys.")
    return tuple(args), dict(kwargs or {})


def parse_calls(args_list: Any) -> list[CallArguments]:
    """Read a list of calls with positional arguments only; ConfigurationError if it is none."""
    if not isinstance(args_list, Iterable):
        raise ConfigurationError(f"{args_list!r} is no list of calls. Give one tuple of arguments for each job.")
    return [(args, _NO_KWARGS) if type(args) is tuple else checked_arguments(args, None) for args in args_list]


_NO_KWARGS: Final[Mapping[str, Any]] = {}


def build_requests(task: str, calls: Sequence[CallArguments], options: Mapping[str, Any]) -> list[JobRequest]:
    """The requests of many calls of one task with the same options.

    ConfigurationError for options that several jobs cannot share.
    """
    spec = validate_options(options)
    if spec.job_id is not None and len(calls) > 1:
        raise ConfigurationError(f"{len(calls)} jobs cannot share the job_id {spec.job_id!r}. Leave it out.")
    return [JobRequest(task, args, kwargs, spec) for args, kwargs in calls]

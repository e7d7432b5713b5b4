"""From a request to a row: the only module that makes a :class:`NewJob`.

==========================  =============================================================================
:class:`RowBuilder`         of a call from any process (``delay``, ``apply_async``, a workflow)
:func:`pushed_row`          of a push in the app's process, waiting or inserted already claimed
:func:`claimed_row`         of a push in memory that has ended before its row was needed
:func:`schedule_row`        of a cron that is declared with a task
:func:`run_of_schedule`     of one more run of a schedule, out of turn
==========================  =============================================================================

Nothing is stored here. What cannot be stored is refused: PayloadError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from jobify.exceptions import PayloadError
from jobify.jobs.job_request import JobRequest, JobSpec
from jobify.model.clock import Clock
from jobify.model.cron import Cron
from jobify.model.cron_rules import CronRuleCache
from jobify.model.ids import text_ids
from jobify.model.job_options import JobOptions, ParentResults, read_options
from jobify.model.limit_gates import LimitDefinition
from jobify.model.limit_keys import KeyReader
from jobify.model.limits import check_cost
from jobify.model.records import JobRecord, NewJob
from jobify.model.status import JobStatus
from jobify.serializers.codec import ParameterTypes
from jobify.types import Microseconds, UUIDGenerator

__all__ = (
    "PLACEHOLDER",
    "RowBuilder",
    "args_with_placeholder",
    "claimed_row",
    "pushed_row",
    "run_of_schedule",
    "schedule_row",
)

_SCHEDULED: Final = JobStatus.SCHEDULED.value
_RUNNING: Final = JobStatus.RUNNING.value

Encode: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any], ParameterTypes], Any]
"""Makes the payload of a call; PayloadError if the arguments cannot be restored from it."""


class _Placeholder:
    """Stands for the result of another job among the arguments, until there is one."""

    def __repr__(self) -> str:
        return "<the result of the job before>"


PLACEHOLDER: Final[Any] = _Placeholder()


def args_with_placeholder(request: JobRequest) -> tuple[Any, ...]:
    """The positional arguments of a request, including the result of another job that comes before them."""
    is_fed = request.result_input is not None and request.result_input.is_taken
    return (PLACEHOLDER, *request.args) if is_fed else request.args


class RowTask(Protocol):
    """The part of a task that its rows contain."""

    @property
    def name(self) -> str: ...

    @property
    def queue(self) -> str: ...

    @property
    def priority(self) -> int: ...


class CalledTask(RowTask, Protocol):
    """A task as the client knows it."""

    @property
    def check(self) -> Callable[..., object] | None:
        """Raises TypeError for arguments that do not fit. None means that the code of the task is not here."""
        ...

    @property
    def types(self) -> ParameterTypes: ...

    @property
    def limits(self) -> Sequence[LimitDefinition]:
        """Its limits, where the code of the task is here."""
        ...

    @property
    def limit_keys(self) -> KeyReader | None:
        """Reads the keys of its limits; None: they have none, or the code of the task is not here."""
        ...


class RowBuilder:
    """Makes the rows of calls from any process. ``zone`` is that of naive datetimes."""

    def __init__(
        self,
        encode: Encode,
        new_id: UUIDGenerator,
        clock: Clock,
        zone: tzinfo,
        rules: Callable[[], CronRuleCache],
    ) -> None:
        self._rules = rules
        self._encode = encode
        self._new_id = text_ids(new_id)
        self._clock = clock
        self._zone = zone

    def plain(self, task: CalledTask, args: tuple[Any, ...], kwargs: Any) -> NewJob:
        """A job without options, due now, with the queue and priority of its task."""
        if task.check is not None:
            task.check(*args, **kwargs)
        now = self._clock.now()
        payload = self._payload(task, args, kwargs, task.types)
        options = None if task.limit_keys is None else task.limit_keys.options(args, kwargs)
        return NewJob(
            self._new_id(), task.name, task.queue, task.priority, _SCHEDULED, True, now, now, payload,
            None, None, options, None, None, 0, 0, None, None, None,
        )  # fmt: skip

    def plain_each(self, task: CalledTask, calls: Sequence[tuple[tuple[Any, ...], Any]]) -> list[NewJob]:
        """:meth:`plain` for many calls of a task, all due at one moment."""
        check, types, new_id, now = task.check, task.types, self._new_id, self._clock.now()
        name, queue, priority, payload, keys = task.name, task.queue, task.priority, self._payload, task.limit_keys
        rows = []
        for args, kwargs in calls:
            if check is not None:
                check(*args, **kwargs)
            rows.append(NewJob(
                new_id(), name, queue, priority, _SCHEDULED, True, now, now, payload(task, args, kwargs, types),
                None, None, None if keys is None else keys.options(args, kwargs), None, None, 0, 0, None, None, None,
            ))  # fmt: skip
        return rows

    def row(self, task: CalledTask, request: JobRequest, job_id: str, parents: tuple[str, ...] = ()) -> NewJob:
        """A job with options; ``parents`` are the ids of the jobs of its workflow that it waits for, each once."""
        spec, result_input, now = request.spec, request.result_input, self._clock.now()
        due_at = spec.due_at(now, self._zone)
        options, types = spec.options(), task.types
        if result_input is not None and result_input.is_taken:
            inputs = ParentResults(count=len(result_input.indexes), is_list=result_input.is_list)
            options = msgspec.structs.replace(options, inputs=inputs)
            types = types.after(1)
        row = NewJob(
            id=job_id,
            task=task.name,
            queue=spec.queue or task.queue,
            priority=task.priority if spec.priority is None else spec.priority,
            status=_SCHEDULED,
            ready=due_at <= now,
            due_at=due_at,
            created_at=now,
            payload=self._payload(task, request.args, request.kwargs, types),
            offset_at=now if spec.eta is None and due_at > now else None,
            options=_options_text(task, request, options),
            expires_at=spec.expires_at(now, self._zone),
            parents=tuple(dict.fromkeys((*parents, *spec.parents))) if spec.parents else parents,
        )
        return row if spec.cron is None else self._by_rule(row, spec.cron)

    def _by_rule(self, row: NewJob, cron: Cron) -> NewJob:
        """The row of a schedule, whose first run is due by its rule."""
        rules = self._rules()
        rule = rules.of_cron(cron)
        due_at = rules.first_due(rule, now=row.created_at)
        return row._replace(rule=rule.text, due_at=due_at, offset_at=due_at, ready=due_at <= row.created_at)

    def new_id(self, spec: JobSpec) -> str:
        """The id of a job: the chosen one, or a new one."""
        return self._new_id() if spec.job_id is None else spec.job_id

    def due_at(self, spec: JobSpec, now: Microseconds) -> Microseconds:
        """When a job with these options is due."""
        return spec.due_at(now, self._zone)

    def _payload(self, task: CalledTask, args: tuple[Any, ...], kwargs: Any, types: ParameterTypes) -> Any:
        try:
            return self._encode(args, kwargs, types)
        except PayloadError as error:
            raise PayloadError(f"Cannot store a job of task {task.name!r}: {error} Nothing was stored.") from error


def _options_text(task: CalledTask, request: JobRequest, options: JobOptions) -> str | None:
    """The options of a job, with the keys of its limits unless its arguments are not complete yet."""
    if options.cost > 1:
        check_cost(task.name, task.limits, options.cost)
    if task.limit_keys is None or request.result_input is not None:
        return options.text()
    return task.limit_keys.options(request.args, request.kwargs, options)


class PushedJob(Protocol):
    """A push on its way to the storage."""

    @property
    def spec(self) -> JobSpec | None:
        """Its own options. None means those of its task."""
        ...

    def values(self) -> tuple[Any, ...]:
        """The fields of its row, in order, without its own options."""
        ...


def pushed_row(job: PushedJob) -> NewJob:
    """The row of a push: waiting, or claimed by this process."""
    row = NewJob(*job.values())
    return row if job.spec is None else _with_spec(row, job.spec)


def claimed_row(
    task: RowTask, job_id: str, owner: int, payload: Any, *, due_at: Microseconds, now: Microseconds
) -> NewJob:
    """The row of a plain push that ``owner`` has claimed with its insert."""
    return NewJob(
        job_id, task.name, task.queue, task.priority, _RUNNING, False, due_at, now, payload,
        None, None, None, owner, owner, 1, 1, now, None, None,
    )  # fmt: skip


def _with_spec(row: NewJob, spec: JobSpec) -> NewJob:
    options = spec.options()
    if row.options is not None:
        stored = read_options(row.options)
        keys = {**stored.limit_keys, **options.limit_keys}
        options = msgspec.structs.replace(options, request_digest=stored.request_digest, limit_keys=keys)
    return row._replace(
        queue=spec.queue or row.queue,
        priority=row.priority if spec.priority is None else spec.priority,
        options=options.text(),
        expires_at=spec.expires_at(row.created_at, UTC),
        parents=spec.parents,
    )


def schedule_row(
    task: RowTask, job_id: str, payload: Any, rule: str, due_at: Microseconds, now: Microseconds
) -> NewJob:
    """The row of a declared cron, whose next run is due at ``due_at``."""
    return NewJob(
        id=job_id,
        task=task.name,
        queue=task.queue,
        priority=task.priority,
        status=_SCHEDULED,
        ready=due_at <= now,
        due_at=due_at,
        created_at=now,
        payload=payload,
        rule=rule,
        offset_at=due_at,
    )


def run_of_schedule(schedule: JobRecord, job_id: str, now: Microseconds) -> NewJob:
    """The row of a plain job like the runs of ``schedule``, due now."""
    return NewJob(
        id=job_id,
        task=schedule.task,
        queue=schedule.queue,
        priority=schedule.priority,
        status=_SCHEDULED,
        ready=True,
        due_at=now,
        created_at=now,
        payload=schedule.payload,
        options=schedule.options,
    )

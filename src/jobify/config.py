"""The configuration of an app, which tasks and middleware see as ``context.jobify_config``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from jobify.crontab import CronFactory
from jobify.exceptions import ConfigurationError
from jobify.model.hooks import Hooks
from jobify.model.retention import Retention
from jobify.serializers import Serializer
from jobify.storage.base import Storage
from jobify.typeadapter import Dumper, Loader
from jobify.types import LoopFactory, UUIDGenerator

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor  # at run time it would bring multiprocessing along

__all__ = ("JobifyConfiguration", "Limits", "WorkerPools")


@dataclass(slots=True)
class WorkerPools:
    """The pools that the user provides. None means that the app makes one."""

    threadpool: ThreadPoolExecutor | None = None
    processpool: ProcessPoolExecutor | None = None

    def __post_init__(self) -> None:
        _check_pool("threadpool_executor", self.threadpool, "ThreadPoolExecutor", other="ProcessPoolExecutor")
        _check_pool("processpool_executor", self.processpool, "ProcessPoolExecutor", other="ThreadPoolExecutor")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of an app, all with working defaults."""

    concurrency: int = 1000
    """The number of async jobs that run at once in this process."""
    grace: float | None = None
    """Seconds that a shutdown lets running jobs finish before it cancels them. None: 0, and 30 in a worker."""
    retention: Retention = field(default_factory=Retention)
    """How long ended jobs are kept."""
    max_crashes: int = 3
    """The number of processes that a job may take down before it ends FAILED."""
    threads: int | None = None
    """Threads of the app's own pool. None means a number that suits the machine."""
    processes: int | None = None
    """Child processes of the app's own pool. None means the number of CPUs of this process."""
    max_tasks_per_child: int | None = None
    """Tasks that a child process runs before it is replaced. None means any number."""
    max_memory_per_child: int | None = None
    """Bytes of resident memory above which a child process is replaced after a task. None means no limit."""
    are_children_checked: bool = False
    """Whether a start fails, before it claims a job, if no child process can start or one does not find its tasks."""
    on_trial: Callable[[bool], None] | None = None
    """Called with True when suspect jobs begin to run apart, because they may end the process, and with False after."""
    on_starting: Callable[[Any], None] | None = None
    """Called with a ``StartReport`` instead of logging it."""
    queues: tuple[str, ...] | None = None
    """The queues that this process serves. None means every queue. Jobs in memory are always served, because no other
    process can run them."""


def _never(_: str) -> bool:
    return False


@dataclass(slots=True, kw_only=True)
class JobifyConfiguration:
    """The configuration of an app: its parts and limits."""

    app: Any
    tz: tzinfo
    dumper: Dumper
    loader: Loader
    storage: Storage
    getloop: LoopFactory
    serializer: Serializer
    worker_pools: WorkerPools
    cron_factory: CronFactory
    uuid_generator: UUIDGenerator
    limits: Limits
    hooks: Hooks = field(default_factory=Hooks)
    renamed_types: Mapping[str, type] = field(default_factory=dict)
    is_awaited: Callable[[str], bool] = _never
    """Whether a ``JobResult`` of this process waits for the job with this id. Called from any thread."""
    app_started: bool = False

    def __post_init__(self) -> None:
        _check_function("cron_factory", self.cron_factory, "a function (expression) that gives a CronParser")
        _check_function("loop_factory", self.getloop, "a function () that gives an event loop")
        _check_function("uuid_generator", self.uuid_generator, "a function () that gives an id, such as uuid.uuid4")


def _check_pool(option: str, pool: Any, kind: str, *, other: str) -> None:
    """Compare classes by name, because importing the class of processes would import multiprocessing."""
    kinds = {base.__name__ for base in type(pool).__mro__}
    if pool is not None and (not isinstance(pool, Executor) or other in kinds):
        raise ConfigurationError(
            f"{option} is {pool!r}; it must be a {kind}. Leave it out for a pool of the app's own."
        )


def _check_function(option: str, value: Any, what: str) -> None:
    if not callable(value):
        raise ConfigurationError(f"{option} is {value!r}; it must be {what}.")

"""What an app was built with, as tasks and middleware see it: ``context.jobify_config``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from jobify.crontab import CronFactory
from jobify.retention import Retention
from jobify.serializers import Serializer
from jobify.storage.base import Storage
from jobify.typeadapter import Dumper, Loader
from jobify.types import LoopFactory, UUIDGenerator

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor  # at run time it would bring multiprocessing along

__all__ = ("JobifyConfiguration", "Limits", "WorkerPools")


@dataclass(slots=True)
class WorkerPools:
    """The user's own pools; None where the app makes one."""

    threadpool: ThreadPoolExecutor | None = None
    processpool: ProcessPoolExecutor | None = None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of an app, all with working defaults."""

    concurrency: int = 1000
    """Async jobs that run at once in this process."""
    grace: float = 0.0
    """Seconds that a shutdown lets running jobs finish before it cancels them."""
    retention: Retention = field(default_factory=Retention)
    """How long ended jobs are kept."""
    max_crashes: int = 3
    """Processes that a job may take down before it ends FAILED."""
    threads: int | None = None
    """Threads of the app's own pool; None: as many as suit the machine."""
    processes: int | None = None
    """Child processes of the app's own pool; None: as many as there are processors."""
    are_children_checked: bool = False
    """A start fails, before anything is claimed, if no child process can be started or one does not find its tasks."""
    queues: tuple[str, ...] | None = None
    """The queues that this process serves; None: every queue. Jobs in memory are of no use to others, and are served
    whatever their queue."""


@dataclass(slots=True, kw_only=True)
class JobifyConfiguration:
    """The parts of an app."""

    app: Any
    tz: ZoneInfo
    dumper: Dumper
    loader: Loader
    storage: Storage
    getloop: LoopFactory
    serializer: Serializer
    worker_pools: WorkerPools
    cron_factory: CronFactory
    uuid_generator: UUIDGenerator
    limits: Limits
    app_started: bool = False

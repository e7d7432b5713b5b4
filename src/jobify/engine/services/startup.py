"""What an app checks and logs when it starts: its settings, its child processes, stopped schedules, unknown tasks.

**The first lines of the log** name version, database, queues, tasks and slots. Two processes that do not meet (a worker
and a web app on different files, a worker of another queue, an app without the module of its tasks) look healthy each
on its own; their first lines, side by side, show the difference. A worker writes a block of short lines, an embedded
app one line at INFO. Both come before the database is opened, so that they are there if that fails or takes long.

**Stopped schedules** are named after each start, because nothing else shows that they have no runs any more: the
process that stops a schedule logs it at that moment only, and a deploy is watched at its start.

**Unknown tasks** are found by counting all unfinished jobs. Among hundreds of thousands that takes a good part of a
second, so it happens after the start, on a thread that is not the storage's own, and a shutdown does not wait for it.
"""

from __future__ import annotations

import logging
import platform
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final, NamedTuple

from jobify.config import JobifyConfiguration
from jobify.engine.service import Service
from jobify.exceptions import ProcessDiedError, ProcessStartError, shown
from jobify.gateway.backend import Backend
from jobify.gateway.notification import STATE_CHANGED
from jobify.model.clock import to_datetime
from jobify.model.cron import is_stopped
from jobify.model.records import JobQuery
from jobify.model.status import ACTIVE, FAILURES
from jobify.model.task_options import RunMode
from jobify.router.registry import Endpoint, Registry, endpoints_of
from jobify.runners.base import FunctionCall, Runner
from jobify.runtime.logs import get_logger
from jobify.storage.location import location_of
from jobify.types import Microseconds

__all__ = ("StartReport", "StoppedSchedules", "UnknownTasks", "announce", "check_children", "define_limits")

log = get_logger("jobify.engine")

_WIDTH: Final = 72
"""Columns of a line of the block, which a worker indents by eight. A path is never cut."""
_MOST_LINES: Final = 4
"""Lines for the names of tasks, or of queues."""
_SLOTS: Final = {RunMode.MAIN: "async", RunMode.THREAD: "threads", RunMode.PROCESS: "child processes"}


class StartReport(NamedTuple):
    """The settings of an app that is about to start, as text."""

    version: str
    database: str
    queues: tuple[str, ...] | None
    """The queues that are served; None means every queue."""
    unnamed: tuple[str, ...]
    """Those among them that no task of the app names."""
    tasks: tuple[str, ...]
    slots: Mapping[RunMode, int]

    def block(self, app: str, grace: float) -> str:
        """One fact a line, for a worker of the app with this name, which gives running jobs ``grace`` seconds."""
        facts = (
            ("version", f"{self.version} (Python {platform.python_version()})"),
            ("app", app),
            ("database", self.database),
            ("queues", self._queues_in_words()),
            ("tasks", f"{len(self.tasks)}: {', '.join(self.tasks)}" if self.tasks else "none"),
            ("slots", self._slots_in_words()),
            ("grace", f"{grace:g} s"),
        )
        return "\n".join(line for name, value in facts for line in _fact(name, value, is_whole=name == "database"))

    def line(self) -> str:
        """The same, as one line, without the name and the grace period."""
        return (
            f"database {self.database}, queues {self._queues_in_words()}, {len(self.tasks)} tasks, slots "
            f"{self._slots_in_words()}, version {self.version}"
        )

    def fields(self) -> dict[str, object]:
        """Attributes for the log record."""
        return {
            "version": self.version,
            "database": self.database,
            "queues": self._queues_in_words(),
            "tasks": len(self.tasks),
            "slots": self._slots_in_words(),
        }

    def _queues_in_words(self) -> str:
        if self.queues is None:
            return "all"
        return ", ".join(f"{name} (no task names it)" if name in self.unnamed else name for name in self.queues)

    def _slots_in_words(self) -> str:
        return ", ".join(f"{count} {_SLOTS[mode]}" for mode, count in self.slots.items())


def announce(config: JobifyConfiguration, registry: Registry, runners: Mapping[RunMode, Runner]) -> None:
    """Log the settings of an app that is about to start, and warn if it has no tasks."""
    on_starting = config.limits.on_starting
    if on_starting is not None:
        on_starting(_report(config, registry, runners))
    elif log.isEnabledFor(logging.INFO):
        report = _report(config, registry, runners)
        log.info("The app starts: %s.", report.line(), extra=report.fields())
    if not registry and config.storage.is_shared:
        log.warning(
            "The app has no tasks, so it runs no job. Import the modules that declare them where the app is made, and "
            "include their routers."
        )


def _report(config: JobifyConfiguration, registry: Registry, runners: Mapping[RunMode, Runner]) -> StartReport:
    queues = config.limits.queues
    named = {endpoint.queue for endpoint in registry.values()}
    return StartReport(
        version=sys.modules["jobify"].__version__,  # the package, which imports all of this
        database=location_of(config.storage),
        queues=queues,
        unnamed=tuple(name for name in queues or () if name not in named),
        tasks=tuple(dict.fromkeys(endpoint.name for endpoint in registry.values())),
        slots={mode: runner.slots for mode, runner in runners.items()},
    )


def _fact(name: str, value: str, *, is_whole: bool) -> Iterable[str]:
    head = f"{name:<10}"
    if is_whole:
        return (head + value,)
    return textwrap.wrap(
        value,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
        max_lines=_MOST_LINES,
        placeholder=" …",
    ) or (head,)


_STOPPED = JobQuery(statuses=FAILURES, is_schedule=True, is_dead=True, has_values=False, limit=100)


class StoppedSchedules(Service):
    """Warns of stopped schedules of the app's tasks, up to a hundred."""

    def __init__(self, backend: Backend, registry: Registry) -> None:
        super().__init__()
        self._backend = backend
        self._tasks = tuple(registry)

    async def run(self) -> None:
        query = _STOPPED._replace(tasks=self._tasks)
        for record in filter(is_stopped, await self._backend.read_long(partial(self._backend.storage.find, query))):
            log.warning(
                "Schedule %s (%s) is stopped since %s: %s. Revive it with `jobify schedules resume %s` when the cause "
                "is mended.",
                record.id,
                record.task,
                to_datetime(record.finished_at or 0).isoformat(timespec="seconds"),
                record.error,
                record.id,
            )


_UNFINISHED = JobQuery(statuses=ACTIVE)


class UnknownTasks(Service):
    """Warns of unfinished jobs whose task this app does not know. They are kept for an app that knows it."""

    def __init__(self, backend: Backend, registry: Registry) -> None:
        super().__init__()
        self._backend = backend
        self._registry = registry

    async def run(self) -> None:
        found = await self._backend.read_long(partial(self._backend.storage.count, _UNFINISHED))
        unknown: Counter[str] = Counter()
        for key, count in found.items():
            if key.task not in self._registry:
                unknown[key.task] += count
        for task, count in sorted(unknown.items()):
            log.warning(
                "The database holds %d unfinished jobs of task %r, which this app does not have. They are kept, and "
                "wait for an app that has it.",
                count,
                task,
            )


async def define_limits(backend: Backend, endpoints: Iterable[Endpoint], now: Microseconds) -> None:
    """Store the limits of these tasks, which hold for all processes from now on."""
    limits = {name: endpoint.limits for endpoint in endpoints for name in endpoint.names}
    await backend.gate.call(partial(backend.storage.define_limits, limits, now=now))
    if any(limits.values()):
        backend.gate.notify(STATE_CHANGED)


async def check_children(runner: Runner | None, registry: Registry, queues: tuple[str, ...] | None) -> None:
    """Start a child process and have it import all functions that run in one; ProcessStartError if it cannot.

    No child is started if none of the served queues is the queue of such a task.
    """
    served = [each for each in endpoints_of(registry) if queues is None or each.queue in queues]
    addresses = tuple(endpoint.address for endpoint in served if endpoint.address is not None)
    if runner is not None and any(endpoint.run_mode is RunMode.PROCESS for endpoint in served):
        from jobify.runners import child  # brings multiprocessing along

        try:
            await runner.run(FunctionCall(child.check, (addresses,)))
        except Exception as error:
            code = error.exit_code if isinstance(error, ProcessDiedError) else None
            raise ProcessStartError(
                code,
                "A child process cannot run the tasks with RunMode.PROCESS, so nothing was claimed: "
                f"{type(error).__name__}: {shown(error).rstrip('.')}. Child processes import these tasks' modules "
                "again; see that this works in a process where the app does not run.",
            ) from error

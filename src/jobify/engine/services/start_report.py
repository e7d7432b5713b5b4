"""What the log says when an app starts: version, database, queues, tasks, slots.

Two processes that do not meet (a worker and a web app on different files, a worker of another queue, an app without the
module of its tasks) look healthy each on its own. Their first lines of log, side by side, show the difference.

A worker writes a block of short lines, an embedded app one line at INFO. Both come before the database is opened, so
that they are there if that fails or takes long.
"""

from __future__ import annotations

import logging
import platform
import sys
import textwrap
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from jobify.config import JobifyConfiguration
from jobify.model.task_options import RunMode
from jobify.router.registry import Registry
from jobify.runners.base import Runner
from jobify.runtime.logs import get_logger
from jobify.storage.location import location_of

__all__ = ("StartReport", "announce")

log = get_logger("jobify.engine")

_WIDTH: Final = 72
"""Columns of a line of the block, which a worker indents by eight. A path is never cut."""
_MOST_LINES: Final = 4
"""Lines for the names of tasks, or of queues."""
_SLOTS: Final = {RunMode.MAIN: "async", RunMode.THREAD: "threads", RunMode.PROCESS: "child processes"}


class StartReport(NamedTuple):
    """An app that is about to start, as text."""

    version: str
    database: str
    queues: tuple[str, ...] | None
    """The queues that are served; None: every queue."""
    unnamed: tuple[str, ...]
    """Those among them that no task of the app names."""
    tasks: tuple[str, ...]
    slots: Mapping[RunMode, int]

    def block(self, app: str, grace: float) -> str:
        """Facts, one a line, of the worker of the app with this name, which gives running jobs ``grace`` seconds."""
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
    """Write the first lines of an app that is about to start; warn of one that cannot run any job."""
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

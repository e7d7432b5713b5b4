"""Tasks by name: what the client needs to know to enqueue jobs of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import Signature
from typing import Any

from jobify.exceptions import ConfigurationError
from jobify.jobs.call_rules import CallRules
from jobify.model.limit_gates import LimitDefinition
from jobify.model.limit_keys import KeyReader
from jobify.model.task_options import DEFAULT_QUEUE
from jobify.router.registry import Endpoint, Registry
from jobify.serializers.codec import UNTYPED, ParameterTypes

__all__ = ("ResolvedTask", "TaskResolver")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedTask:
    """A task that jobs are enqueued for; its ``endpoint`` is None where its code is not in this process."""

    name: str
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    check: Callable[..., object] | None = None
    """Raises TypeError for arguments that do not fit; None: they are checked where the job runs."""
    types: ParameterTypes = UNTYPED
    result_type: Any = Any
    endpoint: Endpoint | None = None
    aliases: tuple[str, ...] = ()
    """Earlier names that jobs of the task may be stored under."""
    has_outer: bool = False
    """Whether outer middleware runs around its calls."""
    limits: tuple[LimitDefinition, ...] = ()
    takes_places: bool = False
    """Whether its jobs stand in a line of a limit from their insert on."""
    needs_steps: bool = False
    """Whether more than an insert is needed to store a job."""
    limit_keys: KeyReader | None = None
    rules: CallRules
    """What becomes of calls that meet an earlier job."""


class TaskResolver:
    """Finds tasks. ``build()`` resolves those of the app, ``is_durable()`` says whether its storage outlives it."""

    def __init__(self, build: Callable[[], Registry], is_durable: Callable[[], bool]) -> None:
        self._build = build
        self._is_durable = is_durable
        self._targets: dict[str, ResolvedTask] = {}
        self._registry: Registry | None = None

    def forget(self) -> None:
        """The app's configuration is about to change."""
        self._registry = None
        self._targets = {}

    def of(self, name: str) -> ResolvedTask:
        """The task of this name. ConfigurationError if its jobs cannot be enqueued."""
        task = self._targets.get(name)
        if task is None:
            task = self._targets[name] = self._resolve(name)
        return task

    def result_type(self, name: str) -> Any:
        """The annotation of what the task returns; Any where it is not known."""
        return self.known(name).result_type

    def known(self, name: str) -> ResolvedTask:
        """:meth:`of`, for looking only."""
        endpoint = self.all().get(name)
        return _unknown(name) if endpoint is None else _target(endpoint)

    def names(self, name: str) -> tuple[str, ...]:
        """The names that jobs of the task may be stored under."""
        task = self.known(name)
        return (task.name, *task.aliases)

    def all(self) -> Registry:
        """The tasks of the app."""
        if self._registry is None:
            self._registry = self._build()
        return self._registry

    def _resolve(self, name: str) -> ResolvedTask:
        task = self.known(name)
        if task.endpoint is not None and not task.endpoint.is_durable and self._is_durable():
            raise ConfigurationError(
                f"Task {name!r} is durable=False: its jobs live in the memory of the app that pushes them, and no "
                "other process would find them. Use push() or schedule(), or remove durable=False."
            )
        return task


def _unknown(name: str) -> ResolvedTask:
    return ResolvedTask(name=name, rules=CallRules((name,), Signature()))


def _target(endpoint: Endpoint) -> ResolvedTask:
    return ResolvedTask(
        name=endpoint.name,
        queue=endpoint.options.get("queue", DEFAULT_QUEUE),
        priority=endpoint.options.get("priority", 0),
        check=endpoint.spec.check,
        types=endpoint.types,
        result_type=endpoint.spec.result_type,
        endpoint=endpoint,
        aliases=endpoint.aliases,
        has_outer=bool(endpoint.outer),
        limits=endpoint.limits,
        takes_places=endpoint.takes_places,
        needs_steps=endpoint.needs_steps,
        limit_keys=endpoint.limit_keys,
        rules=endpoint.rules,
    )

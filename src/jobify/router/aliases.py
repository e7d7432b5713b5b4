"""Earlier names of tasks: which stored name means which task.

A task keeps the jobs that are stored under a name which it had before, when that name is among its ``aliases``. An
alias is read like a name: with the prefixes of its router in front of it. It also means the name as it stands, for a
task that was moved into the router since; unless another task claims that name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jobify.exceptions import RouteAlreadyRegisteredError

__all__ = ("NamedTask", "resolve_aliases")


class NamedTask(NamedTuple):
    """A task by its final name, with its aliases: as they are written, and with the prefixes of its router."""

    name: str
    aliases: Sequence[str] = ()
    prefixed: Sequence[str] = ()


def resolve_aliases(tasks: Iterable[NamedTask]) -> dict[str, str]:
    """The name of the task by each stored name that is an alias of it.

    RouteAlreadyRegisteredError if an alias is the name, or an alias, of another task.
    """
    tasks = list(tasks)
    if not any(task.aliases for task in tasks):
        return {}
    names = {task.name for task in tasks}
    found: dict[str, str] = {}
    for task in tasks:
        for alias in task.prefixed:
            if alias == task.name:
                continue
            if alias in names or found.get(alias, task.name) != task.name:
                raise _conflict(alias, task.name, found.get(alias))
            found[alias] = task.name
    claimed = Counter(alias for task in tasks for alias in set(task.aliases))
    for task in tasks:
        for alias in task.aliases:
            if alias not in names and claimed[alias] == 1:
                found.setdefault(alias, task.name)
    return found


def _conflict(alias: str, task: str, other: str | None) -> RouteAlreadyRegisteredError:
    """``other`` is the task that has the alias, too; None: a task has it for its name."""
    both = f"the tasks {task!r} and {other!r}" if other is not None else f"the task {task!r}, too"
    return RouteAlreadyRegisteredError(
        alias,
        f"It is an alias of {both}, so jobs that are stored under it could be of either: remove the alias.",
    )

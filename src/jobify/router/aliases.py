"""Earlier names of tasks: the task that each stored name means.

A task keeps the jobs that were stored under an earlier name of it if that name is among its ``aliases``. An alias is
read like a name, with the prefixes of its router in front. It also means the name without prefixes, for a task that was
moved into the router later, unless another task claims that name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from jobify.exceptions import RouteAlreadyRegisteredError

if TYPE_CHECKING:
    from jobify.router.router import Router

__all__ = ("NamedTask", "aliases_below", "resolve_aliases")


class NamedTask(NamedTuple):
    """A task by its final name, with its aliases: as they are written, and with the prefixes of its router."""

    name: str
    aliases: Sequence[str] = ()
    prefixed: Sequence[str] = ()


def resolve_aliases(tasks: Iterable[NamedTask]) -> dict[str, str]:
    """Map each stored name that is an alias to the name of its task.

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


def aliases_below(router: Router) -> dict[str, str]:
    """Map each earlier name of the tasks of ``router`` and its sub-routers to the final name of the task.

    RouteAlreadyRegisteredError if two tasks claim an earlier name.
    """
    return resolve_aliases(
        NamedTask(
            owner.full_name(key),
            aliases := route.options.get("aliases", ()),
            [owner.full_name(alias) for alias in aliases],
        )
        for owner in router.chain_tail
        for key, route in owner._routes.items()
    )


def _conflict(alias: str, task: str, other: str | None) -> RouteAlreadyRegisteredError:
    """The error. ``other`` is the other task with this alias; None means that the alias is the name of a task."""
    both = f"the tasks {task!r} and {other!r}" if other is not None else f"the task {task!r}, too"
    return RouteAlreadyRegisteredError(
        alias,
        f"It is an alias of {both}, so jobs that are stored under it could be of either: remove the alias.",
    )

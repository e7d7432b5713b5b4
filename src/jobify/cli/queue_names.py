"""Which names of queues mean something: a pause of a misspelt one would look as if it had worked."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobify.cli.session import Session

__all__ = ("known_queues", "unknown_queue")


def unknown_queue(name: str, known: frozenset[str]) -> str:
    """What there is to say about a name that is not among the known ones."""
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"{name}: no job is in such a queue, no worker names it, and it is not paused.{hint}"


def known_queues(session: Session) -> frozenset[str]:
    """The queues that have jobs, are paused, or are named by a living worker or by a task of the app.

    A worker that serves every queue names none: it would serve a misspelt one, too.
    """
    from jobify.model.task_options import DEFAULT_QUEUE

    declared = {route.options.get("queue", DEFAULT_QUEUE) for _, route in session.app.walk()}
    return frozenset(queue.name for queue in session.app.queues()) | declared

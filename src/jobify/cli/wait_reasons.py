"""The notes of jobs and queues, as the commands show them; see :mod:`jobify.client.wait_reasons`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobify.client.views import UnservedReason
from jobify.client.wait_reasons import UNSERVED_NOTES, ClusterState, stopped_note

if TYPE_CHECKING:
    from jobify.cli.session import Session
    from jobify.client.views import QueueView

__all__ = ("ClusterState", "queue_note", "read_cluster_state", "stopped_note")


def read_cluster_state(session: Session) -> ClusterState:
    """The cluster as it is now."""
    return ClusterState(session.app.workers(), session.queries.paused_queues(), session.app.now())


def queue_note(queue: QueueView) -> str:
    """What there is to say about a queue in a few words; empty: nothing."""
    if queue.is_paused:
        return "paused"
    if queue.problem:
        return UNSERVED_NOTES[UnservedReason.QUEUE_UNSERVED]
    return f"no worker knows {', '.join(queue.unknown_tasks)}" if queue.unknown_tasks and queue.workers else ""

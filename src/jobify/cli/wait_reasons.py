"""The notes of jobs and queues, as the commands show them; see :mod:`jobify.client.wait_reasons`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobify.client.views import Obstacle
from jobify.client.wait_reasons import OBSTACLES, ClusterState, stopped_note

if TYPE_CHECKING:
    from jobify.cli.session import Desk
    from jobify.client.views import QueueView

__all__ = ("Scene", "look_around", "queue_note", "stopped_note")

Scene = ClusterState


def look_around(desk: Desk) -> Scene:
    """The scene as it is now."""
    return Scene(desk.app.workers(), desk.board.paused_queues(), desk.app.now())


def queue_note(queue: QueueView) -> str:
    """What there is to say about a queue in a few words; empty: nothing."""
    if queue.is_paused:
        return "paused"
    if queue.problem:
        return OBSTACLES[Obstacle.QUEUE_UNSERVED]
    return f"no worker knows {', '.join(queue.unknown_tasks)}" if queue.unknown_tasks and queue.workers else ""

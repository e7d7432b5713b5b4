"""``jobify queues …``: list, pause, resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from jobify.cli.options import App, Json, new_group

if TYPE_CHECKING:
    from jobify.cli.desk import Desk
    from jobify.cli.notes import Scene

__all__ = ("QueueState", "queue_states", "queues")

queues = new_group("List, pause and resume queues.")
Names = Annotated[list[str], typer.Argument(metavar="QUEUE", help="Names of queues.", show_default=False)]


class QueueState(NamedTuple):
    """A queue: what is in it, by word; and what keeps it from being served."""

    name: str
    counts: Mapping[str, int]
    workers: int
    is_paused: bool
    note: str

    def document(self) -> dict[str, Any]:
        """For a script."""
        return {
            "queue": self.name,
            **self.counts,
            "workers": self.workers,
            "is_paused": self.is_paused,
            "note": self.note,
        }


def queue_states(desk: Desk, scene: Scene) -> list[QueueState]:
    """All queues that have jobs, are served by name, or are paused; in order of name."""
    from jobify.records import JobQuery
    from jobify.words import counts_by_word

    counts = desk.storage.count(JobQuery())
    served = {name for one in scene.workers for name in one.profile.queues or ()}
    names = {key.queue for key in counts} | served | scene.paused
    return [
        _state(name, counts_by_word({key: n for key, n in counts.items() if key.queue == name}), scene)
        for name in sorted(names)
    ]


def _state(name: str, counts: Mapping[str, int], scene: Scene) -> QueueState:
    serving, is_paused = len(scene.serves(name)), name in scene.paused
    is_stuck = not serving and (counts["pending"] > 0)
    note = "paused" if is_paused else "no worker serves this queue" if is_stuck else ""
    return QueueState(name, counts, serving, is_paused, note)


@queues.command("list")
def list_queues(app: App = None, as_json: Json = False) -> None:
    """List all queues."""
    from jobify.cli.desk import open_desk
    from jobify.cli.notes import look_around
    from jobify.cli.output import Column, print_document, print_table
    from jobify.words import WORDS

    with open_desk(app) as desk:
        states = queue_states(desk, look_around(desk))
    if as_json:
        print_document({"queues": [state.document() for state in states]})
        return
    columns = (
        Column("QUEUE"),
        *(Column(word.upper(), is_number=True, from_width=0 if word in _SHORT else 100) for word in WORDS),
        Column("WORKERS", is_number=True),
        Column("NOTE", style="yellow", is_rest=True),
    )
    rows = [(state.name, *(state.counts[word] for word in WORDS), state.workers, state.note) for state in states]
    print_table(columns, rows, nothing="No queues.")


_SHORT = ("pending", "running", "failed", "dead")


@queues.command("pause")
def pause(names: Names, app: App = None) -> None:
    """Start no more jobs of these queues, in any worker, until resume. What runs goes on."""
    from jobify.cli.desk import open_desk

    with open_desk(app) as desk:
        for name in names:
            desk.storage.pause_queue(name)
            print(f"{name}\tpaused")
        desk.ring()


@queues.command("resume")
def resume(names: Names, app: App = None) -> None:
    """Undo pause."""
    from jobify.cli.desk import open_desk

    with open_desk(app) as desk:
        for name in names:
            desk.storage.resume_queue(name)
            print(f"{name}\tresumed")
        desk.ring()

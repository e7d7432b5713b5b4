"""``jobify queues …``: list, pause, resume."""

from __future__ import annotations

from typing import Annotated

import typer

from jobify.cli.options import App, Json, new_group

__all__ = ("queues",)

queues = new_group("List, pause and resume queues.")
Names = Annotated[list[str], typer.Argument(metavar="QUEUE", help="Names of queues.", show_default=False)]


@queues.command("list")
def list_queues(app: App = None, as_json: Json = False) -> None:
    """List all queues."""
    from jobify.cli.desk import open_desk
    from jobify.cli.notes import queue_note
    from jobify.cli.output import Column, print_document, print_table
    from jobify.cli.records import queue_document
    from jobify.words import WORDS

    with open_desk(app) as desk:
        found = desk.app.queues()
    if as_json:
        print_document({"queues": [queue_document(queue) for queue in found]})
        return
    columns = (
        Column("QUEUE"),
        *(Column(word.upper(), is_number=True, from_width=0 if word in _SHORT else 100) for word in WORDS),
        Column("WORKERS", is_number=True),
        Column("NOTE", style="yellow", is_rest=True),
    )
    rows = [(queue.name, *(queue.counts[word] for word in WORDS), queue.workers, queue_note(queue)) for queue in found]
    print_table(columns, rows, nothing="No queues.")


_SHORT = ("pending", "running", "failed", "dead")


@queues.command("pause")
def pause(names: Names, app: App = None) -> None:
    """Start no more jobs of these queues, in any worker, until resume. What runs goes on."""
    from jobify.cli.desk import open_desk

    with open_desk(app) as desk:
        for name in names:
            desk.app.pause_queue(name)
            print(f"{name}\tpaused")


@queues.command("resume")
def resume(names: Names, app: App = None) -> None:
    """Undo pause."""
    from jobify.cli.desk import open_desk

    with open_desk(app) as desk:
        for name in names:
            desk.app.resume_queue(name)
            print(f"{name}\tresumed")

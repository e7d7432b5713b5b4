"""``jobify worker``: this process becomes a worker, or the supervisor of several."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from jobify.cli.options import APP, for_code

if TYPE_CHECKING:
    from jobify.cli.worker import Orders

__all__ = ("worker",)


@for_code
def worker(
    app: str | None,
    path: Annotated[
        str | None, typer.Argument(metavar="APP", help="The app, as package.module:name.", show_default=False)
    ] = None,
    queues: Annotated[
        str | None,
        typer.Option("--queues", "-q", metavar="A,B", help="Serve only these queues; without it, every one."),
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", "-p", metavar="N", min=1, help="So many worker processes.")
    ] = 1,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            "-c",
            metavar="N",
            min=1,
            help="Jobs at once in each process, of each kind (async, thread, process).",
        ),
    ] = None,
    grace: Annotated[
        float | None,
        typer.Option(
            "--grace",
            metavar="SECONDS",
            min=0,
            help="What running jobs get to finish at a stop; without it, the app's grace, or 30.",
            show_default=False,
        ),
    ] = None,
    log_level: Annotated[
        str, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
    ] = "info",
) -> None:
    """Run jobs until told to stop.

    SIGTERM, SIGHUP or Ctrl-C: nothing more is started, what runs has the grace period to finish, the rest is given back
    without a lost attempt. A second signal, a second later or more, ends the grace period.
    """
    from jobify.cli.errors import CommandError
    from jobify.cli.worker import Orders
    from jobify.exits import ExitCode

    name = path or app or os.environ.get(APP)
    if not name:
        raise CommandError(f"No app is named: jobify worker package.module:app, or set {APP}.", ExitCode.USAGE)
    orders = Orders(name, _names(queues), concurrency, grace, _level(log_level))
    raise typer.Exit(_supervise(orders, processes) if processes > 1 else _become(orders.command()))


def _supervise(orders: Orders, processes: int) -> int:
    from jobify.cli.worker import log_to_stderr
    from jobify.supervisor import Supervisor

    log_to_stderr(orders.log_level)
    return Supervisor(orders.command(), processes, grace=orders.grace).run()


def _become(command: list[str]) -> int:
    """Have another program go on in this process; its exit code, where that cannot be."""
    if sys.platform != "win32":  # pragma: no branch - there the process would end, and whoever waits for it go on
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(command[0], command)
    return subprocess.call(command)  # pragma: no cover - on Windows


def _names(text: str | None) -> tuple[str, ...] | None:
    """The names in a list with commas; None if there is no list."""
    if text is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise typer.BadParameter("Name a queue, or leave --queues out to serve every queue.")
    return names


def _level(text: str) -> str:
    if text.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise typer.BadParameter(f"{text!r}: write debug, info, warning or error.")
    return text.upper()

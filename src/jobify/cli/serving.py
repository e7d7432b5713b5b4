"""``jobify worker``: one worker process, or a supervisor with several."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from jobify.cli.options import App

if TYPE_CHECKING:
    from jobify.app import Jobify
    from jobify.leash import Leash

__all__ = ("worker",)

_FORMAT = "%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s"


class _Orders(NamedTuple):
    """What a worker process is to do."""

    app: str
    queues: tuple[str, ...] | None
    concurrency: int | None
    grace: float
    log_level: str

    def arguments(self) -> list[str]:
        """The same, for the command line of another process."""
        return [
            self.app,
            *(["--queues", ",".join(self.queues)] if self.queues is not None else []),
            *(["--concurrency", str(self.concurrency)] if self.concurrency is not None else []),
            *("--grace", str(self.grace), "--log-level", self.log_level),
        ]


def worker(
    path: Annotated[
        str | None, typer.Argument(metavar="APP", help="The app, as package.module:name.", show_default=False)
    ] = None,
    app: App = None,
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
        float, typer.Option("--grace", metavar="SECONDS", min=0, help="What running jobs get to finish at a stop.")
    ] = 30.0,
    log_level: Annotated[
        str, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
    ] = "info",
    leash: Annotated[int | None, typer.Option("--leash", hidden=True)] = None,
) -> None:
    """Run jobs until told to stop.

    SIGTERM or Ctrl-C: nothing more is started, what runs has the grace period to finish, the rest is given back without
    a lost attempt. A second signal ends the grace period.
    """
    import os

    from jobify.cli.errors import CommandError
    from jobify.cli.locate import VARIABLE
    from jobify.exits import ExitCode

    name = path or app or os.environ.get(VARIABLE)
    if not name:
        raise CommandError(f"No app is named: jobify worker package.module:app, or set {VARIABLE}.", ExitCode.USAGE)
    orders = _Orders(name, _names(queues), concurrency, grace, _level(log_level))
    code = _supervise(orders, processes) if processes > 1 else _work(orders, leash)
    raise typer.Exit(code)


def _supervise(orders: _Orders, processes: int) -> int:
    from jobify.supervisor import Supervisor, worker_command

    _log_to_stderr(orders.log_level)
    return Supervisor(worker_command(orders.arguments()), processes, grace=orders.grace).run()


def _work(orders: _Orders, descriptor: int | None) -> int:
    from jobify.leash import Leash

    leash = None if descriptor is None else Leash(descriptor)  # first of all: an import may hang
    from jobify.cli.locate import load_app

    app = load_app(orders.app)
    _log_to_stderr(orders.log_level)
    return _run(app, orders, leash)


def _run(app: Jobify, orders: _Orders, leash: Leash | None) -> int:
    import asyncio

    from jobify.worker import Worker, prepare

    prepare(app, queues=orders.queues, concurrency=orders.concurrency)

    async def main() -> int:
        return await Worker(app, grace=orders.grace, leash=leash).run()

    return asyncio.run(main())


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


def _log_to_stderr(level: str) -> None:
    """Unless the app has arranged its logging itself."""
    if not logging.getLogger().handlers:
        logging.basicConfig(format=_FORMAT, level=level)

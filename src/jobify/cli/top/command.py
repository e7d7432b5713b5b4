"""``jobify top``: the loop that reads, draws and waits for a key, and the mode of the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from jobify.cli.options import Source, for_jobs

if TYPE_CHECKING:
    from jobify.cli.session import Session

__all__ = ("top",)

_KEY_INTERVAL: Final = 0.2
"""Seconds between two checks of the keyboard and of the size of the terminal."""
_SHARE: Final = 5
"""A pause is at least this many times as long as the snapshot took, so that top causes little load."""


@for_jobs
def top(
    source: Source,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.1, help="Time between two refreshes.")
    ] = 1.0,
) -> None:
    """Watch queues, workers, running jobs, and limits that hold jobs back. q or Ctrl-C ends it."""
    import sys

    from jobify.cli.errors import CommandError
    from jobify.cli.session import open_session
    from jobify.worker.exit_codes import ExitCode

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CommandError("top needs a terminal. For a script: jobify stats --json", ExitCode.USAGE)
    with open_session(source) as session, _raw_terminal():
        try:
            _watch(session, every)
        except KeyboardInterrupt:
            return


def _watch(session: Session, every: float) -> None:
    from rich.console import Console, Group
    from rich.live import Live

    from jobify.cli.top.screen import Throughput, draw, take_snapshot

    console, throughput = Console(), Throughput()
    name = repr(session.app.configs.storage)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            begun = time.monotonic()
            snapshot = take_snapshot(session)
            throughput.record(snapshot)
            until = begun + max(every, _SHARE * (time.monotonic() - begun))
            size = None
            while time.monotonic() < until:
                if size != (size := console.size):
                    lines = draw(snapshot, throughput.rates(), name=name, width=size.width, height=size.height)
                    live.update(Group(*lines), refresh=True)
                if _read_key(min(_KEY_INTERVAL, max(0.0, until - time.monotonic()))) in ("q", "Q", "\x04"):
                    return


def _read_key(timeout: float) -> str:
    """The key that is pressed within ``timeout`` seconds; empty if there is none."""
    import os
    import select
    import sys

    readable, _, _ = select.select([sys.stdin], [], [], timeout)
    return os.read(sys.stdin.fileno(), 1).decode("ascii", "replace") if readable else ""


@contextmanager
def _raw_terminal() -> Iterator[None]:
    """Read keys one by one without echo. The mode is restored at the end, also after SIGTERM."""
    import signal
    import sys
    import termios
    import tty

    def leave(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before, handler = termios.tcgetattr(sys.stdin), signal.signal(signal.SIGTERM, leave)
    try:
        tty.setcbreak(sys.stdin.fileno())
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, handler)

"""`jobify top` on a terminal: it draws, follows the size, and ends clean."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from cli_shop import Shop
from jobify.model.limit_gates import LimitDefinition
from jobify.model.records import ClaimRequest, TaskSlots
from support import until

LEAVE = "\x1b[?1049l"


class Terminal:
    """``jobify top`` in a terminal of its own."""

    def __init__(self, *, columns: int) -> None:
        self._ours, self._theirs = pty.openpty()
        os.set_blocking(self._ours, False)
        self.resize(columns)
        self.before = termios.tcgetattr(self._theirs)
        without_size = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jobify", "top", "--every", "0.1"],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            env={**without_size, "TERM": "xterm-256color"},
        )
        self.shown = ""

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def until(self, text: str) -> None:
        """Return when it is drawn, from now on."""
        self.shown = ""
        try:
            until(lambda: text in self._read(), text)
        except AssertionError:
            raise AssertionError(f"{self.process.poll()}: no {text!r} in {self.shown[-3000:]!r}") from None

    def _read(self) -> str:
        with suppress(BlockingIOError):
            self.shown += os.read(self._ours, 65536).decode(errors="replace")
        return self.shown

    def type(self, key: bytes) -> None:
        os.write(self._ours, key)

    def is_as_before(self) -> bool:
        """The terminal echoes again, and its screen is the old one."""
        return termios.tcgetattr(self._theirs) == self.before and LEAVE in self._read()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


@pytest.fixture
def terminal(shop: Shop) -> Iterator[Terminal]:
    shop.running(shop.worker(), task="pack")
    opened = Terminal(columns=80)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "end",
    [
        lambda terminal: terminal.type(b"q"),
        lambda terminal: terminal.process.send_signal(signal.SIGINT),
        lambda terminal: terminal.process.send_signal(signal.SIGTERM),
    ],
    ids=["q", "ctrl-c", "sigterm"],
)
def test_it_draws_and_leaves_the_terminal_as_it_was(terminal: Terminal, end: Callable[[Terminal], None]) -> None:
    terminal.until("RUNNING TASK")
    end(terminal)
    assert terminal.process.wait(timeout=30) == 0
    assert terminal.is_as_before()


def test_it_follows_the_size_of_the_terminal(terminal: Terminal) -> None:
    terminal.until("RUNNING TASK")
    terminal.resize(130)
    terminal.until("ID")
    terminal.type(b"q")
    assert terminal.process.wait(timeout=30) == 0


def test_it_shows_limits_that_hold_jobs_back(shop: Shop, terminal: Terminal) -> None:
    shop.storage.define_limits({"pack": [LimitDefinition("boxes", "concurrency", 0)]})
    shop.add()
    shop.storage.claim(ClaimRequest(shop.worker("pack"), (TaskSlots(("pack",), 9),)), now=shop.now)
    terminal.until("limit boxes 0/0, 1 waiting")

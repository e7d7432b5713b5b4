"""How a child answers signals; that it ends with its parent is seen in tests/crash."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from jobify.runners import parent_death


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """The process groups that were killed, and how; no handler stays behind."""
    groups: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "killpg", lambda group, number: groups.append((group, number)))
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield groups
    signal.signal(signal.SIGINT, before[0])
    signal.signal(signal.SIGTERM, before[1])


def test_while_the_parent_lives_signals_mean_nothing(killed: list[tuple[int, int]]) -> None:
    parent_death.leave_signals_to(os.getppid())
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    assert not killed


def test_an_orphan_ends_with_all_that_it_started(killed: list[tuple[int, int]]) -> None:
    parent_death.leave_signals_to(-1)
    signal.raise_signal(signal.SIGINT)
    assert not killed
    signal.raise_signal(signal.SIGTERM)
    assert killed == [(os.getpgrp(), signal.SIGKILL)]


def test_elsewhere_than_on_linux_the_kernel_is_not_asked(
    killed: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    parent_death.bind_to_parent(-1, os.getppid())
    assert not killed

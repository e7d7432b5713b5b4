"""What every commit asks of the log is asked without a stat, after which the next flush takes longer."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobify.storage import SQLiteStorage
from jobify.storage.sqlite.log_length import LogLength
from jobify.testing.storage_contract.given import job

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is a stat")


def test_no_commit_asks_for_the_times_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = SQLiteStorage(tmp_path / "jobs.db")
    storage.open()
    storage.insert([job("a")])
    time.sleep(0.15)
    storage.insert([job("b")])  # a look, after which the folder is known to have been left alone
    log = (tmp_path / "jobs.db-wal").stat().st_ino
    asked = []

    def recorded(ask: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def record(*args: Any) -> os.stat_result:
            found = ask(*args)
            asked.append(found.st_ino)
            return found

        return record

    monkeypatch.setattr(os, "stat", recorded(os.stat))
    monkeypatch.setattr(os, "fstat", recorded(os.fstat))
    storage.insert([job("c")])
    time.sleep(0.15)
    storage.insert([job("d")])  # with a look
    monkeypatch.undo()
    assert asked, "the files are not compared"
    assert log not in asked
    storage.close()


def test_a_hole_is_found(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 65_536)
    with path.open("r+b") as file:
        length = LogLength()
        length.open(file.fileno())
        assert length.measure(file.fileno()) == (65_536, True)
        os.ftruncate(file.fileno(), 16_384)
        os.pwrite(file.fileno(), b"y" * 4096, 32_768)
        assert length.measure(file.fileno()) == (36_864, False)
        assert file.tell() == 0
        length.close()


def test_it_is_known_without_a_descriptor_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 65_536)
    with path.open("rb") as file:
        assert LogLength().measure(file.fileno()) == (65_536, True)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    def number() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = number()
    storage = SQLiteStorage(tmp_path / "jobs.db")
    storage.open()
    storage.insert([job("a")])
    assert number() > before
    storage.close()
    assert number() == before

"""A worker that the system refuses is started again."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from jobify.worker.supervisor import WorkerSlot


@pytest.mark.promise("f5")
def test_a_supervisor_tries_again_where_the_system_refuses_a_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slot = WorkerSlot([sys.executable, "-c", "pass"])
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    def refuse(*_: Any, **options: Any) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", refuse)
        for now in (10.0, 11.0):
            slot.restart(now)
            assert (slot.process, slot.socket, slot.start_at) == (None, None, now + 1.0)
    assert len([record for record in caplog.records if "cannot be started" in record.getMessage()]) == 1
    assert "RLIMIT_NPROC" in caplog.text
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    slot.restart(12.0)
    assert slot.process is not None
    assert slot.socket is not None
    slot.process.wait()
    slot.socket.close()
    assert "Workers can be started again after 2 failures" in caplog.text


@pytest.mark.promise("f5")
def test_what_is_no_refusal_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    slot = WorkerSlot(["/no/such/program"])
    with pytest.raises(FileNotFoundError):
        slot.restart(1.0)
    assert slot.socket is None

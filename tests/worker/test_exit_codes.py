"""How a process has ended, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobify.runtime.machine import OutOfMemory
from jobify.runtime.signals import describe_exit

pytestmark = pytest.mark.promise("f2")


def test_an_end_in_words() -> None:
    assert [describe_exit(code) for code in (0, 3, -15, -9, -99)] == [
        "exit code 0",
        "exit code 3",
        "SIGTERM",
        "SIGKILL",
        "signal 99",
    ]
    assert describe_exit(-9, kill_cause="out of memory") == "SIGKILL (out of memory)"
    assert describe_exit(-15, kill_cause="out of memory") == "SIGTERM"


@pytest.mark.parametrize(
    ("membership", "file"),
    [
        ("0::/a/b\n", "a/b/memory.events"),
        ("0::/of/another/namespace\n", "memory.events"),
        ("3:cpu:/x\n4:memory:/y\n", "memory/y/memory.oom_control"),
    ],
)
def test_the_kernel_says_that_memory_was_out(tmp_path: Path, membership: str, file: str) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(membership)
    events = tmp_path / "sys/fs/cgroup" / file
    events.parent.mkdir(parents=True, exist_ok=True)
    events.write_text("low 0\noom 2\noom_kill 1\n")
    memory = OutOfMemory(tmp_path)
    assert not memory.has_killed()
    events.write_text("low 0\noom 3\noom_kill 2\n")
    assert memory.has_killed()
    assert not memory.has_killed()
    events.unlink()
    assert not memory.has_killed()


def test_a_system_that_says_nothing_has_killed_nobody(tmp_path: Path) -> None:
    assert not OutOfMemory(tmp_path).has_killed()

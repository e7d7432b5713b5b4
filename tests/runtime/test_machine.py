"""How many processors a process may use, in containers of both versions of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobify.runtime import machine as process_limits
from jobify.runtime.machine import available_cpus

pytestmark = pytest.mark.promise("f27")


def machine(root: Path, cgroup: str, **files: str) -> Path:
    """A tree of files as a kernel shows it; ``__`` stands for a slash, and all are below the control groups."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("_DOT_", ".").replace("_COMMA_", ",")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(autouse=True)
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_limits, "_allowed", lambda: 16)


@pytest.mark.parametrize(
    ("quota", "count"),
    [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("max 100000", 16), ("9900000 100000", 16)],
)
def test_the_quota_of_a_container_decides(quota: str, count: int, tmp_path: Path) -> None:
    assert available_cpus(machine(tmp_path, "0::/\n", cpu_DOT_max=f"{quota}\n")) == count


def test_a_group_is_bound_by_those_above_it(tmp_path: Path) -> None:
    files = {
        "kube__pod__box__cpu_DOT_max": "max 100000",
        "kube__pod__cpu_DOT_max": "300000 100000",
        "kube__cpu_DOT_max": "800000 100000",
    }
    assert available_cpus(machine(tmp_path, "0::/kube/pod/box\n", **files)) == 3


def test_a_path_of_the_host_leads_to_the_mounted_group(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/host/only/there\n", cpu_DOT_max="400000 100000")
    assert available_cpus(root) == 4


@pytest.mark.parametrize(("quota", "count"), [("250000", 3), ("-1", 16)])
def test_version_1_is_understood(quota: str, count: int, tmp_path: Path) -> None:
    files = {
        "cpu_COMMA_cpuacct__docker__cpu_DOT_cfs_quota_us": quota,
        "cpu_COMMA_cpuacct__docker__cpu_DOT_cfs_period_us": "100000",
    }
    assert available_cpus(machine(tmp_path, "4:cpu,cpuacct:/docker\n3:memory:/docker\n0::/\n", **files)) == count


def test_without_control_groups_the_affinity_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert available_cpus(tmp_path) == len(os.sched_getaffinity(0))
    monkeypatch.setattr(os, "process_cpu_count", lambda: 5, raising=False)
    assert available_cpus(tmp_path) == 5
    monkeypatch.delattr(os, "process_cpu_count")
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cpus(tmp_path) == 1

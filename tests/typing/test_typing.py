"""Type checkers agree with the promises: the parameters of a task are checked, and its result has a type."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = ("scheduling.py", "queueing.py", "configuring.py", "transactions.py", "batches.py")
FILES = [str(Path(__file__).parent / name) for name in NAMES]
ROOT = Path(__file__).parents[2]


def check(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )


@pytest.mark.promise("f39")
@pytest.mark.timeout(240)
def test_mypy() -> None:
    done = check("mypy", "--strict", "--config-file=", "--cache-dir", "/dev/null", *FILES)
    assert done.returncode == 0, done.stdout


@pytest.mark.promise("f39")
@pytest.mark.timeout(240)
def test_basedpyright(tmp_path: Path) -> None:
    config = tmp_path / "pyrightconfig.json"
    rules = {"include": FILES, "typeCheckingMode": "strict", "reportUnnecessaryTypeIgnoreComment": "error"}
    config.write_text(json.dumps(rules))
    done = check("basedpyright", "--project", str(config), "--pythonpath", sys.executable)
    assert done.returncode == 0, done.stdout

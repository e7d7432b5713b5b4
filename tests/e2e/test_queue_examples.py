"""The examples of the queue side do what their first lines say, with a worker of their own."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from support import run, soon

EXAMPLES = Path(__file__).parents[2] / "examples"


@contextmanager
def worker_of(target: str, folder: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "jobify", "worker", target]
    worker = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        yield
    finally:
        worker.terminate()
        _, said = worker.communicate(timeout=60)
    assert worker.returncode == 0, said


def placed(name: str, folder: Path) -> Path:
    """A copy of an example, alone in a folder."""
    shutil.copy(EXAMPLES / name, folder)
    return folder / name


def test_a_script_waits_for_its_worker(tmp_path: Path) -> None:
    placed("script.py", tmp_path)
    with worker_of("script:app", tmp_path):
        command = [sys.executable, "script.py", "12", "0", "7"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["12: 9", "0: ValueError: 0 never gets to 1", "7: 16", "longest: 16"], (
        done.stderr
    )


def test_a_service_streams_the_progress_of_its_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placed("service.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    service = importlib.import_module("service")

    async def use() -> list[tuple[str, Any]]:
        transport = httpx.ASGITransport(app=service.web)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            assert (await client.get("/reports/nobody")).status_code == 404
            ordered = await client.post("/reports", params={"rows": 100})
            assert ordered.status_code == 202
            path = f"/reports/{ordered.json()['id']}"
            told = events_of((await soon(client.get(f"{path}/events"))).text)
            shown = (await client.get(path)).json()
            assert (shown["status"], shown["progress"]) == ("complete", 100)
            assert (await client.delete(path)).json() == {"cancelled": False}
            return told

    with worker_of("service:jobs", tmp_path):
        told = run(use())
    service.jobs.close()
    *parts, end = told
    assert [part["row"] for name, part in parts if name == "progress"] == list(range(10, 101, 10))
    assert end == ("end", {"status": "complete", "error": None})


def events_of(text: str) -> list[tuple[str, Any]]:
    """Names and data of server-sent events."""
    blocks = [block.splitlines() for block in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]

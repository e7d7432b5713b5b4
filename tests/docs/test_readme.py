"""The README's web service answers, and its jobs run."""

from __future__ import annotations

import asyncio
import runpy
from pathlib import Path
from typing import Any

import httpx
import pytest
from documents import ROOT, fenced


def test_the_web_service_stores_runs_and_shows_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [block for block in fenced(ROOT / "README.md") if block.title == "web.py"]
    (tmp_path / "web.py").write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    program = runpy.run_path("web.py")
    web, jobs = program["web"], program["jobs"]

    async def main() -> dict[str, Any]:
        transport = httpx.ASGITransport(app=web)
        async with (
            web.router.lifespan_context(web),
            httpx.AsyncClient(transport=transport, base_url="http://x") as client,
        ):
            answer = await client.post("/orders/7/invoice")
            assert answer.status_code == 202
            job = await jobs.aget_job(answer.json()["id"])
            assert await job.aresult(timeout=30) == "invoice for order 7"
            shown: dict[str, Any] = (await client.get(f"/jobs/{job.id}")).json()
            return shown

    shown = asyncio.run(main())
    assert (shown["status"], shown["task_name"]) == ("complete", "invoice")

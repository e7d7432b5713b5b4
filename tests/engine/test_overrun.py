"""A thread that goes on after its attempt timed out: its job stays in this process's hands until it ends."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jobify import Jobify, JobStatus, SmartRetry
from support import durable, eventually, run, soon


def test_its_job_has_one_handle_and_a_replacement_waits_for_it(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    go_on = threading.Event()
    runs: list[str] = []

    @app.task(name="slow", timeout=0.05, retry=SmartRetry(retries=1, initial_delay=0))
    def slow(word: str) -> str:
        runs.append(word)
        go_on.wait(20)
        return word

    async def main() -> None:
        async with app:
            job = await slow.schedule("old").push(job_id="it")
            engine = app._engine
            assert engine is not None
            await eventually(lambda: engine._roster.overruns)
            assert app.find_job("it") is job
            assert app.get_active_jobs() == [job]

            later = datetime.now(UTC) + timedelta(hours=1)
            replacement = await slow.schedule("new").at(later, job_id="it", replace=True)
            assert replacement is job
            assert job.exec_at == later
            assert runs == ["old"]

            go_on.set()
            await eventually(lambda: job.status is JobStatus.SCHEDULED)
            assert job.exec_at == later
            await soon(job.cancel())
            assert runs == ["old"]

    run(main())

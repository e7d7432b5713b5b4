"""A FastAPI application whose lifespan holds the app, in both documented forms; and several web workers on one file."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from jobify import Job, Jobify, JobStatus
from support import PATIENCE, durable, soon

WORKERS = 4


def with_block(jobs: Jobify) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with jobs:
            yield

    return lifespan


def start_and_stop(jobs: Jobify) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await jobs.startup()
        yield
        await jobs.shutdown()

    return lifespan


def make_web(jobs: Jobify, lifespan: Any) -> FastAPI:
    web = FastAPI(lifespan=lifespan)

    @jobs.task(name="greet")
    async def greet(name: str) -> str:
        return f"Hello, {name}!"

    @jobs.task(name="count")
    def count(text: str) -> int:
        return len(text)

    @web.get("/greet/{name}")
    async def greeting(name: str) -> str:
        return await soon(await greet.push(name))

    @web.get("/count/{text}")
    async def counting(text: str) -> int:
        return await soon(await count.push(text))

    @web.post("/later/{name}")
    async def later(name: str) -> dict[str, str]:
        job = await greet.schedule(name).delay(3600)
        return {"id": job.id, "status": job.status}

    @web.delete("/jobs/{job_id}")
    async def cancel(job_id: str) -> str:
        job: Job[Any] | None = jobs.find_job(job_id)
        assert job is not None
        await job.cancel()
        return job.status

    return web


@pytest.mark.promise("rule-20")
@pytest.mark.parametrize("form", [with_block, start_and_stop])
@pytest.mark.parametrize("is_durable", [True, False])
async def test_both_forms_of_a_lifespan(tmp_path: Path, form: Callable[[Jobify], Any], is_durable: bool) -> None:
    jobs = Jobify(storage=durable(tmp_path) if is_durable else False)
    web = make_web(jobs, form(jobs))

    async with serving(web) as client:
        assert jobs.configs.app_started
        assert (await client.get("/greet/Ada")).json() == "Hello, Ada!"
        assert (await client.get("/count/Ada")).json() == 3
        later = (await client.post("/later/Bob")).json()
        assert later["status"] == JobStatus.SCHEDULED
        assert (await client.delete(f"/jobs/{later['id']}")).json() == JobStatus.CANCELLED
    assert not jobs.configs.app_started
    async with serving(web) as client:  # the same application, started again
        assert (await client.get("/greet/Bob")).json() == "Hello, Bob!"


@asynccontextmanager
async def serving(web: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """The application between its startup and its shutdown, without a server."""
    async with web.router.lifespan_context(web):
        transport = httpx.ASGITransport(app=web)
        async with httpx.AsyncClient(transport=transport, base_url="http://web", timeout=PATIENCE) as client:
            yield client


WEB = """
    import os
    import sqlite3
    from collections.abc import AsyncIterator
    from contextlib import asynccontextmanager

    from fastapi import FastAPI

    from jobify import INJECT, Job, Jobify

    jobs = Jobify()


    def note(kind: str, text: str) -> None:
        with sqlite3.connect("notes.db", timeout=60) as notes:
            notes.execute("INSERT INTO notes VALUES (?, ?, ?)", (kind, text, os.getpid()))
        notes.close()


    @jobs.task(name="beat", cron="* * * * * * *")
    async def beat(job: Job[None] = INJECT) -> None:
        note("beat", job.exec_at.isoformat())


    @jobs.task(name="work")
    async def work(number: int) -> int:
        note("work", str(number))
        return number


    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with jobs:
            note("up", "")
            yield
        note("down", "")


    web = FastAPI(lifespan=lifespan)


    @web.post("/work/{number}")
    async def push(number: int) -> int:
        return await (await work.push(number))
"""


class Server:
    """uvicorn with several worker processes, as a service runs it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "service.py").write_text(textwrap.dedent(WEB))
        with closing(sqlite3.connect(directory / "notes.db")) as notes:
            notes.execute("PRAGMA journal_mode=WAL")
            notes.execute("CREATE TABLE notes (kind TEXT, text TEXT, pid INTEGER)")
        self.port = _free_port()
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", str(WORKERS), "--log-level", "warning"]
        self.log = (directory / "server.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "service:web", *options],
            cwd=directory, stdout=self.log, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def notes(self, kind: str) -> list[tuple[str, int]]:
        with closing(sqlite3.connect(self.directory / "notes.db", timeout=60)) as notes:
            return notes.execute("SELECT text, pid FROM notes WHERE kind = ? ORDER BY rowid", (kind,)).fetchall()

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 2 * PATIENCE
        while not condition():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    def post(self, path: str) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method="POST")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop()
        self.log.close()


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    try:
        yield server
    finally:
        server.close()


@pytest.mark.promise("b1")
def test_four_uvicorn_workers_run_a_cron_once_a_second_in_all(server: Server) -> None:
    server.until(lambda: len({pid for _, pid in server.notes("up")}) == WORKERS)
    before = len(server.notes("beat"))
    assert [server.post(f"/work/{number}") for number in range(20)] == list(range(20))
    server.until(lambda: len(server.notes("beat")) >= before + 4)
    assert server.stop() == 0, server.said()
    assert "Traceback" not in server.said()
    due = [text for text, _ in server.notes("beat")]
    assert Counter(due).most_common(1)[0][1] == 1, due
    assert due == sorted(due)
    assert sorted(int(text) for text, _ in server.notes("work")) == list(range(20))
    assert len(server.notes("down")) == WORKERS

"""The event loop goes on while large values are encoded and decoded."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from jobify import Jobify
from jobify.exceptions import PayloadError, ResultNotStoredError
from jobify.serializers import ExtendedJSONSerializer
from jobify.serializers.offload import is_large
from support import durable, soon

pytestmark = pytest.mark.promise("f24")

ROWS = [{"id": number, "name": "a name"} for number in range(20_000)]


class Witness:
    """Notes what it encodes and decodes on the event loop's thread, if that is large."""

    restores_types = True

    def __init__(self) -> None:
        self.inner = ExtendedJSONSerializer()
        self.on_loop: list[str] = []
        self.elsewhere: list[str] = []

    def dumpb(self, data: Any) -> bytes:
        written = self.inner.dumpb(data)
        self._note("dumpb", written)
        return written

    def loadb(self, data: bytes) -> Any:
        self._note("loadb", data)
        return self.inner.loadb(data)

    def _note(self, what: str, data: bytes) -> None:
        if len(data) > 100_000:
            is_on_loop = threading.current_thread() is threading.main_thread()
            (self.on_loop if is_on_loop else self.elsewhere).append(what)


@pytest.mark.parametrize("way", ["push", "delay", "adelay", "replace"])
async def test_arguments_and_results_are_encoded_off_the_loop(tmp_path: Path, way: str) -> None:
    witness = Witness()
    app = Jobify(storage=durable(tmp_path), serializer=witness)

    @app.task(name="task")
    async def task(rows: list[dict[str, Any]], *, more: int = 0) -> list[dict[str, Any]]:
        return rows

    async with app:
        match way:
            case "push":
                assert await soon(await task.push(ROWS, more=1)) == ROWS
            case "delay":
                assert await soon(await task.schedule(ROWS).delay(0.01)) == ROWS
            case "replace":
                assert await soon(await task.schedule(ROWS).delay(0.01, job_id="a", replace=True)) == ROWS
            case _:
                job = await task.adelay(ROWS)
                assert await job.aresult(timeout=20) == ROWS
    assert witness.on_loop == []
    assert {"dumpb"} <= set(witness.elsewhere)


async def test_what_cannot_be_stored_is_said_to_the_caller(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="task")
    async def task(rows: list[Any]) -> Any:
        return [*rows, object()]

    async with app:
        with pytest.raises(PayloadError, match="Nothing was stored"):
            await task.push([*ROWS, object()])
        job = await task.push(ROWS)
        await soon(job.wait())
        with pytest.raises(ResultNotStoredError, match="result\\[20000\\]"):
            await app.get_job(job.id).aresult(timeout=20)


async def test_a_push_that_nobody_waits_for_any_more_is_stored(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    seen: list[int] = []

    @app.task(name="task")
    async def task(rows: list[Any]) -> None:
        seen.append(len(rows))

    async with app:
        pushing = asyncio.ensure_future(task.push(ROWS))
        await asyncio.sleep(0)
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)
    async with app:
        await soon(app.wait_all())
    assert seen == [len(ROWS)]


def test_small_values_are_told_from_large_ones() -> None:
    assert not is_large((1, "a", [1, 2], {"k": (1, 2)}), {"x": b"1" * 1000})
    assert is_large((ROWS,))
    assert is_large((), {"x": "x" * 1_000_000})
    assert is_large(([[list(range(100))] * 100],))
    cycle: list[Any] = []
    cycle.append(cycle)
    assert is_large((cycle,))

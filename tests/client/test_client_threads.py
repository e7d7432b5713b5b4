"""The threads of a client: the system refuses one, or an error ends one."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from jobify.client.completion_listener import CompletionListener
from jobify.exceptions import StorageError, StorageUnavailableError
from jobify.gateway import threads
from jobify.gateway.batching import BatchQueue
from jobify.gateway.threads import CallThread
from jobify.model.records import NewJob
from jobify.testing.rows import job
from support import echoing, eventually, soon


class Refusal:
    """Refuses threads with these names while it is on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.is_on = True
        self.count = 0
        start = threading.Thread.start

        def guarded(thread: threading.Thread) -> None:
            if self.is_on and thread.name in names:
                self.count += 1
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", guarded)


@pytest.mark.promise("f5")
async def test_a_client_whose_thread_is_refused_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app, echo = echoing(tmp_path)
    refusal = Refusal(monkeypatch, "jobify-client", "jobify-listener")

    async with app:
        enqueuing = asyncio.gather(*(echo.adelay(number) for number in range(3)))
        await eventually(lambda: refusal.count >= 2)
        refusal.is_on = False
        handles = await soon(enqueuing)
        refusal.is_on, refusal.count = True, 0
        waiting = asyncio.gather(*(handle.aresult(timeout=30) for handle in handles))
        await asyncio.sleep(0)
        refusal.is_on = False
        assert await soon(waiting) == [0, 1, 2]
        assert await soon(asyncio.to_thread(lambda: echo.delay(7).result(timeout=30))) == 7
    app.close()


@pytest.mark.promise("f5")
async def test_a_waiter_learns_of_an_end_although_the_listener_was_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, echo = echoing(tmp_path)
    refusal = Refusal(monkeypatch, "jobify-listener")

    handle, other = echo.delay(5), echo.delay(6)
    waiting = asyncio.ensure_future(handle.aresult(timeout=30))
    blocking = asyncio.ensure_future(asyncio.to_thread(lambda: other.result(timeout=30)))
    await eventually(lambda: refusal.count >= 3)
    with pytest.raises(TimeoutError):
        await other.aresult(timeout=0.01)
    refusal.is_on = False
    async with app:
        assert await soon(waiting) == 5
        assert await soon(blocking) == 6
    app.close()


@pytest.mark.promise("f5")
async def test_a_call_that_gets_no_thread_at_all_says_which_limit_it_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, echo = echoing(tmp_path)
    monkeypatch.setattr(threads, "THREAD_TIMEOUT", 0.01)
    refusal = Refusal(monkeypatch, "jobify-client")

    with pytest.raises(StorageUnavailableError, match="RLIMIT_NPROC"):
        await soon(echo.adelay(1))
    refusal.is_on = False
    assert (await soon(echo.adelay(2))).status == "pending"
    app.close()


@pytest.mark.promise("f54")
@pytest.mark.parametrize("error", [MemoryError("injected"), SystemExit("injected")], ids=["memory", "exit"])
@pytest.mark.parametrize("name", ["_wait", "_serve"])
async def test_an_error_in_the_thread_of_a_client_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException
) -> None:
    app, echo = echoing(tmp_path)

    def fail(*_: Any) -> Any:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(CallThread, name, fail)
        with pytest.raises(StorageUnavailableError, match="injected"):
            await soon(echo.adelay(1))
    assert (await soon(echo.adelay(2))).status == "pending"
    app.close()


@pytest.mark.promise("f54")
@pytest.mark.parametrize("name", ["_fail_stale", "_listen", "_serve", "_check"])
async def test_an_error_in_the_listeners_thread_reaches_waiters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    app, echo = echoing(tmp_path)

    def fail(*_: Any) -> Any:
        raise SystemExit("injected")

    handle = echo.delay(1)
    with monkeypatch.context() as patched:
        patched.setattr(CompletionListener, name, fail)
        with pytest.raises(StorageUnavailableError, match="injected"):
            await soon(handle.aresult(timeout=30))
    async with app:
        assert await soon(handle.aresult(timeout=30)) == 1
    app.close()


@pytest.mark.parametrize("answer", [None, [], [True, True, True]])
async def test_a_storage_that_returns_too_little_or_too_much_fails_the_call(answer: Any) -> None:
    thread = CallThread(lambda rows: answer)
    with pytest.raises((TypeError, StorageError)):
        await soon(thread.insert(job("a")))
    assert await soon(thread.call(lambda: "goes on")) == "goes on"
    thread.end(10)


async def test_inserts_arrive_while_others_are_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread iterates over the items that wait, so no item may arrive meanwhile."""
    thread = CallThread(lambda rows: [True] * len(rows))
    weigh = threads._payload_size

    def slowly(row: NewJob) -> int:
        time.sleep(0)  # another thread runs
        return weigh(row)

    monkeypatch.setattr(thread._inserts, "_weigh", slowly)
    for _ in range(20):
        assert all(await soon(asyncio.gather(*(thread.insert(job(f"{n}")) for n in range(200)))))
    thread.end(10)


def test_a_put_that_was_interrupted_leaves_no_item_without_a_callback() -> None:
    queue: BatchQueue[str] = BatchQueue(lambda items: [item.upper() for item in items], 10)
    queue._items.append("interrupted")
    queue.drop_unpaired()
    answers: list[str] = []
    queue.put("a", answers.append)
    batch = queue.take([])
    assert batch is not None
    batch.execute()
    batch.deliver()
    assert answers == ["A"]

"""Tasks of a worker that start processes by forking."""

from __future__ import annotations

import signal

import pytest

from support import MEASURED
from workers import Make

FORKS = """
    import multiprocessing, signal, sys

    def work_with_forks():
        context = multiprocessing.get_context("fork")
        with context.Pool(2) as pool:
            total = sum(pool.map(abs, [-1, -2, -3]))
        sleeper = context.Process(target=time.sleep, args=(1000,))
        sleeper.start()
        sleeper.terminate()
        sleeper.join()
        leaver = os.fork()
        if leaver == 0:
            sys.exit(7)
        fork = os.fork()
        if fork == 0:
            while True:
                signal.pause()
        os.kill(fork, signal.SIGINT)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in (leaver, fork)]
        return [total, sleeper.exitcode, *codes]

    @app.task(name="fork_in_thread")
    def fork_in_thread():
        return work_with_forks()

    @app.task(name="fork_on_loop")
    async def fork_on_loop():
        return work_with_forks()

    @app.task(name="fork_in_process", run_mode=RunMode.PROCESS)
    def fork_in_process():
        return work_with_forks()
"""


@pytest.mark.promise("f16", "f17")
@pytest.mark.parametrize("task", ["fork_in_thread", "fork_on_loop", "fork_in_process"])
def test_forks_in_a_worker_end_by_signals_and_by_themselves(
    site: Make, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in MEASURED:  # else every fork has a handler of SIGTERM, and it waits for locks
        monkeypatch.delenv(name, raising=False)
    here = site(FORKS)
    worker = here.worker()
    ids = [here.enqueue(task) for _ in range(2)]
    for id in ids:
        here.until(id, "success")
        assert here.app.get_job(id).result() == [6, -signal.SIGTERM, 7, -signal.SIGINT]
    assert worker.stop() == 0
    assert "At work" in worker.log
    assert worker.log.count("Stop requested") == 1


QUEUES = """
    @app.task(name="hold_elsewhere", run_mode=RunMode.PROCESS, queue="heavy")
    def hold_elsewhere():
        return hold("hold_elsewhere")
"""


@pytest.mark.promise("f27")
def test_a_worker_starts_no_child_that_its_queues_do_not_need(site: Make) -> None:
    here = site(QUEUES)
    worker = here.worker("--queues", "default")
    id = here.enqueue("quick", 1)
    here.until(id, "success")
    assert worker.children() == []
    moved = here.enqueue("hold_elsewhere", queue="default")  # a job may be told another queue
    here.until_noted("hold_elsewhere")
    assert len(worker.children()) == 1
    here.go()
    here.until(moved, "success")
    assert worker.stop() == 0
    other = here.worker("--queues", "heavy")
    assert len(other.children()) == 1
    assert other.stop() == 0

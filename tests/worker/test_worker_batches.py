"""Batches in workers as processes: what a kill leaves, and what two workers share."""

from __future__ import annotations

from workers import Make

BATCH_TASK = """
    from dataclasses import dataclass
    from jobify import Batch, current_job

    @dataclass
    class Row:
        number: int

    @app.task(name="load", batch=Batch(10, wait=0.2))
    def load(rows: list[Row]) -> list[int]:
        note(f"{len(rows)}-rows-{current_job.batch[0].attempt}")
        if current_job.batch[0].attempt == 1:
            hold("batch")
        return [row.number for row in rows]
"""


def test_the_jobs_of_a_killed_worker_run_again_and_count_one_attempt_each(site: Make) -> None:
    shop = site(BATCH_TASK)
    jobs = shop.app.enqueue_many("load", [(number,) for number in range(10)])
    worker = shop.worker()
    shop.until_noted("10-rows-1")
    worker.kill()
    assert {shop.row(job.id).status for job in jobs} == {"running"}
    shop.worker()
    assert [job.result(timeout=60) for job in jobs] == list(range(10))
    assert {job.attempt for job in jobs} == {2}
    assert [text for text, _ in shop.notes() if text != "batch"] == ["10-rows-1", "10-rows-2"]


def test_two_workers_share_the_batches(site: Make) -> None:
    shop = site(BATCH_TASK)
    first, second = shop.worker(), shop.worker()
    jobs = shop.app.enqueue_many("load", [(number,) for number in range(25)])
    shop.until_noted("batch", times=3)
    shop.go()
    assert [job.result(timeout=60) for job in jobs] == list(range(25))
    texts = sorted(text for text, _ in shop.notes() if text != "batch")
    assert texts == ["10-rows-1", "10-rows-1", "5-rows-1"]
    assert (first.stop(), second.stop()) == (0, 0)

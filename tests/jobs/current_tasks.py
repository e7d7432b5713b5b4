"""Task functions that ask and say something about their job, importable in a child process."""

from __future__ import annotations

from typing import Any

from jobify import current_job


def describe() -> list[Any]:
    job = current_job
    return [job.id, job.task_name, job.queue_name, job.attempt, job.retry_count, job.metadata]


async def describe_on_loop() -> list[Any]:
    return describe()


def talk(count: int) -> int:
    for number in range(count):
        current_job.update_progress(100 * number / count)
        current_job.publish({"number": number})
    current_job.log("all said", level="warning")
    current_job.update_progress(100)
    return count


async def talk_on_loop(count: int) -> int:
    return talk(count)


def publish_object() -> str:
    """What the default serializer does not know."""
    try:
        current_job.publish(object())
    except ValueError as error:
        return type(error).__name__
    return "published"


async def publish_object_on_loop() -> str:
    return publish_object()

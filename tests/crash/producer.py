"""Enqueuing without an app that runs: one by one, many in a transaction, and jobs that wait for others.

The keys say what must become of a job: one that begins with ``doomed`` fails, one with ``orphan`` waits for such a one
and is cancelled, and of those with ``batch`` all of one batch are there, or none.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.crash import victim

from jobify.exceptions import StorageError

__all__ = ("produce_steadily",)

_KINDS = ("on_loop", "in_thread", "in_process")


def produce_steadily(rate: float) -> None:
    """Enqueue ``rate`` jobs a second until told to stop."""
    victim.note("up", "producer")
    while not (victim.DIRECTORY / "stop").exists():
        begun = time.monotonic()
        try:
            count = random.choice((_single, _single, _batch, _family, _tragedy))()
        except StorageError:  # noted; those that wait for such a job are not enqueued either
            count = 1
        time.sleep(max(0.0, count / rate * random.uniform(0.5, 1.5) - (time.monotonic() - begun)))
    while not (victim.DIRECTORY / "end").exists():
        time.sleep(0.05)


def _key(kind: str = "job") -> str:
    return f"{kind}-{os.getpid()}-{time.time_ns()}"


def _work(key: str, number: int) -> tuple[str, int, int]:
    return key, number, random.choice((0, 0, 0, 1, 5))


def _enqueue(key: str, *parents: str) -> None:
    number = random.randrange(1_000_000)
    delay, begun_at = random.choice((None, None, random.random() / 2)), time.time_ns() // 1000
    with _noting(key):
        victim.app.enqueue(
            random.choice(_KINDS), _work(key, number), job_id=key, depends_on=list(parents) or None, delay=delay
        )
    victim.append("parents", "".join(f"{key} {parent}\n" for parent in parents), is_flushed=True)
    victim.append("acks", f"{key} {number} {begun_at}\n", is_flushed=True)


@contextmanager
def _noting(*keys: str) -> Iterator[None]:
    """Write down the keys if the storage refuses them."""
    try:
        yield
    except StorageError:
        victim.append("refused", "".join(f"{key} {time.time_ns() // 1000}\n" for key in keys))
        raise


def _single() -> int:
    _enqueue(_key())
    return 1


def _batch() -> int:
    """Many in one transaction. Their keys tell how many there must be; they are not acknowledged one by one."""
    count, key = random.randint(2, 20), _key("batch")
    kind = random.choice((victim.on_loop, victim.in_thread))
    begun_at = time.time_ns() // 1000
    keys = [f"{key}-{n}-{count}" for n in range(count)]
    with _noting(*keys):
        victim.app.enqueue_many([kind.s(*_work(each, 3)).set(job_id=each) for each in keys])
    victim.append("acks", "".join(f"{each} 3 {begun_at}\n" for each in keys), is_flushed=True)
    return count


def _family() -> int:
    """Two parents, a child of both, a grandchild."""
    one, two, child, grandchild = _key(), _key(), _key(), _key()
    _enqueue(one)
    _enqueue(two)
    _enqueue(child, one, two)
    _enqueue(grandchild, child)
    return 4


def _tragedy() -> int:
    """A job that fails, and two that wait in vain."""
    doomed, orphan, another = _key("doomed"), _key("orphan"), _key("orphan")
    with _noting(doomed):
        victim.app.enqueue("doomed", (doomed,), job_id=doomed, delay=random.choice((None, 0.2)))
    _enqueue(orphan, doomed)
    _enqueue(another, orphan)
    return 3

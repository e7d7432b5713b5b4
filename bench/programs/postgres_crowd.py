"""24 processes that enqueue one job a call, each on its own connection: while a process listens, and while none does.

Runs as ``python postgres_crowd.py PRODUCT enqueue COUNT``, with COUNT calls of each process. Ours sends a notification
after the commit, if there is a process to hear it. PgQueuer's notification comes from a trigger, in each transaction;
without it, that trigger is disabled.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from multiprocessing.synchronize import Barrier, Event
from typing import Any

from measuring import report

_URL = os.environ["BENCH_POSTGRES"]
_CONNECTIONS = 24
_ROUNDS = 2
_MODULES = {
    "jobify": ("jobify.app.application", "jobify.storage.postgres", "jobify.client.enqueuer"),
    "pgqueuer": ("asyncpg", "uvloop", "pgqueuer.queries"),
}
_fork = multiprocessing.get_context("fork")

Enqueue = Callable[[], object]


def main(product: str, _mode: str, number: str) -> None:
    calls = int(number)
    for module in _MODULES[product]:  # before the forks: the children share what is loaded here
        import_module(module)
    prepare, connect, notifying = {"jobify": (_prepare_ours, _ours, _heard), "pgqueuer": (
        _prepare_theirs, _theirs, _triggered)}[product]  # fmt: skip
    in_child(prepare)
    rates: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(_ROUNDS):  # in turns, because a server is not always as fast
        for is_notified in (True, False):
            with notifying(is_notified):
                rates[is_notified].append(_rate(connect, calls))
    with_them, without = (sum(rates[which]) / _ROUNDS for which in (True, False))
    report(per_second=with_them, cost_percent=(1 - with_them / without) * 100)


def in_child(function: Callable[[], object]) -> None:
    """Call it in a process of its own, so that this one stays without threads and connections."""
    child = _fork.Process(target=function)
    child.start()
    child.join()
    assert child.exitcode == 0


def _rate(connect: Callable[[], Enqueue], calls: int) -> float:
    """Calls a second of all processes."""
    barrier = _fork.Barrier(_CONNECTIONS + 1)
    children = [_fork.Process(target=_enqueue, args=(connect, calls, barrier)) for _ in range(_CONNECTIONS)]
    for child in children:
        child.start()
    barrier.wait()
    started = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - started
    for child in children:
        child.join()
    return _CONNECTIONS * calls / seconds


def _enqueue(connect: Callable[[], Enqueue], calls: int, barrier: Barrier) -> None:
    enqueue = connect()
    enqueue()
    barrier.wait()
    for _ in range(calls):
        enqueue()
    barrier.wait()
    os._exit(0)  # nothing is closed while others are measured


# -- ours --------------------------------------------------------------------------------------------------------------


def _ours() -> Enqueue:
    from jobify import Jobify
    from jobify.storage import PostgresStorage

    app = Jobify(storage=PostgresStorage(_URL))

    @app.task(name="noop")
    async def noop(number: int) -> None: ...

    return lambda: noop.delay(1)


def _prepare_ours() -> None:
    _ours()()


@contextmanager
def _listener() -> Any:
    """A process that hears of new work, and does nothing about it."""
    heard, ending = _fork.Event(), _fork.Event()
    listener = _fork.Process(target=_listen, args=(heard, ending))
    listener.start()
    heard.wait()
    yield
    ending.set()
    listener.join()


def _listen(heard: Event, ending: Event) -> None:
    from jobify.model.owner_records import OwnerProfile, OwnerRole
    from jobify.storage import PostgresStorage

    storage = PostgresStorage(_URL)
    storage.open()
    storage.register(OwnerProfile(OwnerRole.WORKER, None, (), 1), now=time.time_ns() // 1000)
    heard.set()
    ending.wait()
    storage.close()


def _heard(is_notified: bool) -> AbstractContextManager[None]:
    return _listener() if is_notified else nullcontext()


# -- theirs ------------------------------------------------------------------------------------------------------------


def _theirs() -> Enqueue:
    import asyncpg  # type: ignore[import-untyped]  # it has no types
    import uvloop
    from pgqueuer.db import AsyncpgDriver  # type: ignore[import-not-found]
    from pgqueuer.queries import Queries  # type: ignore[import-not-found]

    loop = uvloop.new_event_loop()
    queries = Queries(AsyncpgDriver(loop.run_until_complete(asyncpg.connect(_URL))))
    return lambda: loop.run_until_complete(queries.enqueue("noop", b"1", 0))


def _prepare_theirs() -> None:
    import asyncpg
    from pgqueuer.db import AsyncpgDriver  # type: ignore[import-not-found,unused-ignore]
    from pgqueuer.queries import Queries  # type: ignore[import-not-found,unused-ignore]

    async def install() -> None:
        await Queries(AsyncpgDriver(await asyncpg.connect(_URL))).install()

    asyncio.run(install())


@contextmanager
def _triggered(is_notified: bool) -> Any:
    import psycopg

    with psycopg.connect(_URL, autocommit=True) as database:
        database.execute("LISTEN ch_pgqueuer")
        database.execute(f"ALTER TABLE pgqueuer {'ENABLE' if is_notified else 'DISABLE'} TRIGGER USER".encode())
        yield


if __name__ == "__main__":
    main(*sys.argv[1:])

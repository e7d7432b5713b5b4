"""Processes that are killed, forks, and disks that are full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from textwrap import dedent

import pytest

from jobify.exceptions import StorageUnavailableError
from jobify.model.records import JobQuery
from jobify.storage import SQLiteStorage
from jobify.testing.rows import NOW, PROFILE, claim, claimed, end, job, one, running
from probes import database_of
from support import eventually, opened, run

TESTS = Path(__file__).parents[1]
PREAMBLE = """
import os, sys, threading
from jobify.exceptions import *
from jobify.model.records import *
from jobify.storage import SQLiteStorage
from jobify.testing.rows import *
from probes import *
storage = SQLiteStorage(sys.argv[1])
storage.open()
def say(*words):
    print(*words, flush=True)
def wait():
    sys.stdin.readline()
"""


_children: list[subprocess.Popen[str]] = []


def _child(path: Path, code: str) -> subprocess.Popen[str]:
    """A process with ``storage`` open that runs ``code``; ``say`` tells us something, ``wait`` waits for a line."""
    script = PREAMBLE + dedent(code)
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    _children.append(child)
    return child


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    yield
    while _children:
        child = _children.pop()
        child.kill()
        _bury(child)


def _hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    _bury(process)


def _bury(process: subprocess.Popen[str]) -> int:
    code = process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()
    return code


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def storage(path: Path) -> Iterator[SQLiteStorage]:
    with opened(SQLiteStorage(path)) as storage:
        yield storage


# -- killed ------------------------------------------------------------------------------------------------------------


def test_a_killed_owner_is_dead_at_once(storage: SQLiteStorage, path: Path) -> None:
    """B19: attempts and crashes are counted, and the third crash is the last."""
    storage.insert([job("a"), job("b", due_at=NOW + 1)])
    code = """
    owner = storage.register(PROFILE, now=NOW)
    say(owner, *[found.id for found in claim(storage, owner)])
    wait()
    """
    for crash in (1, 2, 3):
        child = _child(path, code)
        owner, *claimed_there = _hear(child).split()
        assert claimed_there == ["a"]
        assert storage.recover(now=NOW, max_crashes=3, delete_at=None) == []
        _kill(child)
        assert [(found.id, found.is_alive) for found in storage.owners()] == [(int(owner), False)]
        (recovered,) = storage.recover(now=NOW, max_crashes=3, delete_at=None)
        assert (recovered.id, recovered.status) == ("a", "failed" if crash == 3 else "scheduled")
        assert (one(storage, "a").attempt, one(storage, "a").crashes) == (crash, crash)
    assert os.listdir(f"{path}-owners") == []


def test_a_stopped_owner_is_not_dead(storage: SQLiteStorage, path: Path) -> None:
    child = _child(path, "say(storage.register(PROFILE, now=NOW)); wait()")
    owner = int(_hear(child))
    storage.insert([running("a", owner)])
    child.send_signal(signal.SIGSTOP)
    assert storage.recover(now=NOW + 10**12, max_crashes=1, delete_at=None) == []
    child.send_signal(signal.SIGCONT)
    _kill(child)
    assert len(storage.recover(now=NOW, max_crashes=3, delete_at=None)) == 1


@pytest.mark.parametrize(
    "start_child",
    ["os.fork()", "__import__('subprocess').Popen(['sleep', '100'], stdout=-3).pid"],
    ids=["fork", "subprocess"],
)
def test_a_child_does_not_keep_its_dead_parent_alive(storage: SQLiteStorage, path: Path, start_child: str) -> None:
    code = f"""
    storage.register(PROFILE, now=NOW)
    child = {start_child}
    if child:
        say(child)
    wait()
    """
    parent = _child(path, code)
    child = int(_hear(parent))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    try:
        # The child lets go of the lock as its first act, which may come a moment after its parent's last.
        run(eventually(lambda: [found.is_alive for found in storage.owners()] == [False]))
    finally:
        os.kill(child, signal.SIGKILL)
        _bury(parent)


def test_what_was_acknowledged_is_there_and_each_batch_is_whole(storage: SQLiteStorage, path: Path) -> None:
    code = """
    for batch in range(10_000):
        storage.insert([job(f"{batch:05}-{number}") for number in range(10)])
        say(batch)
    """
    child = _child(path, code)
    while int(_hear(child)) < 30:
        pass
    child.send_signal(signal.SIGKILL)
    assert child.stdout is not None
    rest = child.stdout.read().split()
    acknowledged = int(rest[-1]) if rest else 30
    _bury(child)
    ids = [record.id for record in storage.find(JobQuery(limit=200_000))]
    assert len(ids) % 10 == 0
    assert len(ids) >= 10 * (acknowledged + 1)
    assert len({id.split("-")[0] for id in ids}) * 10 == len(ids)


def test_a_killed_transaction_has_changed_nothing(storage: SQLiteStorage, path: Path) -> None:
    owner = storage.register(PROFILE, now=NOW)
    held = claimed(storage, owner, "held")
    code = """
    with storage.transaction():
        storage.insert([job("new")])
        storage.delete(["waits"], now=NOW, delete_at=None)
        storage.cancel(["held"], reason="x", now=NOW, delete_at=None)
        say("in the middle")
        wait()
    """
    storage.insert([job("waits")])
    before = storage.find(JobQuery())
    child = _child(path, code)
    assert _hear(child) == "in the middle"
    _kill(child)
    assert storage.find(JobQuery()) == before
    assert storage.settle([end(owner, held)]) == [True]


@pytest.mark.parametrize("end_of_it", ["settle", "cancel", "recover", "expire", "delete"])
def test_a_cascade_is_whole_or_not_at_all(storage: SQLiteStorage, path: Path, end_of_it: str) -> None:
    """Killed after any of its statements: whatever ends the first of a chain has cancelled all of it, or nothing."""
    code = f"""
    owner = storage.register(PROFILE, now=NOW)
    dying = SQLiteStorage(sys.argv[1])
    dying.open()
    owns = dying.register(PROFILE, now=NOW)
    def chain(name):
        is_running = {end_of_it!r} in ("settle", "recover")
        first = running(name + "0", owns) if is_running else job(name + "0", expires_at=NOW)
        return [first, *[job(f"{{name}}{{n}}", parents=(f"{{name}}{{n - 1}}",)) for n in range(1, 700)]]
    def end_it(name):
        first = name + "0"
        match {end_of_it!r}:
            case "settle":
                dying.settle([end(owns, running(first, owns), status="failed")])
            case "cancel":
                storage.cancel([first], reason="x", now=NOW, delete_at=None)
            case "expire":
                storage.expire(now=NOW, limit=1, delete_at=None)
            case "delete":
                storage.delete([first], now=NOW, delete_at=None)
            case "recover":
                dying.close()
                storage.recover(now=NOW, max_crashes=1, delete_at=None)
    storage.insert(chain("a"))
    stop_after = int(input())
    statements, last = 0, None
    def count(statement):
        global statements, last
        statements += statement != last  # else a trigger of it: SQLite reports the statement once more for each
        last = statement
        if statements == stop_after:
            say("in the middle")
            wait()
    for one_of_them in (storage, dying):
        one_of_them._database.row("SELECT 1")
        one_of_them._database.connections.writer.set_trace_callback(count)
    end_it("a")
    say("done")
    wait()
    """
    seen = set()
    for stop_after in range(2, 100, 5):
        storage.delete([record.id for record in storage.find(JobQuery(limit=5000))], now=NOW, delete_at=None)
        child = _child(path, code)
        assert child.stdin is not None
        child.stdin.write(f"{stop_after}\n")
        child.stdin.flush()
        heard = _hear(child)
        _kill(child)
        seen.add(_cascade(storage))
        if heard == "done":
            break
        storage.recover(now=NOW, max_crashes=1, delete_at=None)
    assert heard == "done"
    assert seen == {"nothing", "all"}


def _cascade(storage: SQLiteStorage) -> str:
    """How far the chain has fallen."""
    waiting = storage.find(JobQuery(statuses=("scheduled", "running"), limit=5000))
    cancelled = storage.find(JobQuery(statuses=("cancelled",), limit=5000))
    if len(cancelled) in (699, 700) and not waiting:
        return "all"
    return "nothing" if len(waiting) == 700 and not cancelled else f"{len(waiting)} of it wait"


# -- deleted -----------------------------------------------------------------------------------------------------------


def _insert(storage: SQLiteStorage) -> None:
    storage.insert([job("after")])


def _put(storage: SQLiteStorage) -> None:
    storage.replace(job("after"))


def _insert_in_a_block(storage: SQLiteStorage) -> None:
    with storage.transaction():
        storage.insert([job("after")])


def _insert_on_the_spot(storage: SQLiteStorage) -> None:
    assert storage.nonblocking is not None
    with storage.nonblocking:
        storage.insert([job("after")])


@pytest.mark.parametrize("is_replaced", [False, True])
@pytest.mark.parametrize("write", [_insert, _put, _insert_in_a_block, _insert_on_the_spot])
def test_a_file_that_was_deleted_acknowledges_nothing(
    tmp_path: Path, write: Callable[[SQLiteStorage], None], is_replaced: bool
) -> None:
    storage = SQLiteStorage(tmp_path / "deleted.db", synchronous="normal")
    storage.open()
    assert storage.insert([job("before")]) == [True]
    with suppress(StorageUnavailableError):
        write(storage)  # the first one on the spot is refused: others may have written
    assert storage.insert([job("again")]) == [True]
    for name in ("deleted.db", "deleted.db-wal", "deleted.db-shm"):
        (tmp_path / name).unlink()
    other = SQLiteStorage(tmp_path / "deleted.db")
    if is_replaced:
        other.open()
    for _ in range(2):
        with pytest.raises(StorageUnavailableError, match="was deleted or replaced"):
            write(storage)
    storage.close()
    other.close()
    storage.open()
    assert storage.insert([job("anew")]) == [True]
    assert [record.id for record in storage.find(JobQuery())] == ["anew"]
    storage.close()


# -- forked ------------------------------------------------------------------------------------------------------------


def test_a_child_opens_for_itself(storage: SQLiteStorage, path: Path) -> None:
    """After a fork the storage is closed in the child; open, it is a process of its own, and the parent goes on."""
    code = """
    owner = storage.register(PROFILE, now=NOW)
    notifier = storage.notifier
    storage.insert([running("parents", owner)])
    storage.has_external_changes()
    child = os.fork()
    if child == 0:
        assert storage.notifier is None and notifier.fileno() == -1
        try:
            storage.get(["parents"])
        except ApplicationStateError as error:
            assert "fork" in str(error)
        else:
            raise AssertionError("the connection of the parent was used")
        storage.open()
        own = storage.register(PROFILE, now=NOW)
        assert own != owner
        assert storage.insert([running("childs", own)]) == [True]
        assert {found.id: found.is_alive for found in storage.owners()} == {owner: True, own: True}
        assert storage.recover(now=NOW, max_crashes=3, delete_at=None) == []
        wait()
        storage.close()
        sys.exit()
    storage.insert([job("meanwhile")])
    say("written")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert storage.has_external_changes() is True
    assert [found.id for found in storage.recover(now=NOW, max_crashes=3, delete_at=None)] == ["childs"]
    assert storage.settle([end(owner, running("parents", owner))]) == [True]
    assert notifier.drain() is True
    say("done")
    """
    parent = _child(path, code)
    assert _hear(parent) == "written"
    _tell(parent)
    assert _hear(parent) == "done"
    assert _bury(parent) == 0
    assert {record.id for record in storage.find(JobQuery())} == {"parents", "childs", "meanwhile"}
    assert database_of(storage).row("PRAGMA integrity_check") == ("ok",)


def test_a_child_that_was_forked_while_another_thread_opens_the_file_opens_for_itself(path: Path) -> None:
    code = """
    import jobify.storage.sqlite.storage as module
    storage = SQLiteStorage(storage.database + "-new")
    prepare, parent = module.prepare, os.getpid()
    has_begun, has_forked = threading.Event(), threading.Event()
    def slowly(database, **options):
        if os.getpid() == parent:
            has_begun.set()
            has_forked.wait()
        prepare(database, **options)
    module.prepare = slowly
    opener = threading.Thread(target=storage.open)
    opener.start()
    has_begun.wait()
    child = os.fork()
    if child == 0:
        storage.open()
        assert storage.register(PROFILE, now=NOW) > 0
        assert storage.insert([job("childs")]) == [True]
        storage.close()
        os._exit(0)
    has_forked.set()
    opener.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert storage.insert([job("parents")]) == [True]
    say(*sorted(found.id for found in storage.find(JobQuery())))
    storage.close()
    """
    parent = _child(path, code)
    assert _hear(parent) == "childs parents"
    assert _bury(parent) == 0


def test_a_fork_waits_for_the_transaction_of_another_thread(storage: SQLiteStorage, path: Path) -> None:
    """However busy the storage's thread is, no connection gets into a child, and each child can open the file."""
    code = """
    is_done = threading.Event()
    def write():
        batch = 0
        while not is_done.is_set():
            with storage.transaction():
                storage.insert([job(f"{batch}-a")])
                storage.insert([job(f"{batch}-b")])
            storage.find(JobQuery(limit=10))
            batch += 1
    writer = threading.Thread(target=write)
    writer.start()
    children = []
    for number in range(10):
        child = os.fork()
        if child == 0:
            storage.open()
            assert storage.insert([job(f"child-{number}")]) == [True]
            storage.close()
            os._exit(0)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    is_done.set()
    writer.join()
    storage.close()
    say(*codes)
    """
    parent = _child(path, code)
    assert _hear(parent).split() == ["0"] * 10
    assert _bury(parent) == 0
    ids = {record.id for record in storage.find(JobQuery(limit=1_000_000))}
    assert {f"child-{number}" for number in range(10)} <= ids
    assert len(ids) % 2 == 0
    assert database_of(storage).row("PRAGMA integrity_check") == ("ok",)


def test_a_child_that_was_forked_inside_a_transaction_must_not_open(storage: SQLiteStorage, path: Path) -> None:
    code = """
    with storage.transaction():
        storage.insert([job("a")])
        child = os.fork()
        if child == 0:
            for one in (storage, SQLiteStorage(sys.argv[1])):
                try:
                    one.open()
                except StorageError as error:
                    assert "forked inside a transaction" in str(error)
                else:
                    os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        storage.insert([job("b")])
    storage.close()
    say("done")
    """
    parent = _child(path, code)
    assert _hear(parent) == "done"
    assert _bury(parent) == 0
    assert [record.id for record in storage.find(JobQuery())] == ["a", "b"]


def test_a_private_database_stays_with_the_parent(path: Path) -> None:
    code = """
    private = SQLiteStorage(":memory:")
    private.open()
    private.insert([job("a")])
    child = os.fork()
    if child == 0:
        private.open()
        assert private.find(JobQuery()) == []
        private.insert([job("b")])
        private.close()
        sys.exit()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [record.id for record in private.find(JobQuery())] == ["a"]
    directory = os.path.dirname(private._database.path)
    assert os.path.exists(directory)
    del private
    assert not os.path.exists(directory)
    storage.close()
    say("done")
    """
    parent = _child(path, code)
    assert _hear(parent) == "done"
    assert _bury(parent) == 0


def test_a_block_that_ends_in_the_child_says_what_is_wrong(path: Path) -> None:
    code = """
    try:
        with storage.transaction():
            storage.insert([job("a")])
            child = os.fork()
            if child:
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    except ApplicationStateError as error:
        assert child == 0 and "fork" in str(error)
        os._exit(0)
    storage.close()
    say("done")
    """
    parent = _child(path, code)
    assert _hear(parent) == "done"
    assert _bury(parent) == 0


# -- a full disk -------------------------------------------------------------------------------------------------------


def test_a_full_disk_refuses_and_recovers(storage: SQLiteStorage) -> None:
    owner = storage.register(PROFILE, now=NOW)
    held = claimed(storage, owner, "held")
    (pages,) = database_of(storage).row("PRAGMA page_count")
    database_of(storage).row(f"PRAGMA max_page_count = {pages}")
    before = storage.find(JobQuery())
    big = [job(str(number), payload=bytes(5000)) for number in range(20)]
    with pytest.raises(StorageUnavailableError, match="disk is full"):
        storage.insert(big)
    with pytest.raises(StorageUnavailableError, match="disk is full"):
        storage.settle([end(owner, held, result=bytes(50_000))])
    with pytest.raises(StorageUnavailableError, match="disk is full"), storage.transaction():
        storage.insert(big)
    assert storage.find(JobQuery()) == before
    database_of(storage).row("PRAGMA max_page_count = 1000000")
    assert storage.settle([end(owner, held, result=bytes(50_000))]) == [True]
    assert storage.insert(big) == [True] * 20


def test_a_disk_that_is_full_in_the_middle_of_writing(storage: SQLiteStorage, path: Path) -> None:
    """The kernel refuses to make a file longer: the write fails somewhere inside SQLite."""
    code = """
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    owner = storage.register(PROFILE, now=NOW)
    held = claimed(storage, owner, "held")
    soft = os.path.getsize(sys.argv[1] + "-wal") + 30_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))
    written = 0
    try:
        for batch in range(1000):
            storage.insert([job(f"{batch:03}-{number}", payload=bytes(1000)) for number in range(10)])
            written += 1
    except StorageUnavailableError:
        say(written)
    for write in (
        lambda: storage.insert([job("more", payload=bytes(100_000))]),
        lambda: storage.settle([end(owner, held, result=bytes(100_000))]),
    ):
        try:
            write()
        except StorageUnavailableError:
            say("refused")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert storage.settle([end(owner, held)]) == [True]
    assert storage.insert([job("afterwards")]) == [True]
    storage.close()
    say("recovered")
    """
    child = _child(path, code)
    written = int(_hear(child))
    assert [_hear(child) for _ in range(3)] == ["refused", "refused", "recovered"]
    assert _bury(child) == 0
    assert len(storage.find(JobQuery(limit=20_000))) == written * 10 + 2
    assert one(storage, "held").status == "success"
    assert database_of(storage).row("PRAGMA integrity_check") == ("ok",)
    owner = storage.register(PROFILE, now=NOW)
    assert len(claim(storage, owner)) == written * 10 + 1

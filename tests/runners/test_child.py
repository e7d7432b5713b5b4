"""The child's end of the connection, without a process around it."""

from __future__ import annotations

import pickle
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import process as mp_process
from pathlib import Path
from typing import Any

import pytest
import runner_tasks

from jobify.exceptions import ApplicationStateError
from jobify.model.tracebacks import RemoteTraceback
from jobify.runners import child, protocol
from jobify.runners.function_address import Address, process_address
from jobify.runners.log_channel import open_channel
from jobify.runners.protocol import Request


class Parent:
    """The other end: says something, reads what comes back."""

    def __init__(self, connection: socket.socket, requests: socket.socket) -> None:
        self.connection = connection
        self.requests = requests
        self.stream = connection.makefile("rb")

    def prepare(self, data: bytes) -> bytes:
        self.connection.sendall(protocol.frame(data))
        return self.hear()

    def ask(self, request: bytes) -> None:
        packet = protocol.packet(0, request)
        self.requests.sendall(packet)
        if packet[:1] == protocol.STREAMED:
            self.connection.sendall(protocol.frame(request))

    def hear(self) -> bytes:
        payload = protocol.read(self.stream)
        assert payload is not None
        return payload

    def hang_up(self) -> None:
        self.stream.close()
        self.connection.close()
        self.requests.close()


@contextmanager
def serving() -> Iterator[tuple[Parent, threading.Thread, queue.SimpleQueue[str]]]:
    """A child that serves in a thread, and what it does when it is orphaned."""
    ours, theirs = socket.socketpair()
    unread, requests = open_channel()
    orphaned: queue.SimpleQueue[str] = queue.SimpleQueue()
    served = child.Child(theirs, unread, on_orphaned=lambda: orphaned.put("orphaned"))
    thread = threading.Thread(target=served.serve)
    thread.start()
    parent = Parent(ours, requests)
    try:
        yield parent, thread, orphaned
    finally:
        parent.hang_up()
        thread.join()
        assert orphaned.get(timeout=60) == "orphaned"
        theirs.close()
        unread.close()


def request(func: Any, *args: Any) -> bytes:
    return protocol.encode_request(Request(process_address(func), args, {}))


def preparation(module: str = "runner_tasks", **spawn: Any) -> bytes:
    return pickle.dumps({"spawn": spawn, "module": module})


def test_it_prepares_answers_and_ends_with_the_connection() -> None:
    with serving() as (parent, thread, _):
        assert parent.prepare(preparation()) == protocol.READY
        for number in range(3):
            parent.ask(request(runner_tasks.add, number))
            assert protocol.outcome(parent.hear()) == number + 1
        parent.hang_up()
        thread.join()


def test_messages_come_before_the_reply() -> None:
    with serving() as (parent, _, _orphaned):
        parent.prepare(preparation())
        parent.ask(request(runner_tasks.tell_all, ["a", "b"]))
        assert [protocol.decode(parent.hear()[1:]) for _ in range(2)] == ["a", "b"]
        assert protocol.outcome(parent.hear()) == 2
    assert child.send("nobody listens") is False


def test_the_end_of_the_parent_is_noticed_while_a_task_runs(tmp_path: Path) -> None:
    inside, let_go = threading.Event(), threading.Event()

    def task() -> None:
        inside.set()
        let_go.wait(60)

    runner_tasks.blocking = task  # type: ignore[attr-defined]
    with serving() as (parent, _, orphaned):
        parent.prepare(preparation())
        parent.ask(protocol.encode_request(Request(Address("runner_tasks", "blocking"), (), {})))
        inside.wait(60)
        parent.hang_up()
        assert orphaned.get(timeout=60) == "orphaned"
        orphaned.put("orphaned")
        let_go.set()


def test_a_request_that_was_cut_off_is_not_served() -> None:
    with serving() as (parent, thread, _):
        parent.prepare(preparation())
        parent.requests.sendall(protocol.packet(0, bytes(protocol.LARGEST_PACKET)))
        parent.connection.sendall(protocol.frame(request(runner_tasks.add, 1))[:-1])
        parent.hang_up()
        thread.join()


def test_a_parent_that_has_gone_is_not_served() -> None:
    with serving() as (parent, thread, _):
        parent.hang_up()
        thread.join()
    ours, theirs = socket.socketpair()
    unread, requests = open_channel()
    with ours, theirs, unread, requests:
        served = child.Child(theirs, unread, on_orphaned=lambda: None)
        served._is_over = True
        requests.send(protocol.packet(0, b"late"))
        assert served._next_request() is None


def test_a_main_script_that_cannot_be_imported_is_told_and_nothing_served(tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit('no such thing')")
    with serving() as (parent, thread, _):
        reply = parent.prepare(preparation(init_main_from_path=str(script)))
        assert reply[:1] == protocol.BROKEN
        with pytest.raises(Exception, match="no such thing"):
            protocol.outcome(reply)
        thread.join()


def test_a_module_that_cannot_be_imported_fails_the_call_not_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runner_broken.py").write_text("raise SystemExit('not today')")
    monkeypatch.syspath_prepend(tmp_path)
    assert child.prepare(preparation("runner_broken")) == protocol.READY
    with pytest.raises(Exception, match="not today") as caught:
        protocol.outcome(child.perform(protocol.encode_request(Request(Address("runner_broken", "task"), (), {}))))
    text = RemoteTraceback.of(caught.value)
    assert text is not None
    assert "runner_broken.py" in text.text
    assert "runners" not in text.text


def test_a_request_that_cannot_be_read_is_an_error_like_others() -> None:
    with pytest.raises(Exception, match="not here"):
        protocol.outcome(child.perform(request(runner_tasks.add, runner_tasks.Unreadable())))


def test_an_app_does_not_start_in_a_child_that_imports_its_script() -> None:
    child.ensure_not_importing()
    with child.importing():
        with pytest.raises(ApplicationStateError, match='if __name__ == "__main__"'):
            child.ensure_not_importing()
    child.ensure_not_importing()
    assert not hasattr(mp_process.current_process(), "_inheriting")


def test_checking_finds_each_function() -> None:
    child.check([process_address(runner_tasks.add)])
    with pytest.raises(ModuleNotFoundError):
        child.check([process_address(runner_tasks.add), Address("no_such_module", "x")])

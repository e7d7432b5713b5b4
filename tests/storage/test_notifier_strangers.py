"""Strangers at the socket: what other processes of the machine can do to one that waits for wake-ups."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from jobify import Jobify
from jobify.storage import SQLiteStorage
from jobify.storage.sqlite import notifier
from jobify.storage.sqlite.notifier import Address, DatagramNotifier
from jobify.testing.rows import NOW, PROFILE
from probes import owner_rows
from support import eventually, opened


@pytest.fixture
def ours() -> DatagramNotifier:
    addresses: list[Address] = []
    ours = DatagramNotifier(lambda: addresses)
    ours.bind()
    assert ours.address is not None
    addresses.append(Address(1, "worker", ours.address))
    return ours


def _send(target: str, message: bytes, times: int = 1) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.setblocking(False)
        for _ in range(times):
            try:
                stranger.sendto(message, target)
            except BlockingIOError:
                return


def _split(ours: DatagramNotifier) -> tuple[str, bytes]:
    assert ours.address is not None
    name, _, secret = ours.address[1:].partition("#")
    return "\0" + name, secret.encode()


@pytest.mark.promise("f49")
@pytest.mark.parametrize("message", [b".", b"+", b"", b"0" * 16 + b".", b"x" * 1000])
def test_a_wake_up_without_the_secret_is_dropped(
    ours: DatagramNotifier, message: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _ = _split(ours)
    _send(name, message)
    assert ours.drain() is False
    ours.close()
    monkeypatch.setattr(notifier, "_filter", lambda *_: None)  # another kernel
    ours = DatagramNotifier(lambda: ())
    ours.bind()
    _send(_split(ours)[0], message)
    assert ours.drain() is False
    ours.close()


@pytest.mark.promise("f49")
@pytest.mark.skipif(notifier.sys.platform != "linux", reason="there is no such filter")
def test_strangers_cannot_fill_the_queue(ours: DatagramNotifier) -> None:
    name, _ = _split(ours)
    _send(name, b"." * 17, times=10_000)
    other = DatagramNotifier(lambda: [Address(1, "worker", ours.address or "")])
    other.notify(workers=True, clients=False)
    assert ours.drain() is True
    assert ours.is_flooded is False
    ours.close()
    other.close()


@pytest.mark.promise("f49")
def test_drain_takes_a_bounded_number(ours: DatagramNotifier) -> None:
    taken = []

    class Endless:
        def recv(self, size: int) -> bytes:
            taken.append(size)
            return ours._secret + b"."

        def close(self) -> None:
            pass

    listener, ours._socket = ours._socket, Endless()  # type: ignore[assignment]
    assert listener is not None
    listener.close()
    assert ours.drain() is True
    assert ours.is_flooded is True
    assert len(taken) == notifier._MOST_DATAGRAMS
    ours.close()


@pytest.mark.promise("f49", "f51")
@pytest.mark.parametrize(
    "address",
    ["/dev/log", "@/org/freedesktop/systemd1/notify", "relative", "", "@", "@jobify-1-xyz", "@jobify-1-" + "0" * 15],
)
def test_what_is_no_address_of_a_notifier_is_not_sent_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    ringing = DatagramNotifier(lambda: [Address(1, "worker", address)])
    real = ringing._socket
    assert real is not None

    class Sending:
        def sendto(self, message: bytes, target: str) -> None:
            sent.append(target)

        def close(self) -> None:
            real.close()

    ringing._socket = Sending()  # type: ignore[assignment]
    ringing.notify(workers=True, clients=True, owners=[1])
    assert sent == []
    ringing.close()


@pytest.mark.promise("f49")
def test_a_notifier_of_an_older_release_has_no_secret() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as old:
        old.bind("\0jobify-1-0123456789abcdef")
        ringing = DatagramNotifier(lambda: [Address(1, "worker", "@jobify-1-0123456789abcdef")])
        ringing.notify(workers=True, clients=False)
        assert old.recv(32) == b"."
        ringing.close()


@pytest.mark.promise("f49")
def test_the_address_in_the_row_has_the_secret_and_the_name_of_the_socket_has_not(tmp_path: Path) -> None:
    with opened(SQLiteStorage(tmp_path / "jobs.db")) as storage:
        storage.register(PROFILE, now=NOW)
        (row,) = owner_rows(storage)
        assert row.address is not None
        name, _, secret = row.address.partition("#")
        assert len(secret) == 16
        if notifier.sys.platform == "linux":
            assert name in Path("/proc/net/unix").read_text()
            assert secret not in Path("/proc/net/unix").read_text()


def _flood(target: str, message: bytes, has_begun: Event, may_end: Event) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.setblocking(False)
        while not may_end.is_set():
            for _ in range(1000):
                try:
                    stranger.sendto(message, target)
                except OSError:
                    time.sleep(0.0001)
            has_begun.set()


@pytest.mark.slow
@pytest.mark.promise("f49")
@pytest.mark.parametrize("knows", ["nothing", "the secret"])
async def test_a_flood_does_not_stop_the_event_loop(tmp_path: Path, knows: str) -> None:
    """Neither one of strangers, nor one of a process that can read the database."""
    app = Jobify(storage=SQLiteStorage(tmp_path / "jobs.db"))
    spawn = multiprocessing.get_context("spawn")
    has_begun, may_end = spawn.Event(), spawn.Event()
    looks = []

    @app.task(name="work")
    async def work(number: int) -> int:
        return number

    async with app:
        address = app.configs.storage._owners.notifier.address  # type: ignore[attr-defined]
        name, _, secret = address.partition("#")
        message = (secret if knows == "the secret" else "0" * 16).encode() + b"."
        senders = [spawn.Process(target=_flood, args=("\0" + name[1:], message, has_begun, may_end)) for _ in range(4)]
        for sender in senders:
            sender.start()
        try:
            await eventually(has_begun.is_set, within=120)  # four interpreters start
            answer = app.configs.storage.notifier.drain  # type: ignore[union-attr]

            def counted() -> bool:
                looks.append(1)
                return answer()

            app.configs.storage._owners.notifier.drain = counted  # type: ignore[attr-defined]

            turns, end = 0, time.monotonic() + 2
            while time.monotonic() < end:
                turns += 1
                await asyncio.sleep(0)
            jobs = [await work.push(number) for number in range(50)]
            assert [await job for job in jobs] == list(range(50))
            later = await work.schedule(1).delay(0.2)
            assert await later == 1
        finally:
            may_end.set()
            for sender in senders:
                sender.join()
        assert turns > 100
        assert len(looks) < turns

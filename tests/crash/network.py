"""A worker whose network is cut: others take its jobs, its late outcomes are refused, and then it goes on.

By hand, as root, because it takes a network namespace::

    python -m tests.crash.network

The worker lives in a namespace of its own, behind a pair of virtual interfaces. To cut the network is to give each of
the two a wrong address for the other: all packets are lost, and neither side is told. So nothing ends a connection but
the probes of the kernels and their patience with what is not acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.postgres_server import PostgresServer

from jobify import Jobify

from .databases import ServerDatabase
from .evidence import Report
from .killing import ROOT, until

__all__ = ("LONGEST_CUT", "Network", "cut_the_network", "is_possible")

LONGEST_CUT = 15.0
"""Seconds after which a process whose network is cut is taken for dead, and its jobs begin elsewhere."""
LONGEST_RETURN = 5.0
"""Seconds after which it consumes again when the network is there again."""
PATIENCE = 120.0
REFUSED = "its outcome is refused"
_NOWHERE = "02:00:00:00:00:99"


def is_possible() -> bool:
    """Whether this process may make namespaces."""
    name = f"jf{os.getpid()}t"
    return (
        os.geteuid() == 0
        and shutil.which("ip") is not None
        and _ip(f"netns add {name}", check=False)
        and _ip(f"netns del {name}")
    )


def _ip(command: str, *, check: bool = True) -> bool:
    return subprocess.run(["ip", *command.split()], check=check, capture_output=True).returncode == 0


class Network:
    """A namespace, and a link to it that can be cut."""

    def __init__(self) -> None:
        pid = os.getpid()
        self._name, self._near, self._far = f"jf{pid}", f"jf{pid}a", f"jf{pid}b"
        subnet = f"10.213.{pid % 256}"
        self.here, self.there = f"{subnet}.1", f"{subnet}.2"
        _ip(f"netns add {self._name}")
        try:
            _ip(f"link add {self._near} type veth peer name {self._far} netns {self._name}")
            _ip(f"addr add {self.here}/30 dev {self._near}")
            _ip(f"link set {self._near} up")
            _ip(f"-n {self._name} addr add {self.there}/30 dev {self._far}")
            _ip(f"-n {self._name} link set {self._far} up")
        except BaseException:
            self.close()
            raise

    def command(self, *arguments: str) -> list[str]:
        """A command that runs there."""
        return ["ip", "netns", "exec", self._name, *arguments]

    def cut(self) -> None:
        """From now on every packet is lost, in both directions."""
        _ip(f"neigh replace {self.there} lladdr {_NOWHERE} dev {self._near} nud permanent")
        _ip(f"-n {self._name} neigh replace {self.here} lladdr {_NOWHERE} dev {self._far} nud permanent")

    def join(self) -> None:
        """Let packets pass again."""
        _ip(f"neigh del {self.there} dev {self._near}")
        _ip(f"-n {self._name} neigh del {self.here} dev {self._far}")

    def close(self) -> None:
        """The link goes with its namespace."""
        _ip(f"netns del {self._name}", check=False)
        _ip(f"link del {self._near}", check=False)


def make_app(url: str, name: str, directory: Path) -> Jobify:
    """An app with one task, which answers who has run it; the job ``held`` waits in the worker that is cut off."""
    app = Jobify(storage=url)

    @app.task(name="work")
    async def work(key: str) -> str:
        with open(directory / "journal", "a") as journal:
            journal.write(f"{key} {name}\n")
        while (key, name) == ("held", "cut off") and not (directory / "release").exists():  # noqa: ASYNC110  of another process
            await asyncio.sleep(0.02)
        return name

    return app


async def serve(name: str, url: str, directory: str) -> None:
    """A worker, until it is asked to end."""
    is_over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, is_over.set)
    async with make_app(url, name, Path(directory)):
        await is_over.wait()


def cut_the_network(
    directory: Path, *, longest_cut: float = LONGEST_CUT, longest_return: float = LONGEST_RETURN
) -> Report:
    """One cut, and what came of it."""
    if not is_possible():
        return Report({"not possible here": "a network namespace takes root and iproute2"}, [])
    with ExitStack() as stack:
        network = Network()
        stack.callback(network.close)
        server = PostgresServer(listen_addresses=f"127.0.0.1,{network.here}")
        stack.callback(server.remove)
        server.admit(f"{network.there}/32")
        server.start()
        place = Place(directory, server.url())
        stack.callback(place.client.close)
        worker = stack.enter_context(place.worker("cut off", network))

        held = place.client.enqueue("work", ("held",), job_id="held")
        until(lambda: place.has_begun("held", "cut off"))
        with place.worker("other"):
            place.client.enqueue("work", ("until both are there",)).result(timeout=PATIENCE)
            until(lambda: len(place.client.workers()) == 2)
            network.cut()
            began = time.monotonic()
            until(lambda: place.has_begun("held", "other"))
            until_elsewhere = time.monotonic() - began
            accepted = held.result(timeout=PATIENCE)
        (directory / "release").touch()  # what was cut off comes to an end there, too
        network.join()
        began = time.monotonic()
        afterwards = place.client.enqueue("work", ("afterwards",)).result(timeout=PATIENCE)
        until_again = time.monotonic() - began
        until(lambda: REFUSED in place.log)
        still = place.client.get_job("held").result(timeout=PATIENCE)
        database = ServerDatabase(place.url)
        history = [outcome for (outcome,) in database.rows("SELECT outcome FROM attempts WHERE job_id = 'held'")]
        damage = database.damage()
    figures = {
        "seconds until its job began elsewhere": f"{until_elsewhere:.1f}",
        "seconds until it consumed again": f"{until_again:.1f}",
        "whose outcome was accepted": accepted,
        "attempts before that": ", ".join(history),
    }
    wrong = {
        f"its job began elsewhere later than {longest_cut:g} s": until_elsewhere > longest_cut,
        f"it consumed again later than {longest_return:g} s": until_again > longest_return,
        f"the outcome of {accepted!r} was accepted, and then that of {still!r}": (accepted, still)
        != ("other", "other"),
        f"{afterwards!r} ran what came afterwards": afterwards != "cut off",
        f"the history is {history}": history != ["lost"],
        f"the worker has ended with {worker.returncode}": worker.returncode != 0,
        str(damage): damage is not None,
    }
    return Report(figures, [sentence for sentence, is_wrong in wrong.items() if is_wrong])


class Place:
    """Where the processes meet: a database, and a directory with what they write down."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.url = url
        for name in ("journal", "log"):
            (directory / name).touch()
        self.client = make_app(url, "client", directory)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def has_begun(self, key: str, name: str) -> bool:
        return f"{key} {name}\n" in (self.directory / "journal").read_text()

    @contextmanager
    def worker(self, name: str, network: Network | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """A worker of this name, here or in the network; afterwards it has been asked to end, and has ended."""
        url = self.url if network is None else self.url.replace("127.0.0.1", network.here)
        command = [sys.executable, "-m", "tests.crash.network", "serve", name, url, str(self.directory)]
        with open(self.directory / "log", "a") as log:
            process = subprocess.Popen(
                command if network is None else network.command(*command), cwd=ROOT, stdout=log, stderr=log
            )
        try:
            yield process
            process.terminate()
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()


def main() -> int:
    if sys.argv[1:2] == ["serve"]:
        logging.basicConfig(format="%(process)d %(levelname)s %(message)s")
        asyncio.run(serve(*sys.argv[2:]))
        return 0
    parser = argparse.ArgumentParser(description="Cut the network of a worker and prove that its jobs run elsewhere.")
    parser.add_argument("--longest-cut", type=float, default=LONGEST_CUT, metavar="SECONDS")
    parser.add_argument("--longest-return", type=float, default=LONGEST_RETURN, metavar="SECONDS")
    parser.add_argument("--directory", type=Path, help="keep the files here; it must be empty")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of what ends the processes
    with tempfile.TemporaryDirectory() as temporary:
        report = cut_the_network(
            options.directory or Path(temporary),
            longest_cut=options.longest_cut,
            longest_return=options.longest_return,
        )
    print(report)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())

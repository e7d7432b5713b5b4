"""A Redis for the rivals that need one, where the program is installed: of its own, and ended afterwards."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ("is_installed", "running_redis")

_PATIENCE = 10  # seconds until it must listen


def is_installed() -> bool:
    """Whether there is a `redis-server` to start."""
    return shutil.which("redis-server") is not None


@contextmanager
def running_redis() -> Iterator[str]:
    """Start an empty server that listens on a socket in a new folder; the path of the socket.

    It keeps all in memory and writes nothing, which is its fastest setting.
    """
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:  # not in the checkout: such a path has to be short
        socket = Path(folder) / "redis.sock"
        options = ("--port", "0", "--unixsocket", str(socket), "--dir", folder, "--save", "", "--appendonly", "no")
        server = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        try:
            _wait_for(socket, server)
            yield str(socket)
        finally:
            server.terminate()
            server.wait()


def _wait_for(socket: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not socket.exists():
        if server.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("redis-server did not start")
        time.sleep(0.01)

"""A TCP proxy on loopback, between a test's programs and a server: a network that can be cut."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress

__all__ = ("TcpProxy",)


class TcpProxy:
    """Forwards connections from :attr:`port` to ``target``. While it is cut it takes and gives nothing, and no side is
    told: what was sent waits, as in a cable that was pulled out."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._is_joined = threading.Event()
        self._is_joined.set()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """From now on nothing passes."""
        self._is_joined.clear()

    def join(self) -> None:
        """Let all pass again, also what was sent meanwhile."""
        self._is_joined.set()

    def close(self) -> None:
        """End all connections."""
        self._is_over = True
        self._is_joined.set()
        self._thread.join()
        for one in (self._listener, *self._pairs):
            one.close()
        self._selector.close()

    def _run(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        while not self._is_over:
            self._is_joined.wait()
            for key, _ in self._selector.select(0.01):
                if not self._is_joined.is_set():
                    break
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._forward(key.fileobj)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        for one, other in ((near, far), (far, near)):
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, source: socket.socket) -> None:
        target = self._pairs.get(source)
        if target is None:
            return
        data = b""
        with suppress(OSError):
            data = source.recv(65536)
            target.sendall(data)
        if not data:
            for one in (source, target):
                self._pairs.pop(one, None)
                with suppress(KeyError, ValueError):
                    self._selector.unregister(one)
                one.close()

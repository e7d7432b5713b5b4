"""A TCP proxy on loopback, between a test's programs and a server: a network that can be cut."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress

__all__ = ("TcpProxy",)


class TcpProxy:
    """Forwards connections from :attr:`port` to ``target``. While it is cut, the connections of before have ended, and
    new ones get no answer."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._is_joined = threading.Event()
        self._is_joined.set()
        self._is_at_rest = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """From now on nothing passes. Returns when that is so."""
        self._is_at_rest.clear()
        self._is_joined.clear()
        self._is_at_rest.wait()

    def join(self) -> None:
        """Let new connections pass again, those that wait for an answer, too."""
        self._is_joined.set()

    def close(self) -> None:
        """End all connections."""
        self._is_over = True
        self._is_joined.set()
        self._thread.join()
        self._end_all()
        self._listener.close()
        self._selector.close()

    def _run(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        while not self._is_over:
            if not self._is_joined.is_set():
                self._end_all()
                self._is_at_rest.set()
                self._is_joined.wait()
            for key, _ in self._selector.select(0.01):
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
        if target is None:  # its other end has just gone
            return
        data = b""
        with suppress(OSError):
            data = source.recv(65536)
            target.sendall(data)
        if not data:
            self._end(source)

    def _end(self, one: socket.socket) -> None:
        for end in (one, self._pairs.get(one)):
            if end is not None and self._pairs.pop(end, None) is not None:
                self._selector.unregister(end)
                end.close()

    def _end_all(self) -> None:
        for one in list(self._pairs):
            self._end(one)

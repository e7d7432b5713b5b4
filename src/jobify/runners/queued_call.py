"""A call on its way through a pool of child processes: it waits, is sent to a child, and ends."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from jobify.exceptions import shown
from jobify.model.transient import TransientStartError
from jobify.runners import child, protocol
from jobify.runners.base import Call, OnEnd
from jobify.runners.function_address import Address, process_address
from jobify.runtime.logs import get_logger

__all__ = ("Holder", "QueuedCall")

log = get_logger("jobify.runners")

_numbers = itertools.count()


class Holder(Protocol):
    """What a call has been sent to."""

    def take_back(self) -> list[QueuedCall]:
        """Take back the calls that have not begun, in their order."""
        ...

    def interrupt(self, queued: QueuedCall) -> None:
        """End a call that has begun."""
        ...


class QueuedCall:
    """One call in a pool. It keeps the :class:`~jobify.runners.base.Call` up to date."""

    __slots__ = (
        "_is_forgotten",
        "_on_end",
        "address",
        "call",
        "cost",
        "holder",
        "is_counted",
        "is_large",
        "number",
        "packet",
        "request",
        "sent_at",
    )

    def __init__(self, call: Call, on_end: OnEnd) -> None:
        """PayloadError or ConfigurationError for what cannot be sent to a child."""
        self.address: Address | None = call.address or process_address(call.func)
        self.request = protocol.encode_request(
            protocol.Request(self.address, call.args, call.kwargs, call.job_info),
        )
        self.call: Call | None = call
        self.is_counted = call.func is not child.check
        """Whether it is one of the calls after which a child is replaced."""
        self._prepare(on_end)

    def _prepare(self, on_end: OnEnd) -> None:
        self.number = next(_numbers)
        self.packet = protocol.packet(self.number, self.request)
        self.is_large = self.packet[:1] == protocol.STREAMED
        """Whether it is sent on the stream, and so cannot be taken back."""
        self._on_end = on_end
        self._is_forgotten = False
        self.holder: Holder | None = None
        """The child that it was sent to."""
        self.cost = 0
        """How many nanoseconds it is expected to take."""
        self.sent_at = 0

    @classmethod
    def internal(cls, request: bytes) -> QueuedCall:
        """A call of the runner's own, whose end is not reported."""
        queued = cls.__new__(cls)
        queued.address = queued.call = None
        queued.request, queued.is_counted = request, False
        queued._prepare(_ignore)
        return queued

    @property
    def is_internal(self) -> bool:
        return self.call is None

    @property
    def on_message(self) -> Callable[[Any], Awaitable[None] | None] | None:
        """What handles the messages of the function."""
        return None if self.call is None or self._is_forgotten else self.call.on_message

    def begin(self) -> None:
        """It is the first without a reply of those that its child was sent."""
        if self.call is not None and not self.call.is_running:
            self.call.begin()

    def take_back(self) -> None:
        """The child has not begun it."""
        self.holder = None
        if self.call is not None:
            self.call.end()

    def forget(self) -> None:
        """Report nothing of it any more, except when it has ended."""
        self._is_forgotten = True

    def end(self, reply: bytes, duration: int) -> None:
        """The child has replied."""
        if self.call is None:
            return
        self.call.seconds = duration / 1e9
        try:
            value, error = protocol.outcome(reply), None
        except BaseException as raised:
            value, error = None, raised
            if reply[:1] == protocol.MISFIT:
                self.call.misfit = shown(raised)
        self._finish(value, error)

    def fail(self, error: BaseException) -> None:
        """The child has died over it, or there is no child for it."""
        if self.call is not None:
            if isinstance(error, TransientStartError):
                self.call.refusal = error.reason
            self._finish(None, error)

    def _finish(self, value: Any, error: BaseException | None) -> None:
        call, self.holder = self.call, None
        assert call is not None
        call.queued = None
        call.end()
        if not self._is_forgotten:
            self._is_forgotten = True
            try:
                self._on_end(call, value, error)
            except Exception:
                log.exception("The end of %r could not be handled", call)


def _ignore(_call: Call, _value: Any, _error: BaseException | None) -> None: ...

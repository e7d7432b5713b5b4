"""A call on its way through a pool of child processes: it waits, is sent to a child, and ends."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from jobify.exceptions import shown
from jobify.model.transient import TransientStartError
from jobify.runners import child, descendants, protocol
from jobify.runners.base import FunctionCall, OnEnd
from jobify.runners.connection import ChildConnection, RequestPackets
from jobify.runners.function_address import Address, process_address
from jobify.runners.log_channel import Levels, current_levels, levels_request
from jobify.runtime.logs import get_logger

__all__ = ("AHEAD", "Holder", "QueuedCall", "SentCalls")


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
    """One call in a pool. It keeps the :class:`~jobify.runners.base.FunctionCall` up to date."""

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

    def __init__(self, call: FunctionCall, on_end: OnEnd) -> None:
        """PayloadError or ConfigurationError for what cannot be sent to a child."""
        self.address: Address | None = call.address or process_address(call.func)
        self.request = protocol.encode_request(
            protocol.Request(self.address, call.args, call.kwargs, call.job_info),
        )
        self.call: FunctionCall | None = call
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


def _ignore(_call: FunctionCall, _value: Any, _error: BaseException | None) -> None: ...


# -- sent calls --------------------------------------------------------------------------------------------------------
# The calls that one child has been sent: the one at work, and those behind it that it has not begun.
#
# A child begins a call when it has sent the reply to the one before. So the first call without a reply is the one at
# work, unless the child has not read it yet.

AHEAD: Final = 20_000_000
"""Nanoseconds of work that a child may have at once: long enough for it not to wait for the parent."""

MOST_AHEAD: Final = 128
"""Calls that a child may have at once."""


class SentCalls:
    """Sends calls to a child; ``on_begin`` is called with the time at which one begins, or 0 if none is at work."""

    def __init__(self, connection: ChildConnection, packets: RequestPackets, on_begin: Callable[[int], None]) -> None:
        self.calls: deque[QueuedCall] = deque()
        """Those without a reply, as far as replies are handled."""
        self.load = 0
        """How many nanoseconds of work they are, by what such calls have taken."""
        self.began_at = 0
        """When the call at work began, in nanoseconds since the system's start; 0 if there is none."""
        self.levels: Levels | None = current_levels()
        """The levels of logging that the child has; None if they have to be sent."""
        self._connection = connection
        self._packets = packets
        self._on_begin = on_begin
        self._has_no_room = False
        self._last_end = 0
        """When the last call ended of those whose replies are handled."""

    def send(self, queued: QueuedCall, holder: Holder) -> bool:
        """Send a call; False if there is no room now. OSError if the child does not read any more."""
        is_sent = self._send_levels(holder) and self._send(queued, holder)
        self._has_no_room = not is_sent
        return is_sent

    def _send_levels(self, holder: Holder) -> bool:
        levels = current_levels()
        if levels is self.levels:
            return True
        if not self._send(QueuedCall.internal(levels_request(levels)), holder):
            return False
        self.levels = levels
        return True

    def _send(self, queued: QueuedCall, holder: Holder) -> bool:
        if not self.calls:
            queued.begin()  # before the child can
        queued.holder = holder
        queued.sent_at = descendants.boot_time_ns()
        is_sent = False
        try:
            is_sent = self._packets.send(queued.packet)
        finally:
            if not is_sent:
                queued.take_back()
        if not is_sent:
            return False
        if queued.is_large:
            self._connection.send(queued.request)
        self.calls.append(queued)
        self.load += queued.cost
        if not self.began_at:
            self._set_began_at(queued.sent_at)
        return True

    def can_take(self, queued: QueuedCall, now: int) -> bool:
        """Whether a call may be sent ahead of its turn."""
        calls = self.calls
        return not calls or (
            len(calls) < MOST_AHEAD
            and self.load + queued.cost <= AHEAD
            and now - self.began_at < AHEAD
            and not self._has_no_room
            and not calls[-1].is_large
        )

    def take_back(self, *, is_dead: bool = False) -> list[QueuedCall]:
        """Take back the calls that have not begun, in their order."""
        calls = self.calls
        if not calls or (calls[-1].is_large and not is_dead):
            return []
        numbers = self._packets.take_back()
        if not numbers:
            return []
        taken = [queued for queued in calls if queued.number in numbers]
        self.calls = calls = deque(queued for queued in calls if queued.number not in numbers)
        for queued in taken:
            self.load -= queued.cost
            if queued.is_internal:
                self.levels = None
            queued.take_back()
        self._has_no_room = False
        if len(calls) <= self._connection.replies:
            self._set_began_at(0)
        self.begin_first()
        return [queued for queued in taken if not queued.is_internal]

    def has_reply(self, queued: QueuedCall) -> bool:
        """Whether the child has replied to a call by now."""
        self._connection.read_all()
        return self.calls.index(queued) < self._connection.replies

    def update_began_at(self) -> None:
        """Note when the call at work began: when the one before it ended, although that reply may not be handled."""
        answered = self._connection.replies
        if answered:
            at_work = self.calls[answered] if len(self.calls) > answered else None
            self._set_began_at(0 if at_work is None else max(at_work.sent_at, self._connection.last_reply_at))

    def _set_began_at(self, began_at: int) -> None:
        self.began_at = began_at
        self._on_begin(began_at)

    def end_first(self, ended_at: int) -> tuple[QueuedCall, int]:
        """Take out the call whose reply is handled next; it, and how many nanoseconds it took."""
        queued = self.calls.popleft()
        self.load -= queued.cost
        self._has_no_room = False
        duration = ended_at - max(queued.sent_at, self._last_end)
        self._last_end = ended_at
        return queued, duration

    def begin_first(self) -> None:
        """The reply to the call before was handled: the next one is at work, if it was not taken back."""
        if self.calls:
            self.calls[0].begin()

    def fail(self, error: BaseException) -> None:
        """The child has died over the call at work."""
        while self.calls:
            self.calls.popleft().fail(error)

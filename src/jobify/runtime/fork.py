"""What a forked process must not inherit from a process that runs an app.

A task may fork: with ``os.fork``, ``multiprocessing``, ``pty.fork``, or a subprocess with a ``preexec_fn``. The child
is a copy of its parent, and three things in the copy do harm.

*Signal handlers.* A worker answers SIGTERM by telling its event loop, which does not run in the fork, so the signal
would be lost and ``Process.terminate()`` would wait for ever. Worse, the wake-up descriptor of an event loop is shared
with the parent, so a signal that is sent to the fork would arrive in the parent. Handlers that were set with
:func:`install_handler` and those of an event loop are therefore replaced by what was there before; a handler that the
user set with ``signal.signal`` stays. No moment is left out: signals are blocked from before the fork until the
handlers are replaced, because CPython discards what arrives before that.

*The event loop.* A fork on the thread of an event loop would go on running that loop, and with it steps of other jobs,
on selectors that the parent uses as well. The first thing that the loop finds to do in the fork is to end.

*The call stack.* A fork that returns or raises out of the task would settle the job a second time, or wait for the next
one. Code that calls a task uses :func:`call`, which ends such a fork where the task ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pickle import PicklingError
from types import FrameType
from typing import Any, ClassVar, Final, NoReturn, Protocol, Self, TypeVar
from weakref import WeakSet

__all__ = (
    "ForkAware",
    "Forkable",
    "ProcessBound",
    "arm",
    "call",
    "end_fork",
    "forks",
    "guard_loop",
    "install_handler",
    "register",
    "release_loop",
    "renew_in_child",
)


ReturnT = TypeVar("ReturnT")

_AWAITED: Final = (
    "A fork of an async task cannot await: the event loop belongs to the process that forked. End the fork with "
    "os._exit(), or start a process of its own with subprocess or multiprocessing."
)


class _OwnHandler:
    """A signal handler of this process alone; a fork gets ``previous`` back."""

    __slots__ = ("_handle", "previous")

    def __init__(self, handle: Callable[[int, FrameType | None], object], previous: Any) -> None:
        self._handle = handle
        self.previous = previous

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._handle(number, frame)


def install_handler(number: int, handle: Callable[[int, FrameType | None], object]) -> Callable[[], None]:
    """Set a signal handler that forks do not inherit; returns what puts the previous one back."""
    previous = signal.getsignal(number)
    signal.signal(number, _OwnHandler(handle, previous))

    def restore() -> None:
        signal.signal(number, signal.SIG_DFL if previous is None else previous)

    return restore


def guard_loop(loop: AbstractEventLoop) -> None:
    """The calling thread runs ``loop`` and an app on it: its forks must not go on with either."""
    global _is_armed_for_apps
    _loops[threading.get_ident()] = loop
    if not _is_armed_for_apps:
        _is_armed_for_apps = True
        arm()


def release_loop(loop: AbstractEventLoop) -> None:
    """The app on ``loop`` has stopped."""
    for thread in [thread for thread, guarded in _loops.items() if guarded is loop]:
        del _loops[thread]


def call(func: Callable[..., ReturnT], /, *args: Any, **kwargs: Any) -> ReturnT:
    """Call ``func``. A fork that comes back from it, by a return or an exception, ends here."""
    process = os.getpid()
    try:
        value = func(*args, **kwargs)
    except BaseException as error:
        if os.getpid() != process:
            end_fork(error)
        raise
    if os.getpid() != process:
        end_fork(None)
    return value


def end_fork(error: BaseException | None) -> NoReturn:
    """End this process as a script ends that returns or raises ``error``, without what it inherited.

    Threads that it started itself are waited for. Exit handlers are not run: they are those of the parent, and would
    remove what the parent still uses.
    """
    if error is not None and not isinstance(error, SystemExit | KeyboardInterrupt):
        with suppress(BaseException):
            traceback.print_exception(error)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
    os._exit(_exit_code(error))


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    if not isinstance(error, SystemExit):
        return 1
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    with suppress(BaseException):
        print(error.code, file=sys.stderr)
    return 1


class _Forks:
    """Distinguishes a fork from its parent by two loads, where ``os.getpid()`` makes a system call."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0
        """Differs from what it was in the parent."""


class ForkAware(Protocol):
    """An object that must not be used in a fork as it was in the parent: it holds locks, threads or descriptors."""

    def after_fork_in_child(self) -> None:
        """Reset the state, because threads that the fork does not have may hold locks."""
        ...


class Forkable(ForkAware, Protocol):
    """An object with a state that a fork must not tear apart: it comes to rest for the fork."""

    def before_fork(self) -> None:
        """Come to rest, and let nothing begin."""
        ...

    def after_fork_in_parent(self) -> None:
        """Go on."""
        ...

    def after_fork_in_child(self) -> None:
        """Release what belongs to the parent."""
        ...


forks: Final = _Forks()
_forkables: WeakSet[Forkable] = WeakSet()
_resting: list[Forkable] = []
_renewed: WeakSet[ForkAware] = WeakSet()
_loops: dict[int, AbstractEventLoop] = {}
_masks = threading.local()


def renew_in_child(owner: ForkAware) -> None:
    """Call ``after_fork_in_child`` of ``owner`` in every fork of this process, as long as the object lives."""
    _renewed.add(owner)


def register(forkable: Forkable) -> None:
    """Call the methods of ``forkable`` around every fork of this process, as long as the object lives."""
    _forkables.add(forkable)


def _rest() -> None:
    # Always in the same order, so that two threads that fork do not wait for each other.
    for forkable in sorted(_forkables, key=id):
        forkable.before_fork()
        _resting.append(forkable)


def _go_on() -> None:
    while _resting:
        _resting.pop().after_fork_in_parent()


def _renew() -> None:
    """Renew everything, even if one hook fails; the interpreter prints the first error."""
    failure: BaseException | None = None
    for owner in (*reversed(_resting), *_renewed):
        try:
            owner.after_fork_in_child()
        except BaseException as error:
            failure = failure or error
    _resting.clear()
    if failure is not None:
        raise failure


def _before(hook: int) -> None:
    """Block all signals in the thread that forks, so that none arrives in the fork too early."""
    if hook == _last_hook:
        _masks.hook = hook
        _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _in_parent(hook: int) -> None:
    if hook == _masks.hook:
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _in_child(hook: int) -> None:
    forks.count += 1
    if hook != _masks.hook:
        return
    try:
        if _reset_handlers() or _loops:
            signal.set_wakeup_fd(-1)
        loop = _loops.get(threading.get_ident())
        _loops.clear()
        if loop is not None:
            _stop(loop)
        sys.unraisablehook = partial(_on_unraisable, sys.unraisablehook)
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)
    except BaseException as error:  # by the handler of a signal that was waiting; raised from here it would be lost
        os._exit(_exit_code(error))


def _on_unraisable(show: Callable[[sys.UnraisableHookArgs], Any], args: sys.UnraisableHookArgs) -> None:
    """In a fork: a Ctrl-C ends it, also while hooks still run that were registered after ours."""
    if isinstance(args.exc_value, KeyboardInterrupt):
        os._exit(_exit_code(args.exc_value))
    show(args)


def _reset_handlers() -> bool:
    """Replace the handlers that belong to the parent; whether there was one of ours."""
    has_own = False
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        is_own = isinstance(handler, _OwnHandler)
        has_own = has_own or is_own
        while isinstance(handler, _OwnHandler):
            handler = handler.previous
        if _is_of_a_loop(handler) and (is_own or _loops):
            handler = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        elif not is_own:
            continue
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
    return has_own


def _is_of_a_loop(handler: Any) -> bool:
    """Whether an event loop has set it: asyncio's or uvloop's, for ``asyncio.run`` or ``add_signal_handler``."""
    module = getattr(getattr(handler, "func", handler), "__module__", None)
    return isinstance(module, str) and module.partition(".")[0] in ("asyncio", "uvloop")


def _stop(loop: AbstractEventLoop) -> None:
    """Have ``loop`` do nothing more in this process, should the code that forked hand control back to it."""
    ready = getattr(loop, "_ready", None)
    if isinstance(ready, deque):
        ready.clear()  # steps of other tasks, which the parent takes
    with suppress(RuntimeError):  # closed
        loop.call_soon(lambda: end_fork(RuntimeError(_AWAITED)))


def arm() -> None:
    """Have signals come back only after all fork hooks that are registered by now.

    An exception that a signal handler raises inside a hook is lost, and with it a KeyboardInterrupt. Hooks run in the
    fork in the order in which they were registered, so the one that lets signals through again must be the last.
    """
    global _last_hook
    if not hasattr(os, "register_at_fork"):  # pragma: no cover - Windows has no fork
        return
    hook = _last_hook + 1
    os.register_at_fork(
        before=partial(_before, hook),
        after_in_parent=partial(_in_parent, hook),
        after_in_child=partial(_in_child, hook),
    )
    _last_hook = hook


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(before=_rest, after_in_parent=_go_on, after_in_child=_renew)
_last_hook = 0
_is_armed_for_apps = False
arm()


# -- of this process ---------------------------------------------------------------------------------------------------
# Objects that mean something in their process only.
#
# They hold connections, threads and event loops. A copy of one is itself. Pickling one is refused with the way to name
# the same thing elsewhere, because pickle's own error ("cannot pickle 'sqlite3.Connection' object") names neither.


class ProcessBound:
    """Base of objects that cannot be pickled; ``instead`` names what to pass on."""

    __slots__ = ()

    instead: ClassVar[str]

    def __reduce__(self) -> NoReturn:
        raise PicklingError(f"{self!r} cannot be pickled, because it belongs to its process. {self.instead}")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

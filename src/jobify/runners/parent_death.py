"""How a child process is bound to its parent: it ends with it, and leaves signals to it.

An orphan must not go on: its job runs again elsewhere as soon as the parent is known to be dead. Three things see to
that, because each has a gap that another one closes.

*The end of the connection*, noticed by a thread of the child (:mod:`jobify.runners.child`), works everywhere. The
thread has no turn while C code keeps the interpreter to itself.

*The parent pipe*, which the parent holds open and never writes to, has no such gap: when the parent's end closes, Linux
itself sends SIGKILL to the process group of the child, and so to the subprocesses of its task (fcntl(2), ``F_SETSIG``).

*The parent-death signal* (prctl(2), ``PR_SET_PDEATHSIG``) comes even if a fork of the parent keeps its descriptors
open. It is SIGTERM, and not SIGKILL: that would end the child alone, before the closed pipe can end the whole group.

Otherwise SIGTERM, SIGINT and SIGHUP mean nothing to a child. A Ctrl-C, or a service manager that signals every process
of a unit, does not fail the jobs that the parent is still letting finish.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Any, Final

from jobify.runtime.fork import install_handler

__all__ = ("bind_to_parent", "end_group", "leave_signals_to")

_PR_SET_PDEATHSIG: Final = 1


def bind_to_parent(parent_pipe: int, parent: int) -> None:
    """For a child that leads a process group: end it when the process ``parent`` ends."""
    leave_signals_to(parent)
    if sys.platform == "linux":
        import ctypes  # only here, and never in the parent
        import fcntl

        with suppress(OSError):  # not in every sandbox
            fcntl.fcntl(parent_pipe, fcntl.F_SETOWN, -os.getpgrp())
            fcntl.fcntl(parent_pipe, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(parent_pipe, fcntl.F_SETFL, fcntl.fcntl(parent_pipe, fcntl.F_GETFL) | os.O_ASYNC)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def leave_signals_to(parent: int) -> None:
    """Ignore SIGINT and SIGHUP, and SIGTERM while ``parent`` lives.

    With handlers, rather than SIG_IGN, which the subprocesses of a task would inherit.
    """

    def on_terminate(_number: int, _frame: Any) -> None:
        if os.getppid() != parent:
            end_group()

    install_handler(signal.SIGINT, lambda _number, _frame: None)
    install_handler(signal.SIGTERM, on_terminate)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        install_handler(signal.SIGHUP, lambda _number, _frame: None)


def end_group() -> None:
    """Kill this process and the subprocesses of its task."""
    os.killpg(os.getpgrp(), signal.SIGKILL)

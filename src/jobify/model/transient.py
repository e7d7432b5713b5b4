"""Errors by which the system refuses a resource, and the limit that was reached.

A refusal is not caused by the calling code, and the same call may succeed a moment later. So a job that could not begin
is released and its attempt is not counted, a write is repeated, a thread is started again. Only this module decides
which errors are refusals.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from jobify.exceptions import ProcessStartError, StorageUnavailableError
from jobify.runtime.machine import folders

__all__ = ("TransientStartError", "as_unavailable", "descriptor_shortage", "refusal_of")

_DESCRIPTORS: Final = frozenset({errno.EMFILE})
_SYSTEM_DESCRIPTORS: Final = frozenset({errno.ENFILE})
_TASKS: Final = frozenset({errno.EAGAIN})
_MEMORY: Final = frozenset({errno.ENOMEM, errno.ENOBUFS})
_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC})

_THREAD_REFUSED: Final = ("can't start new thread", "can't allocate lock")
"""The messages of CPython's RuntimeError when the system has no thread, or no memory for one."""

_ROOM: Final = 8
"""The number of descriptors that opening a storage takes."""


class TransientStartError(ProcessStartError):
    """A child process could not start, for a reason that may soon be over.

    Its call has not begun.
    """


def refusal_of(error: BaseException) -> str | None:
    """The refused resource, with the limit and its numbers, as one sentence. None if ``error`` is no refusal."""
    text = _limit_of(error)
    return None if text is None else f"the system refuses it ({_line(error)}): {text}"


def as_unavailable(error: BaseException, what: str) -> StorageUnavailableError | None:
    """``error`` as a StorageUnavailableError; None if it is no refusal.

    ``what`` is the sentence about what could not be done.
    """
    refusal = refusal_of(error)
    if refusal is None:
        return None
    unavailable = StorageUnavailableError(f"{what}: {refusal}.")
    unavailable.__cause__ = error
    return unavailable


def descriptor_shortage() -> str | None:
    """The limit on descriptors that is (nearly) reached now. None if there is none.

    For errors without a reason, after which descriptors may have been closed again.
    """
    opened: list[int] = []
    try:
        opened.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(_ROOM))
    except OSError as error:
        return _limit_of(error)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return None


def _line(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _limit_of(error: BaseException) -> str | None:
    if isinstance(error, MemoryError):
        return _memory_limits()
    if isinstance(error, RuntimeError):
        return _task_limits() if str(error).startswith(_THREAD_REFUSED) else None
    if not isinstance(error, OSError):
        return None
    number = error.errno
    if number in _DESCRIPTORS:
        return f"all {_soft_limit('RLIMIT_NOFILE')} descriptors of this process are in use (RLIMIT_NOFILE, `ulimit -n`)"
    if number in _SYSTEM_DESCRIPTORS:
        return f"the machine has no descriptor left (fs.file-max is {_read('/proc/sys/fs/file-max')})"
    if number in _TASKS:
        return _task_limits()
    if number in _MEMORY:
        return _memory_limits()
    return "the disk is full, or the quota is used up" if number in _DISK else None


def _task_limits() -> str:
    return (
        f"no further process or thread (RLIMIT_NPROC, `ulimit -u`, is {_soft_limit('RLIMIT_NPROC')}; pids.max of the "
        f"cgroup is {_of_cgroup('pids.max')}, in use {_of_cgroup('pids.current')}; kernel.threads-max is "
        f"{_read('/proc/sys/kernel/threads-max')})"
    )


def _memory_limits() -> str:
    return (
        f"no memory (RLIMIT_AS, `ulimit -v`, is {_soft_limit('RLIMIT_AS')}; memory.max of the cgroup is "
        f"{_of_cgroup('memory.max')}, in use {_of_cgroup('memory.current')})"
    )


def _soft_limit(name: str) -> str:
    try:
        import resource
    except ImportError:  # not on Windows
        return "unknown"
    number = getattr(resource, name, None)
    soft = resource.RLIM_INFINITY if number is None else resource.getrlimit(number)[0]
    return "unlimited" if soft == resource.RLIM_INFINITY else str(soft)


def _of_cgroup(name: str) -> str:
    """A value of the nearest control group that has one."""
    with suppress(OSError, ValueError, MemoryError):
        for folder in folders(name.partition(".")[0]):
            with suppress(OSError):
                return (folder / name).read_text().strip()
    return "unknown"


def _read(path: str) -> str:
    with suppress(OSError, MemoryError):
        return Path(path).read_text().strip()
    return "unknown"

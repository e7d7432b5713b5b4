"""Identity of a process: proof of life when its lock file says nothing.

A process id alone is no identity, because ids are used again. Together with the time at which the process started
(field 22 of ``/proc/<pid>/stat``) it is one, within one boot of one kernel and one pid namespace. A container has a pid
namespace of its own, so an identity also names the boot, the pid namespace and the time namespace in which it holds;
a process of another one cannot be checked from here.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Final

__all__ = ("current", "is_running")

_DEAD: Final = "ZX"
"""States of a process that has ended and was not waited for by its parent."""


def current() -> str | None:
    """The identity of this process; None where the system has no such files."""
    return _identity(os.getpid())


@lru_cache(maxsize=1)
def _identity(pid: int) -> str | None:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            boot = file.read().strip()
        namespaces = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "time")]
    except OSError:
        return None
    started = _started(pid)
    return f"{boot}/{'/'.join(namespaces)}/{started}" if started else None


def is_running(pid: int, identity: str, *, is_quick: bool = False) -> bool | None:
    """Whether the process ``pid`` that had this ``identity`` still runs; None if that is unknown here.

    ``is_quick``: do not look when it started, nor whether it only waits for its parent; a tenth of the cost.
    """
    ours = current()
    scope, _, started = identity.rpartition("/")
    if ours is None or pid <= 0 or ours.rpartition("/")[0] != scope:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's: it exists
        pass
    except (OSError, OverflowError):
        return None
    if is_quick:
        return True
    found = _started(pid)
    return None if found is None else found == started


def _started(pid: int) -> str | None:
    """When a process started, in ticks; empty if it has ended; None if it cannot be seen."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(descriptor, 4096)
    except OSError:  # it ends at this moment
        return None
    finally:
        os.close(descriptor)
    fields = text[text.rfind(b")") + 2 :].split()  # the name before it may hold anything, also spaces and brackets
    if len(fields) < 20:
        return None
    if fields[0].decode() in _DEAD and int(fields[17]) <= 1:  # with threads that go on, only the first one has ended
        return ""
    return fields[19].decode()

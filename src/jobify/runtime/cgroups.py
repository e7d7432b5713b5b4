"""The control groups of this process: limits and counters of its container.

A group is a folder below ``/sys/fs/cgroup``, and ``/proc/self/cgroup`` names those of a process (cgroups(7)). Version 2
has one group with all controllers, version 1 has one for each controller; a machine may use both. In a container the
named path may be the host's, of which only the mounted root is visible. The files of the two versions have different
names, so a caller looks for both in every folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ("ROOT", "OutOfMemory", "folders")

ROOT: Final = Path("/")


def folders(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """Folders of the groups with this controller, and of those above them.

    The nearest group comes first. Folders that do not exist are included; there are none where there is no
    ``/proc/self/cgroup``. ``root`` is for tests.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mount = root / "sys/fs/cgroup"
    for fields in (line.split(":", 2) for line in lines):
        if len(fields) != 3:
            continue
        _, controllers, path = fields
        if not controllers:  # version 2, also beside version 1
            yield from _with_parents(mount, path)
            yield from _with_parents(mount / "unified", path)
        elif controller in controllers.split(","):
            yield from _with_parents(mount / controllers, path)
            if controllers != controller:
                yield from _with_parents(mount / controller, path)


def _with_parents(mount: Path, path: str) -> Iterator[Path]:
    group = Path(path.lstrip("/"))
    yield mount / group
    for parent in group.parents:
        yield mount / parent


class OutOfMemory:
    """Counts the processes of this control group that the kernel has killed for lack of memory.

    Where the kernel keeps no count, there are none.
    """

    def __init__(self, root: Path = ROOT) -> None:
        files = (
            folder / name for folder in folders("memory", root) for name in ("memory.events", "memory.oom_control")
        )
        self._file = next((file for file in files if file.is_file()), None)
        self._count = self._read()

    def has_killed(self) -> bool:
        """Whether there was one since the last call."""
        before, self._count = self._count, self._read()
        return self._count > before

    def _read(self) -> int:
        if self._file is None:
            return 0
        try:
            lines = self._file.read_text().splitlines()
        except OSError:
            return 0
        fields = (line.split() for line in lines)
        return next((int(field[1]) for field in fields if len(field) == 2 and field[0] == "oom_kill"), 0)

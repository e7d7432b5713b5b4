"""``jobify worker``: this process becomes a worker, or the supervisor of several."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from jobify.cli.environment import APP, APP_DIR, request_one_heap
from jobify.cli.options import for_code

if TYPE_CHECKING:
    from jobify.cli.worker import WorkerArgs

__all__ = ("worker",)


_Path: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="APP", help="The app, or a function that makes it, as package.module:name.", show_default=False
    ),
]
_Queues: TypeAlias = Annotated[
    str | None,
    typer.Option("--queues", "-q", metavar="A,B", help="Serve only these queues instead of all."),
]
_Processes: TypeAlias = Annotated[
    int, typer.Option("--processes", "-p", metavar="N", min=1, help="The number of worker processes.")
]
_Concurrency: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--concurrency",
        "-c",
        metavar="N",
        min=1,
        help="Jobs at once in each process, of each kind (async, thread, process).",
    ),
]
_Threads: TypeAlias = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="Threads in each process, instead of those of the app."),
]
_Children: TypeAlias = Annotated[
    int | None,
    typer.Option("--children", metavar="N", min=1, help="Child processes of each process, for RunMode.PROCESS."),
]
_MaxTasksPerChild: TypeAlias = Annotated[
    int | None,
    typer.Option("--max-tasks-per-child", metavar="N", min=1, help="Replace a child after N tasks."),
]
_MaxMemoryPerChild: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--max-memory-per-child", metavar="BYTES", help="Replace a child that uses more after a task: 512M, 2G."
    ),
]
_Reload: TypeAlias = Annotated[
    bool,
    typer.Option("--reload", help="For development: restart when a .py file here, or in --app-dir, changes."),
]
_Grace: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--grace",
        metavar="SECONDS",
        min=0,
        help="Time that running jobs have to finish at a stop; by default the app's grace, or 30.",
        show_default=False,
    ),
]
_LogLevel: TypeAlias = Annotated[
    str, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
]


@for_code
def worker(
    app: str | None,
    path: _Path = None,
    queues: _Queues = None,
    processes: _Processes = 1,
    concurrency: _Concurrency = None,
    threads: _Threads = None,
    children: _Children = None,
    max_tasks_per_child: _MaxTasksPerChild = None,
    max_memory_per_child: _MaxMemoryPerChild = None,
    reload: _Reload = False,
    grace: _Grace = None,
    log_level: _LogLevel = "info",
) -> None:
    """Run jobs until a signal to stop.

    SIGTERM, SIGHUP or Ctrl-C: no more jobs are started, running jobs have the grace period to finish, the rest is
    released without a lost attempt. A second signal, at least a second later, ends the grace period.

    Example: jobify worker shop.tasks:app --queues mail,images --processes 4
    """
    from jobify.cli.errors import CommandError
    from jobify.cli.worker import WorkerArgs
    from jobify.worker.exit_codes import ExitCode

    name = path or app or os.environ.get(APP)
    if not name:
        raise CommandError(f"No app is named: jobify worker package.module:app, or set {APP}.", ExitCode.USAGE)
    args = WorkerArgs(
        app=name,
        queues=_names(queues),
        concurrency=concurrency,
        grace=grace,
        log_level=_level(log_level),
        threads=threads,
        children=children,
        max_tasks_per_child=max_tasks_per_child,
        max_memory_per_child=None if max_memory_per_child is None else _bytes(max_memory_per_child),
    )
    request_one_heap()
    if reload:
        raise typer.Exit(_reload(args, processes))
    raise typer.Exit(_supervise(args, processes) if processes > 1 else _become(args.command()))


def _supervise(args: WorkerArgs, processes: int) -> int:
    from jobify.cli.worker import log_to_stderr
    from jobify.worker.supervisor import Supervisor

    log_to_stderr(args.log_level)
    return Supervisor(args.command(), processes, grace=args.grace).run()


def _reload(args: WorkerArgs, processes: int) -> int:
    from jobify.cli.worker import log_to_stderr
    from jobify.worker.reloader import Reloader, SourceFiles

    log_to_stderr(args.log_level)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # compiled code is checked by the second, and files may change faster
    folders = {os.path.realpath(os.environ.get(APP_DIR) or os.getcwd()): True, os.path.realpath(os.getcwd()): True}
    return Reloader(args.command(), processes, grace=args.grace, files=SourceFiles(tuple(folders))).run()


def _become(command: list[str]) -> int:
    """Replace this process by another program; where that is not possible, run it and return its exit code."""
    if sys.platform != "win32":  # pragma: no branch - on Windows the caller would not wait
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(command[0], command)
    return subprocess.call(command)  # pragma: no cover - on Windows


def _names(text: str | None) -> tuple[str, ...] | None:
    """The names in a list with commas; None if there is no list."""
    if text is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise typer.BadParameter("Name a queue, or omit --queues to serve every queue.")
    return names


def _bytes(text: str) -> int:
    """A number of bytes: 1048576, 512M, 2G."""
    found = re.fullmatch(r"(\d+)\s*([KMG]?)(i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise typer.BadParameter(
            f"{text!r}: write a number of bytes, such as 536870912, 512M or 2G.", param_hint="--max-memory-per-child"
        )
    return int(found[1]) << 10 * " KMG".index(found[2].upper() or " ")


def _level(text: str) -> str:
    if text.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise typer.BadParameter(f"{text!r}: write debug, info, warning or error.")
    return text.upper()

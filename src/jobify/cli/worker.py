"""The program of a worker process (``python -m jobify.cli.worker``), which ``jobify worker`` becomes or supervises.

It is a program of its own because a worker runs for long: the libraries that parse a command line need 12 MB, more than
a quarter of an idle worker, in each worker process. No user types these arguments, so they have no help, and no library
(``argparse`` takes a megabyte with what it imports).
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from jobify.cli.app_loader import is_postgres, load_app
from jobify.cli.environment import forget_one_heap
from jobify.cli.errors import CommandError, print_error
from jobify.runtime.escaping import escaped
from jobify.worker.control_socket import ControlSocket
from jobify.worker.exit_codes import ExitCode

if TYPE_CHECKING:
    from jobify.app.application import Jobify

__all__ = ("WorkerArgs", "log_to_stderr", "main")

_FORMAT: Final = "%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s"
_INTERRUPTED: Final = 130
_NUMBERS: Final[dict[str, Callable[[str], float]]] = {
    "concurrency": int,
    "grace": float,
    "threads": int,
    "children": int,
    "max_tasks_per_child": int,
    "max_memory_per_child": int,
}
"""The options that are numbers; None means the value of the app."""


class WorkerArgs(NamedTuple):
    """The arguments of a worker process."""

    app: str
    queues: tuple[str, ...] | None
    concurrency: int | None
    grace: float | None
    """Seconds; None means the value of the app."""
    log_level: str
    threads: int | None = None
    children: int | None = None
    max_tasks_per_child: int | None = None
    max_memory_per_child: int | None = None
    """Bytes."""
    control_fd: int | None = None
    """The descriptor of the control socket, added by a supervisor."""
    existing: bool = False
    """The database must exist. A supervisor adds this to a restart."""
    brief: bool = False
    """Omit the first lines of log. A supervisor adds this to all workers but the first one."""

    def command(self) -> list[str]:
        """The command line: this interpreter with its flags, this program and these arguments."""
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
        return [
            *(sys.executable, *flags, "-m", "jobify.cli.worker", self.app),
            *([f"--queues={','.join(self.queues)}"] if self.queues is not None else []),
            *(f"--{name.replace('_', '-')}={value}" for name in _NUMBERS if (value := getattr(self, name)) is not None),
            f"--log-level={self.log_level}",
        ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a stop is requested; returns the exit code. An error is one line on standard error."""
    forget_one_heap()
    args = _parsed(arguments)
    control = None if args.control_fd is None else ControlSocket(args.control_fd)  # first, because an import may hang
    try:
        return _work(args, control)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:
        return print_error(error)


def _parsed(arguments: Sequence[str] | None) -> WorkerArgs:
    """What :meth:`WorkerArgs.command` and the supervisor have written."""
    app, *options = sys.argv[1:] if arguments is None else arguments
    values: dict[str, Any] = dict.fromkeys(("queues", *_NUMBERS))
    for option in options:
        dashed, is_valued, text = option.partition("=")
        name = dashed.removeprefix("--").replace("-", "_")
        values[name] = _PARSERS.get(name, str)(text) if is_valued else True
    return WorkerArgs(app, **values)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


_PARSERS: Final[dict[str, Callable[[str], Any]]] = {**_NUMBERS, "control_fd": int, "queues": _names}


def _work(args: WorkerArgs, control: ControlSocket | None) -> int:
    app = load_app(args.app)
    log_to_stderr(args.log_level)
    import asyncio

    from jobify.worker.worker import Worker, prepare

    prepare(
        app,
        queues=args.queues,
        concurrency=args.concurrency,
        threads=args.threads,
        children=args.children,
        max_tasks_per_child=args.max_tasks_per_child,
        max_memory_per_child=args.max_memory_per_child,
    )
    if args.existing:
        _require_database(app)

    async def run() -> int:
        worker = Worker(app, grace=args.grace, control=control, name=args.app, is_brief=args.brief)
        return await worker.run()

    return asyncio.run(run())


def _require_database(app: Jobify) -> None:
    """Refuse to make a file in the place of one that was removed. A server has a worker wait for it instead."""
    storage = app.configs.storage
    path = None if is_postgres(storage) else getattr(storage, "database", None)
    if isinstance(path, str) and not (os.path.exists(path) and os.path.getsize(path)):
        raise CommandError(
            f"The database {path!r} does not exist any more, and a restarted worker does not create a new one. Restore "
            "it, or stop the supervisor.",
            ExitCode.REPLACED,
        )


class SafeFormatter(logging.Formatter):
    """Formats records so that text from jobs cannot forge a record, and adds the job of each record.

    Control characters are escaped, and every line after the first is indented. The id of the job follows the message,
    unless the message contains it.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        id = getattr(record, "job_id", None)
        if id is None or str(id) in record.message:
            return line
        task, attempt = getattr(record, "task", "?"), getattr(record, "attempt", "?")
        return f"{line} [job {id}, {task}, attempt {attempt}]"

    def format(self, record: logging.LogRecord) -> str:
        return escaped(super().format(record), keep="\n\t").replace("\n", "\n    ")


def log_to_stderr(level: str) -> None:
    """Log to standard error, unless the app has configured logging itself."""
    if not logging.getLogger().handlers:
        from jobify.jobs.job_fields import JobFields

        handler = logging.StreamHandler()
        handler.addFilter(JobFields())
        handler.setFormatter(SafeFormatter(_FORMAT))
        logging.basicConfig(handlers=[handler], level=level)


if __name__ == "__main__":
    sys.exit(main())

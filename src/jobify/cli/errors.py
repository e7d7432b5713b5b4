"""How a command fails: one line on standard error, and an exit code."""

from __future__ import annotations

import os
import sys

from jobify.cli.environment import DEBUG
from jobify.runtime.escaping import escaped
from jobify.worker.exit_codes import ExitCode

__all__ = ("CommandError", "print_error")


class CommandError(Exception):
    """The command cannot do what was requested; the message says why, and what to do."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


def print_error(error: Exception) -> int:
    """Print what is wrong; returns the exit code."""
    if os.environ.get(DEBUG):
        import traceback

        print(escaped("".join(traceback.format_exception(error)), keep="\n\t"), end="", file=sys.stderr)
    else:
        from jobify.exceptions import BaseJobifyError, shown

        kind = "" if isinstance(error, CommandError | BaseJobifyError) else f"{type(error).__name__}: "
        print(f"jobify: {kind}{escaped(' '.join(shown(error).split()))}", file=sys.stderr)
    return _exit_code(error)


def _exit_code(error: Exception) -> int:
    from jobify.exceptions import ConfigurationError, JobNotFoundError, StorageReplacedError

    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, StorageReplacedError):
        return ExitCode.REPLACED
    if isinstance(error, ConfigurationError):
        return ExitCode.USAGE
    return ExitCode.NOT_FOUND if isinstance(error, JobNotFoundError) else ExitCode.FAILED

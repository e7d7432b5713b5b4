"""Every error that Jobify raises on purpose.

::

    Exception
    └── BaseJobifyError
        ├── ApplicationStateError(RuntimeError)      the app is not in the state that the call needs
        ├── ConfigurationError(ValueError)           an option, a name or a rule that cannot work
        │   ├── InvalidCronError                     a cron expression, with the field that is wrong
        │   ├── UnknownOptionError(TypeError)        an unknown option or filter
        │   └── RouterError(RuntimeError)            routers that cannot be combined
        ├── RouteAlreadyRegisteredError              two tasks with one name
        ├── TaskNotAttachedError(RuntimeError)       a task of a router that no app includes
        ├── DuplicateJobError(RuntimeError)          the job id or the unique key is in use
        ├── LimitExceededError(RuntimeError)         a limit refuses the job
        ├── JobNotCompletedError                     no result yet
        ├── JobNotFoundError(LookupError)            no job has this id (any more)
        ├── UnknownDependencyError(ValueError)       a job was to wait for one that does not exist
        ├── JobFailedError                           the job ended without a value
        │   ├── TaskFailedError(RuntimeError)                a JobResult's job: failed
        │   │   └── MaxRetriesExceededError                  ... dead: the retries are used up
        │   └── JobUnsuccessfulError(JobNotCompletedError)   ended without ever having a result to give
        │       ├── JobTimedOutError                         status TIMEOUT
        │       ├── JobCancelledError                        status CANCELLED
        │       │   └── TaskCancelledError(RuntimeError)     a JobResult's job, or the running one: cancelled
        │       └── JobPermanentlyFailedError                status PERMANENTLY_FAILED
        ├── WaitTimeoutError(TimeoutError)           a wait timed out; the job goes on
        ├── JobTimeoutError(TimeoutError)            raised inside an attempt that ran out of time
        ├── AppStoppedError                          the app was shut down before the job had ended
        ├── JobLostError                             the process that ran the job died
        ├── ProcessDiedError                         the child process that ran a PROCESS task died
        │   └── ProcessStartError                    ... before it could run anything
        ├── RemoteError                              an exception that could not be sent from a child process
        ├── TaskExitError                            a task raised SystemExit or the like
        ├── BatchResultError                         a call for many jobs did not return one result for each
        ├── NoRetriesLeftError                       a task raised Retry, and no retry is left
        ├── NoResultError                            raise it in a task to fail without further retries
        ├── PayloadError(ValueError)                 arguments or a result that cannot be encoded or decoded
        ├── ResultNotStoredError                     the job succeeded, its value was not kept
        └── StorageError                             an operation of the database failed
            ├── StorageUnavailableError              locked, full, out of reach: the same call may work later
            │   └── StorageLostError                 ... not before the app is started again
            │       ├── StorageEndedError            ... the thread that writes cannot go on
            │       └── StorageReplacedError         ... the file was deleted or replaced
            ├── StorageCorruptError                  the file is damaged
            └── StorageVersionError                  the file was written by a newer release

Data is in attributes; the last sentence of a message says what to do.
"""

from __future__ import annotations

from jobify.runtime.errortools import by_content, did_you_mean, shown

__all__ = (
    "AppStoppedError",
    "ApplicationStateError",
    "BaseJobifyError",
    "BatchResultError",
    "ConfigurationError",
    "DuplicateJobError",
    "InvalidCronError",
    "JobCancelledError",
    "JobFailedError",
    "JobLostError",
    "JobNotCompletedError",
    "JobNotFoundError",
    "JobPermanentlyFailedError",
    "JobTimedOutError",
    "JobTimeoutError",
    "JobUnsuccessfulError",
    "LimitExceededError",
    "MaxRetriesExceededError",
    "NoResultError",
    "NoRetriesLeftError",
    "PayloadError",
    "ProcessDiedError",
    "ProcessStartError",
    "RemoteError",
    "ResultNotStoredError",
    "RouteAlreadyRegisteredError",
    "RouterError",
    "StorageCorruptError",
    "StorageEndedError",
    "StorageError",
    "StorageLostError",
    "StorageReplacedError",
    "StorageUnavailableError",
    "StorageVersionError",
    "TaskCancelledError",
    "TaskExitError",
    "TaskFailedError",
    "TaskNotAttachedError",
    "UnknownDependencyError",
    "UnknownOptionError",
    "WaitTimeoutError",
    "did_you_mean",
    "shown",
)


class BaseJobifyError(Exception):
    """The root of the tree: ``except BaseJobifyError`` catches everything that Jobify raises on purpose."""

    __reduce__ = by_content


class ApplicationStateError(BaseJobifyError, RuntimeError):
    """The app is not in the state that the operation needs.

    ``operation`` is what was tried, ``reason`` why it cannot be done now, ``solution`` what to do instead.
    """

    def __init__(self, *, operation: str, reason: str, solution: str) -> None:
        self.operation = operation
        self.reason = reason
        self.solution = solution
        super().__init__(f"Cannot {operation}: {reason} {solution}")


class ConfigurationError(BaseJobifyError, ValueError):
    """An option, a name or a rule that can never work. Raised where it is written, before anything is stored."""


class InvalidCronError(ConfigurationError):
    """A malformed or impossible cron expression.

    ``expression`` is what was written, ``field`` the name of the part that is wrong (None: the whole).
    """

    def __init__(self, expression: str, reason: str, *, field: str | None = None) -> None:
        self.expression = expression
        self.field = field
        where = f", field {field!r}" if field else ""
        super().__init__(f"Invalid cron expression {expression!r}{where}: {reason}")


class UnknownOptionError(ConfigurationError, TypeError):
    """An unknown option. Also a TypeError, as for any unexpected keyword argument."""


class RouterError(ConfigurationError, RuntimeError):
    """Routers that cannot be combined: one includes itself, or is part of another tree."""


class RouteAlreadyRegisteredError(BaseJobifyError):
    """A task with this ``name``, or with this alias, is already registered."""

    def __init__(self, name: str, reason: str | None = None) -> None:
        self.name = name
        reason = reason or "Give one of the two another name: @app.task(name=...)."
        super().__init__(f"A task named {name!r} is already registered. {reason}")


class TaskNotAttachedError(BaseJobifyError, RuntimeError):
    """Task ``name`` was called, and belongs to a router that no app includes."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"Task {name!r} is not attached to any Jobify app. Did you forget to call app.include_router()?"
        )


class DuplicateJobError(BaseJobifyError, RuntimeError):
    """A job with this ``job_id`` is scheduled or running: ids are unique in a database, not only in a process.

    Or another job has the unique key of the call, and the task has ``Unique(on_conflict="fail")``: then ``job_id`` is
    the id of that job. Nothing was stored.
    """

    def __init__(
        self,
        job_id: str,
        foreign_task: str | None = None,
        *,
        can_replace: bool = True,
        unique_task: str | None = None,
    ) -> None:
        self.job_id = job_id
        if unique_task is not None:
            super().__init__(
                f"Job {job_id!r} of task {unique_task!r} waits or runs with the unique key of this call. Nothing was "
                "stored."
            )
            return
        if not can_replace:
            advice = "Choose another job_id, or take the job that is there: app.get_job(job_id)."
        elif foreign_task is None:
            advice = "Use 'replace=True' to put this job in its place, or choose another job_id."
        else:
            advice = f"It belongs to task {foreign_task!r}, which this app does not have: choose another job_id."
        super().__init__(f"Job with ID {job_id!r} is already scheduled. {advice}")


class LimitExceededError(BaseJobifyError, RuntimeError):
    """A limit with ``on_excess="fail"`` has no place for the job. Nothing was stored."""

    def __init__(self, limit: str, task: str) -> None:
        self.limit, self.task = limit, task
        super().__init__(f"The limit {limit!r} has no room for another job of task {task!r}. Nothing was stored.")


class JobNotCompletedError(BaseJobifyError):
    """The result was read before the job had ended."""

    def __init__(self, msg: str = "The job has not ended yet. Use `await job`, or `await job.wait()` first.") -> None:
        super().__init__(msg)


class JobNotFoundError(BaseJobifyError, LookupError):
    """No job in the database has this ``job_id``: it was never enqueued, or was deleted after its retention."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"There is no job {job_id!r} in the database. Was it deleted when its retention was over, or does this app "
            "use another database?"
        )


class UnknownDependencyError(BaseJobifyError, ValueError):
    """Job ``job_id`` was to wait for ``parent_id``, which does not exist or is a schedule. Nothing was stored."""

    def __init__(self, job_id: str, parent_id: str, problem: str = "and there is no such job") -> None:
        self.job_id, self.parent_id = job_id, parent_id
        super().__init__(f"Job {job_id!r} depends on {parent_id!r}, {problem}. Nothing was stored.")


class JobFailedError(BaseJobifyError):
    """The job ended without a value.

    ``reason`` is the message of the original exception, and ``kind`` the name of its type. The exception itself is the
    ``__cause__``.
    """

    verb = "failed"

    def __init__(self, job_id: str, reason: str, kind: str | None = None) -> None:
        self.job_id = job_id
        self.reason = reason
        self.kind = kind
        details = ": ".join(filter(None, (kind, reason)))
        Exception.__init__(self, f"Job {job_id!r} {self.verb}: {details}")


class _NoValueError(JobFailedError, RuntimeError):
    """The job of a :class:`~jobify.JobResult` ended without a value.

    ``error_type`` is the type name of the last exception of its task, ``traceback`` the text of the task's own frames.
    None means that there is none.
    """

    def __init__(
        self, job_id: str, reason: str, *, error_type: str | None = None, traceback: str | None = None
    ) -> None:
        self.job_id, self.reason, self.traceback = job_id, reason, traceback
        self.kind = self.error_type = error_type
        details = "." if self.verb.endswith(reason) else f": {reason}"  # no "was cancelled: cancelled"
        Exception.__init__(self, f"Job {job_id!r} {self.verb}{details}")


class TaskFailedError(_NoValueError):
    """The job ended with an error."""


class MaxRetriesExceededError(TaskFailedError):
    """The job failed as often as its retries allow, or its processes died: it is dead. ``retry()`` puts it back."""

    verb = "failed for the last time"


class JobUnsuccessfulError(JobFailedError, JobNotCompletedError):
    """The job ended in a state that never has a result.

    Both a :class:`JobFailedError` (there is an outcome) and a :class:`JobNotCompletedError` (there is no result).
    """

    verb = "ended without a result"


class JobTimedOutError(JobUnsuccessfulError):
    """``result()`` of a job whose last attempt ran out of time; the :class:`JobTimeoutError` is the ``__cause__``."""

    verb = "timed out"


class JobCancelledError(JobUnsuccessfulError):
    """``result()`` of a job that was cancelled."""

    verb = "was cancelled"


class TaskCancelledError(_NoValueError, JobCancelledError):
    """The job was cancelled; ``reason`` says by what.

    ``error_type`` and ``traceback`` are those of an earlier attempt. Inside a task, ``current_job.check_cancelled()``
    raises it: do not catch it, so that the job ends cancelled.
    """


class JobPermanentlyFailedError(JobUnsuccessfulError):
    """``result()`` of a cron job that was stopped after ``max_failures`` failures in a row."""

    verb = "is stopped for good"


class WaitTimeoutError(BaseJobifyError, TimeoutError):
    """A wait of ``timeout`` seconds ended before the job did.

    The job is not affected: wait again. Also a :class:`TimeoutError`. ``job_id`` is None if all jobs were waited for.
    """

    def __init__(self, message: str, *, timeout: float, job_id: str | None = None) -> None:
        self.timeout, self.job_id = timeout, job_id
        super().__init__(message)


class JobTimeoutError(BaseJobifyError, TimeoutError):
    """An attempt ran longer than its ``timeout`` (seconds). Also a :class:`TimeoutError`, for exception handlers."""

    def __init__(self, job_id: str, timeout: float) -> None:
        self.job_id, self.timeout = job_id, timeout
        super().__init__(f"Job {job_id!r} exceeded its timeout of {timeout:g} seconds.")


class AppStoppedError(BaseJobifyError):
    """The app of a handle was shut down before the job had ended.

    It is the ``exception`` of the handle, whose status is CANCELLED. ``is_stored``: the job stays in the database and
    runs at the next start. Else it was in memory, and is gone.
    """

    def __init__(self, *, is_stored: bool) -> None:
        self.is_stored = is_stored
        after = "It is stored, and runs at the next start." if is_stored else "It was kept in memory only, and is gone."
        super().__init__(f"The app was shut down before the job had ended. {after}")


class JobLostError(BaseJobifyError):
    """The processes that ran this job died, ``crashes`` times, so it is not tried again."""

    def __init__(self, job_id: str, crashes: int) -> None:
        self.job_id, self.crashes = job_id, crashes
        super().__init__(
            f"Job {job_id!r} was running in {crashes} processes that died. It is not tried again, so that it cannot "
            "take down more; look for what ends the process (memory, a signal, a native crash)."
        )


class ProcessDiedError(BaseJobifyError):
    """The child process died under the task: this attempt is lost.

    The pool goes on with another child. ``exit_code`` is negative if a signal ended it (-9: killed, often for its
    memory), and None if it is unknown.
    """

    def __init__(self, exit_code: int | None, reason: str) -> None:
        self.exit_code, self.reason = exit_code, reason
        super().__init__(exit_code, reason)

    def __str__(self) -> str:
        return self.reason


class ProcessStartError(ProcessDiedError):
    """The child process could not get ready to run tasks; ``reason`` says why."""


class RemoteError(BaseJobifyError):
    """Stands for an exception that could not be sent from a child process.

    ``type_name``, ``message`` and ``bases`` (its classes) are the original's; the ``__cause__`` is its traceback.
    """

    def __init__(self, type_name: str, message: str, bases: tuple[str, ...] = ()) -> None:
        self.type_name, self.message, self.bases = type_name, message, bases
        super().__init__(type_name, message)

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}"


class TaskExitError(BaseJobifyError):
    """A task raised an exception that is no ``Exception``.

    SystemExit, KeyboardInterrupt, GeneratorExit or CancelledError. It fails the attempt like any other error, and never
    ends the process that ran it. The original is the ``__cause__``.
    """


class BatchResultError(BaseJobifyError):
    """The function of a task with ``batch=`` returned something else than a list of one result for each job.

    It is the error of all jobs of the call. ``task`` is its name, ``count`` the number of jobs.
    """

    def __init__(self, task: str, count: int, found: str) -> None:
        self.task, self.count = task, count
        super().__init__(
            f"Task {task!r} was called with {count} jobs and returned {found}. Return a list of {count}, in the order "
            "of the jobs: the result of each, or an exception for one that failed."
        )


class NoResultError(BaseJobifyError):
    """Raise it in a task or in an exception handler: the job ends FAILED and is not retried."""


class NoRetriesLeftError(BaseJobifyError):
    """The task raised :class:`~jobify.Retry` for ``reason`` in attempt number ``attempt``, and no retry is left."""

    def __init__(self, reason: str, attempt: int, *, has_retries: bool) -> None:
        self.reason, self.attempt = reason, attempt
        advice = f"and no retry is left after attempt {attempt}." if has_retries else "but has no retries: set retry=3."
        super().__init__(f"The task raised Retry ({reason}), {advice}")


class PayloadError(BaseJobifyError, ValueError):
    """Arguments or a result that cannot be encoded, or stored bytes that cannot be decoded."""


class ResultNotStoredError(BaseJobifyError):
    """The job succeeded, but its value could not be encoded (``reason``), so it is lost."""

    def __init__(self, job_id: str, reason: str) -> None:
        self.job_id, self.reason = job_id, reason
        super().__init__(f"Job {job_id!r} succeeded, but its result was not stored: {reason}")


class StorageError(BaseJobifyError):
    """An operation of the database failed. The driver's own exception is the ``__cause__``."""


class StorageUnavailableError(StorageError):
    """Locked for too long, full, or out of reach: nothing was changed, and the same call may work later."""


class StorageLostError(StorageUnavailableError):
    """Nothing can be stored until the app is started again."""


class StorageEndedError(StorageLostError):
    """The thread of the storage has ended after several errors in a row, the last of which is the ``__cause__``."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"The storage's thread has ended, so nothing can be stored: {error!r}. Start the app again.")
        self.__cause__ = error


class StorageReplacedError(StorageLostError):
    """The database at ``path`` was deleted, moved, replaced or truncated.

    ``difference`` says how. The storage does not use it until it is closed and opened again, so that the file that is
    there now is not harmed.
    """

    def __init__(self, path: str, difference: str) -> None:
        self.path, self.difference = path, difference
        super().__init__(
            f"The database {path!r} was deleted or replaced while this process used it: it {difference}. Nothing more "
            "is read from it or written to it. Start the process again when the right file is there."
        )


class StorageCorruptError(StorageError):
    """The database at ``path`` is damaged, or is no database.

    ``damage`` says what is wrong. ``path`` is None if it is not known here.
    """

    def __init__(self, path: str | None, damage: str) -> None:
        self.path, self.damage = path, damage
        name = "" if path is None else f" {path!r}"
        super().__init__(
            f"The database{name} is damaged, or is no database: {damage}. Stop the processes that use it and look at "
            "it with `jobify db check`; then restore a backup, or save what can be read with `sqlite3 FILE .recover`."
        )


class StorageVersionError(StorageError):
    """The database was written by a newer release of Jobify, or by something else. It was not touched."""

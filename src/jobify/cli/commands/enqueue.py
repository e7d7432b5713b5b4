"""``jobify enqueue``: store one job of a task, with arguments in JSON that its annotations convert."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from inspect import Parameter
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from jobify.cli.errors import CommandError
from jobify.cli.options import Json, Source, for_jobs
from jobify.worker.exit_codes import ExitCode

if TYPE_CHECKING:
    from jobify.cli.session import Session
    from jobify.config import JobifyConfiguration
    from jobify.model.signature import FuncSpec
    from jobify.typeadapter import Loader

__all__ = ("convert_arguments", "enqueue")

_UNCHECKED: Final = (
    "The code of the app is not imported (--database): the name of the task and its arguments are not checked, and the "
    "queue and priority of the task are not known here."
)


_Task: TypeAlias = Annotated[str, typer.Argument(metavar="TASK", help="The name of the task.", show_default=False)]
_Args: TypeAlias = Annotated[
    str, typer.Option("--args", metavar="JSON", help="""Arguments, a JSON list: '["cat.png", 64]'.""")
]
_Kwargs: TypeAlias = Annotated[
    str, typer.Option("--kwargs", metavar="JSON", help="""Arguments by name, a JSON object: '{"size": 64}'.""")
]
_Queue: TypeAlias = Annotated[
    str | None, typer.Option("--queue", metavar="QUEUE", help="Instead of the queue of the task.")
]
_Priority: TypeAlias = Annotated[int | None, typer.Option("--priority", metavar="N", help="High priorities run first.")]
_Delay: TypeAlias = Annotated[
    str | None, typer.Option("--delay", metavar="DURATION", help="Run it in 90 (seconds), 15m, 2h, 7d.")
]
_At: TypeAlias = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="Run it at 2026-01-31T12:00, in the app's zone.")
]
_Expires: TypeAlias = Annotated[
    str | None, typer.Option("--expires", metavar="DURATION", help="Cancel it if it has not started by then.")
]
_Retry: TypeAlias = Annotated[
    int | None, typer.Option("--retry", metavar="N", min=0, help="Instead of the retries of the task.")
]
_Timeout: TypeAlias = Annotated[
    str | None, typer.Option("--timeout", metavar="DURATION", help="For each attempt, instead of that of the task.")
]
_UniqueKey: TypeAlias = Annotated[
    str | None,
    typer.Option("--unique-key", metavar="KEY", help="Store nothing while a job with this key is unfinished."),
]
_JobId: TypeAlias = Annotated[str | None, typer.Option("--job-id", metavar="ID", help="The id of the new job.")]
_DependsOn: TypeAlias = Annotated[
    list[str] | None, typer.Option("--depends-on", metavar="ID", help="Wait for this job; may be repeated.")
]
_Metadata: TypeAlias = Annotated[
    list[str] | None, typer.Option("--metadata", metavar="KEY=VALUE", help="May be repeated.")
]
_LimitKey: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--limit-key",
        metavar="KEY=VALUE",
        help="A key of a limit, such as order.shop=shop-7 (or JSON), with --database; may be repeated.",
    ),
]
_Cost: TypeAlias = Annotated[
    int | None, typer.Option("--cost", metavar="N", min=1, help="How many starts of a rate it counts as.")
]


@for_jobs
def enqueue(
    source: Source,
    task: _Task,
    args: _Args = "[]",
    kwargs: _Kwargs = "{}",
    queue: _Queue = None,
    priority: _Priority = None,
    delay: _Delay = None,
    at: _At = None,
    expires: _Expires = None,
    retry: _Retry = None,
    timeout: _Timeout = None,
    unique_key: _UniqueKey = None,
    job_id: _JobId = None,
    depends_on: _DependsOn = None,
    metadata: _Metadata = None,
    limit_key: _LimitKey = None,
    cost: _Cost = None,
    as_json: Json = False,
) -> None:
    """Store one job of a task, for a worker to run, and print its id.

    With an app, the name of the task and the arguments are checked first; with --database they are not.

    Example: jobify enqueue resize --args '["cat.png", 64]' --queue images --delay 5m
    """
    from jobify.cli.commands.enqueue import convert_arguments
    from jobify.cli.jobs.selection import metadata_pairs
    from jobify.cli.output import print_note
    from jobify.cli.session import open_session
    from jobify.cli.time_format import seconds_of

    options = {
        "queue": queue,
        "priority": priority,
        "delay": None if delay is None else seconds_of(delay),
        "eta": _moment(at),
        "expires": None if expires is None else seconds_of(expires),
        "retry": retry,
        "timeout": None if timeout is None else seconds_of(timeout),
        "unique_key": unique_key,
        "job_id": job_id,
        "depends_on": depends_on or None,
        "metadata": dict(metadata_pairs(metadata)) if metadata else None,
        "limit_keys": dict(metadata_pairs(limit_key, "--limit-key")) if limit_key else None,
        "cost": cost,
    }
    call = _value("--args", args, list), _value("--kwargs", kwargs, dict)
    with open_session(source) as session:
        if source.database:
            print_note(_UNCHECKED)
        else:
            call = convert_arguments(session.app.configs, _spec_of(session, task), call)
        _enqueue(session, task, call, options, as_json=as_json)


def _enqueue(session: Session, task: str, call: tuple[Any, Any], options: dict[str, Any], *, as_json: bool) -> None:
    from jobify.cli.errors import CommandError
    from jobify.cli.output import print_note, result_printer
    from jobify.worker.exit_codes import ExitCode

    try:
        job = session.app.enqueue(task, *call, **{key: value for key, value in options.items() if value is not None})
    except TypeError as error:
        raise CommandError(f"The arguments do not fit the task {task!r}: {error}", ExitCode.USAGE) from error
    is_skipped = not job.created and job.status == "cancelled"
    with result_printer("jobs", as_json) as print_result:
        print_result(job.id, "pending" if job.created else "skipped" if is_skipped else "exists")
    if is_skipped:
        print_note(f"The job does not run: {job.reason}.")
        return
    if not job.created:
        print_note(_met(session, task))
    problem = session.cluster_state().problem(task, job.queue_name)
    if problem is not None:
        print_note(f"The job waits, because {problem}.")


def _met(session: Session, task: str) -> str:
    """What has become of a call that met an earlier job."""
    from jobify.router.registry import build_registry

    endpoint = build_registry(session.app).get(task)
    if endpoint is not None and endpoint.rules.debounce is not None:
        return "No new job was stored: the task is debounced, and the call was merged into this job."
    if endpoint is not None and endpoint.rules.unique is not None and endpoint.rules.unique.on_conflict == "replace":
        return "No new job was stored: this job has the unique key, and takes the arguments of the call."
    return "Nothing was stored: this job has the unique key and is unfinished."


def _spec_of(session: Session, task: str) -> FuncSpec[Any]:
    """The signature of the task. CommandError if the app has no task of this name."""
    from jobify.cli.errors import CommandError
    from jobify.exceptions import did_you_mean
    from jobify.router.registry import build_registry
    from jobify.worker.exit_codes import ExitCode

    registry = build_registry(session.app)
    if task not in registry:
        hint = did_you_mean(task, sorted(registry)) if registry else "It has no tasks at all."
        raise CommandError(f"The app has no task {task!r}. {hint}", ExitCode.NOT_FOUND)
    return registry[task].spec


def _value(option: str, text: str, kind: type) -> Any:
    """The JSON value of an option. CommandError (usage) if it is not JSON or not of this kind."""
    from jobify.cli.errors import CommandError
    from jobify.worker.exit_codes import ExitCode

    example = """'["cat.png", 64]'""" if kind is list else """'{"size": 64}'"""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CommandError(f"{option} {text!r} is not JSON ({error}). Write {example}.", ExitCode.USAGE) from None
    if not isinstance(value, kind):
        what = "a JSON list" if kind is list else "a JSON object"
        raise CommandError(f"{option} {text!r} is not {what}. Write {example}.", ExitCode.USAGE)
    return value


def _moment(text: str | None) -> datetime | None:
    from jobify.cli.errors import CommandError
    from jobify.worker.exit_codes import ExitCode

    try:
        return None if text is None else datetime.fromisoformat(text.strip())
    except ValueError:
        raise CommandError(f"--at {text!r} is not a time. Write 2026-01-31T12:00.", ExitCode.USAGE) from None


# -- arguments ---------------------------------------------------------------------------------------------------------

_MANY = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
_PLAIN = (str, int, float, bool, list, dict, type(None))


def convert_arguments(
    config: JobifyConfiguration, spec: FuncSpec[Any], call: tuple[Sequence[Any], Mapping[str, Any]]
) -> tuple[list[Any], dict[str, Any]]:
    """Convert each argument of ``call`` to the annotation of its parameter: a model, a date, an enum.

    JSON cannot express these, and the task would get a dict or a text. CommandError (usage) for a value that does not
    fit. A parameter without annotation, or with a type that no converter knows, gets the value as it is.
    """
    loaders = list(_loaders(config))
    by_place = [one for one in spec.signature.parameters.values() if one.kind not in _MANY]
    by_name = {one.name: one for one in by_place}

    def read(parameter: Parameter | None, value: Any) -> Any:
        annotation = None if parameter is None else spec.type_params.get(parameter.name)
        if parameter is None or annotation is None or annotation in _PLAIN:
            return value
        return _read(parameter.name, annotation, value, loaders)

    args, kwargs = call
    places = [*by_place, *[None] * len(args)]
    return (
        [read(parameter, value) for parameter, value in zip(places, args, strict=False)],
        {name: read(by_name.get(name), value) for name, value in kwargs.items()},
    )


def _loaders(config: JobifyConfiguration) -> Iterator[Loader]:
    """The loader of the app, or the converters for the types that its serializer restores."""
    from jobify.typeadapter import NativeConverter, PassThrough, PydanticConverter

    if not isinstance(config.loader, PassThrough):
        yield config.loader
        return
    yield NativeConverter()
    if "pydantic" in sys.modules:  # otherwise no annotation is a model
        yield PydanticConverter()


def _read(name: str, annotation: Any, value: Any, loaders: Sequence[Loader]) -> Any:
    problem: Exception | None = None
    for loader in loaders:
        try:
            found = loader.load(value, annotation)
        except Exception as error:  # from the user's model, or from a loader that does not know the type
            problem = error
        else:
            if found is not value:
                return found
    if problem is None or not isinstance(annotation, type) or isinstance(value, annotation):
        return value
    text = " ".join(str(problem).split())
    raise CommandError(
        f"The argument {name!r} cannot be converted to the {annotation.__name__} that the task expects: {text}",
        ExitCode.USAGE,
    )

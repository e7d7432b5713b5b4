"""Checklist items 1-8: what must be importable, and from where."""

from __future__ import annotations

import importlib
from typing import Any, get_type_hints

import pytest

import jobify


def assert_exports(module: str, names: str) -> None:
    found = importlib.import_module(module)
    for name in names.split():
        assert hasattr(found, name), f"{module}.{name}"
        assert name in found.__all__, f"{name} is missing in {module}.__all__"


@pytest.mark.promise("item-1")
def test_jobify() -> None:
    assert_exports(
        "jobify",
        "INJECT Cron CronContext GracePolicy Job JobContext JobRouter JobStatus Jobify MisfirePolicy OuterContext "
        "Plugin RequestState RunMode Runnable ScheduleBuilder SmartRetry State JobifyConfiguration __version__",
    )
    assert type(jobify.INJECT) is object


def test_the_queue_side_is_here_too() -> None:
    assert_exports("jobify", "CurrentJob JobResult Retention chain chord chunks current_job group starmap")


@pytest.mark.promise("item-1")
def test_all_names_exist() -> None:
    for name in jobify.__all__:
        assert getattr(jobify, name) is not None
    with pytest.raises(AttributeError):
        jobify.Jobyfi  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.promise("item-2")
def test_serializers() -> None:
    assert_exports(
        "jobify.serializers",
        "Serializer JSONSerializer ExtendedJSONSerializer CBORSerializer MsgpackSerializer OrjsonSerializer "
        "UnsafePickleSerializer",
    )


@pytest.mark.promise("item-3")
def test_typeadapter() -> None:
    assert_exports("jobify.typeadapter", "Dumper Loader PydanticConverter")


@pytest.mark.promise("item-4")
def test_router() -> None:
    assert_exports("jobify.router", "Route JobRouter NodeRoute RootRoute")


@pytest.mark.promise("item-5")
def test_middleware() -> None:
    assert_exports(
        "jobify.middleware",
        "CallNext CallNextOuter BaseMiddleware BaseOuterMiddleware JobifyQueue QueueMiddleware Item",
    )


@pytest.mark.promise("item-6")
def test_exceptions() -> None:
    assert_exports(
        "jobify.exceptions",
        "ApplicationStateError BaseJobifyError DuplicateJobError JobFailedError JobNotCompletedError JobTimeoutError "
        "RouteAlreadyRegisteredError",
    )


@pytest.mark.promise("item-7")
def test_jobber() -> None:
    from jobify import Jobber

    assert Jobber is jobify.Jobify


@pytest.mark.promise("item-8")
def test_types_of_signatures() -> None:
    assert_exports(
        "jobify",
        "JobifyConfiguration RouteOptions FuncSpec CronParser CronFactory LoopFactory UUIDGenerator Lifespan "
        "MappingExceptionHandlers RunStrategy Storage TaskTracker Triggers",
    )
    assert_exports("jobify.storage", "Storage SQLiteStorage")
    assert_exports("jobify.crontab", "CronParser CronFactory create_crontab")


@pytest.mark.promise("item-8")
def test_they_are_what_the_signatures_say() -> None:
    hints = get_type_hints(jobify.Jobify.__init__, localns={"ProcessPoolExecutor": object})
    expected: dict[str, Any] = {
        "cron_factory": jobify.CronFactory,
        "loop_factory": jobify.LoopFactory,
        "uuid_generator": jobify.UUIDGenerator,
        "exception_handlers": jobify.MappingExceptionHandlers | None,
        "lifespan": jobify.Lifespan[Any] | None,  # type: ignore[misc]  # an alias with a variable is generic
    }
    assert {name: hints[name] for name in expected} == expected


@pytest.mark.promise("item-8")
def test_the_app_is_a_task_tracker() -> None:
    assert isinstance(jobify.Jobify(storage=False), jobify.TaskTracker)

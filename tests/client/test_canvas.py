"""Workflows: stored in one transaction, run by any process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from elsewhere import World

from jobify import Jobify, JobResult, chain, chord, chunks, group, starmap
from jobify.exceptions import ConfigurationError, PayloadError, TaskCancelledError
from support import Program, address, durable, run, soon, until


class Tasks:
    """Tasks to build with."""

    def __init__(self, app: Jobify) -> None:
        @app.task(name="add")
        async def add(x: int, y: int = 1) -> int:
            return x + y

        @app.task(name="total")
        async def total(numbers: list[int]) -> int:
            return sum(numbers)

        @app.task(name="fail")
        async def fail(*_: Any) -> None:
            raise ValueError("because")

        @app.task(name="given")
        async def given(*args: Any) -> list[Any]:
            return list(args)

        @app.task(name="nothing")
        async def nothing(*_: Any) -> None:
            return None

        self.add, self.total, self.fail, self.given, self.nothing = add, total, fail, given, nothing


@pytest.fixture
def tasks(world: World) -> Tasks:
    return Tasks(world.app)


def count(app: Jobify) -> int:
    """How many jobs there are."""
    return sum(app.stats().values())


def test_a_chain_hands_each_result_on(world: World, tasks: Tasks) -> None:
    job = chain(tasks.add.s(1), tasks.add.s(10), tasks.add.s(y=100)).apply()
    assert isinstance(job, JobResult)
    assert count(world.app) == 3
    with world.running(Tasks):
        assert job.result() == 112


def test_a_chain_may_be_written_with_bars(world: World, tasks: Tasks) -> None:
    job = (tasks.add.s(1) | tasks.add.s(10) | tasks.add.s(100)).apply()
    with world.running(Tasks):
        assert job.result() == 112


def test_a_step_that_takes_nothing_only_waits(world: World, tasks: Tasks) -> None:
    job = chain(tasks.add.s(1), tasks.given.si("own"), tasks.given.s("more")).apply()
    with world.running(Tasks):
        assert job.result() == [["own"], "more"]


def test_a_result_of_none_is_handed_on(world: World, tasks: Tasks) -> None:
    job = chain(tasks.nothing.s(), tasks.given.s(1)).apply()
    with world.running(Tasks):
        assert job.result() == [None, 1]


def test_a_group_is_a_list_in_order(world: World, tasks: Tasks) -> None:
    jobs = group(tasks.add.s(n) for n in range(5)).apply()
    with world.running(Tasks):
        assert [job.result() for job in jobs] == [1, 2, 3, 4, 5]
    assert group().apply() == []
    assert run(group().aapply()) == []


def test_a_chord_gets_the_list(world: World, tasks: Tasks) -> None:
    jobs = [
        chord(group(tasks.add.s(n) for n in range(3)), tasks.total.s()).apply(),
        chord([tasks.add.s(5)], tasks.total.s()).apply(),
        chord([], tasks.total.s()).apply(),
        (group(tasks.add.s(1), tasks.add.s(2)) | tasks.total.s() | tasks.add.s(10)).apply(),
    ]
    assert len(jobs[0].dependencies) == 3
    with world.running(Tasks):
        assert [job.result() for job in jobs] == [6, 6, 0, 15]


def test_a_step_before_a_group_feeds_each_member(world: World, tasks: Tasks) -> None:
    jobs = chain(tasks.add.s(1), group(tasks.add.s(10), tasks.add.s(20))).apply()
    with world.running(Tasks):
        assert [job.result() for job in jobs] == [12, 22]


def test_they_nest(world: World, tasks: Tasks) -> None:
    add, total = tasks.add, tasks.total
    job = chain(
        group(
            chain(add.s(1), add.s(1)),
            chord([add.s(1), add.s(2)], total.s()),
            group(add.s(3), add.s(4)),
        ),
        total.s(),
        chain(add.s(100), group(add.s(0), add.s(1))),
        total.s(),
    ).apply()
    with world.running(Tasks):
        assert job.result() == 2 * (3 + 5 + 4 + 5 + 100) + 1


def test_chunks_and_starmap_are_groups(world: World, tasks: Tasks) -> None:
    parts = chunks(tasks.total, range(10), 4)
    calls = starmap(tasks.add, [(1, 2), (3, 4)])
    assert (len(parts), len(calls)) == (3, 2)
    job = (parts | tasks.total.s()).apply()
    jobs = calls.apply()
    with world.running(Tasks):
        assert job.result() == 45
        assert [each.result() for each in jobs] == [3, 7]


def test_what_comes_after_a_failure_is_cancelled(world: World, tasks: Tasks) -> None:
    last = chain(tasks.add.s(1), tasks.fail.s(), tasks.add.s(1), tasks.add.s(1)).apply()
    merged = chord([tasks.add.s(1), tasks.fail.s()], tasks.total.s()).apply()
    with world.running(Tasks):
        for job in (last, merged):
            with pytest.raises(TaskCancelledError, match="dependency"):
                job.result()


def test_cancelling_the_first_cancels_the_rest(world: World, tasks: Tasks) -> None:
    last = chain(tasks.add.s(1).set(delay=3600), tasks.add.s(1), tasks.add.s(1)).apply()
    first = world.app.get_job(world.app.get_job(last.dependencies[0]).dependencies[0])
    assert first.cancel()
    assert last.status == "cancelled"


@pytest.mark.no_cover  # others run the same lines, less often
def test_a_long_chain_is_as_good_as_a_short_one(world: World, tasks: Tasks) -> None:
    workflow = chain(tasks.add.s(0))
    for _ in range(999):
        workflow = workflow | tasks.add.s()
    job = workflow.apply()
    assert count(world.app) == 1000
    with world.running(Tasks):
        assert job.result(timeout=110) == 1000


def test_options_are_each_steps_own(world: World, tasks: Tasks) -> None:
    parent = tasks.add.delay(1)
    step = tasks.add.s(1).set(priority=3, queue="quick").set(metadata={"a": 1}, depends_on=parent)
    job = (tasks.add.s(1) | step).apply()
    assert (job.queue_name, job.metadata) == ("quick", {"a": 1})
    assert job.dependencies[1:] == [parent.id]
    with world.running(Tasks):
        assert job.result() == 3


def test_a_signature_does_not_change(tasks: Tasks) -> None:
    plain = tasks.add.s(1)
    assert plain.set(priority=1) != plain
    assert plain.clone(2) != plain
    assert plain == tasks.add.s(1) != tasks.add.si(1)
    assert repr(tasks.add.s(1, y="a")) == "<add(1, y='a')>"
    assert repr(plain | group(plain)) == "<add(1)> | group(<add(1)>)"


def test_a_signature_is_a_job_to_be(world: World, tasks: Tasks) -> None:
    jobs = [tasks.add.s(1).apply(), tasks.add.s().delay(1), tasks.add.s(1).apply_async(priority=2)]
    jobs.append(chain(tasks.add.s(1)).delay())
    with world.running(Tasks):
        assert [job.result() for job in jobs] == [2] * 4


async def test_all_of_it_can_be_awaited(world: World, tasks: Tasks) -> None:
    with world.running(Tasks):
        job = await chain(tasks.add.s(1), tasks.add.s(1)).aapply()
        jobs = await group(tasks.add.s(1), tasks.add.s(2)).aapply()
        assert await soon(job.aresult()) == 3
        assert await soon(asyncio.gather(*[each.aresult() for each in jobs])) == [2, 3]


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (lambda tasks: chain(tasks.add.s(1), tasks.add.s(1, 2)).apply(), TypeError),
        (lambda tasks: chain(tasks.add.s(1), tasks.add.s(x=1)).apply(), TypeError),
        (lambda tasks: group(tasks.add.s(1), tasks.add.s()).apply(), TypeError),
        (lambda tasks: chain(tasks.add.s(1), tasks.add.s().set(unique_key="k")).apply(), ConfigurationError),
        (lambda tasks: chain(), ConfigurationError),
        (lambda tasks: chain(tasks.add), ConfigurationError),
        (lambda tasks: group(tasks.add.s(1), 5), ConfigurationError),
        (lambda tasks: tasks.add.s(1) | 5, ConfigurationError),
        (lambda tasks: chunks(tasks.total, [1], chunk_size=0), ConfigurationError),
        (lambda tasks: chunks(tasks.total.s(), [1], 1), ConfigurationError),
        (lambda tasks: starmap(tasks.total.s(), [(1,)]), ConfigurationError),
        (lambda tasks: starmap(tasks.total, args_list=[(1,), 2]), ConfigurationError),
        (lambda tasks: starmap(tasks.total, ["ab"]), ConfigurationError),
        (lambda tasks: chord(group(tasks.add.s(1, 2)), tasks.total), ConfigurationError),
        (lambda tasks: tasks.add.s(1).set(priorty=1), ConfigurationError),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_stored(
    world: World, tasks: Tasks, build: Callable[[Tasks], object], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        build(tasks)
    assert count(world.app) == 0


def test_if_one_step_cannot_be_stored_none_is(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    tasks = Tasks(app)
    with pytest.raises(PayloadError):
        chain(tasks.given.s(1), tasks.given.s(object())).apply()
    assert count(app) == 0
    app.close()


def test_a_workflow_belongs_to_one_app(world: World, tasks: Tasks) -> None:
    other = Tasks(Jobify(storage=False))
    with pytest.raises(ConfigurationError, match="another app"):
        chain(tasks.add.s(1), other.add.s(1)).apply()


async def test_a_process_may_die_right_after_it_has_applied(tmp_path: Path) -> None:
    Program(
        tmp_path,
        """
        import os, sys
        from jobify import Jobify, chord, group

        app = Jobify(storage=sys.argv[1])
        add = app.task(lambda x: x, name="add")
        total = app.task(lambda numbers: 0, name="total")
        chord(group(add.s(n) for n in range(3)), total.s().set(job_id="last")).apply()
        os._exit(0)
        """,
        address(tmp_path),
    ).finish()

    app = Jobify(storage=durable(tmp_path))
    Tasks(app)
    async with app:
        assert await soon(app.get_job("last").aresult()) == 6
    app.close()


def test_a_result_that_was_not_stored_fails_what_needs_it(world: World, tasks: Tasks) -> None:
    def odd(app: Jobify) -> None:
        Tasks(app)
        app.task(lambda: object(), name="odd")

    if world.kind == "memory":
        return
    world.app.task(lambda: object(), name="odd")
    (task,) = (route for route in world.app.routes if route.name == "odd")
    job = chain(task.s(), tasks.given.s()).apply()
    with world.running(odd):
        until(lambda: job.status == "failed")
    assert "was not stored" in (job.error or "")

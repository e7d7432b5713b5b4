"""What runs is what was stored: the first attempt sees the same arguments as every later one, and the caller may go on
using its own."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from jobify import Jobify, SmartRetry
from jobify.exceptions import PayloadError
from jobify.middleware import BaseOuterMiddleware
from jobify.serializers import JSONSerializer, MsgpackSerializer
from jobify.typeadapter import PydanticConverter
from support import durable, run, soon


@dataclass
class Basket:
    owner: str
    items: list[str] = field(default_factory=list)


@pytest.mark.parametrize("how", ["args", "kwargs"])
@pytest.mark.parametrize("given", [["a"], {"a": 1}, {"a"}, ("a", ["b"]), Basket("ann", ["apple"]), bytearray(b"a")])
def test_a_caller_may_change_what_it_has_passed(tmp_path: Path, how: str, given: Any) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="see")
    async def see(value: Any) -> str:
        return repr(value)

    async def main() -> None:
        own = deepcopy(given)
        async with app:
            pushing = see.push(own) if how == "args" else see.push(value=own)
            _spoil(own)  # the insert is under way, and the job has not begun
            assert await soon(await pushing) == repr(given)
            assert repr(own) != repr(given)

    run(main())


def _spoil(value: Any) -> None:
    match value:
        case tuple():
            value[1].append("spoilt")
        case Basket():
            value.items.append("spoilt")
        case _:
            value.clear()


async def test_the_attempts_of_a_job_do_not_see_what_an_earlier_one_has_changed(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    seen: list[list[int]] = []

    @app.task(name="grow", retry=SmartRetry(2, initial_delay=0))
    async def grow(numbers: list[int]) -> int:
        seen.append(list(numbers))
        numbers.append(len(seen))
        if len(seen) < 3:
            raise ValueError("once more")
        return len(numbers)

    async with app:
        assert await soon(await grow.push([0])) == 2
    assert seen == [[0], [0], [0]]


async def test_the_first_attempt_gets_what_a_converter_makes_of_it(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path), loader=PydanticConverter(), dumper=PydanticConverter())

    @app.task(name="see")
    async def see(number: int) -> str:
        return repr(number)

    async with app:
        first = await see.push("5")  # type: ignore[arg-type]
        later = await see.schedule("5").delay(0.01)  # type: ignore[arg-type]
        assert await soon(first) == await soon(later) == "5"


async def test_what_a_converter_cannot_restore_is_refused_and_frees_its_slot(tmp_path: Path) -> None:
    class Oneway:
        def dump(self, data: Any, tp: Any) -> Any:
            return data

        def load(self, data: Any, tp: Any) -> Any:
            raise LookupError("there is no way back")

    converter = Oneway()
    app = Jobify(storage=durable(tmp_path), dumper=converter, loader=converter, concurrency=1)

    @app.task(name="see")
    async def see(number: int) -> None: ...

    @app.task(name="plain")
    async def plain() -> str:
        return "ran"

    async with app:
        for _ in range(3):
            with pytest.raises(PayloadError, match=r"Cannot store a job of task 'see'.*there is no way back"):
                await see.push(1)
        assert app.get_active_jobs() == []
        assert await soon(await plain.push()) == "ran"


@pytest.mark.parametrize("serializer", [None, JSONSerializer(), MsgpackSerializer()])
async def test_what_cannot_change_is_handed_on_as_it_is(tmp_path: Path, serializer: Any) -> None:
    app = Jobify(storage=durable(tmp_path), serializer=serializer)
    text, seen = "".join(["not ", "interned"]), []

    @app.task(name="see")
    async def see(*values: Any, **named: Any) -> None:
        seen.extend([*values, *named.values()])

    async with app:
        await soon(await see.push(text, named=text))
    assert [value is text for value in seen] == [True, True]


async def test_in_memory_arguments_are_the_objects_that_they_are() -> None:
    app = Jobify(storage=False)
    given = [object()]

    @app.task(name="see")
    async def see(value: list[object]) -> bool:
        return value is given

    async with app:
        assert await soon(await see.push(given)) is True


async def test_what_an_outer_middleware_passes_on_is_detached_too(tmp_path: Path) -> None:
    shared: list[Any] = ["from the middleware", datetime(2030, 1, 1)]

    class Add(BaseOuterMiddleware):
        async def __call__(self, call_next: Any, context: Any) -> asyncio.Handle:
            context.arguments["value"] = shared
            return await call_next(context)

    app = Jobify(storage=durable(tmp_path), outer_middleware=[Add()])

    @app.task(name="see")
    async def see(value: list[Any]) -> list[Any]:
        return value

    async with app:
        job = await see.push([])
        shared.clear()
        assert await soon(job) == ["from the middleware", datetime(2030, 1, 1)]

"""pydantic and adaptix as an app's converters, through the database and a restart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from adaptix import Retort, name_mapping
from pydantic import BaseModel

from jobify import Jobify
from jobify.exceptions import PayloadError
from jobify.serializers import JSONSerializer, MsgpackSerializer, OrjsonSerializer
from jobify.testing.clock import FakeClock
from jobify.typeadapter import PydanticConverter
from support import durable, nudge, soon


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Address:
    street: str
    number: int


@dataclass
class Order:
    buyer: str
    at: datetime
    price: Decimal
    addresses: list[Address]
    color: Color = Color.RED
    note: str | None = None


class User(BaseModel):
    name: str
    born: datetime
    likes: list[Color] = []


NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
ORDER = Order("ann", datetime(2030, 1, 2, 3, 4, tzinfo=UTC), Decimal("9.95"), [Address("High St", 5)], Color.BLUE)
USER = User(name="ann", born=datetime(1990, 1, 1, tzinfo=UTC), likes=[Color.BLUE])

CONVERTERS: dict[str, Callable[[], dict[str, Any]]] = {
    "pydantic": lambda: {"dumper": PydanticConverter(), "loader": PydanticConverter()},
    "adaptix": lambda: {"dumper": Retort(), "loader": Retort()},
    "pydantic once": lambda: {"dumper": PydanticConverter()},
    "adaptix once": lambda: {"loader": Retort()},
}
BOTH = pytest.mark.parametrize("converter", CONVERTERS)


@pytest.mark.promise("rule-23")
@BOTH
@pytest.mark.parametrize("serializer", [None, JSONSerializer, OrjsonSerializer, MsgpackSerializer])
async def test_dataclasses_survive_a_restart_as_arguments_and_as_results(
    tmp_path: Path, converter: str, serializer: Any
) -> None:
    def make_app(clock: FakeClock) -> tuple[Jobify, Any]:
        options = CONVERTERS[converter]() | ({} if serializer is None else {"serializer": serializer()})
        app = Jobify(storage=durable(tmp_path), clock=clock, **options)

        @app.task(name="work")
        async def work(order: Order, *more: Order, waits: timedelta = timedelta(0)) -> tuple[list[Order], timedelta]:
            return [order, *more], waits

        return app, work

    app, work = make_app(FakeClock(NOON))
    async with app:
        assert await soon(await work.push(ORDER)) == ([ORDER], timedelta(0))
        await work.schedule(ORDER, ORDER, waits=timedelta(hours=1)).delay(60, job_id="later")
    app, work = make_app(FakeClock(NOON + timedelta(seconds=59.9)))
    async with app:
        job = app.find_job("later")
        assert job is not None
        clock = app._clock
        assert isinstance(clock, FakeClock)
        clock.set(NOON + timedelta(seconds=60))
        nudge(app)
        assert await soon(job) == ([ORDER, ORDER], timedelta(hours=1))


async def test_models_of_pydantic_are_validated_where_they_are_passed(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path), dumper=PydanticConverter(), loader=PydanticConverter())

    @app.task(name="work")
    async def work(user: User) -> User:
        assert isinstance(user, User)
        return user

    async with app:
        assert await soon(await work.push(USER)) == USER
        with pytest.raises(PayloadError, match=r"args\[0\]"):
            await work.push({"name": 5})  # type: ignore[arg-type]
        assert app.get_active_jobs() == []


async def test_a_retort_with_recipes_of_its_own(tmp_path: Path) -> None:
    retort = Retort(recipe=[name_mapping(Address, map={"number": "no"})])
    app = Jobify(storage=durable(tmp_path), dumper=retort, loader=retort)

    @app.task(name="work")
    async def work(address: Address) -> Address:
        return address

    async with app:
        job = await work.schedule(Address("High St", 5)).delay(3600)
        (record,) = app.configs.storage.get([job.id])
        assert record.payload == b'[[{"street":"High St","no":5}],{}]'
        assert await soon(await work.push(Address("High St", 5))) == Address("High St", 5)

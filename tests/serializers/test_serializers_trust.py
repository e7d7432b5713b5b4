"""What a row can make a process do through the default serializer: build data classes of the app, and nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, EnumMeta, Flag
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import pytest

from jobify.exceptions import ConfigurationError, PayloadError
from jobify.model.job_options import read_options
from jobify.model.records import JobQuery
from jobify.serializers import ExtendedJSONSerializer
from jobify.storage import SQLiteStorage
from support import opened, output

pytestmark = pytest.mark.promise("f33")

RAN: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> Iterator[None]:
    RAN.clear()
    yield
    assert RAN == []


def load(kind: str, name: str, value: Any, **options: Any) -> Any:
    row = json.dumps([{"$": kind, "t": name, "v": value}]).encode()
    return ExtendedJSONSerializer(**options).loadb(row)[0]


KINDS = {
    "enum": "X",
    "dataclass": {"fields": {}},
    "namedtuple": {},
    "struct": {},
    "model": {"fields": {}, "set": [], "extra": {}, "private": {}},
}


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that could be imported, and notes that it was."""
    package = tmp_path / "trap_package"
    package.mkdir()
    note = f"with open({str(tmp_path / 'imported')!r}, 'a') as file: file.write(__name__)"
    code = f"{note}\nfrom enum import Enum\nclass Color(Enum): RED = 1\n"
    (package / "__init__.py").write_text(code)
    (package / "inner.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "imported"  # type: ignore[misc]
    for name in [name for name in sys.modules if name.startswith("trap_package")]:
        del sys.modules[name]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("module", ["trap_package", "trap_package.inner"])
def test_no_row_imports_a_module(trap: Path, kind: str, module: str) -> None:
    with pytest.raises(PayloadError, match=rf"Import that module .*ExtendedJSONSerializer\(modules=\['{module}'\]\)"):
        load(kind, f"{module}:Color", KINDS[kind])
    assert not trap.exists()
    assert module not in sys.modules


def test_what_the_app_has_named_is_imported(trap: Path) -> None:
    color = load("enum", "trap_package.inner:Color", "RED", modules=["trap_package"])
    assert color.name == "RED"
    assert trap.read_text() == "trap_packagetrap_package.inner"
    assert load("enum", "trap_package.inner:Color", "RED") is color, "imported by now"


@pytest.mark.parametrize("named", ["trap", "trap_package.inn", "trap_package.inner.x", "", "*"])
def test_a_name_that_begins_alike_is_another_module(trap: Path, named: str) -> None:
    with pytest.raises(PayloadError, match="has not imported"):
        load("enum", "trap_package.inner:Color", "RED", modules=[named])
    assert not trap.exists()


def test_names_come_in_a_sequence() -> None:
    with pytest.raises(ConfigurationError, match=r"\['shop'\]"):
        ExtendedJSONSerializer(modules="shop")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "subprocess:Popen",
        "builtins:eval",
        "builtins:exec",
        "builtins:__import__",
        "os:environ",
        "os:_Environ",
        "sys:modules",
        "functools:partial",
        "types:FunctionType",
        "jobify.runners.process:ProcessRunner",
        "jobify:Jobify",
        "threading:Thread",
        "pathlib:Path",
        "json:JSONDecoder.decode",
        "json.__dict__:x",
        ":",
        "",
        "os",
        "os:",
        "os:path.join",
    ],
)
def test_what_is_no_data_class_is_refused(kind: str, name: str) -> None:
    with pytest.raises(PayloadError):
        load(kind, name, KINDS[kind])


def test_a_lazy_module_stays_lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(ModuleType):
        def __getattribute__(self, name: str) -> Any:
            RAN.append(name)
            return super().__getattribute__(name)

    lazy = Lazy("lazy_module")
    exec("def __getattr__(name): RAN.append(name)", {"RAN": RAN}, vars(lazy))
    RAN.clear()
    monkeypatch.setitem(sys.modules, "lazy_module", lazy)
    monkeypatch.setitem(sys.modules, "no_module", Trap())  # type: ignore[arg-type]
    for name in ("lazy_module:Color", "no_module:Color"):
        with pytest.raises(PayloadError):
            load("enum", name, "RED")


class Trap:
    def __getattribute__(self, name: str) -> Any:
        RAN.append(name)
        return super().__getattribute__(name)


class Meta(type):
    def __getattr__(cls, name: str) -> Any:
        RAN.append(name)
        return {}

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        RAN.append("call")

    def __hash__(cls) -> int:
        RAN.append("hash")
        return 1

    def __instancecheck__(cls, instance: Any) -> bool:
        RAN.append("instancecheck")
        return True

    def __subclasscheck__(cls, subclass: Any) -> bool:
        RAN.append("subclasscheck")
        return True


class Meddling(metaclass=Meta):
    pass


@pytest.mark.parametrize("kind", KINDS)
def test_a_metaclass_is_not_asked(kind: str) -> None:
    with pytest.raises(PayloadError):
        load(kind, f"{__name__}:Meddling", KINDS[kind])


class Colors(Flag):
    RED = 1
    BLUE = 2

    @classmethod
    def _missing_(cls, value: object) -> Any:
        RAN.append("missing")
        return cls.RED


class Plain(Flag):
    RED = 1
    BLUE = 2


class Choice(Enum):
    A = 1

    @classmethod
    def _missing_(cls, value: object) -> Any:
        RAN.append("missing")
        return cls.A


class CallingMeta(EnumMeta):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        RAN.append("call")
        return super().__call__(*args, **kwargs)


class Called(Flag, metaclass=CallingMeta):
    RED = 1
    BLUE = 2


def test_an_enum_is_looked_up_and_not_called() -> None:
    assert load("enum", f"{__name__}:Colors", 2) is Colors.BLUE
    assert load("enum", f"{__name__}:Plain", 3) == Plain.RED | Plain.BLUE
    RAN.clear()
    assert load("enum", f"{__name__}:Called", 3).value == 3
    assert load("enum", f"{__name__}:Choice", "A") is Choice.A
    for kind, value in (("Colors", 9), ("Colors", "x"), ("Choice", 1), ("Choice", "_missing_"), ("Plain", "x")):
        with pytest.raises(PayloadError):
            load("enum", f"{__name__}:{kind}", value)


@dataclass
class Point:
    x: int
    _hidden: int = 0

    def __new__(cls, *args: Any) -> Any:
        RAN.append("new")
        return super().__new__(cls)

    def __init__(self, x: int) -> None:
        RAN.append("init")
        self.x = x

    def __post_init__(self) -> None:
        RAN.append("post_init")

    def __setstate__(self, state: Any) -> None:
        RAN.append("setstate")

    def __reduce__(self) -> Any:
        RAN.append("reduce")
        return (str, ())

    def __setattr__(self, name: str, value: Any) -> None:
        RAN.append("setattr")
        super().__setattr__(name, value)

    @property
    def area(self) -> int:
        RAN.append("get")
        return 1

    @area.setter
    def area(self, value: int) -> None:
        RAN.append("set")


def test_a_dataclass_is_put_back_field_by_field() -> None:
    point = load("dataclass", f"{__name__}:Point", {"fields": {"x": 1, "_hidden": 2}, "more": {"area": 3, "other": 4}})
    assert type(point) is Point
    assert vars(point) == {"x": 1, "_hidden": 2, "area": 3, "other": 4}


@pytest.mark.parametrize("name", ["__class__", "__dict__", "__weakref__", "__reduce__"])
def test_more_attributes_are_only_attributes(name: str) -> None:
    point = load("dataclass", f"{__name__}:Point", {"fields": {"x": 1}, "more": {name: {"y": 1}}})
    assert type(point) is Point
    assert object.__getattribute__(point, "__dict__")["x"] == 1


@dataclass
class Celsius:
    """A field that is a property: what it is computed from is restored."""

    degrees: int = 0

    def _get(self) -> int:
        return self._degrees

    def _set(self, value: int) -> None:
        RAN.append("set")
        self._degrees = value if isinstance(value, int) else 0


Celsius.degrees = property(Celsius._get, Celsius._set)  # type: ignore[assignment]


def test_a_property_is_not_set() -> None:
    value = Celsius(21)
    RAN.clear()
    serializer = ExtendedJSONSerializer()
    back = serializer.loadb(serializer.dumpb([value]))[0]
    assert back == value
    assert back.degrees == 21


class Pair(NamedTuple):
    a: int
    b: int = 2


class NoTuple(tuple):  # type: ignore[type-arg]
    _fields = ("a",)

    @property
    def _field_defaults(self) -> Any:
        RAN.append("defaults")
        return {}


class Record(msgspec.Struct):
    a: int = 1


def test_the_other_kinds() -> None:
    assert load("namedtuple", f"{__name__}:Pair", {"a": 1}) == Pair(1, 2)
    assert load("struct", f"{__name__}:Record", {"a": 5}) == Record(5)
    with pytest.raises(PayloadError):
        load("namedtuple", f"{__name__}:NoTuple", {"a": 1})


def test_the_exceptions_of_a_stored_retry_are_found_and_not_imported(trap: Path) -> None:
    for name in ("trap_package:Color", "os:system", "builtins:print"):
        options = read_options(json.dumps({"retry": {"retries": 1, "include": [name]}}))
        with pytest.raises(PayloadError):
            options.policy()
    assert not trap.exists()


PROGRAM = """
import asyncio, sys
from dataclasses import dataclass
from jobify import Jobify, RunMode
import models

app = Jobify(storage="jobs.db")

@dataclass
class Own:
    x: int

@app.task(name="thread")
def in_thread(own: object, other: object) -> list:
    return [own, other]

@app.task(name="process", run_mode=RunMode.PROCESS)
def in_process(own: object, other: object) -> list:
    return [own, other]

async def main():
    if "push" in sys.argv:
        ids = [in_thread.delay(Own(1), models.Item(2)).id, in_process.delay(Own(1), models.Item(2)).id]
        return
    async with app:
        await asyncio.wait_for(app.wait_all(), 60)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("reader", [["program.py"], ["-c", "import program, asyncio; asyncio.run(program.main())"]])
def test_types_of_the_app_and_of_its_main_module_are_found(tmp_path: Path, reader: list[str]) -> None:
    """In a thread, in a child process, in a later process, and where the program is imported under its name."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "models.py").write_text("from dataclasses import dataclass\n@dataclass\nclass Item:\n    y: int\n")
    for command in (["program.py", "push"], reader):
        output(*command, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    with opened(SQLiteStorage(tmp_path / "jobs.db")) as storage:
        rows = storage.find(JobQuery())
    assert [(row.task, row.status, row.error) for row in sorted(rows, key=lambda row: row.task)] == [
        ("process", "success", None),
        ("thread", "success", None),
    ]


@dataclass
class Factory:
    made: list[str] = field(default_factory=list)


def test_a_field_that_a_class_has_gained_gets_its_default() -> None:
    assert load("dataclass", f"{__name__}:Factory", {"fields": {}}) == Factory([])


CHILD_PROGRAM = """
import asyncio
from jobify import Jobify, RunMode
from jobify.storage import SQLiteStorage

app = Jobify(storage="jobs.db")

@app.task(name="process", run_mode=RunMode.PROCESS)
def in_process() -> None: ...

async def main():
    in_process.delay()
    app.close()
    storage = SQLiteStorage("jobs.db")
    storage.open()
    storage._database.execute("UPDATE jobs SET task = 'trap_package.inner:Color'")
    storage.close()
    async with app:
        await asyncio.sleep(1)
        second = await in_process.push()
        await second.wait()

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.slow
def test_a_child_process_is_told_by_the_app_what_to_run(trap: Path, tmp_path: Path) -> None:
    """The name in a row is looked up among registered tasks; a child imports the module of the function found."""
    (tmp_path / "program.py").write_text(CHILD_PROGRAM)
    output("program.py", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert not trap.exists()
    with opened(SQLiteStorage(tmp_path / "jobs.db")) as storage:
        rows = {row.task: row.status for row in storage.find(JobQuery())}
    assert rows == {"trap_package.inner:Color": "scheduled", "process": "success"}

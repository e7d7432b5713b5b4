"""What goes between parent and child survives, or says why it did not."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import pickle
import threading
from typing import Any

import pytest
import runner_tasks
from hypothesis import given
from hypothesis import strategies as st

from jobify.exceptions import ApplicationStateError, NoResultError, PayloadError, RemoteError, TaskExitError
from jobify.model.tracebacks import RemoteTraceback
from jobify.runners import protocol
from jobify.runners.function_address import Address

ADDRESS = Address("runner_tasks", "add")


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Slippery(Exception):
    """Survives pickle only with its state, and that holds something that does not."""

    def __init__(self) -> None:
        super().__init__("slippery", threading.Lock())
        self.lock = threading.Lock()
        self.name = "kept"


class Changeling(Exception):
    """Comes back from pickle as something else."""

    def __reduce__(self) -> Any:
        return str, ("no exception",)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def across(error: BaseException) -> BaseException:
    with pytest.raises(Exception) as caught:
        protocol.outcome(protocol.encode_error(error))
    return caught.value


@given(st.binary())
def test_frames_come_out_as_they_went_in(payload: bytes) -> None:
    stream = io.BytesIO(protocol.frame(payload) + protocol.frame(b"next"))
    assert protocol.read(stream) == payload
    assert protocol.read(stream) == b"next"
    assert protocol.read(stream) is None


@given(st.binary(min_size=1), st.data())
def test_a_frame_that_was_cut_off_is_the_end(payload: bytes, data: st.DataObject) -> None:
    whole = protocol.frame(payload)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert protocol.read(io.BytesIO(whole[:cut])) is None


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


@given(plain)
def test_values_arrive_as_they_left(value: Any) -> None:
    assert protocol.outcome(protocol.encode_value(value)) == value
    assert protocol.decode(protocol.encode_message(value)[1:]) == value
    assert pickle.loads(protocol.encode_request(protocol.Request(ADDRESS, (value,), {"k": value}))) == protocol.Request(
        ADDRESS,
        (value,),
        {"k": value},
    )


def test_arguments_that_cannot_be_sent_are_refused_here() -> None:
    with pytest.raises(PayloadError, match=r"arguments of runner_tasks:add cannot be sent"):
        protocol.encode_request(protocol.Request(ADDRESS, (threading.Lock(),), {}))


def test_a_value_that_cannot_be_sent_or_read_is_an_error_that_says_so() -> None:
    with pytest.raises(PayloadError, match="returned a lock that cannot be sent"):
        protocol.outcome(protocol.encode_value(threading.Lock()))
    with pytest.raises(PayloadError, match=r"cannot be read here \(RuntimeError: not here\)"):
        protocol.outcome(protocol.encode_value(runner_tasks.Unreadable()))


@given(st.lists(plain, max_size=3))
def test_exceptions_arrive_as_they_left(args: list[Any]) -> None:
    error = across(LookupError(*args))
    assert type(error) is LookupError
    assert error.args == tuple(args)


@pytest.mark.parametrize(
    "error",
    [
        OSError(2, "no", "file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        NoResultError("stop"),
        ExceptionGroup("two", [ValueError("a"), KeyError("b")]),
        runner_tasks.Picky(7, detail="no"),
        runner_tasks.Wistful("for ever"),
        Frozen(3),
        Changeling("me"),
        ApplicationStateError(operation="a", reason="b", solution="c"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_keeps_its_type_text_and_attributes(error: Exception) -> None:
    vars(error)["__notes__"] = ["a note"]
    found = across(error)
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)


def test_what_cannot_travel_of_an_exception_is_left_out() -> None:
    error = across(Slippery())
    assert type(error) is Slippery
    assert error.args[0] == "slippery"
    assert "lock" in error.args[1]
    assert vars(error) == {"name": "kept"}


def test_an_exception_that_cannot_be_rebuilt_keeps_its_name_and_text() -> None:
    class Hidden(Exception):
        pass

    error = across(Hidden("inside"))
    assert isinstance(error, RemoteError)
    assert error.type_name.endswith("Hidden")
    assert str(error).endswith("Hidden: inside")


def test_an_exception_whose_class_is_missing_here_keeps_its_name_and_text(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = protocol.encode_error(runner_tasks.Picky(7, detail="no"))
    monkeypatch.delattr(runner_tasks, "Picky")
    with pytest.raises(RemoteError, match="Picky: 7: no"):
        protocol.outcome(reply)


def test_an_exception_without_words_arrives() -> None:
    assert type(across(Unprintable())) is Unprintable
    assert "cannot be shown" in str(pickle.loads(protocol.encode_error(Unprintable())[1:]))


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), StopIteration(1)])
def test_what_would_end_the_parent_is_wrapped(error: BaseException) -> None:
    found = across(error)
    assert isinstance(found, TaskExitError)
    assert type(found.__cause__) is type(error)
    assert RemoteTraceback.of(found) is not None


def test_the_text_begins_with_the_tasks_own_frames() -> None:
    with pytest.raises(ValueError) as caught:
        runner_tasks.raise_chained()
    error = across(caught.value)
    remote = RemoteTraceback.of(error)
    assert remote is not None
    assert remote is error.__cause__
    assert "KeyError: 'deep'" in remote.text
    assert remote.text.rstrip().endswith("ValueError: shallow")
    assert remote.text in str(remote)
    assert RemoteTraceback.of(ValueError()) is None

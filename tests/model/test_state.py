"""Dictionaries that answer to attribute access."""

from __future__ import annotations

import copy
import pickle

import pytest

from jobify import RequestState, State


@pytest.mark.parametrize("kind", [State, RequestState])
def test_items_are_attributes(kind: type[State]) -> None:
    state = kind({"a": 1})
    state.b = 2
    assert (state["a"], state.a, state["b"]) == (1, 1, 2)
    state.a = 3
    assert state == {"a": 3, "b": 2}
    del state.a
    assert state == {"b": 2}
    assert hasattr(state, "b")
    assert not hasattr(state, "a")
    assert getattr(state, "a", "default") == "default"


def test_what_is_missing() -> None:
    state = State({"a": 1, 5: "not every key is a text"})  # type: ignore[dict-item]
    with pytest.raises(AttributeError, match=r"State has no 'db'; it has: \['a', 5\]"):
        state.db  # noqa: B018
    with pytest.raises(AttributeError, match="db"):
        del state.db
    with pytest.raises(KeyError):
        state["db"]
    assert state.get("db") is None


def test_names_of_methods_are_only_keys() -> None:
    state = State({"items": 1, "data": 2})
    assert state["items"] == 1
    assert list(state.items()) == [("items", 1), ("data", 2)]
    assert state["data"] == 2


def test_it_starts_with_a_copy() -> None:
    given = {"a": 1}
    state = State(given)
    state.b = 2
    assert given == {"a": 1}


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, State.copy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies(duplicate: object) -> None:
    state = State({"a": [1]})
    other = duplicate(state)  # type: ignore[operator]
    assert other == state
    assert type(other) is State
    other.b = 2
    assert "b" not in state


def test_merging() -> None:
    assert State({"a": 1}) | {"b": 2} == {"a": 1, "b": 2}
    state = State({"a": 1})
    state |= {"b": 2}
    assert state.b == 2

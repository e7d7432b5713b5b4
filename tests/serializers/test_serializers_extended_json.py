"""The default serializer: what is restored equals what was given, types included (B5, B6)."""

from __future__ import annotations

import json
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serializer_samples import (
    BERLIN,
    VALUES,
    Bits,
    Box,
    Cached,
    Color,
    Counted,
    Door,
    Level,
    OnSlots,
    Pair,
    Point,
    Word,
    with_visits,
)

from jobify.serializers import ExtendedJSONSerializer, Serializer
from jobify.serializers.roundtrip import require_same

SERIALIZER = ExtendedJSONSerializer()


def restored(value: Any) -> Any:
    return SERIALIZER.loadb(SERIALIZER.dumpb(value))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_is_restored_equals_what_was_given(value: Any) -> None:
    require_same([value], [restored(value)], "")
    require_same([value], restored([value]), "")


def test_plain_values_are_stored_as_plain_json() -> None:
    plain = {"to": ["ann"], "n": 1, "ok": None, "x": 1.5, "big": 2**70, "sign": '"$"'}
    assert json.loads(SERIALIZER.dumpb(plain)) == plain


def test_other_values_are_readable() -> None:
    stored = json.loads(SERIALIZER.dumpb([Color.RED, Point(1), datetime(2026, 1, 1, tzinfo=BERLIN)]))
    assert stored == [
        {"$": "enum", "t": "serializer_samples:Color", "v": "RED"},
        {"$": "dataclass", "t": "serializer_samples:Point", "v": {"fields": {"x": 1, "y": 0.5, "tags": []}}},
        {"$": "datetime", "v": {"at": "2026-01-01T00:00:00", "zone": {"$": "ZoneInfo", "v": "Europe/Berlin"}}},
    ]


def test_equal_sets_are_equal_bytes() -> None:
    up, down = ({f"word {number}" for number in order} for order in (range(50), range(49, -1, -1)))
    assert SERIALIZER.dumpb(up) == SERIALIZER.dumpb(down)


def test_it_is_a_serializer_and_needs_no_base_class() -> None:
    class Own:
        def dumpb(self, data: Any) -> bytes:
            return b""

        def loadb(self, data: bytes) -> Any:
            return None

    assert isinstance(SERIALIZER, Serializer)
    assert isinstance(Own(), Serializer)
    assert not isinstance(object(), Serializer)


# Property: any nesting of anything supported.

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.uuids()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.timezones() | st.just(UTC))
    | st.times()
    | st.timedeltas()
    | st.sampled_from([*Color, *Level, *Word, Door.FRONT, Bits(3), BERLIN, Path("x"), range(3)])
)
HASHABLE = st.recursive(
    SCALARS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner) | st.builds(Pair, inner, inner), max_leaves=4
)
ANYTHING = st.recursive(
    HASHABLE | st.floats() | st.complex_numbers() | st.decimals() | st.binary().map(bytearray),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.sets(HASHABLE)
        | st.dictionaries(st.text() | st.just("$"), inner)
        | st.dictionaries(HASHABLE, inner)
        | st.builds(Point, inner, inner)
        | st.builds(Box, inner)
        | st.builds(deque, st.lists(inner), st.none() | st.integers(0, 9))
    ),
    max_leaves=8,
)


@pytest.mark.slow
@given(ANYTHING)
def test_any_nesting_is_restored(value: Any) -> None:
    require_same(value, restored(value), "")


@pytest.mark.slow
@given(ANYTHING)
def test_the_stored_form_is_json(value: Any) -> None:
    json.loads(SERIALIZER.dumpb(value))


# Dataclasses


def test_fields_without_init_and_unset_fields_come_back_as_they_were() -> None:
    counted = Counted(1)
    counted.total = 9
    back = restored(counted)
    assert (back.start, back.total, hasattr(back, "later")) == (1, 9, False)
    counted.later = 3
    assert restored(counted) == counted


def test_attributes_besides_the_fields_are_kept_and_cached_properties_are_not() -> None:
    cached = Cached(4)
    cached.extra = 99
    assert cached.half == 2.0
    assert vars(restored(cached)) == {"size": 4, "extra": 99}


def test_no_constructor_runs() -> None:
    cached = restored(Cached(4))
    cached.extra = 0
    assert restored(cached).extra == 0


def test_slots_of_a_base_are_kept() -> None:
    value = OnSlots(1)
    value.below = 2
    assert restored(value).below == 2


def test_private_attributes_and_extras_of_a_model() -> None:
    account = with_visits()
    back = restored(account)
    assert (back._visits, back.note, back.model_fields_set) == (7, (1, 2), account.model_fields_set)
    assert not hasattr(back, "_token")
    assert "short" not in vars(back)

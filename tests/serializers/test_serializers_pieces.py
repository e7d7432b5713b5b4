"""Large JSON that is written and read in pieces is the same as in one piece."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobify.exceptions import PayloadError
from jobify.serializers import ExtendedJSONSerializer, JSONSerializer, OrjsonSerializer, Serializer, offload
from jobify.serializers.offload import decode_in_pieces, encode_in_pieces, off_loop

pytestmark = pytest.mark.promise("f24")

LIBRARIES: dict[str, tuple[Callable[[Any], bytes], Callable[[Any], Any]]] = {
    "msgspec": (msgspec.json.encode, msgspec.json.decode),
    "orjson": (orjson.dumps, orjson.loads),
}
SERIALIZERS: dict[str, Callable[[], Serializer]] = {
    "extended": ExtendedJSONSerializer,
    "json": JSONSerializer,
    "orjson": OrjsonSerializer,
}
BOUND = 4 * 65_536

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=8) | st.dictionaries(TEXTS, inner, max_size=8), max_leaves=60
)


def _nested(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = [value]
    return value


ROWS = [{"id": number, "name": f'a "name" {{[, {number}', "price": number / 3} for number in range(20_000)]
LARGE = {
    "rows": ROWS,
    "call": [[ROWS], {}],
    "by name": [[1, "]"], {"rows": ROWS, "more": ["x" * 200_000, 1]}],
    "a dict": {str(number): [number] for number in range(30_000)},
    "lists": [[number, [number]] for number in range(30_000)],
    "texts": ['\\"é\u2028' * 9] * 20_000,
    "one large among small": [1, 2, ROWS[:10_000], 3, {"a": {"b": ROWS[:10_000]}}, []],
    "deep and large": _nested(ROWS[:5_000], 12),
}


@contextmanager
def _small_pieces() -> Iterator[None]:
    """What is three elements long is large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(offload, "PIECE_BYTES", 12)
        patch.setattr(offload, "is_in_codec_thread", lambda: True)
        patch.setattr(offload, "is_large", lambda values: len(json.dumps(values)) > 20)
        yield


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
@given(value=VALUES)
def test_pieces_make_up_the_whole(library: str, value: Any) -> None:
    encode, decode = LIBRARIES[library]
    written = encode(value)
    spaced = json.dumps(value, indent=1).encode()
    with _small_pieces():
        assert encode_in_pieces(value, encode) == written
        assert repr(decode_in_pieces(written, decode)) == repr(decode(written))
        assert _outcome(lambda: decode_in_pieces(spaced, decode)) == _outcome(lambda: decode(spaced))


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
@given(value=VALUES, data=st.data())
def test_damage_is_reported_as_in_one_piece(library: str, value: Any, data: st.DataObject) -> None:
    decode = LIBRARIES[library][1]
    damaged = bytearray(LIBRARIES[library][0]([value, value]))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.sampled_from(b'"\\[]{},:0e-. \xff\x00tn'))
    with _small_pieces():
        assert _outcome(lambda: decode_in_pieces(bytes(damaged), decode)) == _outcome(lambda: decode(bytes(damaged)))


@pytest.mark.slow
@pytest.mark.parametrize("form", SERIALIZERS)
@pytest.mark.parametrize("name", LARGE)
async def test_large_values_come_back_equal(form: str, name: str) -> None:
    serializer, value = SERIALIZERS[form](), LARGE[name]
    written = await _off_loop(lambda: serializer.dumpb(value))
    assert written == serializer.dumpb(value)
    assert serializer.loadb(written) == value


@pytest.mark.parametrize("name", [name for name in LARGE if name != "deep and large"])
async def test_no_call_gets_more_than_a_piece(name: str) -> None:
    longest = 0

    def encode(value: Any) -> bytes:
        nonlocal longest
        written = msgspec.json.encode(value)
        longest = max(longest, len(written))
        return written

    def decode(data: bytes) -> Any:
        nonlocal longest
        longest = max(longest, len(data))
        return msgspec.json.decode(data)

    written = await _off_loop(lambda: encode_in_pieces(LARGE[name], encode))
    assert 0 < longest < BOUND < len(written)
    longest = 0
    assert decode_in_pieces(written, decode) == LARGE[name]
    assert 0 < longest < BOUND


@pytest.mark.slow
async def test_values_that_are_no_json_are_large_too() -> None:
    serializer = ExtendedJSONSerializer()
    value = {"pairs": [(number, {number}) for number in range(20_000)], "$": 1}
    written = await _off_loop(lambda: serializer.dumpb(value))
    assert written == serializer.dumpb(value)
    assert serializer.loadb(written) == value


@pytest.mark.parametrize("form", SERIALIZERS)
async def test_what_is_refused_is_refused_with_its_place(form: str) -> None:
    serializer = SERIALIZERS[form]()
    value = [*ROWS[:9_000], {"id": object()}]
    with pytest.raises(PayloadError) as in_one_piece:
        serializer.dumpb(value)
    with pytest.raises(PayloadError) as in_pieces:
        await _off_loop(lambda: serializer.dumpb(value))
    assert str(in_pieces.value) == str(in_one_piece.value)


async def _off_loop(function: Callable[[], Any]) -> Any:
    return await off_loop(function)


def _outcome(function: Callable[[], Any]) -> str:
    try:
        return repr(function())
    except Exception as error:
        return f"{type(error).__name__}: {error}"

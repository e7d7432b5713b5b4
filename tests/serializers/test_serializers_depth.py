"""How deeply values may be nested: what is accepted can be read, on the smallest stack that reads it."""

from __future__ import annotations

import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

import pytest

from jobify import serializers
from jobify.exceptions import PayloadError
from jobify.serializers.base import MAX_DEPTH, Serializer
from jobify.serializers.codec import Codec

pytestmark = pytest.mark.promise("f50")


@dataclass
class Box:
    inner: Any


def _pickle() -> Serializer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return serializers.UnsafePickleSerializer()


SERIALIZERS: dict[str, Callable[[], Serializer]] = {
    "extended": lambda: serializers.ExtendedJSONSerializer([Box]),
    "json": serializers.JSONSerializer,
    "orjson": serializers.OrjsonSerializer,
    "msgpack": serializers.MsgpackSerializer,
    "cbor": serializers.CBORSerializer,
    "pickle": _pickle,
}
LAYERS: dict[str, Callable[[Any], Any]] = {
    "list": lambda inner: [inner],
    "dict": lambda inner: {"k": inner},
    "tuple": lambda inner: (inner,),
    "dataclass": Box,
    "frozenset": lambda inner: frozenset({inner}),
    "deque": lambda inner: deque([inner]),
    "mixed": lambda inner: [{"k": inner}],
}
DEPTHS = [1, 2, 48, 49, 50, 51, 98, 99, 100, 101, 102, 150, 197, 250, 333, 450, 900]


def nested(layer: Callable[[Any], Any], depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = layer(value)
    return value


def in_thread(function: Callable[[], Any]) -> Any:
    """What ``function`` gives on a small stack of its own."""
    answers: list[Any] = []
    size = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=lambda: answers.append(function()))
        thread.start()
    finally:
        threading.stack_size(size)
    thread.join()
    (answer,) = answers
    return answer


def far_down(function: Callable[[], Any], frames: int) -> Any:
    """What ``function`` gives where little of the stack is left."""
    return function() if not frames else far_down(function, frames - 1)


def _room() -> int:
    frame: FrameType | None = sys._getframe()
    used = 0
    while frame is not None:
        used, frame = used + 1, frame.f_back
    return sys.getrecursionlimit() - used


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("form", SERIALIZERS)
def test_what_is_accepted_can_be_read_anywhere(form: str, layer: str) -> None:
    serializer = SERIALIZERS[form]()
    for depth in DEPTHS:
        value = nested(LAYERS[layer], depth)
        try:
            written = serializer.dumpb(value)
        except PayloadError:
            continue
        assert depth <= MAX_DEPTH
        assert serializer.dumpb(in_thread(partial(serializer.loadb, written))) == written
        far = far_down(partial(serializer.loadb, written), _room() - 60)
        assert serializer.dumpb(far) == written
        assert far_down(partial(serializer.dumpb, value), _room() - 60) == written


@pytest.mark.parametrize("form", SERIALIZERS)
def test_the_limit_is_one_number(form: str) -> None:
    serializer = SERIALIZERS[form]()
    assert serializer.loadb(serializer.dumpb(nested(LAYERS["list"], MAX_DEPTH))) == nested(LAYERS["list"], MAX_DEPTH)
    with pytest.raises(PayloadError, match="nested too deeply"):
        serializer.dumpb(nested(LAYERS["list"], MAX_DEPTH + 1))


@pytest.mark.parametrize("form", SERIALIZERS)
def test_what_contains_itself_is_refused(form: str) -> None:
    value: list[Any] = []
    value += [value, value, {"again": value}]
    with pytest.raises(PayloadError):
        SERIALIZERS[form]().dumpb(value)


@pytest.mark.parametrize("layer", LAYERS)
def test_calls_and_results_are_held_to_it(layer: str) -> None:
    codec = Codec(serializers.ExtendedJSONSerializer([Box]))
    value = nested(LAYERS[layer], 197)
    with pytest.raises(PayloadError, match="nested too deeply"):
        codec.encode_call((value,), {})
    with pytest.raises(PayloadError, match="nested too deeply"):
        codec.encode_result(value)
    with pytest.raises(PayloadError, match="nested too deeply"):
        codec.encode_value(value)

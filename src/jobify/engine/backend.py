"""One storage, as the engine uses it: the gate to it, this process's owner id in it, and how values are written for
it."""

from __future__ import annotations

from typing import Any

from jobify.clock import Clock
from jobify.engine.direct import DirectGate
from jobify.engine.gate import Gate, ThreadGate
from jobify.exceptions import PayloadError
from jobify.registry import Endpoint
from jobify.serializers.codec import Codec
from jobify.storage.base import Storage

__all__ = ("Backend", "not_stored")


class Backend:
    """A storage with what is needed to use it.

    What is kept ``in_memory`` never leaves the process: arguments and results stay the objects they are.
    """

    def __init__(self, storage: Storage, codec: Codec, clock: Clock, *, in_memory: bool) -> None:
        self.storage = storage
        self.is_durable = storage.is_durable
        self.gate: Gate = DirectGate(storage) if in_memory else ThreadGate(storage)
        self.owner = 0
        self._codec = codec
        self._clock = clock
        self._is_encoded = not in_memory
        self.frozen = codec.frozen
        """The types of arguments that can neither change nor be restored as something else."""

    async def start(self) -> None:
        """Open the storage and become an owner in it."""
        await self.gate.start()
        try:
            self.owner = await self.gate.call(lambda: self.storage.register(now=self._clock.now()))
        except BaseException:
            await self.gate.stop()
            raise

    async def stop(self) -> None:
        """Stop being an owner (jobs still held are given back), and close the storage."""
        try:
            await self.gate.call(lambda: self.storage.retire(self.owner))
        finally:
            await self.gate.stop()

    def encode_call(self, endpoint: Endpoint, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The payload of a call; PayloadError if it could not be restored."""
        if not self._is_encoded:
            return args, kwargs
        return self._codec.encode_call(args, kwargs, endpoint.types)

    def decode_call(self, endpoint: Endpoint, payload: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments in a payload; PayloadError if they cannot be restored."""
        if not self._is_encoded:
            restored: tuple[tuple[Any, ...], dict[str, Any]] = payload
            return restored
        return self._codec.decode_call(payload, endpoint.types)

    def encode_result(self, endpoint: Endpoint, value: Any) -> bytes | None:
        """What a task returned, for the row; PayloadError if it cannot be written."""
        return self._codec.encode_result(value, endpoint.spec.result_type) if self._is_encoded else None

    def decode_result(self, endpoint: Endpoint, data: bytes) -> Any:
        """What a task returned, from the row."""
        return self._codec.decode_result(data, endpoint.spec.result_type)


def not_stored(endpoint: Endpoint, error: PayloadError) -> PayloadError:
    """``error``, in the words of whoever asked for the job."""
    return PayloadError(
        f"Cannot store a job of task {endpoint.name!r}: {error} "
        "Nothing was stored. A task with durable=False takes any object."
    )

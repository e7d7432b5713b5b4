"""Calls of one storage method that wait in line, and are made together.

A :class:`Line` is filled on the event loop's thread and emptied on the storage's. It needs no lock: a deque's append
and popleft are atomic, and the answer is appended after the question, so whoever sees as many answers sees the
questions, too.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from jobify.exceptions import ApplicationStateError

__all__ = ("Answer", "Batch", "Line")

QuestionT = TypeVar("QuestionT")
log = logging.getLogger("jobify.storage")

Answer: TypeAlias = Callable[[Any], None]
"""Gets the value of a call, or its exception as a value. Called on the event loop, and must not raise."""


class Line(Generic[QuestionT]):
    """Questions for one method, which takes many at once, and who wants the answers."""

    __slots__ = ("_answers", "_limit", "_method", "_questions", "is_open")

    def __init__(self, method: Callable[[Sequence[QuestionT]], Sequence[Any]], limit: int) -> None:
        self._method = method
        self._limit = limit
        self._questions: deque[QuestionT] = deque()
        self._answers: deque[Answer] = deque()
        self.is_open = True

    def ask(self, question: QuestionT, answer: Answer) -> None:
        """Stand in line; a line that is closed answers at once, with an error."""
        if not self.is_open:
            answer(_closed())
            return
        self._questions.append(question)
        self._answers.append(answer)

    def execute(self, questions: Sequence[QuestionT]) -> Sequence[Any]:
        """Make the call at once, past the line."""
        return self._method(questions)

    def alone(self, question: QuestionT, answer: Answer) -> Batch[QuestionT]:
        """A batch of one, past the line."""
        return Batch(self._method, [question], [answer])

    def take(self) -> Batch[QuestionT] | None:
        """Those at the front of the line, None if there is nobody."""
        count = min(len(self._answers), self._limit)
        if not count:
            return None
        questions = [self._questions.popleft() for _ in range(count)]
        return Batch(self._method, questions, [self._answers.popleft() for _ in range(count)])


class Batch(Generic[QuestionT]):
    """Questions that are answered together."""

    __slots__ = ("_answers", "_method", "questions", "values")

    def __init__(
        self,
        method: Callable[[Sequence[QuestionT]], Sequence[Any]],
        questions: list[QuestionT],
        answers: list[Answer],
    ) -> None:
        self.questions = questions
        self._method = method
        self._answers = answers
        self.values: Sequence[Any] = ()
        """The answers, once there are any."""

    def __len__(self) -> int:
        return len(self.questions)

    def execute(self) -> None:
        """Make the call; what it raises is raised."""
        if self.questions:
            self.values = self._method(self.questions)

    def execute_apart(self) -> None:
        """Make one call for each question; what one of them raises is its answer."""
        self.values = [self._execute_one(question) for question in self.questions]

    def _execute_one(self, question: QuestionT) -> Any:
        try:
            return self._method([question])[0]
        except Exception as error:
            return error

    def refuse(self, error: Exception) -> None:
        """Answer every question with ``error``."""
        self.values = [error] * len(self.questions)

    def deliver(self) -> None:
        """Give the answers to those who want them."""
        for answer, value in zip(self._answers, self.values, strict=True):
            try:
                answer(value)
            except Exception:  # it must not: but the others must get theirs
                log.exception("An answer of the storage could not be handled.")


def _closed() -> ApplicationStateError:
    return ApplicationStateError(
        operation="use the storage", reason="The app was shut down.", solution="Do it inside `async with app:`."
    )

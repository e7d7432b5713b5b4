"""Calls of one storage method that wait in line, and are made together.

A :class:`Line` is filled on the event loop's thread and emptied on the storage's. It needs no lock: a deque's append
and popleft are atomic, and the answer is appended after the question, so whoever sees as many answers sees the
questions, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

__all__ = ("Answer", "Batch", "Line")

QuestionT = TypeVar("QuestionT")

Answer: TypeAlias = Callable[[Any], None]
"""Gets the value of a call, or its exception as a value. Called on the event loop, and must not raise."""


class Line(Generic[QuestionT]):
    """Questions for one method, which takes many at once, and who wants the answers."""

    __slots__ = ("_answers", "_limit", "_method", "_questions")

    def __init__(self, method: Callable[[Sequence[QuestionT]], Sequence[Any]], limit: int) -> None:
        self._method = method
        self._limit = limit
        self._questions: deque[QuestionT] = deque()
        self._answers: deque[Answer] = deque()

    def ask(self, question: QuestionT, answer: Answer) -> None:
        """Stand in line."""
        self._questions.append(question)
        self._answers.append(answer)

    def take(self) -> Batch[QuestionT]:
        """Those at the front of the line; perhaps none."""
        count = min(len(self._answers), self._limit)
        questions = [self._questions.popleft() for _ in range(count)]
        return Batch(self._method, questions, [self._answers.popleft() for _ in range(count)])


class Batch(Generic[QuestionT]):
    """Questions that are answered together."""

    __slots__ = ("_answers", "_method", "_values", "questions")

    def __init__(
        self,
        method: Callable[[Sequence[QuestionT]], Sequence[Any]],
        questions: list[QuestionT],
        answers: list[Answer],
    ) -> None:
        self.questions = questions
        self._method = method
        self._answers = answers
        self._values: Sequence[Any] = ()

    def __len__(self) -> int:
        return len(self.questions)

    def execute(self) -> None:
        """Make the call; what it raises is raised."""
        if self.questions:
            self._values = self._method(self.questions)

    def execute_apart(self) -> None:
        """Make one call for each question; what one of them raises is its answer."""
        self._values = [self._execute_one(question) for question in self.questions]

    def _execute_one(self, question: QuestionT) -> Any:
        try:
            return self._method([question])[0]
        except Exception as error:
            return error

    def refuse(self, error: Exception) -> None:
        """Answer every question with ``error``."""
        self._values = [error] * len(self.questions)

    def deliver(self) -> None:
        """Give the answers to those who want them."""
        for answer, value in zip(self._answers, self._values, strict=True):
            answer(value)

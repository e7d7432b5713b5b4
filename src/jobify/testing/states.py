"""The table of transitions as a picture: ``python -m jobify.testing.states`` prints it for the documentation."""

from __future__ import annotations

from collections.abc import Iterator

from jobify.model.status import TERMINAL, TRANSITIONS, JobStatus

__all__ = ("diagram",)


def diagram() -> str:
    """A Mermaid state diagram of :data:`jobify.model.status.TRANSITIONS`, one arrow for each pair of states."""
    return "\n".join(["stateDiagram-v2", *(f"    {line}" for line in _lines())])


def _lines() -> Iterator[str]:
    yield f"[*] --> {JobStatus.PENDING}"
    arrows: dict[tuple[JobStatus, JobStatus], list[str]] = {}
    for (before, event), after in TRANSITIONS.items():
        arrows.setdefault((before, after), []).append(event.value)
    for (before, after), events in arrows.items():
        yield f"{before} --> {after}: {', '.join(events)}"
    for status in JobStatus:
        if status in TERMINAL:
            yield f"{status} --> [*]"


if __name__ == "__main__":
    print(diagram())

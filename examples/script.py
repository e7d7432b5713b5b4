"""A plain script: enqueue, wait, collect. There is no event loop in it, and no server beside it but a worker.

In this folder::

    jobify worker script:app &
    python script.py 12 30 7
"""

from __future__ import annotations

import sys

from jobify import Jobify, JobResult, chord, group
from jobify.exceptions import TaskFailedError

app = Jobify()  # ./jobify.db


@app.task(name="collatz", retry=1)
def steps(number: int) -> int:
    """How many steps it takes from ``number`` to 1."""
    if number < 1:
        raise ValueError(f"{number} never gets to 1")
    count = 0
    while number != 1:
        number = number // 2 if number % 2 == 0 else 3 * number + 1
        count += 1
    return count


@app.task(name="longest")
def longest(counts: list[int]) -> int:
    return max(counts)


def main(numbers: list[int]) -> None:
    jobs: list[JobResult[int]] = steps.map([(number,) for number in numbers])  # one transaction
    for number, job in zip(numbers, jobs, strict=True):
        try:
            print(f"{number}: {job.result(timeout=60)}")
        except TaskFailedError as error:
            print(f"{number}: {error.reason}")
    end = chord(group(*(steps.s(number) for number in numbers if number > 0)), longest.s()).apply()
    print(f"longest: {end.result(timeout=60)}")


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [27])

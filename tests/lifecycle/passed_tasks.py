"""Tasks that other processes import by name."""

from __future__ import annotations

from jobify import Jobify

app = Jobify(storage=False)


@app.task
def double(number: int) -> int:
    return 2 * number


@app.task(name="renamed", queue="other")
async def send(to: str) -> str:
    return to


again = app.task(double, name="again")


class Tools:
    @app.task
    @staticmethod
    def outer(number: int) -> int:
        return number + 1

    @staticmethod
    @app.task
    def inner(number: int) -> int:
        return number + 2

    @app.task
    def plain(number: int) -> int:  # type: ignore[misc]  # used as Tools.plain, like a namespace
        return number + 3


class Mailer:
    def send(self, to: str) -> str:
        return f"mail to {to}"


bound = app.task(Mailer().send)

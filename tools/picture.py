"""Draw the picture of `jobify top` at work: start a small shop and its workers, watch them, and save the screen as SVG.

    python tools/picture.py [FILE]      # default: docs/pictures/top.svg

The screen is what the command writes to a terminal of 100 columns. The SVG holds no fonts and refers to none that a
browser would have to fetch.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from rich.ansi import AnsiDecoder
from rich.color import Color
from rich.console import Console
from rich.segment import Segment
from rich.style import Style

WIDTH, HEIGHT = 100, 24
"""Columns and lines of the terminal."""
WATCHED = 14.0
"""Seconds until the picture is taken: long enough for a throughput graph."""

SHOWN = "/srv/shop"
"""What stands in the picture for the temporary folder."""

SHOP = """
import random, time
from jobify import Jobify, Cron, current_job

app = Jobify()

@app.task(name="send_mail", queue="mail", retry=2)
async def send_mail(order: int) -> None:
    import asyncio
    await asyncio.sleep(random.uniform(0.1, 0.6))

@app.task(name="resize", queue="images")
def resize(name: str) -> None:
    for step in range(20):
        time.sleep(0.25)
        current_job.update_progress(5 * step + 5)

@app.task(name="report", queue="reports", timeout=120)
def report(month: str) -> None:
    for step in range(100):
        time.sleep(0.3)
        current_job.update_progress(step + 1)

@app.task(name="charge", queue="payments", retry=1)
async def charge(order: int) -> None:
    if order % 9 == 0:
        raise ConnectionError("the bank does not answer")

@app.task(name="clean_up", cron=Cron("*/5 * * * * * *"))
async def clean_up() -> None: ...
"""

FEEDER = """
import time, random
from shop import app, charge, report, resize, send_mail
report.delay("2026-10"); report.delay("2026-11")
number = 0
while True:
    for _ in range(random.randint(8, 40)):
        number += 1
        send_mail.delay(number)
        if number % 3 == 0: charge.delay(number)
        if number % 40 == 0: resize.delay(f"{number}.png")
    time.sleep(0.5)
"""


def watched(folder: Path) -> str:
    """What `jobify top` has written at its last look."""
    (folder / "shop.py").write_text(SHOP, encoding="utf-8")
    (folder / "feeder.py").write_text(FEEDER, encoding="utf-8")
    jobify = [sys.executable, "-m", "jobify"]
    worker = [*jobify, "worker", "shop:app", "--processes", "2", "--concurrency", "6", "--threads", "3"]
    others = [
        subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in ([*worker, "--grace", "0"], [sys.executable, "feeder.py"])
    ]
    try:
        time.sleep(2)  # the database is there
        return on_terminal([*jobify, "top", "--app", "shop:app", "--every", "0.5"], folder, WATCHED)
    finally:
        for process in others:
            process.send_signal(signal.SIGTERM)
        for process in others:
            process.wait()


def on_terminal(command: list[str], folder: Path, seconds: float) -> str:
    """The output of a program on a terminal, which is told to quit by a ``q`` after so many seconds."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ.update(TERM="xterm-256color", COLUMNS=str(WIDTH), LINES=str(HEIGHT))
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    output, end = b"", time.monotonic() + seconds
    while True:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                output += os.read(terminal, 65536)
            except OSError:  # the program has ended
                break
        if end and time.monotonic() > end:
            os.write(terminal, b"q")
            end = 0.0
    os.waitpid(pid, 0)
    return output.decode()


def last_screen(output: str) -> str:
    """The last complete screen: each one begins with a jump of the cursor to the upper left corner."""
    screens = [each for each in output.split("\x1b[H") if len(each) > WIDTH]
    return re.sub(r"\x1b\[[?0-9;]*[a-ln-zA-Z]", "", screens[-1]).replace("\r", "")


# -- the picture -------------------------------------------------------------------------------------------------------

CELL, LINE, SIZE, EDGE = 8.4, 19, 14, 16
"""Width of a character, height of a line, size of the font, and the margin around the text."""
COLOURS = {
    "red": "#ff7b72", "green": "#56d364", "yellow": "#e3b341", "blue": "#79c0ff", "magenta": "#d2a8ff",
    "cyan": "#76e3ea", "white": "#e6edf3", "default": "#d0d7de",
}  # fmt: skip


def to_svg(screen: str, title: str) -> str:
    """A terminal's window with this text, its colours included."""
    lines = list(AnsiDecoder().decode(screen))[:HEIGHT]
    width, height = round(WIDTH * CELL + 2 * EDGE), HEIGHT * LINE + 2 * EDGE + 30
    rows = [
        f'<text y="{EDGE + 30 + LINE * number + SIZE}">{"".join(spans(line.render(Console())))}</text>'
        for number, line in enumerate(lines)
    ]
    dots = "".join(
        f'<circle cx="{22 + 20 * number}" cy="20" r="6" fill="{colour}"/>'
        for number, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">\n'
        f"<style>text{{font:{SIZE}px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
        f"fill:{COLOURS['default']};white-space:pre}}.b{{font-weight:700}}.d{{opacity:.6}}</style>\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>{dots}\n' + "\n".join(rows) + "\n</svg>\n"
    )


def spans(segments: Iterable[Segment]) -> Iterator[str]:
    """One ``tspan`` for each run of characters of one style, at its column."""
    column = 0
    for text, style, _ in segments:
        if text.strip():
            start = len(text) - len(text.lstrip())
            shown = text.strip()
            at = EDGE + CELL * (column + start)
            yield f'<tspan x="{at:.1f}" textLength="{CELL * len(shown):.1f}"{look(style)}>{escape(shown)}</tspan>'
        column += len(text)


def look(style: Style | None) -> str:
    """The attributes of a style."""
    if style is None:
        return ""
    classes = " ".join(name for name, is_so in (("b", style.bold), ("d", style.dim)) if is_so)
    colour = COLOURS.get(name_of(style.color), "") if style.color else ""
    return (f' class="{classes}"' if classes else "") + (f' fill="{colour}"' if colour else "")


def name_of(colour: Color) -> str:
    """``red`` for bright_red and for the number that a terminal is told."""
    names = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
    return names[colour.number % 8] if colour.number is not None and colour.number < 16 else "default"


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs/pictures/top.svg").resolve()
    with tempfile.TemporaryDirectory(prefix="shop-") as name:
        folder = Path(name).resolve()
        screen = last_screen(watched(folder))
    room = " " * (len(str(folder)) - len(SHOWN))
    screen = re.sub(r"(\d\d:\d\d:\d\d  q: quit)", rf"{room}\1", screen.replace(str(folder), SHOWN))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(to_svg(screen, "jobify top: queues, workers and running jobs"), encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main()

"""Trainables to which something happens: what, is their name. `marks` is a folder that remembers that it did."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Step = tuple[dict[str, float], Any]


def steady(x: float, epochs: int, state: Any = None, pause: float = 0.2, marks: str = "") -> Iterator[Step]:
    """Nothing happens to it."""
    epoch = state["epoch"] if state else 0
    while epoch < epochs:
        epoch += 1
        time.sleep(pause)
        yield {"loss": x * x + 1 / epoch}, {"epoch": epoch}


def once(marks: str, name: str) -> bool:
    """Whether nobody has asked this before, in any process."""
    try:
        os.close(os.open(Path(marks) / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def until_third(x: float, epochs: int, state: Any) -> Iterator[tuple[bool, Step]]:
    """The steps of `steady`, each with whether it is the third epoch's, before which something may happen."""
    begins = state["epoch"] if state else 0
    for epoch, step in enumerate(steady(x, epochs, state, pause=0.05), begins + 1):
        yield epoch == 3, step


def killed(x: float, epochs: int, marks: str, state: Any = None) -> Iterator[Step]:
    """The process is killed, once."""
    for third, step in until_third(x, epochs, state):
        if third and once(marks, "killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        yield step


def always_killed(x: float, epochs: int, marks: str, state: Any = None) -> Iterator[Step]:
    """The process is killed each time, where x is below 0."""
    for third, step in until_third(x, epochs, state):
        if third and x < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        yield step


def stumbles(x: float, epochs: int, marks: str, state: Any = None) -> Iterator[Step]:
    """Raises, once: a connection that was reset."""
    for third, step in until_third(x, epochs, state):
        if third and once(marks, "stumbled"):
            raise ConnectionResetError("reset by peer")
        yield step


def wrong(x: float, epochs: int, marks: str, state: Any = None) -> Iterator[Step]:
    """Raises the same each time."""
    for third, step in until_third(x, epochs, state):
        if third:
            raise KeyError("colour")
        yield step


def hangs(x: float, epochs: int, marks: str, state: Any = None) -> Iterator[Step]:
    """Hangs, once, deaf to SIGTERM."""
    for third, step in until_third(x, epochs, state):
        if third and once(marks, "hung"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            while True:
                time.sleep(1)
        yield step


def damaged(x: float, epochs: int, marks: str, state: Any = None) -> Iterator[Step]:
    """One byte of the newest checkpoint flips, and the process is killed, once."""
    for third, step in until_third(x, epochs, state):
        if third and once(marks, "damaged"):
            newest = max(Path(marks).parent.glob("studies/faulty/trials/*/epoch-000002.pt"))
            content = bytearray(newest.read_bytes())
            content[len(content) // 2] ^= 1
            newest.write_bytes(content)
            os.kill(os.getpid(), signal.SIGKILL)
        yield step


def hungry(x: float, epochs: int, marks: str, state: Any = None) -> Iterator[Step]:
    """Takes eight gigabytes, once, and waits."""
    for third, step in until_third(x, epochs, state):
        if third and once(marks, "hungry"):
            held = [b"x" * (64 << 20) for _ in range(128)]
            time.sleep(60)
            del held
        yield step


def large(x: float, epochs: int, marks: str = "", state: Any = None) -> Iterator[Step]:
    """Its state takes 400 kilobytes."""
    import torch

    epoch = state["epoch"] if state else 0
    while epoch < epochs:
        epoch += 1
        time.sleep(0.05)
        yield {"loss": x * x + 1 / epoch}, {"epoch": epoch, "weights": torch.zeros(100_000)}


def broken(x: float, epochs: int, marks: str = "", state: Any = None) -> Iterator[Step]:
    """Raises before its first epoch, until somebody mends it."""
    if not (Path(marks) / "mended").exists():
        raise FileNotFoundError("no such file: corpus.txt")
    yield from steady(x, epochs, state, pause=0.01)

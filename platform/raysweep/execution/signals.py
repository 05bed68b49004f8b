"""How a search ends before it is complete: Ctrl-C, SIGTERM, `raysweep cancel`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class End:
    """What ended a search before it was complete."""

    terminated: bool = False
    """By SIGTERM, or by `raysweep cancel`."""
    signalled: bool = False
    """By Ctrl-C or SIGTERM, which are meant for the whole program."""
    failing: str = ""
    """Why it was given up: its first trials all failed."""


class Signals:
    """How a search is ended from outside: SIGTERM and `raysweep cancel` are like Ctrl-C. At the first, trials finish
    their epoch, and it is journalled; the second is left to Ray Tune, which ends at once."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        """`interrupt` makes the trials leave after their epoch."""
        self.interrupted = self.terminated = self.cancelled = False
        self._interrupt = interrupt
        # Signals can be handled only in the main thread; any other thread cannot be signalled.
        self._main = threading.current_thread() is threading.main_thread()

    def cancel(self) -> bool:
        """End the search if that is possible here. Returns whether it is."""
        self.cancelled = self._main
        if self._main:
            os.kill(os.getpid(), signal.SIGINT)
        return self._main

    def announce(self, say: Callable[[str], None]) -> None:
        """From now on, Ctrl-C ends the search. To be called when Ray Tune has set its own handler."""
        if not self._main:
            return
        theirs = signal.getsignal(signal.SIGINT)

        def interrupted(number: int, frame: Any) -> None:
            if self.interrupted and callable(theirs):
                theirs(number, frame)
            elif not self.interrupted:
                self.interrupted = True
                self._interrupt()
                again = "" if self.terminated or self.cancelled else " Ctrl-C again ends at once."
                text = f"Stopping: running trials finish their epoch first.{again}"
                # Not from here: the interrupted code may be writing.
                threading.Thread(target=say, args=(text,), daemon=True).start()

        signal.signal(signal.SIGINT, interrupted)

    def _terminate(self, *_: Any) -> None:
        self.terminated = True
        os.kill(os.getpid(), signal.SIGINT)

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle SIGTERM, and restore the previous handlers afterwards, also that of Ctrl-C: Ray Tune's does
        nothing once the search is over."""
        if not self._main:
            yield
            return
        previous = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
        signal.signal(signal.SIGTERM, self._terminate)
        try:
            yield
        finally:
            for number, handler in previous.items():
                if handler is not None:  # it was set by something other than Python
                    signal.signal(number, handler)

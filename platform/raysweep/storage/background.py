"""Steps that repeat beside the search, each in its own thread, which no error ends silently."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable


class Background:
    """Repeats `step` every `every` seconds, or as soon as it is woken, until it is closed.

    When a step raises, it is retried, and `say` gets the first error of a series of failures. No error (an
    unavailable share, a torn file, a bug) ends the thread. `failures` counts the errors; `error` is the last
    one, or None after a success.
    """

    def __init__(self, name: str, step: Callable[[], None], every: float, say: Callable[[str], None]):
        self.failures = 0
        self.error: Exception | None = None
        self._name, self._step, self._every, self._say = name, step, every, say
        self._woken, self._over = threading.Event(), threading.Event()
        self._turn = threading.Lock()  # two steps must not run at once
        self._tried = 0.0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> Background:
        self._thread.start()
        return self

    @property
    def started(self) -> bool:
        return self._thread.ident is not None

    def close(self, patience: float | None = None) -> bool:
        """Stop after the current step and wait up to `patience` seconds for it. Return whether it ended."""
        self._over.set()
        self._woken.set()
        if self.started:
            self._thread.join(patience)
        return not self._thread.is_alive()

    def once(self) -> bool:
        """Run one step in the calling thread. Return whether it succeeded."""
        try:
            with self._turn:
                self._step()
        except Exception as problem:
            self.failures += 1
            if self.error is None:
                self._tell(problem)
            self.error = problem
            return False
        self.error = None
        return True

    def when_due(self) -> bool:
        """Run one step in the calling thread, unless the last one began less than `every` seconds ago. Return
        whether it was due."""
        if time.monotonic() - self._tried < self._every:
            return False
        self._tried = time.monotonic()
        self.once()
        return True

    def _tell(self, problem: Exception) -> None:
        if not isinstance(problem, OSError):  # a bug, not the environment
            traceback.print_exception(problem)
        try:
            self._say(f"{self._name}: {' '.join(str(problem).split())[:300]} ({type(problem).__name__})")
        except Exception:  # the receiver may be gone; that must not end the thread
            traceback.print_exc()

    def _run(self) -> None:
        while not self._over.is_set():
            self._woken.wait(self._every)
            self._woken.clear()
            if not self._over.is_set():
                self.once()

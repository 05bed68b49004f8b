"""Steps that are repeated beside the search, in a thread each, and cannot end it unseen."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable


class Background:
    """Repeats `step` every `every` seconds, or as soon as it is woken, until it is closed.

    A step that raises is told to `say`, once until one goes well again, and tried again: nothing that one can meet
    (a share that is away, a torn file, a bug) ends the thread. `failures` counts them, `error` is the last one, None
    when all is well.
    """

    def __init__(self, name: str, step: Callable[[], None], every: float, say: Callable[[str], None]):
        self.failures = 0
        self.error: Exception | None = None
        self._name, self._step, self._every, self._say = name, step, every, say
        self._woken, self._over = threading.Event(), threading.Event()
        self._turn = threading.Lock()  # two steps at once would be in each other's way
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> Background:
        self._thread.start()
        return self

    @property
    def started(self) -> bool:
        return self._thread.ident is not None

    def wake(self) -> None:
        """Do the next step now."""
        self._woken.set()

    def close(self, patience: float | None = None) -> bool:
        """Let the step that runs be the last one, and wait for its end; whether it came within so many seconds."""
        self._over.set()
        self._woken.set()
        if self.started:
            self._thread.join(patience)
        return not self._thread.is_alive()

    def once(self) -> bool:
        """One step, in the thread of who calls; whether it went well."""
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

    def _tell(self, problem: Exception) -> None:
        if not isinstance(problem, OSError):  # not the world, but us
            traceback.print_exception(problem)
        try:
            self._say(f"{self._name}: {' '.join(str(problem).split())[:300]} ({type(problem).__name__})")
        except Exception:  # whoever was to be told may be gone, and must not take the thread along
            traceback.print_exc()

    def _run(self) -> None:
        while not self._over.is_set():
            self._woken.wait(self._every)
            self._woken.clear()
            if not self._over.is_set():
                self.once()

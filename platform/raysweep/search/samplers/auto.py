"""The default: half of the points from HyperOpt's TPE, half from a Gaussian process, as long as the trials are worth
its time.

On tuning tables (tests/benchmarks/quality.py) each of the two has its strengths: TPE at few workers where trials are
stopped early, the process at many, and where none is. In turn they are as good as the better one, or nearly. A Sobol
sequence is better than both while fewer results are known than are pending. What the process costs is estimated, not
measured, so that a resumed search decides as the one before it did.
"""

from __future__ import annotations

import statistics

from raysweep.search.samplers.basic import QuasiRandom
from raysweep.search.samplers.gaussian import GaussianProcess
from raysweep.search.samplers.hyperopt import HyperOpt
from raysweep.study.objective import Objective
from raysweep.study.space import Point, Space
from raysweep.trial import Trial

SHARE = 0.05  # of the time between two asks that the process may take
LATEST = 100  # trials by whose time that is judged


class Auto:
    """Both are told everything, and asked in turn; the process only while it is fast enough, which depends on the
    times of the trials and on how many are pending."""

    def __init__(self, space: Space, objective: Objective, seed: int, startup: int = 20):
        self._objective, self._startup = objective, startup
        self._first = QuasiRandom(space, objective, seed)
        self._process = GaussianProcess(space, objective, seed, startup=0)
        self._tpe = HyperOpt(space, objective, seed, startup=0)
        self._seconds: dict[int, float] = {}
        self._pending: set[int] = set()

    def ask(self, number: int, attempt: int = 0) -> Point:
        if number < self._startup or len(self._seconds) < len(self._pending):
            return self._first.ask(number, attempt)
        in_turn = (number + attempt) % 2 and self._affordable
        return (self._process if in_turn else self._tpe).ask(number, attempt)

    def tell(self, trial: Trial) -> None:
        self._process.tell(trial)
        self._tpe.tell(trial)
        if trial.score(self._objective) is not None:
            self._seconds[trial.number] = trial.seconds
        if trial.ended or trial.number in self._seconds:
            self._pending.discard(trial.number)
        else:
            self._pending.add(trial.number)

    @property
    def _affordable(self) -> bool:
        """Whether the process takes no more than its share of the time between two asks."""
        latest = [seconds for seconds in self._seconds.values() if seconds][-LATEST:]
        if not latest:
            return True  # nothing is known of the trials' time
        between = statistics.median(latest) / max(1, len(self._pending))
        return self._process.cost <= SHARE * between

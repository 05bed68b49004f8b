"""A sampler that also knows the trials of earlier studies, on whatever scale those measured.

What counts of an earlier trial is its place among the trials of its own study: 0.98 on one data set and 0.85 on
another rank the data sets, not the points. So its loss becomes what stands at that place among the results of this
study. A study whose ranks say nothing of this one's is left out, until they do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import NormalDist, median

import numpy as np
from scipy import stats

from raysweep.search.samplers.base import Sampler
from raysweep.study.coordinates import distance, places
from raysweep.study.objective import Objective
from raysweep.study.space import Point, Space
from raysweep.trial import Report, Trial

NEAREST = 3  # trials of an earlier study that say what it expects of a point
JUDGED = 8  # results from which on a study is judged


class Earlier:
    """Asks a sampler that was told the trials of `sources`, too: anew, each time that this study has twice as many
    results. `make(n)` returns such a sampler that is about to be told n of them; `epochs` is how far they were
    trained."""

    def __init__(
        self,
        make: Callable[[int], Sampler],
        sources: Sequence[Sequence[Trial]],
        space: Space,
        objective: Objective,
        epochs: int,
    ):
        self._make, self._space, self._objective, self._epochs = make, space, objective, epochs
        self._sources = [_ranked(trials, objective) for trials in sources]
        self._own: dict[int, Trial] = {}
        self._results, self._enough = 0, 1
        self._sampler = self._told()

    def ask(self, number: int, attempt: int = 0) -> Point | None:
        return self._sampler.ask(number, attempt)

    def tell(self, trial: Trial) -> None:
        known = self._own.get(trial.number)
        new = trial.score(self._objective) is not None
        old = known is not None and known.score(self._objective) is not None
        self._results += new - old
        self._own[trial.number] = trial
        if self._results >= self._enough:
            self._enough = 2 * self._results
            self._sampler = self._told()
        else:
            self._sampler.tell(trial)

    def _told(self) -> Sampler:
        """A new sampler that knows all."""
        scores = [(t, s.value) for t in self._own.values() if (s := t.score(self._objective))]
        losses = [self._objective.loss(value) for _, value in scores]
        told = [
            self._scaled(trial, share, losses)
            for source in self._sources
            if len(losses) < JUDGED or self._agreement(source, [t for t, _ in scores], losses) > 0
            for trial, share in source
        ]
        sampler = self._make(len(told))
        for trial in told:
            sampler.tell(trial)
        for trial in self._own.values():
            sampler.tell(trial)
        return sampler

    def _scaled(self, trial: Trial, share: float | None, losses: Sequence[float]) -> Trial:
        """An earlier trial, with the loss that stands at its place in this study: as if both were normal."""
        if share is None:
            return trial
        middle = median(losses) if losses else 0.0
        spread = 1.4826 * median(abs(v - middle) for v in losses) if losses else 0.0
        loss = middle + (spread or abs(middle) or 1.0) * NormalDist().inv_cdf(share)
        value = -loss if self._objective.maximize else loss
        best = trial.best(self._objective)
        metrics = {**(best.metrics if best else {}), self._objective.metric: value}
        return replace(trial, status="completed", reports=(Report(self._epochs, metrics, 0.0),))

    def _agreement(
        self, source: Sequence[tuple[Trial, float | None]], trials: Sequence[Trial], losses: Sequence[float]
    ) -> float:
        """By how much the ranks that an earlier study expects agree with those of this study, more than is likely
        where there is no relation: Spearman's correlation, less one standard deviation."""
        known = [(places(self._space, t.point), share) for t, share in source if share is not None]
        if not known:
            return 1.0  # it only says where trials fail
        expected = []
        for trial in trials:
            here = places(self._space, trial.point)
            nearest = sorted(((distance(here, there), share) for there, share in known))[:NEAREST]
            expected.append(sum(share for _, share in nearest) / len(nearest))
        if np.ptp(expected) == 0 or np.ptp(losses) == 0:
            return 1.0  # no ranks to compare
        return float(stats.spearmanr(expected, losses).statistic) - 1 / math.sqrt(len(losses))


def _ranked(trials: Sequence[Trial], objective: Objective) -> list[tuple[Trial, float | None]]:
    """Each trial with its place among them, from 0 (the best) to 1; None for one without a result."""
    losses = {t.number: objective.loss(s.value) for t in trials if (s := t.score(objective))}
    ranks = dict(zip(losses, stats.rankdata(list(losses.values())), strict=True)) if losses else {}
    return [(t, (ranks[t.number] - 0.5) / len(ranks) if t.number in ranks else None) for t in trials]

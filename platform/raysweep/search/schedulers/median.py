"""The median stopping rule (Golovin et al. 2017, "Google Vizier", section 3.2.2)."""

from __future__ import annotations

from dataclasses import dataclass, field

from raysweep.search.schedulers.base import Decision, Ranked, Scheduler, Value, leading_loss
from raysweep.study.objective import Objective


@dataclass
class _Curve:
    """What a trial has reported: its epochs, and up to each of them its best loss and the mean since grace."""

    epochs: list[int] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    sums: list[tuple[float, int]] = field(default_factory=list)


class Median(Scheduler):
    """From epoch `grace` on, stops a trial whose best loss is worse than the median of the other trials'
    means. Each mean is over the epochs from `grace` to the trial's current one. The rule applies only where
    at least `samples` others have reached that epoch, including those that have ended or were stopped, as in
    Ray Tune. Epochs that do not count are left out of the means.
    """

    def __init__(self, objective: Objective, grace: int, samples: int):
        self._objective, self._grace, self._samples = objective, grace, samples
        self._curves: dict[int, _Curve] = {}
        self._means: dict[int, Ranked] = {}  # by epoch

    def report(self, number: int, epoch: int, value: Value | None) -> Decision:
        curve = self._curves.setdefault(number, _Curve())
        self._forget(number, curve, epoch)
        loss = leading_loss(self._objective, value)
        total, count = curve.sums[-1] if curve.sums else (0.0, 0)
        if epoch >= self._grace and value is not None:
            total, count = total + loss, count + 1
        curve.epochs.append(epoch)
        curve.best.append(min(loss, curve.best[-1]) if curve.best else loss)
        curve.sums.append((total, count))
        if epoch < self._grace:
            return "go on"
        others = self._means.setdefault(epoch, Ranked())
        stop = len(others) >= self._samples and curve.best[-1] > others.quantile(0.5)
        if count:
            others.add(number, total / count)
        return "stop" if stop else "go on"

    def _forget(self, number: int, curve: _Curve, epoch: int) -> None:
        """Forget reports of later epochs: the trial's process was lost, and it resumed from a checkpoint."""
        while curve.epochs and curve.epochs[-1] >= epoch:
            curve.best.pop()
            curve.sums.pop()
            if (means := self._means.get(curve.epochs.pop())) is not None:
                means.remove(number)

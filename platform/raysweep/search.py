"""What Ray Tune asks: which point comes next. And what it tells us: a callback that journals it."""

from __future__ import annotations

import math
import random
import shutil
from collections import deque
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import search
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.result import AUTO_RESULT_KEYS

from raysweep.journal import Journal
from raysweep.samplers import sampler_of
from raysweep.schedulers import Rungs
from raysweep.space import encode
from raysweep.study import GRID_LIMIT, Study
from raysweep.trial import Point, Trial, ranking

ATTEMPTS = 20  # asks for a point that is not known yet


class Searcher(search.Searcher):  # type: ignore[misc]
    """Hands Ray Tune the points of a sampler, unfinished trials of an earlier session first."""

    def __init__(self, study: Study, journal: Journal, rungs: Rungs | None = None):
        super().__init__(metric=study.objective.metric, mode="max" if study.objective.maximize else "min")
        self._study, self._journal = study, journal
        trials = journal.trials
        self._sampler = sampler_of(study, trials)
        self._seen = {encode(t.point) for t in trials}
        self._rungs = rungs
        if rungs is not None:
            rungs.replay(trials)
        self._waiting = {t.number for t in trials if not t.ended and self._waits(t)}
        self._unfinished = deque(t for t in trials if not t.ended and t.number not in self._waiting)
        self._next = len(trials)
        self._numbers: dict[str, int] = {}  # of the trials that are with Ray Tune, by its own ids

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The config of the next trial: its number, its point and the seeds of its executions."""
        trial = self._unfinished.popleft() if self._unfinished else self._promoted() or self._ask()
        if trial is None:
            if self._waiting and self._numbers:
                return None  # who runs may yet make room for who waits
            for number in sorted(self._waiting):
                self.end(number, "stopped", "")
            finished: str = search.Searcher.FINISHED
            return finished
        self._numbers[trial_id] = trial.number
        return {
            "number": trial.number,
            "point": trial.point,
            "seeds": list(trial.seeds),
            "reported": trial.last.epoch if trial.last else 0,
        }

    def _waits(self, trial: Trial) -> bool:
        last = trial.last
        return self._rungs is not None and last is not None and self._rungs.waits(trial.number, last.epoch)

    def _promoted(self) -> Trial | None:
        """A trial that waits at a rung and may go on."""
        number = self._rungs.promote(self._waiting) if self._rungs is not None else None
        if number is None:
            return None
        self._waiting.discard(number)
        return self._journal.trial(number)

    def _ask(self) -> Trial | None:
        number = self._next
        point = self._fresh(number) if number < self._study.target else None
        if point is None:
            return None
        problems = self._study.space.check(point)
        if problems:
            raise RuntimeError(f"the sampler left the space: {'; '.join(map(str, problems))}")
        self._next += 1
        rng = random.Random(f"{self._study.seed}/{number}/seeds")
        seeds = [rng.getrandbits(31) for _ in range(self._study.repeats)]
        self._journal.append("asked", trial=number, point=point, seeds=seeds)
        self._seen.add(encode(point))
        trial = self._journal.trial(number)
        self._sampler.tell(trial)
        return trial

    def _fresh(self, number: int) -> Point | None:
        """A point that no trial has had. (Repeats are for `repeats:`, where they are counted as such.)"""
        if number < len(self._study.points):
            return self._study.first()[number]
        for attempt in range(ATTEMPTS):
            point = self._sampler.ask(number, attempt)
            if point is None or encode(point) not in self._seen:
                return point
        if (self._study.cardinality or GRID_LIMIT + 1) > GRID_LIMIT:
            return point
        # A small space, of which the sampler likes what it knows: what is left of it, in order.
        every = self._study.space.without_grids().grid()
        return next((p for p in every if encode(p) not in self._seen), None)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial is over. If its worker did not say so itself, the scheduler ended it."""
        number = self._numbers.pop(trial_id)
        if error:
            return  # what the error was comes to `Recorder.on_trial_error`
        trial = self._journal.trial(number)
        if not trial.ended and self._waits(trial):
            self._journal.append("paused", trial=number)
            self._waiting.add(number)
        else:
            self.end(number, "stopped", "")

    def end(self, number: int, status: str, error: str) -> None:
        """Journal the end of a trial unless the journal has it, and let the sampler learn from it."""
        if not self._journal.trial(number).ended:
            self._journal.append("ended", trial=number, status=status, seconds=0.0, error=error)
        self._sampler.tell(self._journal.trial(number))

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        return True  # the study said all of it

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a resumed search is rebuilt from the journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a resumed search is rebuilt from the journal."""


class Recorder(tune.Callback):  # type: ignore[misc]
    """Journals what the workers report, in constant time and without network."""

    def __init__(self, searcher: Searcher, journal: Journal):
        self._searcher, self._journal, self._metric = searcher, journal, searcher.metric

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        number = trial.config["number"]
        for kind, fields in result.get("records") or _plain_records(result):
            if self._journal.trial(number).ended:
                return  # a Ray Tune function that diverged and goes on all the same
            if kind == "ended" and fields["status"] == "completed" and not self._has_value(number):
                fields = {**fields, "status": "failed", "error": f"it never reported '{self._metric}'"}
            self._journal.append(kind, trial=number, **fields)

    def _has_value(self, number: int) -> bool:
        return any(self._metric in r.metrics for r in self._journal.trial(number).reports)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        # The file holds the whole story, its end the cause.
        told = [line for line in str(trial.get_error() or "").splitlines() if line.strip()]
        self._searcher.end(
            trial.config["number"], "failed", f"the worker was lost: {told[-1] if told else ''}"
        )


def _plain_records(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The records of what an ordinary Ray Tune function reported, without what Ray Tune adds to it."""
    own = {k: v for k, v in result.items() if k not in AUTO_RESULT_KEYS}
    metrics = {k: float(v) for k, v in own.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    # The first report says that the trial has started (see worker.tune_function), so epochs count from the second.
    epoch = result["training_iteration"] - 1
    for name, value in metrics.items():
        if not math.isfinite(value):
            error = f"{name} = {value} at epoch {epoch}"
            return [("ended", {"status": "diverged", "seconds": 0.0, "error": error})]
    return [("report", {"epoch": epoch, "metrics": metrics, "seconds": 0.0})]


class Retention(tune.Callback):  # type: ignore[misc]
    """Keeps the checkpoints of the best trials and deletes the others' as they are beaten."""

    def __init__(self, study: Study, journal: Journal, folder: Path, kept: int):
        self._objective, self._journal, self._folder = study.objective, journal, folder
        self._most = kept
        self._kept = [t.number for t in ranking(journal.trials, study.objective)[:kept]]

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        number = trial.config["number"]
        those = [self._journal.trial(n) for n in {*self._kept, number}]
        self._kept = [t.number for t in ranking(those, self._objective)]
        for beaten in {*self._kept[self._most :], number} - set(self._kept[: self._most]):
            shutil.rmtree(self._folder / f"{beaten:06d}", ignore_errors=True)
        del self._kept[self._most :]

    on_trial_error = on_trial_complete

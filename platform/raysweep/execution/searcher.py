"""What Ray Tune asks for: the next trial. The loop answers."""

from __future__ import annotations

from typing import Any

from ray.tune import search

from raysweep.execution.concurrency import ConcurrencyLimiter
from raysweep.search.loop import Loop


class Searcher(search.Searcher):  # type: ignore[misc]
    """Hands Ray Tune the trials of a loop."""

    def __init__(self, loop: Loop, limiter: ConcurrencyLimiter):
        objective = loop.study.objective
        super().__init__(metric=objective.metric, mode="max" if objective.maximize else "min")
        self._loop, self._limiter = loop, limiter
        self.finished = False
        """Whether Ray Tune was told that there are no more trials."""
        self._numbers: dict[str, int] = {}  # of the trials that are with Ray Tune, by its own ids

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The config of the next trial: its number, its point and the seeds of its executions."""
        self._limiter.look()  # while no trial runs, Ray Tune asks for the next one and does nothing else
        if len(self._numbers) >= self._limiter.limit:
            return None
        trial = self._loop.next()
        if trial is None:
            finished: str = search.Searcher.FINISHED
            self.finished = not self._loop.blocked
            return finished if self.finished else None
        self._numbers[trial_id] = trial.number
        begins = trial.parent[1] if trial.parent else 0
        return {
            "number": trial.number,
            "point": trial.point,
            "seeds": list(trial.seeds),
            "begins": begins,
            "attempt": self._loop.attempt(trial),
            "reported": trial.last.epoch if trial.last else begins,
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Ray Tune is done with a trial, for good or until it is promoted."""
        number = self._numbers.pop(trial_id)
        if not error:  # `Recorder.on_trial_error` handles the error
            self._loop.released(number)

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        return True  # the study has already set these

    def __reduce__(self) -> tuple[Any, ...]:
        return search.Searcher, ()  # as Callback

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a resumed search is rebuilt from the journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a resumed search is rebuilt from the journal."""

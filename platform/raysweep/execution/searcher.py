"""What Ray Tune asks for: the next trial. To Ray Tune, that is a worker's run (see slots.py)."""

from __future__ import annotations

from typing import Any

from ray.tune import search

from raysweep.execution.concurrency import ConcurrencyLimiter
from raysweep.execution.slots import Slots
from raysweep.study.objective import Objective


class Searcher(search.Searcher):  # type: ignore[misc]
    """Has Ray Tune start workers for the trials of a loop."""

    def __init__(self, objective: Objective, slots: Slots, limiter: ConcurrencyLimiter):
        super().__init__(metric=objective.metric, mode="max" if objective.maximize else "min")
        self._slots, self._limiter = slots, limiter

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The config of a worker's run: its first trial."""
        self._limiter.look()  # while no trial runs, Ray Tune asks for the next one and does nothing else
        first = self._slots.begin(trial_id)
        if first is None and self._slots.finished:
            finished: str = search.Searcher.FINISHED
            return finished
        return first

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Ray Tune is done with a worker's run."""
        if not error:  # `Recorder.on_trial_error` handles the error
            self._slots.end(trial_id)

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        return True  # the study has already set these

    def __reduce__(self) -> tuple[Any, ...]:
        return search.Searcher, ()  # as Callback

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a resumed search is rebuilt from the journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a resumed search is rebuilt from the journal."""

"""When a study has had enough: the rules under its `stop`, each a fold of the journal, so that a search that was
killed and goes on comes to the same end."""

from __future__ import annotations

import time

from raysweep.journal import Journal
from raysweep.plans import duration
from raysweep.study import Study
from raysweep.trial import Metrics, Trial


class Rules:
    """Looks at the journal after each report and each end. `why` is empty until a rule says stop."""

    def __init__(self, study: Study, journal: Journal):
        self._study, self._journal, self._rules = study, journal, study.stop
        self.why = ""
        self._ended()
        self._spent()
        for trial in journal.trials:
            for report in trial.reports:
                self._reached(report.metrics)

    def reported(self, metrics: Metrics) -> None:
        """Look again, after a report of these metrics."""
        self._reached(metrics)
        self._spent()

    def passed(self) -> None:
        """Look again, after a while."""
        self._spent()

    def ended(self) -> None:
        """Look again, after the end of a trial."""
        self._ended()
        self._spent()

    def _reached(self, metrics: Metrics) -> None:
        wanted, objective = self._rules.value, self._study.objective
        value = objective.leading(metrics) if wanted is not None else None
        if wanted is not None and value is not None and not objective.better(wanted, value):
            self._say(f"{objective.metric} {value:g} reaches {wanted:g}")

    def _spent(self) -> None:
        rules, history = self._rules, self._journal.history
        if rules.time is not None and history.elapsed(time.time()) >= rules.time:
            self._say(f"its time, {duration(rules.time)}, is up")
        hours = history.computed / 3600 * self._study.per_trial.gpu
        if rules.gpu_hours is not None and hours >= rules.gpu_hours:
            self._say(f"its {rules.gpu_hours:g} GPU hours are spent")

    def _ended(self) -> None:
        if self._rules.no_improvement is None and not self._rules.terminator:
            return
        ended = sorted((t for t in self._journal.trials if t.ended), key=lambda t: (t.finished, t.number))
        patience = self._rules.no_improvement
        if patience is not None and self._unimproved(ended) >= patience:
            self._say(f"the last {patience} trials brought no improvement")
        if self._rules.terminator:
            from raysweep.samplers.optuna import enough

            fitting = [t for t in ended if not self._study.space.check(t.point)]
            if enough(self._study.space, self._study.objective, fitting):
                self._say("more trials are unlikely to bring more than noise (Optuna's terminator)")

    def _unimproved(self, ended: list[Trial]) -> int:
        """How many trials have ended since the best one. Those that have no result count as well."""
        objective, best, since = self._study.objective, None, 0
        for trial in ended:
            values = trial.values(objective)
            if values and (best is None or objective.better(values[0], best)):
                best, since = values[0], 0
            elif best is not None:
                since += 1
        return since

    def _say(self, why: str) -> None:
        self.why = self.why or why

"""What a study has come to, as data: its trials, its best one, curves as tables, weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysweep.errors import JournalError, RaysweepError
from raysweep.journal.history import History
from raysweep.journal.journal import running
from raysweep.journal.records import FILE, read
from raysweep.report.tables import ends, number, rows
from raysweep.storage import checkpoints
from raysweep.study.study import Study
from raysweep.tracking.process import PublisherStatus, publisher_status
from raysweep.trial import Trial, best, ranked_first, valued

if TYPE_CHECKING:
    import pandas as pd

    from raysweep.report.health import Finding

STUDIES = Path("studies")


@dataclass(frozen=True, repr=False)
class Result:
    """The result of a search: returned by `raysweep.run`, or read by `raysweep.load`."""

    study: Study
    folder: Path
    trials: tuple[Trial, ...]
    """All trials in the order in which they were asked for, each with its `params`, `value` and `reports`."""
    interrupted: bool
    """Whether the search is not complete. (One that is still running has not been interrupted.)"""
    test: dict[str, float]
    """The metrics of the best trial on the test split, which nothing else has seen."""
    tracking: PublisherStatus
    terminated: bool = False
    """Whether SIGTERM interrupted it."""
    failing: str = ""
    """Why it was given up: its first trials all failed."""
    not_exported: str = ""
    """Why the best trial's model could not be exported."""
    running: bool = False
    """Whether it was running when it was loaded."""

    @property
    def best(self) -> Trial | None:
        """The best trial, or None when no trial has a result."""
        return best(self.trials, self.study.objective)

    def frame(self) -> pd.DataFrame:
        """A row for each trial, the best first: number, status, metrics of its best epoch, seconds, parameters."""
        import pandas as pd

        return pd.DataFrame(rows(ranked_first(self.trials, self.study.objective), self.study.objective))

    def curves(self) -> pd.DataFrame:
        """A row for each epoch of each trial: trial, epoch, metrics."""
        import pandas as pd

        epochs = [{"trial": t.number, "epoch": r.epoch, **r.metrics} for t in self.trials for r in t.reports]
        return pd.DataFrame(epochs)

    def best_state(self) -> Any:
        """The state that the best trial yielded at its best epoch: see `state`."""
        winner = self.best
        if winner is None:
            raise RaysweepError(f"no trial of {self.study.name} has a result")
        return self.state(winner.number)

    def state(self, trial: int) -> Any:
        """The state that a trial yielded at its best epoch, with its tensors on the CPU; of several executions
        the best one's. Of a Ray Tune function, the files of the best checkpoint that it reported: bytes by
        their names.

        Raises RaysweepError when the trial has no checkpoint: a study keeps those of its `keep` best trials.
        """
        known = next((t for t in self.trials if t.number == trial), None)
        if known is None:
            raise RaysweepError(f"{self.study.name} has no trial {trial}; it has {len(self.trials)}, from 0")
        report = known.best(self.study.objective)
        folder = checkpoints.trial_folder(self.folder, trial)
        state = checkpoints.best_state(folder, report.epoch) if report else None
        if state is None:
            why = "its trainable yields none" if checkpoints.epochs(folder) else "it has no checkpoint"
            raise RaysweepError(f"trial {trial} of {self.study.name} has no state: {why}")
        return state

    def health(self) -> list[Finding]:
        """What is wrong with the search, or could be better: each a number, a verdict, an edit of the file."""
        from raysweep.report.health import health
        from raysweep.report.page import facts_of

        return health(facts_of(self.folder)[0])

    def report(self) -> str:
        """The report as HTML, all in one: write it to a file, or look at the result in a notebook."""
        from raysweep.report.page import report

        return report(self.folder)

    def _repr_html_(self) -> str:
        """The report in a frame: what a notebook shows."""
        from raysweep.report.page import framed

        return framed(self.report())

    def __repr__(self) -> str:
        """Three lines: what it is, how the trials ended, the best one."""
        how = "running" if self.running else "interrupted" if self.interrupted else "complete"
        winner, objective = self.best, self.study.objective
        top = "no trial has a result"
        if winner is not None:
            top = f"best: trial {winner.number}, {objective.metric} {number(winner.value)}, {winner.params}"
        return f"{self.study.name}: {objective} ({how})\n{ends(self.trials)}\n{top}"


def load(study: str | Path, folder: str | Path = STUDIES) -> Result:
    """The result so far of a study, which may be running: read from its journal, without starting anything.

    `study` is its name, its file or its folder. Raises JournalError when there is no such study in `folder`.
    """
    place, history, known = find_study(Path(folder), str(study))
    now = running(place) is not None
    return Result(
        known,
        place,
        valued(history.trials, known.objective),
        interrupted=not history.complete and not now,
        test=dict(history.best.get("metrics", {})),
        tracking=publisher_status(place),
        not_exported=history.best.get("error", ""),
        running=now,
    )


def find_study(folder: Path, study: str) -> tuple[Path, History, Study]:
    """Find a study by its name, its file or its folder. Returns its folder, its history and the study itself."""
    name = Path(study).stem if study.endswith((".yaml", ".yml")) else study
    place = folder / name if (folder / name / FILE).exists() else Path(study)
    if not (place / FILE).exists():
        known = sorted(p.parent.name for p in folder.glob(f"*/{FILE}"))
        has = f"It has: {', '.join(known)}" if known else "It has none"
        raise JournalError(f"there is no study '{study}' in {folder}. {has}")
    records, end = read(place / FILE)
    history = History(records)
    if not history.study:
        how = "damaged from its first line on" if (place / FILE).stat().st_size > end else "empty"
        raise JournalError(f"study '{study}' has not started: its journal, {place / FILE}, is {how}")
    return place, history, Study.recorded(history.study["study"])

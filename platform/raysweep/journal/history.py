"""A journal, folded: the study, its trials as they stand, its best."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from raysweep.journal.records import FILE, Record, read
from raysweep.study.space import Space
from raysweep.trial import Loss, Report, Trial


class History:
    """What a journal says, folded: the study, its trials as they stand, and its best."""

    def __init__(self, records: Iterable[Record] = ()):
        self.study: Record = {}
        """The first record: the study as written, its id, versions, code and data."""
        self.begun: Record = {}
        """The same as it was at first, before it was changed or extended."""
        self.best: Record = {}
        """The winner after the last complete search: trial, epoch, the metrics of its test split."""
        self.data: dict[str, str] = {}
        """The fingerprint of each data set, by the arguments that load it."""
        self.examples: dict[str, dict[str, int]] = {}
        """How many examples each has of each split, by the same arguments."""
        self.complete = False
        """Whether the last session reached the study's end."""
        self.error = ""
        """The error that ended the last session before the study's end, if there was one."""
        self.over = False
        """Whether the last session ended by itself, complete or interrupted."""
        self.session: Record = {}
        self.warm: list[Record] = []
        """What was imported from each earlier study: its name, its trials, how many did not fit."""
        self.features: list[Record] = []
        """What was made once for all trials: `key`, `images`, `bytes`, the seconds it `took`, whether it was `warm`."""
        self.raced: Record = {}
        """Which backbones were raced on samples before the search: `kept`, and what is known of `each`."""
        self.continued: dict[tuple[int, int], None] = {}
        """The trials that are to have more epochs, and how many (an ordered set)."""
        self.replaced: set[int] = set()
        """The trials for which a later attempt has reported epochs again, with different metrics."""
        self.baselines = 0
        """How many trials are baselines. They are the first ones."""
        self.computed = 0.0
        """Computing time of all trials together, in seconds."""
        self._elapsed, self._began, self._latest = 0.0, 0.0, 0.0
        self._trials: dict[int, Trial] = {}
        self._new: dict[int, list[Report]] = {}  # reports not yet in the frozen trials, to append in O(1)
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Fold one more record in. Kinds that this version does not know are ignored."""
        kind = record["kind"]
        if kind == "session":
            self._elapsed, self._began = self.elapsed(self._latest), record["time"]
            self._latest = self._began
        self._latest = max(self._latest, record["time"])
        self.computed += record.get("seconds", 0.0)
        if kind == "study":
            self.study = self.begun = record
        elif kind == "session":
            self.session, self.over, self.complete, self.error = record, False, False, ""
            self._lose()
        elif kind == "over":
            self._elapsed = self.elapsed(record["time"])
            self.over, self.complete = True, record.get("complete", bool(self.best))
            self.error = record.get("error", "")
            self._lose()
        elif kind == "changed":
            self.study = {**self.study, "study": record["study"]}
            self._complete(record.get("added") or {})
        elif kind == "continue":
            self.continued |= {(n, record["epochs"]): None for n in record["trials"]}
        elif kind == "best":
            self.best = record
        elif kind == "warm":
            self.warm.append(record)
        elif kind == "raced":
            self.raced = record
        elif kind == "features":
            self.features.append(record)
        elif kind == "data":
            self.data[record["key"]] = record["fingerprint"]
            if "examples" in record:  # version 0.1 did not record it
                self.examples[record["key"]] = record["examples"]
        elif kind == "asked":
            parent, baseline = record.get("parent"), record.get("source") == "baseline"
            self.baselines += baseline
            self._trials[record["trial"]] = Trial(
                record["trial"],
                record["point"],
                seeds=tuple(record["seeds"]),
                asked=record["time"],
                parent=(parent[0], parent[1]) if parent else None,
                of=record.get("of"),
                baseline=baseline,
            )
        elif kind == "paused":
            self._trials[record["trial"]] = replace(self._trials[record["trial"]], status="paused")
        elif kind == "lost":
            trial = self.trial(record["trial"])
            loss = Loss(record["cause"], trial.last.epoch if trial.last else 0, record["error"])
            self._trials[trial.number] = replace(
                trial,
                status="waiting",
                losses=(*trial.losses, loss),
                seconds=trial.seconds + record.get("seconds", 0.0),
            )
        elif kind == "again":
            trial = self.trial(record["trial"])
            self._trials[trial.number] = replace(
                trial, status="waiting", error="", losses=(), finished=0.0, seconds=0.0, cpu_seconds=0.0
            )
        elif kind in {"started", "report", "ended"}:
            self._update(kind, record)

    def _complete(self, added: dict[str, Any]) -> None:
        """Names that the space has got: the trials so far had these values."""
        if not added:
            return
        space = Space(self.study["study"]["space"])
        for number, trial in self._trials.items():
            there = {n: value for n, value in added.items() if space.active(n, {**added, **trial.point})}
            self._trials[number] = replace(trial, point={**trial.point, **there})

    def elapsed(self, now: float) -> float:
        """Seconds that the study has been run for at the time `now`, over all sessions."""
        return self._elapsed + (max(0.0, now - self._began) if self.session and not self.over else 0.0)

    @property
    def latest(self) -> float:
        """When the last record was written."""
        return self._latest

    def _lose(self) -> None:
        """No trial outlives the session that started it: running ones wait for the next session."""
        for number, trial in self._trials.items():
            if trial.status == "running":
                self._trials[number] = replace(trial, status="waiting")

    def _update(self, kind: str, record: Record) -> None:
        number = record["trial"]
        trial = self._trials[number]
        if kind == "report":
            self._new.setdefault(number, []).append(
                Report(record["epoch"], record["metrics"], record["time"])
            )
            used = record.get("used") or {}
            self._trials[number] = replace(
                trial,
                seconds=trial.seconds + record["seconds"],
                cpu_seconds=trial.cpu_seconds + used.get("cpu", 0.0),
                memory=max(trial.memory, used.get("memory", 0.0)),
                gpu_memory=max(trial.gpu_memory, used.get("gpu_memory", 0.0)),
            )
        elif kind == "started":
            self._trials[number] = replace(
                trial,
                status="running",
                attempts=trial.attempts + 1,
                worker=record["worker"],
                started=trial.started or record["time"],
            )
        else:
            self._trials[number] = replace(
                self.trial(number),
                status=record["status"],
                error=record["error"],
                finished=record["time"],
                seconds=trial.seconds + record["seconds"],
            )

    def trial(self, number: int) -> Trial:
        """One trial as it stands."""
        trial, new = self._trials[number], self._new.pop(number, None)
        if new:
            reports, replaced = _merged(trial.reports, new)
            if replaced:
                self.replaced.add(number)
            trial = self._trials[number] = replace(trial, reports=reports)
        return trial

    def continues(self, number: int) -> bool:
        """Whether a trial continues another one with more epochs, and is to have them all."""
        trial = self._trials[number]
        return trial.parent is not None and (trial.parent[0], trial.point.get("epochs")) in self.continued

    def is_finalist(self, number: int) -> bool:
        """Whether a trial trains one of the best points again."""
        return self._trials[number].of is not None

    def is_baseline(self, number: int) -> bool:
        """Whether a trial is what those of the search are compared with."""
        return self._trials[number].baseline

    def ended(self, number: int) -> bool:
        """Whether a trial is over."""
        return self._trials[number].ended

    @property
    def owed(self) -> list[tuple[Trial, int]]:
        """The trials without a successor yet that are to have more epochs, and how many."""
        if not self.continued:
            return []
        given = {(t.parent[0], t.point.get("epochs")) for t in self.trials if t.parent}
        return [(self.trial(n), epochs) for n, epochs in self.continued if (n, epochs) not in given]

    @property
    def trials(self) -> list[Trial]:
        """All trials as they stand, in the order in which they were asked for."""
        return [self.trial(n) for n in list(self._trials)]


def _merged(reports: tuple[Report, ...], new: Iterable[Report]) -> tuple[tuple[Report, ...], bool]:
    """A trial's epochs with those reported since, and whether some of them were replaced.

    A later attempt that resumed from a checkpoint repeats epochs. If their metrics are the same, nothing
    changes. If they differ, the earlier reports of those epochs and of later ones no longer count.
    """
    kept, replaced = list(reports), False
    for report in new:
        if kept and report.epoch <= kept[-1].epoch:
            if any(r.epoch == report.epoch and r.metrics == report.metrics for r in kept):
                continue
            replaced = True
            while kept and kept[-1].epoch >= report.epoch:
                kept.pop()
        kept.append(report)
    return tuple(kept), replaced


class Reader:
    """The journal of a study that another process may be writing, read as it grows."""

    def __init__(self, folder: Path):
        self._path, self._end = folder / FILE, 0
        self.history = History()

    def update(self) -> list[Record]:
        """The records written since the last call; they are already folded into `history`."""
        if self._path.stat().st_size < self._end:  # the journal was started over
            self.history, self._end = History(), 0
        records, self._end = read(self._path, self._end)
        for record in records:
            self.history.add(record)
        return records

"""What is wrong with a study and its surroundings, and which of those things can be fixed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.journal.history import History
from raysweep.journal.records import FILE, read
from raysweep.storage import checkpoints, disk, lock
from raysweep.study.study import Study
from raysweep.tracking.process import publisher_status
from raysweep.tracking.store import OFF, runs
from raysweep.trial import best


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and whether it was fixed."""

    what: str
    mended: bool = False

    def __str__(self) -> str:
        return f"{'mended' if self.mended else 'found'}: {self.what}"


def examine(place: Path, uri: str, mend: bool) -> Iterator[Finding]:
    """Check a study's folder and its runs in MLflow at `uri`. With `mend`, fix what needs no decision."""
    records, end = read(place / FILE)
    history = History(records)
    torn = (place / FILE).stat().st_size - end
    if torn and not lock.in_use(place / FILE):
        yield Finding(f"the journal's last {torn} bytes are torn; the next run leaves them out")
    yield from _folder(place)
    yield from _best(place, history)
    if not disk.has_room(place):
        yield Finding(f"the disk is full: {disk.space_left(place)}")
    token = Path.home() / ".ray" / "auth_token"
    if token.exists() and token.stat().st_mode & 0o077:
        if mend:
            token.chmod(0o600)
        yield Finding(f"{token} can be read by others, who can then run code on the cluster", mend)
    if uri != OFF:
        yield from _runs(place, history, uri, mend)


def _folder(place: Path) -> Iterator[Finding]:
    if place.stat().st_mode & 0o022:
        yield Finding(f"{place} can be written to by others: chmod go-w {place}")
    for refused in (place / "queue").glob("*.refused"):
        yield Finding(f"{refused} was queued, but is not a point of the space")
    for bad in (place / "trials").glob("*/*.bad"):
        yield Finding(f"{bad} was damaged, and was set aside")
    holder = lock.holder(place)
    if holder is not None and holder.pid and not lock.in_use(place / FILE):
        age = time.time() - holder.heartbeat
        yield Finding(f"it was left by {holder}" + ("" if age > lock.STALE else "; it may still run there"))


def _best(place: Path, history: History) -> Iterator[Finding]:
    """Whether the best trial's checkpoint is complete, if the study has such files at all."""
    study = Study.recorded(history.study["study"])
    winner = best([t for t in history.trials if t.ended], study.objective)
    report = winner.best(study.objective) if winner else None
    if winner is None or report is None or not (place / "trials").exists():
        return
    folder = checkpoints.trial_folder(place, winner.number)
    epoch = checkpoints.best(folder, report.epoch)
    if epoch is None and not history.best.get("model", True):
        return  # a user's own trainable need not yield any state
    if epoch is None or checkpoints.load(folder, epoch) is None:
        yield Finding(f"the checkpoint of the best trial, {winner.number}, is missing or damaged")


def _runs(place: Path, history: History, uri: str, mend: bool) -> Iterator[Finding]:
    """Runs that exist twice, or that MLflow shows as running though nothing runs."""
    from mlflow import MlflowClient

    pending = publisher_status(place).pending
    if pending:
        yield Finding(f"MLflow is behind by {pending} trials: raysweep sync {place.name}")
    client = MlflowClient(tracking_uri=uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    found = runs(client, experiments, f"tags.study_id = '{history.study['id']}'")
    first: dict[str, Any] = {}
    for run in sorted(found, key=lambda r: int(r.info.start_time)):
        name = run.data.tags.get("trial", "the study's own")
        if name in first:
            if mend:
                client.delete_run(run.info.run_id)
            yield Finding(f"MLflow has run {name} twice; the later one is {run.info.run_id}", mend)
            continue
        first[name] = run
        if run.info.status in {"RUNNING", "SCHEDULED"} and not lock.in_use(place / FILE):
            if mend:
                client.set_terminated(run.info.run_id, "KILLED")
            yield Finding(f"MLflow shows run {name} as {run.info.status}, but nothing runs", mend)

"""The process that publishes one study's journal to MLflow: a parent run for the study, a child run for each
trial, and the best trial as a model. `process.start_publisher` starts `python -m raysweep.tracking.publisher
FOLDER`.

It finds its runs by tag, and may send anything twice.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raysweep.errors import TrackingError, scrubbed
from raysweep.journal.history import History
from raysweep.journal.records import FILE, read
from raysweep.storage import checkpoints, disk, output
from raysweep.storage.lock import in_use
from raysweep.study.objective import Objective
from raysweep.study.space import Space, encode
from raysweep.tracking import content, views
from raysweep.tracking.content import RUN_STATUS, key, ms
from raysweep.tracking.process import REPORT, STATUS, PublisherStatus
from raysweep.tracking.store import runs
from raysweep.trial import Report, Trial
from raysweep.trial import best as best_of

PERIOD = 0.3  # seconds between two looks at the journal
LOGGED = "log_bytes"  # the tag that says how much of a trial's output its run has
KEPT = "best_kept"  # the tag that says which best state of a user's own trainable is in its run, all of it
METRICS, PAIRS = 800, 100  # limits of one MLflow request: 100 parameters, 100 tags, 1000 items in all


class Publisher:
    """Publishes one study's journal to MLflow. `step` may fail at any point and be called again."""

    def __init__(self, place: Path, client: Any):
        self._place, self.client = place, client
        self._history, self._offset = History(), 0
        self._changed: set[int] = set()
        self._runs: dict[int, str] = {}
        self._sent: dict[int, tuple[Report, ...]] = {}  # the reports of each trial that MLflow has
        self._logged: dict[int, int] = {}  # the bytes of each trial's output that MLflow has
        self._shown: dict[int, str] = {}  # the status of each trial's run in MLflow
        self._parent = self._experiment = self._model = ""
        self._registered: float | None = None  # when the best was chosen whose model MLflow has
        self._known = False  # whether we know which runs exist
        self._described = False  # whether the parent run says what the study is
        self._summed: Any = None
        self._objective_of: Any = None
        self._known_objective = Objective("", False)

    def step(self, final: bool) -> PublisherStatus:
        """Publish what is new. `final`: nobody writes to the journal any more."""
        records, self._offset = read(self._place / FILE, self._offset)
        for record in records:
            self._history.add(record)
        self._changed |= {r["trial"] for r in records if "trial" in r and r["kind"] != "best"}
        if final:  # trials that were running when the search ended no longer run
            self._changed |= {t.number for t in self._history.trials if not t.ended}
        if not self._history.trials:
            return PublisherStatus(over=final)  # a study that was refused leaves nothing in MLflow
        try:
            self._send(final)
        except Exception:
            # The request may have succeeded all the same: look up the runs again before the next one.
            self._known = False
            raise
        return self.status(over=final)

    def _send(self, final: bool) -> None:
        if not self._known:
            self._find()
        for number in sorted(self._changed):
            self._publish(self._history.trial(number), final)
            self._changed.discard(number)
        for number, run in self._runs.items() if final else ():
            self._log_output(number, run)  # a trial that was stopped may have printed more since
        self._summarise(final)
        best = self._history.best
        if best and self._registered != best["time"]:
            self._model = self._register()
            self._registered = best["time"]

    def status(self, error: str = "", over: bool = False) -> PublisherStatus:
        return PublisherStatus(len(self._changed), error, self._experiment, self._model, over)

    @property
    def will_log(self) -> bool:
        """Whether there is a search that ends with a model to log."""
        known = self._history
        return bool(known.study) and not known.best and not known.over and ":" not in self._study["trainable"]

    @property
    def _study(self) -> dict[str, Any]:
        study: dict[str, Any] = self._history.study["study"]
        return study

    @property
    def _objective(self) -> Objective:
        if self._objective_of is not self._study:
            self._objective_of, self._known_objective = self._study, Objective.of(self._study)
        return self._known_objective

    def _find(self) -> None:
        """The experiment, the parent run and the trials' runs: those that are there, or new ones."""
        self._experiment = self._find_experiment(self._history.study["task"])
        identity = self._history.study["id"]
        found = list(runs(self.client, [self._experiment], f"tags.study_id = '{identity}'"))
        self._runs.clear()
        self._shown.clear()
        self._logged.clear()
        self._sent.clear()  # sending twice changes nothing; a run may have been deleted and created anew
        for run in sorted(found, key=lambda r: -int(r.info.start_time)):  # of duplicates, the oldest wins
            if run.data.tags.get("role") == "trial":
                number = int(run.data.tags["trial"])
                self._runs[number] = run.info.run_id
                self._logged[number] = int(run.data.tags.get(LOGGED, 0))
        parents = [r for r in found if r.data.tags.get("role") == "study"]
        self._parent = (
            min(parents, key=lambda r: int(r.info.start_time)).info.run_id if parents else self._begin()
        )
        if not self._described:
            self._describe()
            self._described = True
        self._known = True

    def _find_experiment(self, name: str) -> str:
        import mlflow

        found = self.client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                raise TrackingError(f"the MLflow experiment '{name}' is deleted. Restore it, or name another")
            identity: str = found.experiment_id
            return identity
        # A local store keeps artifacts beside its file; a server decides for itself.
        artifacts = (
            (self._place.parent / "artifacts").as_uri() if "sqlite" in mlflow.get_tracking_uri() else None
        )
        created: str = self.client.create_experiment(name, artifact_location=artifacts)
        return created

    def _begin(self) -> str:
        tags = content.study_tags(self._history, self._objective)
        run = self.client.create_run(
            self._experiment,
            start_time=ms(self._history.study["time"]),
            run_name=self._study["name"],
            tags=tags,
        )
        identity: str = run.info.run_id
        return identity

    def _describe(self) -> None:
        """Send the study's parameters, its file and its view. Sending again changes nothing."""
        record = self._history.study
        self._batch(self._parent, params=content.study_params(self._history))
        self.client.log_text(self._parent, (self._place / "study.yaml").read_text(), "study.yaml")
        views.write(self.client, self._experiment, record, Space(self._study["space"]), self._objective)

    def _publish(self, trial: Trial, final: bool) -> None:
        """Publish one trial: create its run if needed, send its new epochs and its status."""
        if trial.number in self._runs and self._given_up(trial):
            self._replace(trial)
        if trial.number not in self._runs:
            self._runs[trial.number] = self._create(trial)
        run, known = self._runs[trial.number], trial.number in self._sent
        metrics = [
            (name, value, ms(report.time), report.epoch)
            for report in trial.reports[len(self._sent.get(trial.number, ())) :]
            for name, value in report.metrics.items()
        ]
        stopped = final and not trial.ended
        self._batch(
            run,
            [*metrics, *content.best_metrics(trial, self._objective)],
            params={} if known else content.trial_params(self._history, trial),
            tags=content.status_tags(trial, stopped),
        )
        self._sent[trial.number] = trial.reports
        if stopped or trial.ended:
            self._log_output(trial.number, run)
            end = ms(trial.finished) if trial.ended else ms(time.time())
            self.client.set_terminated(run, "KILLED" if stopped else RUN_STATUS[trial.status], end_time=end)
            self._shown.pop(trial.number, None)
        elif self._shown.get(trial.number) != RUN_STATUS[trial.status]:
            self.client.update_run(run, status=RUN_STATUS[trial.status])
            self._shown[trial.number] = RUN_STATUS[trial.status]

    def _log_output(self, number: int, run: str) -> None:
        """Log what a trial has printed, unless MLflow has it."""
        path = checkpoints.trial_folder(self._place, number) / output.FILE
        size = path.stat().st_size if path.exists() else 0
        if size and self._logged.get(number) != size:
            self.client.log_artifact(run, str(path))
            self._batch(run, tags={LOGGED: str(size)})
            self._logged[number] = size

    def _given_up(self, trial: Trial) -> bool:
        """Whether MLflow holds epochs of an abandoned attempt, which later epochs have replaced."""
        sent = self._sent.get(trial.number)
        if sent is not None:
            return trial.reports[: len(sent)] != sent
        if trial.number not in self._history.replaced:
            return False
        values = {(r.epoch, r.metrics.get(self._objective.metric)) for r in trial.reports}
        held = self.client.get_metric_history(self._runs[trial.number], key(self._objective.metric))
        return any((m.step, m.value) not in values for m in held)

    def _replace(self, trial: Trial) -> None:
        """Give a trial a new run. MLflow cannot take back logged metric values, so the run with epochs that
        do not count goes to MLflow's trash."""
        run = self._runs.pop(trial.number)
        self.client.set_tag(run, "replaced", "true")
        self.client.delete_run(run)
        self._sent.pop(trial.number, None)
        self._logged.pop(trial.number, None)
        self._shown.pop(trial.number, None)
        self._registered = None  # the best trial's model belongs to its run

    def _create(self, trial: Trial) -> str:
        tags = content.trial_tags(self._history, trial, self._parent)
        run = self.client.create_run(
            self._experiment,
            start_time=ms(trial.started or trial.asked),
            run_name=f"trial-{trial.number:04d}",
            tags=tags,
        )
        identity: str = run.info.run_id
        return identity

    def _batch(
        self,
        run: str,
        metrics: list[tuple[str, float, int, int]] | None = None,
        params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Send everything in as few requests as MLflow allows. Sending twice changes nothing."""
        from mlflow.entities import Metric, Param, RunTag

        values = [Metric(key(k), v, at, step) for k, v, at, step in metrics or []]
        pairs = [Param(key(k), v[:6000]) for k, v in (params or {}).items()]
        labels = [RunTag(k, v) for k, v in (tags or {}).items()]
        while values or pairs or labels:
            self.client.log_batch(run, metrics=values[:METRICS], params=pairs[:PAIRS], tags=labels[:PAIRS])
            values, pairs, labels = values[METRICS:], pairs[PAIRS:], labels[PAIRS:]

    def _summarise(self, final: bool) -> None:
        """Update the parent run: the study's progress, its best trial, and whether the study goes on."""
        trials, best, at = self._history.trials, self._history.best, ms(time.time())
        ended = [t for t in trials if t.ended]
        winner = best_of(trials, self._objective)
        score = winner.score(self._objective) if winner else None
        shown = (winner.number, self._runs[winner.number], score.value) if winner and score else None
        summary = (len(ended), len(trials), shown, best.get("trial"), len(self._history.features), final)
        if summary == self._summed:
            return
        metrics = [("trials", float(len(ended)), at, 0)]
        tags = {"data_fingerprint": ", ".join(self._history.data.values())}
        for name, value in content.feature_metrics(self._history).items():
            metrics.append((name, value, at, 0))
        if self._history.features:
            tags["features_key"] = ", ".join({f["key"]: None for f in self._history.features})
        if winner is not None and score is not None:
            metrics.append((f"best_{self._objective.metric}", score.value, at, 0))
            tags |= {"best_trial": str(winner.number), "best_run_id": self._runs[winner.number]}
            tags |= {"best_point": encode(winner.point)}
        metrics += [(k, v, ms(best["time"]), 0) for k, v in best.get("metrics", {}).items()]
        self._batch(self._parent, metrics, tags=tags)
        if final:
            report = self._place / REPORT
            if report.exists():
                self.client.log_artifact(self._parent, str(report))
            whole = self._history.over and len(ended) == len(trials)
            self.client.set_terminated(self._parent, "FINISHED" if whole else "KILLED")
        else:
            self.client.update_run(self._parent, status="RUNNING")
        self._summed = summary

    def _register(self) -> str:
        """Log the best trial's model in its run, and register it under the study's name as @best. Returns the
        model's name, or nothing if it could not be exported."""
        from raysweep.tracking.models import log, mark

        best, name = self._history.best, self._study["name"]
        number, run = best["trial"], self._runs[best["trial"]]
        of = f"{self._history.study['id']}/{number}/{best['epoch']}"
        if ":" in self._study["trainable"]:
            return self._keep_own(run, of)
        if best.get("error"):
            return ""
        if best.get("ensemble") and not self._is_registered("ensemble", f"{of}/ensemble", run):
            version = log(self._place / "best" / "ensemble", run, name, self._history.study["versions"])
            tags = {"raysweep": f"{of}/ensemble", "run_id": run}
            mark(self.client, name, version, tags, "ensemble")
        of += "/refit" if best.get("refit") else ""
        if self._is_registered("best", of, run):
            return f"models:/{name}@best"
        version = log(self._place / "best", run, name, self._history.study["versions"])
        trial = self._history.trial(number)
        # Logging needs an active run, and MLflow then ends that run again: restore its status and end time.
        self.client.set_terminated(run, RUN_STATUS[trial.status], end_time=ms(trial.finished))
        tables = self._place / "best" / "tables"
        if tables.is_dir():
            self.client.log_artifacts(run, str(tables), "tables")
        together = {f"ensemble_{k}": v for k, v in best.get("ensemble", {}).get("metrics", {}).items()}
        metrics = [(k, v, ms(best["time"]), 0) for k, v in (best["metrics"] | together).items()]
        again = {"refit": "true"} if best.get("refit") else {}
        self._batch(run, metrics, tags={"best": "true", **again})
        mark(self.client, name, version, {"raysweep": of, "trial": str(number), "run_id": run})
        return f"models:/{name}@best"

    def _is_registered(self, alias: str, of: str, run: str) -> bool:
        """Whether the model with this alias is this one, in this run."""
        import mlflow

        with suppress(mlflow.exceptions.MlflowException):  # no such model, or no such alias, yet
            version = self.client.get_model_version_by_alias(self._study["name"], alias)
            return (version.tags.get("raysweep"), version.tags.get("run_id")) == (of, run)
        return False

    def _keep_own(self, run: str, of: str) -> str:
        """Log the checkpoint of the best trial of a user's own trainable in its run, as it is: it may be large.
        Register what its function `export` has written. Returns the model's name, or nothing if there is none."""
        from raysweep.tracking.models import mark, register

        best, name = self._history.best, self._study["name"]
        uri = f"models:/{name}@best" if best.get("model") else ""
        of += f"/{best.get('code', '')[:12]}" if uri else "/without a model"  # it may be exported again
        self._log_output(best["trial"], run)
        if self.client.get_run(run).data.tags.get(KEPT) == of:
            return uri
        trial = checkpoints.trial_folder(self._place, best["trial"])
        epoch = checkpoints.best(trial, best["epoch"])
        if epoch is not None:
            for file in checkpoints.file_names(epoch):
                self.client.log_artifact(run, str(trial / file), "checkpoint")
        self._batch(run, [(k, v, ms(best["time"]), 0) for k, v in best["metrics"].items()])
        if uri:
            tags = {"raysweep": of, "trial": str(best["trial"]), "run_id": run}
            version = register(self.client, self._place / "best" / "model", run, name, tags)
            mark(self.client, name, version, tags)
        self._batch(run, tags={"best": "true", KEPT: of})  # the last: now all of it is there
        return uri


def farewell(place: Path, terminal: int) -> None:
    """Say how to resume a search whose process is gone and did not say so itself."""
    with os.fdopen(terminal, "w") as file:
        if not History(read(place / FILE)[0]).over:
            where = "" if place.parent == Path.cwd() / "studies" else f" --folder {place.parent}"
            file.write(
                f"The search of {place.name} is gone. Continue with: raysweep resume {place.name}{where}\n"
            )


def main(place: Path, terminal: int | None = None) -> None:
    """Publish until the journal is released and all of it is in MLflow."""
    os.nice(19)  # the search comes first; what is left for us is enough
    lock = (place / "tracking.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # one publisher a study: a later one waits until an earlier one is done
    from mlflow import MlflowClient

    from raysweep.tracking.models import warm_up

    publisher, wait, warm = Publisher(place, None), PERIOD, False
    while True:
        final = not in_use(place / FILE)
        if final and terminal is not None:
            farewell(place, terminal)
            terminal = None
        try:
            publisher.client = publisher.client or MlflowClient()  # opens the store, which may fail
            shown, wait = publisher.step(final), PERIOD
        except Exception as error:
            # MLflow may fail in any way it likes: the journal keeps what is pending, and we try again.
            print(scrubbed(f"{type(error).__name__}: {error}"), flush=True)
            shown, wait = (
                publisher.status(error=scrubbed(f"{type(error).__name__}: {error}"[:300])),
                min(wait * 2, 30),
            )
        _write_status(place, shown)
        if shown.over:
            return
        if not warm and not shown.error and publisher.will_log:
            warm_up()
            warm = True
        if final and wait >= 30:
            return  # the search is gone and MLflow does not answer; `raysweep sync` sends the rest
        time.sleep(wait if shown.error else PERIOD)


def _write_status(place: Path, shown: PublisherStatus) -> None:
    disk.write(place / STATUS, json.dumps(asdict(shown)), sync=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))

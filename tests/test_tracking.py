"""What MLflow holds equals what the journal holds: a real store, written by the real publisher."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import raysweep
from conftest import quick
from faults.conftest import until
from raysweep import TrackingError
from raysweep.journal.journal import Journal
from raysweep.journal.records import FILE, read
from raysweep.tracking import process
from raysweep.tracking.publisher import Publisher
from raysweep.trial import Trial

URI = "sqlite:///mlflow.db"
pytestmark = pytest.mark.usefixtures("mlflow_store")


@pytest.fixture
def client(here: Path) -> Any:
    import mlflow
    from mlflow import MlflowClient

    uri = f"sqlite:///{here / 'studies' / 'mlflow.db'}"
    (here / "studies").mkdir()
    mlflow.set_tracking_uri(uri)
    return MlflowClient(uri)


def write(place: Path, cut: int | None = None) -> Journal:
    """A journal of three trials: one well, one diverged, one still running."""
    place.mkdir(parents=True, exist_ok=True)
    study = quick(trials=3, space={"x": {"float": [0.5, 1.0], "log": True}, "epochs": 2})
    (place / "study.yaml").write_text(study.to_yaml())
    journal = Journal(place)
    journal.append(
        "study", format=1, id="abc", study=study.to_dict(), task="task", code={"file": "f", "sha256": "s"},
        versions={"raysweep": "0"}, git={"commit": "c0ffee", "dirty": True},
    )  # fmt: skip
    journal.begin_session([])
    for n in range(3):
        journal.append("asked", trial=n, point={"x": 0.5 + n / 10, "epochs": 2}, seeds=[n])
        journal.append("started", trial=n, worker="w")
        journal.append("report", trial=n, epoch=1, metrics={"loss": 1.0 + n, "loss_std": 0.1}, seconds=1.0)
    journal.append("report", trial=0, epoch=2, metrics={"loss": 1.5, "loss_std": 0.1}, seconds=1.0)
    journal.append("ended", trial=0, status="completed", seconds=0.0, error="")
    journal.append("ended", trial=1, status="diverged", seconds=0.0, error="loss = nan at epoch 2")
    return journal


def published(client: Any) -> dict[str, Any]:
    """All runs of all experiments by their name; a name twice is an error."""
    ids = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(ids)
    assert len({r.info.run_name for r in runs}) == len(runs), "one run a trial"
    return {r.info.run_name: r for r in runs}


def equal(client: Any, run: Any, trial: Trial) -> None:
    for name in {n for r in trial.reports for n in r.metrics}:
        held = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        assert held == [(r.epoch, r.metrics[name]) for r in trial.reports if name in r.metrics]


def test_a_study_starts_from_what_mlflow_holds_of_an_earlier_one(client: Any, here: Path) -> None:
    journal = write(here / "studies" / "quick")
    Publisher(here / "studies" / "quick", client).step(final=False)
    journal.close()
    space = {"x": {"float": [0.0, 0.55]}, "epochs": 2}
    study = quick(name="later", space=space, warm_start=["mlflow:quick"])
    with raysweep.Loop.open(study) as loop:
        (record,) = loop.journal.history.warm
    assert record["trials"] == [
        {"point": {"x": 0.5, "epochs": 2}, "status": "completed", "metrics": {"loss": 1.0}}
    ]
    assert record["dropped"] == 2, "one is outside, one still runs"
    nobody = quick(name="nobody", warm_start=["mlflow:nobody"])
    with pytest.raises(TrackingError, match="has no trials of a study 'nobody'"), raysweep.Loop.open(nobody):
        pass


def test_mlflow_holds_what_the_journal_holds(client: Any, here: Path) -> None:
    place = here / "studies" / "quick"
    journal = write(place)
    publisher = Publisher(place, client)
    shown = publisher.step(final=False)
    assert shown.pending == 0
    runs = published(client)
    assert {n: r.info.status for n, r in runs.items()} == {
        "quick": "RUNNING", "trial-0000": "FINISHED", "trial-0001": "FAILED", "trial-0002": "RUNNING",
    }  # fmt: skip
    for trial in journal.history.trials:
        equal(client, runs[f"trial-{trial.number:04d}"], trial)
    one = runs["trial-0000"].data
    assert one.params == {"x": "0.5", "epochs": "2", "log10_x": "-0.30103"}
    assert one.metrics["best_loss"] == 1.0, "the best value stands beside the last"
    assert one.metrics["best_epoch"] == 1
    tags = {k: one.tags[k] for k in ("role", "study", "trial", "stop_reason", "mlflow.parentRunId", "seeds")}
    assert tags == {
        "role": "trial", "study": "quick", "trial": "0", "stop_reason": "completed",
        "mlflow.parentRunId": runs["quick"].info.run_id, "seeds": "0",
    }  # fmt: skip
    assert runs["trial-0001"].data.tags["error"] == "loss = nan at epoch 2"
    parent = runs["quick"].data
    assert parent.tags["mlflow.source.git.commit"] == "c0ffee"
    assert parent.tags["best_trial"] == "0"
    assert parent.params["space_x"] == '{"float": [0.5, 1.0], "log": true}'
    journal.close()


def test_what_was_running_when_the_search_ended_is_killed_though_nothing_new_is_said_of_it(
    client: Any, here: Path
) -> None:
    place = here / "studies" / "quick"
    journal = write(place)
    publisher = Publisher(place, client)
    publisher.step(final=False)
    journal.append("over")
    journal.close()
    publisher.step(final=True)
    assert {n: r.info.status for n, r in published(client).items()} == {
        "quick": "KILLED", "trial-0000": "FINISHED", "trial-0001": "FAILED", "trial-0002": "KILLED",
    }  # fmt: skip


def test_epochs_done_again_after_a_kill_are_not_there_twice(client: Any, here: Path) -> None:
    place = here / "studies" / "quick"
    journal = write(place)
    Publisher(place, client).step(final=False)
    journal.append("started", trial=2, worker="w2")
    for epoch in (1, 2):
        journal.append(
            "report", trial=2, epoch=epoch, metrics={"loss": 4.0 - epoch, "loss_std": 0.1}, seconds=1.0
        )
    Publisher(place, client).step(final=False)
    equal(client, published(client)["trial-0002"], journal.trial(2))
    journal.close()


def test_a_run_that_somebody_deleted_does_not_stop_the_others(client: Any, here: Path) -> None:
    place = here / "studies" / "quick"
    journal = write(place)
    publisher = Publisher(place, client)
    publisher.step(final=False)
    client.delete_run(published(client)["trial-0002"].info.run_id)
    for n in (0, 2):
        journal.append("report", trial=n, epoch=3, metrics={"loss": 0.5, "loss_std": 0.1}, seconds=1.0)
    for _ in range(3):
        try:
            publisher.step(final=False)
        except Exception as error:
            assert "deleted" in str(error)
    equal(client, published(client)["trial-0002"], journal.trial(2))
    journal.close()


def test_publishing_again_from_the_start_changes_nothing(client: Any, here: Path) -> None:
    place = here / "studies" / "quick"
    write(place).close()
    Publisher(place, client).step(final=False)
    before = {n: (r.info.run_id, r.data.metrics, r.data.params) for n, r in published(client).items()}
    Publisher(place, client).step(final=False)
    runs = published(client)
    assert {n: (r.info.run_id, r.data.metrics, r.data.params) for n, r in runs.items()} == before
    assert len(client.get_metric_history(runs["trial-0000"].info.run_id, "loss")) == 2


def test_a_search_that_is_gone_leaves_no_run_running_and_its_resume_takes_the_same_runs(
    client: Any, here: Path
) -> None:
    place = here / "studies" / "quick"
    write(place).close()
    Publisher(place, client).step(final=True)
    runs = published(client)
    assert runs["trial-0002"].info.status == "KILLED"
    assert runs["trial-0002"].data.tags["stop_reason"] == "interrupted"
    assert runs["quick"].info.status == "KILLED"

    journal = Journal(place)
    journal.begin_session([])
    journal.append("started", trial=2, worker="w2")
    publisher = Publisher(place, client)
    publisher.step(final=False)
    assert published(client)["trial-0002"].info.status == "RUNNING"
    journal.append("report", trial=2, epoch=2, metrics={"loss": 0.25}, seconds=1.0)
    journal.append("ended", trial=2, status="completed", seconds=0.0, error="")
    journal.append("over")
    (trial,) = [t for t in journal.history.trials if t.number == 2]
    journal.close()
    publisher.step(final=True)
    again = published(client)
    assert again["trial-0002"].info.run_id == runs["trial-0002"].info.run_id
    assert (again["trial-0002"].info.status, again["quick"].info.status) == ("FINISHED", "FINISHED")
    equal(client, again["trial-0002"], Trial(2, {}, reports=trial.reports))


class Broken:
    """A client whose every n-th call fails, before or after it is carried out, as a server that comes and goes."""

    def __init__(self, client: Any, every: int, after: bool):
        self._client, self._every, self._after, self._calls = client, every, after, 0

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            self._calls += 1
            fails = self._calls % self._every == 0
            if fails and not self._after:
                raise ConnectionError("away")
            answer = getattr(self._client, name)(*arguments, **more)
            if fails:
                raise ConnectionError("the answer was lost")
            return answer

        return call


@pytest.mark.parametrize("every", [7, 11])
@pytest.mark.parametrize("after", [False, True])
def test_a_store_that_fails_again_and_again_ends_up_the_same(
    every: int, after: bool, client: Any, here: Path
) -> None:
    place = here / "studies" / "quick"
    journal = write(place)
    publisher = Publisher(place, Broken(client, every, after))
    for _ in range(50):
        try:
            shown = publisher.step(final=False)
            break
        except ConnectionError:
            continue
    assert shown.pending == 0
    runs = published(client)
    assert len(runs) == 4
    for trial in journal.history.trials:
        equal(client, runs[f"trial-{trial.number:04d}"], trial)
    journal.close()


@pytest.mark.long
def test_the_winner_is_a_model_that_predicts_where_raysweep_is_not_installed(ray: Any, here: Path) -> None:
    import mlflow
    from sklearn.datasets import load_digits

    space = {"epochs": 6, "lr": {"float": [5e-3, 2e-2], "log": True}}
    given = {"trainable": "mlp", "minimize": None, "maximize": "val_accuracy", "trials": 2, "space": space}
    result = raysweep.run(quick(name="digits", **given))
    assert result.tracking.model == "models:/digits@best"
    x, y = load_digits(return_X_y=True)
    script = here / "use.py"
    script.write_text(
        "import sys, mlflow, numpy as np\n"
        "sys.path = [p for p in sys.path if 'platform' not in p]\n"
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in str(f).lower()]\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "model = mlflow.pyfunc.load_model('models:/digits@best')\n"
        "print(model.metadata.signature)\n"
        "x = np.load('x.npy')\n"
        "print(*model.predict(x)['prediction'])\n"
        "import raysweep; print(raysweep.__file__)\n"
    )
    import numpy as np

    np.save(here / "x.npy", (x * 255 / 16).reshape(-1, 8, 8))
    uri = f"sqlite:///{here / 'studies' / 'mlflow.db'}"
    done = subprocess.run((sys.executable, str(script), uri), capture_output=True, text=True, cwd=here)
    assert done.returncode == 0, done.stderr
    *signature, told, where = done.stdout.splitlines()
    assert np.mean(np.array(told.split(), int) == y) > 0.85
    assert "Tensor('float64', (-1, 8, 8))" in " ".join(signature)
    assert "artifacts" in where, "the model brings its own code"

    more = raysweep.run(quick(name="digits", **{**given, "trials": 5}))
    mlflow.set_tracking_uri(uri)
    version = mlflow.MlflowClient().get_model_version_by_alias("digits", "best")
    assert more.best is not None and version.tags["trial"] == str(more.best.number), (
        "the alias follows the best"
    )


def test_nothing_is_published_twice_by_a_complete_study_run_again(ray: Any, here: Path, client: Any) -> None:
    raysweep.run(quick(trials=2))
    before = {n: (r.info.run_id, r.info.status, r.info.end_time) for n, r in published(client).items()}
    raysweep.run(quick(trials=2))
    after = {n: (r.info.run_id, r.info.status, r.info.end_time) for n, r in published(client).items()}
    assert {k: v for k, v in after.items() if k != "quick"} == {
        k: v for k, v in before.items() if k != "quick"
    }
    assert after["quick"][:2] == before["quick"][:2]


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("localhost:5000", "'localhost:5000' is no MLflow store. Use http://HOST:PORT"),
        ("./mlruns", "is no MLflow store"),
        ("http://user:hunter2@127.0.0.1:9", r"http://\*\*\*@127.0.0.1:9 does not answer \(.*refused"),
        ("http://user:hunter2@localhost", r"http://\*\*\*@localhost does not answer"),
        ("http://[::1", "is no URI"),
    ],
)
def test_a_store_that_cannot_be_is_refused_before_anything_starts(
    uri: str, sentence: str, here: Path
) -> None:
    with pytest.raises(TrackingError, match=sentence) as error:
        raysweep.run(quick(), store=uri)
    assert "hunter2" not in str(error.value)
    assert list(here.iterdir()) == []


def test_a_publisher_that_cannot_publish_says_so_and_loses_nothing(here: Path) -> None:
    place = here / "studies" / "quick"
    journal = write(place)
    process.start_publisher(place, "sqlite:////dev/null/all.db")
    said: list[str] = []
    until(lambda: process.publisher_status(place).error)
    shown = process.wait_for_publisher(place, said.append, patience=0.1)
    assert not shown.over and "/dev/null" in shown.error
    assert "MLflow is behind" in said[-1] and "Nothing is lost: raysweep sync quick" in said[-1]
    journal.close()
    assert len(read(place / FILE)[0]) == 14


def test_the_doctor_finds_and_mends_what_a_crash_left(client: Any, here: Path) -> None:
    from raysweep.tracking.doctor import examine

    place = here / "studies" / "quick"
    journal = write(place)
    Publisher(place, client).step(final=False)
    journal.close()
    uri = f"sqlite:///{here / 'studies' / 'mlflow.db'}"
    run = published(client)["trial-0002"]
    client.create_run(run.info.experiment_id, tags={**run.data.tags, "mlflow.runName": "again"})
    with (place / FILE).open("ab") as file:
        file.write(b"torn")
    found = [str(f) for f in examine(place, uri, mend=False)]
    assert found[0] == "found: the journal's last 4 bytes are torn; the next run leaves them out"
    assert sum("twice" in f for f in found) == 1
    assert sum("as RUNNING, but nothing runs" in f for f in found) == 2, "the study's own and trial 2"
    assert all(f.mended for f in examine(place, uri, mend=True) if "MLflow" in f.what)
    left = [f.what for f in examine(place, uri, mend=True)]
    assert not any("MLflow" in what for what in left)
    assert {n: r.info.status for n, r in published(client).items()}["trial-0002"] == "KILLED"


def test_a_trial_that_has_paused_is_shown_as_what_it_is_with_its_best(client: Any, here: Path) -> None:
    place = here / "studies" / "quick"
    journal = write(place)
    publisher = Publisher(place, client)
    publisher.step(final=False)
    assert "best_loss" not in published(client)["trial-0002"].data.metrics
    journal.append("report", trial=2, epoch=2, metrics={"loss": 0.5, "loss_std": 0.1}, seconds=1.0)
    journal.append("paused", trial=2)
    publisher.step(final=False)
    run = published(client)["trial-0002"]
    assert (run.info.status, run.data.tags["stop_reason"]) == ("SCHEDULED", "paused")
    assert (run.data.metrics["best_loss"], run.data.metrics["best_epoch"]) == (0.5, 2)
    assert published(client)["quick"].data.tags["best_trial"] == "2", "so far"
    journal.append("started", trial=2, worker="w", epoch=2)
    journal.append("report", trial=2, epoch=3, metrics={"loss": 0.4, "loss_std": 0.1}, seconds=1.0)
    publisher.step(final=False)
    assert published(client)["trial-0002"].info.status == "RUNNING"
    journal.append("ended", trial=2, status="completed", seconds=0.0, error="")
    publisher.step(final=False)
    run = published(client)["trial-0002"]
    assert (run.info.status, run.data.metrics["best_loss"]) == ("FINISHED", 0.4)
    journal.close()


@pytest.mark.parametrize("again", [False, True], ids=["living", "another process"])
def test_epochs_of_an_attempt_that_was_given_up_are_not_in_mlflow(
    again: bool, client: Any, here: Path
) -> None:
    """Lost at epoch 5 and taken up from 2, with other numbers: as many epochs as before when MLflow looks again."""
    place = here / "studies" / "quick"
    journal = write(place)
    publisher = Publisher(place, client)
    for epoch in (2, 3, 4, 5):
        journal.append("report", trial=2, epoch=epoch, metrics={"loss": 10.0 + epoch}, seconds=1.0)
    publisher.step(final=False)
    before = published(client)["trial-0002"].info.run_id
    journal.append("lost", trial=2, cause="worker", error="gone")
    journal.append("started", trial=2, worker="w2", epoch=2)
    for epoch in (3, 4, 5, 6, 7):
        journal.append("report", trial=2, epoch=epoch, metrics={"loss": 1 / epoch}, seconds=1.0)
    (Publisher(place, client) if again else publisher).step(final=False)
    run = published(client)["trial-0002"]
    equal(client, run, journal.trial(2))
    assert run.info.run_id != before, "of what MLflow holds nothing can be taken back"
    kept = {n: r.info.run_id for n, r in published(client).items()}
    Publisher(place, client).step(final=False)
    assert {n: r.info.run_id for n, r in published(client).items()} == kept
    journal.close()


def test_names_of_a_person_s_own_are_not_overwritten_by_ours(client: Any, here: Path) -> None:
    place = here / "studies" / "quick"
    place.mkdir(parents=True)
    study = quick(trainable=named, space={"lr": {"float": [0.1, 1.0], "log": True}, "log10_lr": [5, 6]})
    (place / "study.yaml").write_text(study.to_yaml())
    journal = Journal(place)
    journal.append("study", format=1, id="abc", study=study.to_dict(), task="task", code={"file": "f", "sha256": "s"},
                   versions={})  # fmt: skip
    journal.begin_session([])
    journal.append("asked", trial=0, point={"lr": 0.1, "log10_lr": 5}, seeds=[0])
    metrics = {"loss": 1.0, "best_loss": 7.0, "best_epoch": 8.0, "seconds": 9.0}
    journal.append("report", trial=0, epoch=1, metrics=metrics, seconds=1.0)
    journal.append("ended", trial=0, status="completed", seconds=0.0, error="")
    Publisher(place, client).step(final=False)
    one = published(client)["trial-0000"].data
    assert one.params["log10_lr"] == "5" and one.metrics == metrics
    journal.close()


def named(lr: float, log10_lr: int) -> Any:
    yield {}, None


def test_no_password_reaches_the_journal_or_mlflow(
    client: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = ["--tracking", "http://me:hunter2@127.0.0.1:9", "--mirror=s3://key:hunter2@b?secret=hunter2"]
    monkeypatch.setattr(sys, "argv", ["raysweep", "run", "s.yaml", *secrets])
    with raysweep.Loop.open(quick(), here / "studies", f"sqlite:///{here}/x.db?password=hunter2") as loop:
        loop.tell(loop.ask() or pytest.fail(), {"loss": 1.0})
    place = here / "studies" / "quick"
    assert b"hunter2" not in (place / FILE).read_bytes()
    Publisher(place, client).step(final=False)
    tags = published(client)["quick"].data.tags
    assert tags["command"].startswith("raysweep run s.yaml --tracking http://***@127.0.0.1:9")
    assert "hunter2" not in str([r.data.tags for r in published(client).values()])

"""Whole searches on a real Ray: what the journal then says, and what becomes of those that end badly."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import raysweep
from conftest import ROOT, quick
from raysweep import ClusterError, DataError, JournalError, Study, StudyError
from raysweep.journal.history import History
from raysweep.journal.records import FILE, read


def history(folder: Path, name: str = "quick") -> History:
    return History(read(folder / "studies" / name / FILE)[0])


def test_a_search_runs_every_trial_once_and_says_which_was_best(ray: Any, here: Path) -> None:
    result = raysweep.run(quick(trials=6))
    assert not result.interrupted
    assert [t.number for t in result.trials] == list(range(6))
    assert {t.status for t in result.trials} == {"completed"}
    assert all([r.epoch for r in t.reports] == [1, 2, 3] for t in result.trials)
    assert result.best is not None
    assert result.best.point["x"] == min((t.point["x"] for t in result.trials), key=abs)
    assert result.trials == tuple(history(here).trials), "the journal is the truth"


@pytest.mark.long
def test_the_same_study_again_is_complete_and_more_trials_extend_it(ray: Any, here: Path) -> None:
    first = raysweep.run(quick(algorithm="random"))
    assert raysweep.run(quick(algorithm="random")).trials == first.trials
    more = raysweep.run(quick(trials=7, algorithm="random"))
    assert more.trials[:4] == first.trials
    assert len(more.trials) == 7
    fresh = raysweep.run(quick(name="fresh", trials=7, algorithm="random"))
    assert [t.point for t in fresh.trials] == [t.point for t in more.trials], (
        "points depend on seed and number only"
    )


def test_another_study_of_the_same_name_is_refused_with_the_difference(ray: Any, here: Path) -> None:
    raysweep.run(quick(trials=1))
    with pytest.raises(JournalError, match=r"exists and is not this one: space.x was .*-1.0.*, is .*-2.0"):
        raysweep.run(quick(space={"x": {"float": [-2.0, 1.0]}, "epochs": 3}))


def test_every_way_to_end_badly_ends_that_trial_and_no_other(ray: Any, here: Path) -> None:
    study = quick(trainable="trainables:moody", algorithm="grid", trials=None, space={"x": {"int": [0, 4]}})
    trials = raysweep.run(study).trials
    assert [t.status for t in trials] == ["completed", "failed", "diverged", "failed", "completed"]
    assert trials[1].error.startswith("ValueError: x must not be 1 (trainables.py, line ")
    assert trials[2].error == "loss = nan at epoch 1"
    assert trials[3].error == "epoch 1 did not report 'loss'. Reported: losss"
    assert len({t.worker for t in trials}) <= 2, "the worker outlives a trial that fails"


def test_a_trial_that_takes_too_long_is_ended_even_if_it_says_nothing(ray: Any, here: Path) -> None:
    space = {"x": {"float": [0.0, 1.0]}, "pause": 3600.0}
    result = raysweep.run(quick(trials=1, space=space, trial_timeout="3 s"))
    assert [(t.status, t.error) for t in result.trials] == [("timeout", "it took longer than 3.0 s")]
    assert not result.interrupted


def test_a_rule_ends_a_study_and_what_runs(ray: Any, here: Path) -> None:
    said: list[str] = []
    space = {"x": {"float": [-1.0, 1.0]}, "epochs": 10_000, "pause": 0.01}
    study = quick(trials=None, space=space, stop={"time": "10 s"})  # long enough to ask for a trial, anywhere
    result = raysweep.run(study, say=said.append)
    assert not result.interrupted and {t.status for t in result.trials} == {"stopped"}
    assert "Enough: its time, 10 s, is up." in said
    again = raysweep.run(study, say=said.append)
    assert again.trials == result.trials and "quick is complete: its time, 10 s, is up." in said


def test_seconds_are_an_objective_of_every_trainable(ray: Any, here: Path) -> None:
    result = raysweep.run(quick(minimize=["loss", "seconds"], require={"seconds": "< 50"}))
    assert all(r.metrics["seconds"] > 0 for t in result.trials for r in t.reports)
    assert [t.reports[0].metrics["seconds"] < t.reports[-1].metrics["seconds"] for t in result.trials] == [
        True
    ] * 4


def test_a_small_space_is_tried_whole_and_no_point_twice(ray: Any, here: Path) -> None:
    said: list[str] = []
    space = {"x": {"float": [0.0, 1.0], "step": 0.25}, "epochs": [1, 2]}
    result = raysweep.run(quick(trials=30, algorithm="random", space=space), say=said.append)
    assert not result.interrupted
    assert len(result.trials) == len({str(t.point) for t in result.trials}) == 10
    assert "Note: the space has 10 points; each is tried once." in said


def test_known_points_are_tried_first(ray: Any, here: Path) -> None:
    trials = raysweep.run(quick(trials=4, algorithm="random", points=[{"x": 0.5}, {"x": -0.25}])).trials
    assert [t.point for t in trials[:2]] == [{"x": 0.5, "epochs": 3}, {"x": -0.25, "epochs": 3}]
    assert len({t.point["x"] for t in trials}) == 4


def test_repeats_are_run_in_lockstep_and_their_mean_and_spread_reported(ray: Any, here: Path) -> None:
    (trial,) = raysweep.run(quick(repeats=3, trials=1)).trials
    assert len(set(trial.seeds)) == 3
    expected = [trial.point["x"] ** 2 + 1 + seed * 1e-12 for seed in trial.seeds]
    assert trial.reports[0].metrics["loss"] == pytest.approx(sum(expected) / 3, abs=1e-12)
    assert trial.reports[0].metrics["loss_std"] > 0


TROUBLES = {
    "halves": ("diverged", "loss = inf at epoch 2"),
    "heavy": ("failed", "TypeError: the state must hold tensors and plain types only"),
    "impossible": ("infeasible", "x cannot be trained"),
    "greedy": ("out of memory", "OutOfMemoryError: CUDA out of memory"),
    "silent": ("failed", "it never reported 'loss'"),
}


def test_a_trial_says_what_was_wrong_with_it(ray: Any, here: Path) -> None:
    space = {"trouble": list(TROUBLES), "x": 0.5}
    study = quick(
        trainable="trainables:troubled", algorithm="grid", trials=len(TROUBLES), repeats=8, space=space
    )
    found = {t.point["trouble"]: (t.status, t.error) for t in raysweep.run(study).trials}
    for trouble, (status, error) in TROUBLES.items():
        assert found[trouble][0] == status and found[trouble][1].startswith(error), found[trouble]


def test_a_ray_tune_function_that_diverges_says_so(ray: Any, here: Path) -> None:
    study = quick(trainable="trainables:diverging", trials=1, space={"x": {"float": [0.0, 1.0]}})
    (trial,) = raysweep.run(study).trials
    assert (trial.status, trial.error) == ("diverged", "loss = nan at epoch 2")


@pytest.mark.parametrize(
    ("trainable", "error"),
    [
        ("forgetful", "the trainable yields no state, so a trial that pauses could not go on."),
        ("restarting", "the trainable was given the state of epoch 2 and began again at epoch 1"),
    ],
)
def test_a_trainable_that_cannot_go_on_where_it_must_is_told_so(
    trainable: str, error: str, ray: Any, here: Path
) -> None:
    """Its epochs would be counted on, and rank as what they are not."""
    space = {"x": {"float": [0.0, 1.0]}, "epochs": 9}
    result = raysweep.run(quick(trainable=f"trainables:{trainable}", trials=6, space=space))
    failed = [t for t in result.trials if t.status == "failed"]
    assert failed and all(t.error.startswith(error) for t in failed)
    assert all(t.last is None or t.last.epoch <= 2 for t in result.trials)


def test_what_a_trial_draws_does_not_depend_on_those_before_it_in_its_process(ray: Any, here: Path) -> None:
    study = {"trainable": "trainables:drawing", "space": {"x": {"float": [0.0, 1.0]}}}
    few, many = (raysweep.run(quick(f"draws{n}", trials=n, **study)).trials for n in (1, 5))
    losses = [t.reports[0].metrics["loss"] for t in many]
    assert losses[0] == few[0].reports[0].metrics["loss"] and len(set(losses)) == 5


def test_no_more_trials_run_at_once_than_the_study_says(ray: Any, here: Path) -> None:
    space = {
        "x": {"float": [-1.0, 1.0]},
        "epochs": 1,
        "pause": 4.0,
    }  # longer than a second worker takes to start
    trials = raysweep.run(quick(trials=2, concurrency=1, space=space)).trials
    assert all(a.finished <= b.started for a, b in itertools.pairwise(trials))


def test_a_study_that_was_refused_can_be_mended(ray: Any, here: Path) -> None:
    given = {"trainable": "mlp", "minimize": "val_loss", "trials": 1}
    with pytest.raises(DataError):
        raysweep.run(quick(**given, space={"data": "gone.csv", "lr": {"float": [0.1, 0.2]}}))
    result = raysweep.run(quick(**given, space={"data": "digits", "lr": {"float": [0.1, 0.2]}, "epochs": 1}))
    assert len(result.trials) == 1


def test_a_study_whose_best_was_not_exported_yet_is_not_complete(ray: Any, here: Path) -> None:
    from raysweep.journal.records import line

    space = {"epochs": 1, "lr": {"float": [1e-3, 1e-1], "log": True}}
    study = quick(name="cut", trainable="mlp", minimize="val_loss", trials=2, space=space)
    first = raysweep.run(study)
    path = here / "studies" / "cut" / FILE
    path.write_bytes(b"".join(line(r) for r in read(path)[0] if r["kind"] != "best"))
    again = raysweep.run(study)
    assert again.test == first.test and again.trials == first.trials


def test_names_in_another_order_are_another_study(ray: Any, here: Path) -> None:
    raysweep.run(quick(trials=1))
    with pytest.raises(JournalError, match="space has its names in another order"):
        raysweep.run(quick(trials=1, space={"epochs": 3, "x": {"float": [-1.0, 1.0]}}))


def test_a_trainable_that_cannot_be_sent_is_refused(ray: Any, here: Path) -> None:
    import threading

    lock = threading.Lock()

    def local(x: float) -> Any:
        with lock:
            yield {"loss": x}, None

    with pytest.raises(StudyError, match=r"refers to something that cannot be sent to workers: .*lock"):
        raysweep.run(quick(trainable=local, trials=1, space={"x": {"float": [0.0, 1.0]}}))


def test_an_ordinary_tune_function_is_taken_unchanged(ray: Any, here: Path) -> None:
    given = {"algorithm": "grid", "trials": None, "space": {"x": [0.0, 1.0]}, "scheduler": "none"}
    study = quick(trainable="trainables:tuned", **given)
    trials = raysweep.run(study).trials
    assert [t.status for t in trials] == ["completed", "failed"]
    assert [r.metrics["loss"] for r in trials[0].reports] == pytest.approx([1.0, 0.5, 1 / 3])
    assert trials[1].error.startswith("RuntimeError: too far")


def test_a_function_of_this_session_is_taken_as_it_is(ray: Any, here: Path) -> None:
    def local(x: float) -> Any:
        yield {"loss": x}, None

    study = Study(
        name="local", trainable=local, minimize="loss", trials=2, space={"x": {"float": [0.0, 1.0]}}
    )
    assert {t.status for t in raysweep.run(study).trials} == {"completed"}


def test_the_mlp_is_searched_tested_and_exported(ray: Any, here: Path) -> None:
    space = {"epochs": 3, "lr": {"float": [1e-3, 1e-1], "log": True}, "units": [16, 32]}
    result = raysweep.run(
        quick(name="mlp", trainable="mlp", minimize=None, maximize="val_accuracy", space=space)
    )
    scores = {"test_balanced_accuracy", "test_f1", "test_auc"}
    assert set(result.test) == {"test_loss", "test_accuracy"} | scores
    assert sorted(p.name for p in (result.folder / "best").iterdir()) == [
        "model.json",
        "tables",
        "weights.pt",
    ]
    fold = history(here, "mlp")
    assert result.best is not None and fold.best["trial"] == result.best.number
    assert len(fold.data) == 1


def test_only_the_best_trials_keep_their_checkpoints(ray: Any, here: Path) -> None:
    from raysweep.trial import ranking

    study = quick(trials=9, keep=3)
    result = raysweep.run(study)
    kept = {int(p.name) for p in (result.folder / "trials").iterdir()}
    assert kept == {t.number for t in ranking(result.trials, study.objective)[:3]}


def test_a_request_that_no_node_can_hold_is_refused_at_once(ray: Any, here: Path) -> None:
    with pytest.raises(ClusterError, match=r"needs 1 CPU, 4 GPU, but no node has it \(at most .* 0 GPU\)"):
        raysweep.run(quick(per_trial={"gpu": 4}))


@pytest.mark.parametrize(
    ("space", "error", "sentence"),
    [
        ({"data": "gone.csv"}, DataError, "'gone.csv' does not exist"),
        (
            {"batch_size": [32, 4096]},
            StudyError,
            r"space.batch_size: 4,096 is larger than the training set \(1,259\)",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused_before_any_trial(
    space: dict[str, Any], error: type[Exception], sentence: str, ray: Any, here: Path
) -> None:
    given = {"lr": {"float": [0.1, 0.2]}, **space}
    with pytest.raises(error, match=sentence):
        raysweep.run(quick(name="bad", trainable="mlp", minimize="val_loss", space=given))
    assert history(here, "bad").trials == []


@pytest.mark.long
def test_a_search_leaves_its_process_as_it_was(command: Any, here: Path) -> None:
    """A notebook, in which another Ray is started afterwards."""
    script = here / "script.py"
    script.write_text(LEAVES)
    done = subprocess.run(
        (sys.executable, str(script)), cwd=here, capture_output=True, text=True, timeout=240,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")},
             "PYTHONPATH": str(ROOT / "tests"), "HOME": str(here)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "as it was"


LEAVES = """\
import logging, os, pathlib, signal
import ray
from hyperopt import tpe
from ray.air.execution._internal.actor_manager import RayActorManager
import raysweep

def state():
    loggers = [logging.getLogger(n) for n in ("ray", "ray.tune", "ray._private.authentication")]
    return (dict(os.environ), tpe.build_posterior_wrapper, RayActorManager._actor_task_failed,
            signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT),
            [(l.handlers, l.propagate, l.level) for l in loggers])

before = state()
study = raysweep.Study(trainable="trainables:parabola", minimize="loss", trials=2,
                       space={"x": {"float": [-1.0, 1.0]}, "epochs": 2})
raysweep.run(study, store="off")
for was, now in zip(before, state()):
    assert was == now, (was, now)
assert not (pathlib.Path.home() / ".ray" / "auth_token").exists()
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
assert ray.get(ray.remote(lambda: 1).remote()) == 1
ray.shutdown()
print("as it was")
"""

INTERRUPTED = """\
import sys, threading, time
import raysweep

def study(name):
    return raysweep.Study(name=name, trainable="trainables:parabola", minimize="loss", trials=6,
                          space={"x": {"float": [-1.0, 1.0]}, "epochs": 4, "pause": 0.25})

try:
    raysweep.run(study("slow"), store="off", verbose=2)
except KeyboardInterrupt as stop:
    print("interrupted with", len(stop.result.trials), "trials", stop.result.interrupted)
    raise SystemExit(7)
raysweep.run(study("next"), store="off")
"""


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_ctrl_c_ends_a_script_and_not_only_its_search(number: signal.Signals, here: Path) -> None:
    (here / "script.py").write_text(INTERRUPTED)
    process = subprocess.Popen(
        (sys.executable, "script.py"), cwd=here, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
    )  # fmt: skip
    reached(here, 2)
    running = raysweep.load("slow")
    assert running.running and not running.interrupted and running.trials
    process.send_signal(number)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 7
    *told, last = said.splitlines()
    assert last.startswith("interrupted with") and last.endswith("True")
    assert told[0].startswith(
        "slow: minimize loss of trainables:parabola by auto search; no trial is stopped"
    )
    again = " Ctrl-C again ends at once." if number == signal.SIGINT else ""
    assert f"Stopping: running trials finish their epoch first.{again}" in told
    assert raysweep.load("slow").interrupted and not (here / "studies" / "next").exists()


def test_signals_are_handled_as_before_once_the_search_is_over() -> None:
    from raysweep.execution.signals import Signals

    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    with Signals(lambda: None).handled():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Ray Tune leaves its own
    assert {s: signal.getsignal(s) for s in before} == before


def test_cancel_from_elsewhere_does_not_end_a_program_that_searches_in_a_thread(
    ray: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from raysweep.journal import queue

    ended: list[Any] = []
    previous = signal.signal(signal.SIGTERM, lambda *_: ended.append("SIGTERM"))
    results: list[Any] = []
    space = {"x": {"float": [-1.0, 1.0]}, "epochs": 10_000, "pause": 0.1}
    thread = threading.Thread(
        target=lambda: results.append(raysweep.run(quick("slow", space=space, trials=9)))
    )
    try:
        thread.start()
        reached(here, 2)
        queue.request_end(here / "studies" / "slow", "cancel")
        thread.join(600)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert not thread.is_alive() and ended == []
    assert len(results) == 1 and len(results[0].trials) < 9


# --- in a process of its own, which is ended from outside -----------------------------------------------------

SLOW = """\
trainable: trainables:parabola
minimize: loss
trials: 6
concurrency: 1
space: {x: {float: [-1.0, 1.0]}, epochs: 4, pause: 0.25}
"""
LEARNING = """\
algorithm: {name: optuna, startup: 3}
scheduler: {name: asha, kind: promotion, grace: 1, reduction: 2}
"""


def start(here: Path, study: str = SLOW) -> subprocess.Popen[str]:
    (here / "slow.yaml").write_text(study)
    return subprocess.Popen(
        (sys.executable, "-m", "raysweep", "run", "slow.yaml"),
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def reached(here: Path, reports: int) -> None:
    """Wait until the journal holds so many reports."""
    path = here / "studies" / "slow" / FILE
    for _ in range(6000):
        if path.exists() and sum(r["kind"] == "report" for r in read(path)[0]) >= reports:
            return
        time.sleep(0.1)
    raise AssertionError(
        f"the search did not get that far: {path.read_text() if path.exists() else 'no journal'}"
    )


def decisions(here: Path) -> list[Any]:
    """What a journal says that does not depend on time, process or place."""
    return [
        (t.number, t.point, t.seeds, t.status, [(r.epoch, r.metrics) for r in t.reports])
        for t in history(here, "slow").trials
    ]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Any]]:
    """What a study decides when nobody interrupts it."""

    @cache
    def run(study: str) -> list[Any]:
        whole = tmp_path_factory.mktemp("whole")
        start(whole, study).communicate(timeout=600)
        return decisions(whole)

    return run


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "code", "study"),
    [
        pytest.param(signal.SIGKILL, -9, SLOW, marks=pytest.mark.slow),
        (signal.SIGKILL, -9, LEARNING + SLOW),
        pytest.param(signal.SIGINT, 130, SLOW, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, LEARNING + SLOW, marks=pytest.mark.slow),
    ],
    ids=["kill", "kill learning", "interrupt", "terminate learning"],
)
def test_a_search_that_is_killed_goes_on_as_if_it_had_not_been(
    number: signal.Signals, code: int, study: str, here: Path, uninterrupted: Callable[[str], list[Any]]
) -> None:
    process = start(here, study)
    reached(here, 6)
    process.send_signal(number)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == code, said
    if code > 0:
        assert "Continue with: raysweep resume slow" in said
    before = history(here, "slow")
    assert not all(t.ended for t in before.trials)

    again = start(here, study)
    said, _ = again.communicate(timeout=600)
    assert again.returncode == 0, said
    assert [t.number for t in history(here, "slow").trials] == list(range(6))
    finished = [t for t in before.trials if t.ended]
    assert [t for t in history(here, "slow").trials if t in finished] == finished, "what is finished stays"

    assert decisions(here) == uninterrupted(study)


def test_a_study_is_cancelled_from_another_process_and_goes_on(command: Any, here: Path) -> None:
    process = start(here)
    reached(here, 2)
    done = command("cancel", "slow")
    assert (done.returncode, done.stdout) == (0, "slow is cancelled. Continue with: raysweep resume slow\n")
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 143 and "Continue with: raysweep resume slow" in said
    fold = history(here, "slow")
    assert fold.over and not fold.complete and not any(t.status == "running" for t in fold.trials)
    assert command("cancel", "slow").stderr == "slow is not running\n"


@pytest.mark.slow  # its parts are in tests/faults/test_studies.py
def test_a_study_that_runs_is_not_run_twice(here: Path) -> None:
    process = start(here)
    reached(here, 1)
    second = start(here)
    said, _ = second.communicate(timeout=600)
    assert second.returncode == 1
    whom = f"study 'slow' is being run by process {process.pid} on {os.uname().nodename}, heard of "
    assert said.startswith(whom) and said.endswith(" s ago. Wait for it, or stop it\n")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=600)


def test_a_wrong_file_starts_nothing(command: Any, here: Path) -> None:
    (here / "wrong.yaml").write_text("trainable: mlp\nmaximize: a\ntrials: 1\nspace: {lrr: 1}\n")
    done = command("run", "wrong.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "wrong.yaml: space.lrr: 'mlp' has no such argument. Did you mean 'lr'?\n"
    assert [p.name for p in here.iterdir()] == ["wrong.yaml"]


@pytest.mark.slow  # its parts are in test_own.py
def test_modules_beside_the_study_come_along_and_results_are_read_without_them(
    command: Any, here: Path
) -> None:
    project = here / "project"
    project.mkdir()
    (project / "helpers.py").write_text("def square(x):\n    return x * x\n")
    (project / "train.py").write_text(
        "import helpers\n\ndef train(x: float):\n    yield {'loss': helpers.square(x)}, None\n"
    )
    (project / "mine.yaml").write_text(
        "trainable: train:train\nminimize: loss\ntrials: 2\nspace: {x: {float: [0.0, 1.0]}}\n"
    )
    done = command("run", "project/mine.yaml", "--quiet")
    assert done.returncode == 0, done.stderr
    (project / "train.py").unlink()
    assert command("trials", "mine").returncode == 0
    assert command("best", "mine").stdout.startswith("# trial ")


def test_a_journal_is_lines_that_other_programs_can_read(ray: Any, here: Path) -> None:
    raysweep.run(quick(trials=1))
    text = (here / "studies" / "quick" / FILE).read_text()
    kinds = [json.loads(line.partition(" ")[2])["kind"] for line in text.splitlines()]
    kinds = [kind for kind in kinds if kind != "said"]
    trial = ["asked", "started", "report", "report", "report", "ended"]
    assert kinds == ["study", "session", *trial, "best", "over"]

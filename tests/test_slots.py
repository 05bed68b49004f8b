"""Several trials in one worker: each is a trial like any other, with its own epochs, checkpoints, decisions and end."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

import raysweep
from conftest import ROOT, quick
from raysweep import Choice, Float, Int, Loop, Study
from raysweep.execution.slots import Slots
from raysweep.journal import queue
from raysweep.journal.journal import Journal
from raysweep.journal.records import FILE, read
from raysweep.search.sessions import open_session
from raysweep.trainables.mlp import mlp, signature
from raysweep.trial import Trial

SPACE = {
    "data": "digits",
    "units": Int(4, 12),
    "lr": Float(1e-3, 1e-1, log=True),
    "dropout": Choice([0.0, 0.2]),
    "activation": Choice(["relu", "sigmoid"]),
    "batch_size": 64,
    "epochs": 4,
}
"""Networks so small that several at once pay off on every machine."""


def study(name: str = "small", **more: Any) -> Study:
    given = {
        "maximize": "val_accuracy",
        "trials": 12,
        "algorithm": "random",
        "scheduler": "none",
        "space": SPACE,
    }
    return Study(name=name, trainable="mlp", **{**given, **more})


def is_as_alone(trial: Trial) -> bool:
    """Whether a trial's epochs are those of the same training in a process of its own."""
    alone = [metrics for metrics, _ in mlp(**trial.point, seed=trial.seeds[0])]
    return [r.epoch for r in trial.reports] == list(range(1, len(trial.reports) + 1)) and all(
        r.metrics["val_loss"] == pytest.approx(metrics["val_loss"], rel=1e-3)
        for r, metrics in zip(trial.reports, alone, strict=False)
    )


def together(trials: Sequence[Trial]) -> bool:
    """Whether some trials ran in one worker at the same time."""
    return any(
        a.worker == b.worker and a.started < b.reports[-1].time and b.started < a.reports[-1].time
        for a in trials
        for b in trials
        if a.number < b.number and a.reports and b.reports
    )


def test_trials_in_one_worker_are_trials_as_any_other(ray: Any, here: Path) -> None:
    """Also beside one that diverges."""
    wrong = {"units": 5, "lr": 1e30, "dropout": 0.0, "activation": "relu", "epochs": 4}
    space = {**SPACE, "lr": Float(1e-3, 1e31, log=True), "optimizer": "sgd"}
    tame = [{**wrong, "lr": 0.01 * (1 + i), "units": 4 + i} for i in range(8)]
    result = raysweep.run(study(space=space, points=[*tame[:4], wrong, *tame[4:]], trials=9))
    diverged = [t for t in result.trials if t.status == "diverged"]
    completed = [t for t in result.trials if t.status == "completed"]
    assert [t.point["lr"] for t in diverged] == [1e30] and len(completed) == 8
    assert together(result.trials)
    for trial in completed:
        assert len(trial.reports) == 4 and is_as_alone(trial)
    best = result.best
    assert best is not None
    state, report = result.best_state(), best.best(result.study.objective)
    *_, (_, alone) = mlp(**{**best.point, "epochs": report.epoch if report else 0}, seed=best.seeds[0])
    assert state["epoch"] == alone["epoch"]
    for name, value in alone["model"].items():
        torch.testing.assert_close(state["model"][name], value, rtol=1e-3, atol=1e-5)
    charged = sum(t.seconds for t in result.trials)
    spent = max(t.finished for t in result.trials) - min(t.started for t in result.trials)
    assert charged <= 2.5 * spent, "two workers: each second is charged once"


def slow(value: Any) -> Any:
    """A parameter with which a test is a slow one."""
    return pytest.param(value, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "scheduler",
    [
        {"name": "asha", "kind": "promotion", "grace": 1, "reduction": 2},
        {"name": "pbt", "interval": 2},
        slow({"name": "asha", "kind": "stopping", "grace": 1, "reduction": 2}),
        slow({"name": "hyperband", "reduction": 2}),
        slow({"name": "median", "grace": 1}),
    ],
    ids=lambda s: "-".join(str(s[k]) for k in ("name", "kind") if k in s),
)
def test_every_scheduler_decides_on_trials_in_one_worker(
    scheduler: dict[str, Any], ray: Any, here: Path
) -> None:
    more: dict[str, Any] = {"scheduler": scheduler, "space": {**SPACE, "epochs": 8}, "trials": 12}
    result = raysweep.run(study(concurrency=8, **more))
    assert not result.interrupted
    assert {t.status for t in result.trials} <= {"completed", "stopped"}
    assert any(t.status == "completed" for t in result.trials)
    if scheduler["name"] == "pbt":
        assert any(t.parent for t in result.trials) or all(t.status == "completed" for t in result.trials)
    else:
        assert all(is_as_alone(t) for t in result.trials)
        assert any(t.status == "stopped" for t in result.trials)


@pytest.mark.slow
def test_a_killed_search_goes_on_with_each_trial_once(here: Path) -> None:
    """In the middle of a pack: what has ended stays as it is, and each trial has each of its epochs once."""
    (here / "small.yaml").write_text(study(trials=10, space={**SPACE, "epochs": 60}).to_yaml())

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            (sys.executable, "-m", "raysweep", "run", "small.yaml", "-q"),
            cwd=here,
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    process, path = start(), here / "studies" / "small" / FILE
    deadline = time.monotonic() + 120
    while not path.exists() or sum(r["kind"] == "report" for r in read(path)[0]) < 60:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    before = raysweep.load("small")
    assert not all(t.ended for t in before.trials)
    said, _ = start().communicate(timeout=300)
    after = raysweep.load("small")
    assert [t.number for t in after.trials] == list(range(10)), said
    assert [t for t in before.trials if t.ended] == [after.trials[t.number] for t in before.trials if t.ended]
    assert all(t.status == "completed" and len(t.reports) == 60 and is_as_alone(t) for t in after.trials)


# --- how many, without Ray ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "workers", "offered", "running"),
    [
        ({"trials": 24}, 2, 16, 3),  # an eighth of the trials: the search learns from the others
        ({"trials": 480}, 2, 16, 32),
        ({"trials": 480}, 2, 1, 2),
        ({"trials": 8}, 2, 16, 2),
        ({"trials": 24, "algorithm": "random"}, 2, 16, 24),  # it learns from none
        ({"trials": 24, "algorithm": "random", "scheduler": {"name": "asha", "grace": 1}}, 2, 16, 3),
        ({"trials": 480, "concurrency": 5}, 2, 16, 5),
        ({"trials": 480, "concurrency": 1}, 1, 16, 1),
        ({"trials": None, "stop": {"time": "1 h"}}, 2, 16, 2),
    ],
)
def test_as_many_run_at_once_as_the_search_can_learn_from(
    more: dict[str, Any], workers: int, offered: int, running: int, tmp_path: Path
) -> None:
    space = {"x": {"float": [-1.0, 1.0]}, "epochs": 9}
    asked = quick(
        **{"space": space, "algorithm": "hyperopt", "scheduler": "none", "concurrency": None, **more}
    )
    journal = Journal(tmp_path / "quick")
    open_session(asked, journal)
    limiter: Any = SimpleNamespace(limit=workers)
    slots = Slots(Loop(asked, journal), limiter)
    for worker in range(workers):
        assert slots.begin(str(worker)) is not None
    assert slots.begin("one more") is None
    for _ in range(20):
        for worker in range(workers):
            slots.fill(str(worker), offered)
    held = [len(slots.held(str(worker))) for worker in range(workers)]
    assert sum(held) == running and max(held) <= offered and max(held) - min(held) <= 1
    journal.close()


def test_what_has_lost_its_process_is_retried_alone(tmp_path: Path) -> None:
    """One of four has used up the memory, say: the others must not fail with it again and again."""
    asked = quick(trials=480, concurrency=None, algorithm="random", space={"x": {"float": [-1.0, 1.0]}})
    journal = Journal(tmp_path / "quick")
    open_session(asked, journal)
    loop = Loop(asked, journal)
    limiter: Any = SimpleNamespace(limit=2)
    slots = Slots(loop, limiter)
    assert slots.begin("a") is not None and len(slots.fill("a", 4)) == 3
    for number in slots.lose("a"):
        loop.lost(number, "worker", "it is gone")
    seen = []
    assert slots.begin("b") is not None and slots.begin("c") is not None
    for _ in range(20):
        for run in ("b", "c"):
            slots.fill(run, 4)
            held = slots.held(run)
            assert len(held) == 1 or not any(journal.trial(n).losses for n in held)
            for number in held:
                seen.append(number)
                loop.started(number, run)
                loop.end(number, "completed", "")
                slots.leave(run, number)
    assert set(range(4)) < set(seen) and len(seen) == len(set(seen)) and len(seen) > 40
    journal.close()


def test_a_worker_takes_trials_that_it_can_train_together(tmp_path: Path) -> None:
    """More of them than by chance; each trial once, none much later than it was asked for, and no more at once than
    the search can learn from."""
    space = {"batch_size": Choice([32, 64, 128]), "layers": Int(1, 3), "epochs": 5}
    asked = quick(trainable="mlp", trials=480, concurrency=None, algorithm="hyperopt", scheduler="none",
                  minimize="val_loss", space={**space, "lr": Float(1e-4, 1e-1, log=True)})  # fmt: skip
    journal = Journal(tmp_path / "quick")
    open_session(asked, journal)
    loop = Loop(asked, journal)
    slots = Slots(loop, cast(Any, SimpleNamespace(limit=2)))
    workers, begun, company = ("a", "b"), [], []
    for worker in workers:
        first = slots.begin(worker)
        assert first is not None
        begun.append(first["number"])
    while any(slots.held(worker) for worker in workers):
        for worker in workers:
            for number in slots.held(worker):
                loop.end(number, "completed", "")
                slots.leave(worker, number)
            begun += [given["number"] for given in slots.fill(worker, 16)]
            assert len(journal.trials) - sum(t.ended for t in journal.trials) <= 480 // 8
            assert len(journal.trials) - 1 - min(slots.held(worker), default=480) <= 480 // 4
            held = [signature(journal.trial(number).point) for number in slots.held(worker)]
            company += [held.count(one) for one in held]
    assert sorted(begun) == list(range(480))
    # By chance: itself, and a ninth of fifteen others.
    assert statistics.fmean(company) > 4
    journal.close()


def waiting(tmp_path: Path, **more: Any) -> tuple[Loop, Slots]:
    """A search whose first worker has been offered four slots."""
    space = {"lr": Float(1e-4, 1e-1, log=True), "layers": Int(1, 3), "epochs": 9}
    asked = quick(**{"trainable": "mlp", "minimize": "val_loss", "trials": 480, "concurrency": None,
                     "algorithm": "random", "space": space, **more})  # fmt: skip
    journal = Journal(tmp_path / "quick")
    open_session(asked, journal)
    loop = Loop(asked, journal)
    slots = Slots(loop, cast(Any, SimpleNamespace(limit=2)))
    slots.begin("a")
    slots.fill("a", 4)
    return loop, slots


def left_over(loop: Loop, slots: Slots) -> list[int]:
    """The trials that have been asked for and that no worker has."""
    return [t.number for t in loop.journal.trials if t.number not in slots.held("a") and not t.ended]


@pytest.mark.parametrize(
    "more",
    [
        {"stop": {"time": "9 h"}},  # it may end the search before they begin
        {"scheduler": {"name": "pbt", "interval": 2}},
    ],
    ids=["stop", "pbt"],
)
def test_none_is_asked_for_early_where_it_matters_when(more: dict[str, Any], tmp_path: Path) -> None:
    loop, slots = waiting(tmp_path, **more)
    assert len(slots.held("a")) == 4 and left_over(loop, slots) == []
    loop.journal.close()


def test_what_waits_for_a_slot_is_handed_out_once_or_taken_back(tmp_path: Path) -> None:
    loop, slots = waiting(tmp_path)
    early = left_over(loop, slots)
    assert early
    loop.paused = True  # the disk is full
    for number in slots.held("a"):
        loop.end(number, "completed", "")
        slots.leave("a", number)
    assert slots.fill("a", 4) == [] and slots.begin("b") is None and not slots.finished
    loop.paused = False
    first = slots.begin("b")
    assert first is not None and first["number"] in early
    given = [one["number"] for one in slots.fill("b", 4)]
    assert len({first["number"], *given}) == 4
    loop.ending = True  # `raysweep stop`
    left = {t.number for t in loop.journal.trials if not t.ended} - set(slots.held("b"))
    assert slots.fill("b", 4) == []
    assert {t.number for t in loop._next_trial.unfinished} == left
    loop.journal.close()


def test_a_promoted_trial_that_waits_is_not_promoted_twice(tmp_path: Path) -> None:
    loop, slots = waiting(
        tmp_path, scheduler={"name": "asha", "kind": "promotion", "grace": 1, "reduction": 2}
    )
    for _ in range(6):
        for number in slots.held("a"):
            last = loop.journal.trial(number).last
            epoch = 1 + (last.epoch if last else 0)
            loop.started(number, "a", epoch - 1)
            while (
                loop.reported(number, epoch, {"val_loss": 1.0 / (1 + number)}, 0.1) == "go on" and epoch < 9
            ):
                epoch += 1
            if epoch == 9:
                loop.end(number, "completed", "")
            slots.leave("a", number)
        slots.fill("a", 4)
    early = [n for n in left_over(loop, slots) if loop.journal.trial(n).status == "paused"]
    asked = [t.number for t in slots._asked]
    promoted = [n for n in early if n in asked]
    assert promoted, "one waits"
    queue.request(loop.journal.path.parent, "promote", promoted[0])
    loop.attend(queue.requests(loop.journal.path.parent))
    assert f"trial {promoted[0]} goes on already" in loop.journal.path.read_text()
    loop.journal.close()

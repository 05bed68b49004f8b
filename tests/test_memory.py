"""What a search knows is what its journal says: killed anywhere, it goes on as if it had not been."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest

import raysweep
from conftest import quick
from raysweep import Study
from raysweep.journal.history import History
from raysweep.journal.journal import Journal
from raysweep.journal.records import FILE, line, read
from raysweep.search.loop import Loop
from raysweep.search.sessions import EXTENDABLE, open_session
from raysweep.trial import Trial
from simulated import decisions, run, save, search

SAMPLERS: dict[str, Any] = {
    "hyperopt": {"name": "hyperopt", "startup": 8},
    "auto": {"name": "auto", "startup": 8},
    "tpe": {"name": "optuna", "startup": 8},
    "gp": {"name": "optuna", "sampler": "gp", "startup": 25},
    "cmaes": {"name": "optuna", "sampler": "cmaes", "startup": 4},
    "nsga2": {"name": "optuna", "sampler": "nsga2", "startup": 4},
    "qmc": {"name": "optuna", "sampler": "qmc"},
}
SCHEDULERS: dict[str, Any] = {
    "none": "none",
    "asha": {"name": "asha", "grace": 1, "reduction": 2},
    "promotion": {"name": "asha", "kind": "promotion", "grace": 1, "reduction": 2},
    "hyperband": {"name": "hyperband", "grace": 1, "reduction": 2},
    "median": {"name": "median", "grace": 1, "samples": 3},
    "pbt": {"name": "pbt", "interval": 2, "vary": ["x"]},
    "pb2": {"name": "pb2", "interval": 2, "vary": ["x"]},
}
TRIALS, EPOCHS = 30, 6


def study_of(sampler: str, scheduler: str, **more: Any) -> Study:
    space = {"x": {"float": [-1.0, 1.0]}, "y": {"float": [-1.0, 1.0]}, "epochs": EPOCHS}
    return quick(
        trainable="trainables:bowl",
        trials=TRIALS,
        algorithm=SAMPLERS[sampler],
        scheduler=SCHEDULERS[scheduler],
        space=space,
        **more,
    )


def is_slow(sampler: str, scheduler: str) -> bool:
    """Gaussian processes take half a second an ask; pb2's is the same whatever the sampler."""
    return sampler == "gp" or (scheduler == "pb2" and sampler != "hyperopt")


@pytest.mark.parametrize(
    ("sampler", "scheduler"),
    [
        pytest.param(*pair, marks=[pytest.mark.slow] * is_slow(*pair))
        for pair in itertools.product(SAMPLERS, SCHEDULERS)
    ],
)
def test_a_search_killed_anywhere_goes_on_as_if_it_had_not_been(
    sampler: str, scheduler: str, tmp_path: Path
) -> None:
    study = study_of(sampler, scheduler)
    whole = search(study, tmp_path / "whole")
    records = len(read(whole.path)[0])
    assert len(whole.history.trials) >= TRIALS
    for place in {*range(3, records, max(1, records // 7)), records - 2, records - 1}:
        killed = search(study, tmp_path / str(place), records=place)
        last = read(killed.path)[0][-1]
        assert decisions(search(study, tmp_path / str(place))) == decisions(whole), f"killed after {last}"


@pytest.mark.parametrize("seed", range(8))
def test_the_default_search_interrupted_in_the_middle_proposes_what_it_would_have(
    seed: int, tmp_path: Path
) -> None:
    space = {"x": {"float": [-1.0, 1.0]}, "y": {"float": [-1.0, 1.0]}, "epochs": 9}
    study = quick(trainable="trainables:bowl", trials=110, space=space, seed=seed)
    assert (study.algorithm.name, study.scheduler.name) == ("auto", "asha"), "what is searched by default"
    whole = search(study, tmp_path / "whole")
    records = read(whole.path)[0]
    place = next(i for i, r in enumerate(records) if r["kind"] == "asked" and r["trial"] == 60)
    search(study, tmp_path / "cut", records=place)
    assert decisions(search(study, tmp_path / "cut")) == decisions(whole)


# --- what a trial has shown so far is the same for everybody ----------------------------------------------------------


def killed(
    folder: Path, scheduler: str = "promotion", records: int = 150, **more: Any
) -> tuple[Study, History]:
    """A study whose process is gone after so many records, and its history."""
    study = study_of("hyperopt", scheduler, **more)
    search(study, folder, records=records)
    return study, History(read(folder / FILE)[0])


def test_trials_that_wait_have_a_score_for_who_reads_the_journal(tmp_path: Path) -> None:
    from raysweep.report.live import Progress
    from raysweep.report.tables import rows
    from raysweep.trial import best, ranking

    study, history = killed(tmp_path / "quick", records=40)
    paused = [t for t in history.trials if t.status == "paused"]
    assert len(paused) > 5 and not any(t.status == "completed" for t in history.trials)
    winner = best(history.trials, study.objective)
    assert winner is not None and winner.status == "paused"
    assert {t.number for t in paused} <= {t.number for t in ranking(history.trials, study.objective)}
    assert {r["status"] for r in rows(paused, study.objective)} == {"paused"}
    assert f"{len(paused)} paused" in Progress(study, lambda: history.trials).line(history.trials)


def test_trials_that_wait_count_for_the_rules_that_end_a_study(tmp_path: Path) -> None:
    study = study_of("qmc", "promotion", stop={"no_improvement": 5})
    journal = search(study, tmp_path / "quick")
    assert len(journal.history.trials) < TRIALS
    journal = Journal(tmp_path / "quick")
    assert Loop(study, journal).rules.reason == "the last 5 trials brought no improvement"
    journal.close()


def test_a_study_starts_from_what_waits_in_an_interrupted_one(tmp_path: Path) -> None:
    study, history = killed(tmp_path / "earlier", name="earlier")
    shown = [t for t in history.trials if t.status == "paused" or (t.score(study.objective) and t.ended)]
    later = study_of("hyperopt", "none", name="later", warm_start=["earlier"])
    with raysweep.Loop.open(later, tmp_path, "off") as loop:
        (record,) = loop.journal.history.warm
    assert len(record["trials"]) >= len(shown) > 10
    assert {row["status"] for row in record["trials"]} <= {"stopped", "completed", "infeasible"}


@pytest.mark.parametrize("scheduler", ["promotion", "hyperband"])
def test_who_can_no_longer_be_promoted_ends_while_the_study_runs_and_leaves_no_checkpoint(
    scheduler: str, tmp_path: Path
) -> None:
    _, history = killed(tmp_path / "quick", scheduler, records=170)
    stopped = [t for t in history.trials if t.status == "stopped"]
    assert len(stopped) >= 3
    folders = [tmp_path / "quick" / "trials" / f"{t.number:06d}" for t in stopped]
    assert sum(any(f.glob("epoch-*")) for f in folders) <= 5, "but for the best"


def test_what_several_workers_were_given_is_what_the_journal_says(tmp_path: Path) -> None:
    """What was decided in one process is decided in another that reads the journal."""
    study = study_of("hyperopt", "promotion")
    search(study, tmp_path / "quick", workers=3, records=120)
    journal = Journal(tmp_path / "quick")
    loop = Loop(study, journal)
    for trial in journal.trials:
        decision = loop._state.decisions.get(trial.number)
        assert (decision == "pause") == (trial.status == "paused")
    records = read(journal.path)[0]
    journal.close()
    asked = [i for i, r in enumerate(records) if r["kind"] == "asked" and r["trial"] >= 8]
    assert len(asked) >= 8
    for i in asked[::4]:  # each point is what a new process would ask for, of what stands before it
        folder = tmp_path / str(i) / "quick"
        folder.mkdir(parents=True)
        (folder / FILE).write_bytes(b"".join(map(line, records[:i])))
        one = Journal(folder)
        assert Loop(study, one)._next_trial._fresh(records[i]["trial"])[0] == records[i]["point"]
        one.close()


# --- what is lost in between ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["promotion", "hyperband", "pbt"])
def test_a_promoted_trial_that_is_lost_before_its_first_epoch_is_taken_up_again(
    scheduler: str, tmp_path: Path
) -> None:
    """Its process is gone before it said anything: that is a loss as any other."""
    study = study_of("qmc", scheduler)
    journal = Journal(tmp_path / "quick")
    open_session(study, journal)
    loop, lost = Loop(study, journal), {}
    hand_out = loop.next

    def next() -> Trial | None:
        trial = hand_out()
        while trial is not None and trial.status == "paused" and trial.number not in lost:
            lost[trial.number] = trial.last
            loop.lost(trial.number, "worker", "killed")
            again = hand_out()
            assert again is not None and again.number == trial.number and again.losses
            trial = again
        return trial

    loop.next = next  # type: ignore[method-assign]
    run(loop)
    journal.close()
    assert len(lost) > 3
    whole = search(study, tmp_path / "whole" / "quick")
    assert decisions(journal) == decisions(whole), "and costs nothing"


def test_a_process_that_is_lost_again_and_again_ends_its_trial(tmp_path: Path) -> None:
    study = study_of("qmc", "pbt")
    journal = Journal(tmp_path / "quick")
    open_session(study, journal)
    loop, losses = Loop(study, journal), 0
    while (trial := loop.next()) is not None and losses < 500:
        if trial.status == "paused" or trial.losses:
            losses += 1
            loop.lost(trial.number, "worker", "killed")
            continue
        loop.started(trial.number, "a worker")
        for epoch in (1, 2):
            save(loop, trial.number, epoch)
            loop.reported(trial.number, epoch, {"loss": trial.point["x"] ** 2}, 0.0)
        loop.released(trial.number)
    journal.close()
    assert 0 < losses < 500 and all(t.ended for t in journal.trials)


def test_no_trial_that_has_ended_is_run_again_after_an_extension_with_another_scheduler(
    tmp_path: Path,
) -> None:
    study = study_of("hyperopt", "promotion")
    search(study, tmp_path / "quick", records=90)
    for scheduler in ("hyperband", "median", "asha", "none", "promotion"):
        other = study_of("hyperopt", scheduler)
        journal = Journal(tmp_path / scheduler / "quick")
        journal.close()
        shutil.copy(tmp_path / "quick" / FILE, tmp_path / scheduler / "quick" / FILE)
        journal = Journal(tmp_path / scheduler / "quick")
        open_session(other, journal, may_change=EXTENDABLE)
        run(Loop(other, journal))
        records = read(journal.path)[0]
        journal.close()
        over: set[int] = set()
        for record in records:
            if record["kind"] in {"started", "report", "ended"}:
                assert record["trial"] not in over
            over |= {record["trial"]} if record["kind"] == "ended" else set()
        assert len(over) == TRIALS


def test_only_trials_that_have_ended_are_given_more_epochs(tmp_path: Path) -> None:
    from raysweep.execution.run import _continue_best
    from raysweep.trial import ranking

    study = study_of("hyperopt", "promotion")
    search(study, tmp_path / "quick", records=150)
    journal = Journal(tmp_path / "quick")
    assert any(t.status == "paused" for t in ranking(journal.trials, study.objective)[:5])
    _continue_best(study, journal, top=5, epochs=20)
    assert all(trial.ended for trial, _ in journal.history.owed)
    journal.close()


# --- what 0.1 has left ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["promotion", "median", "hyperband"])
def test_a_study_interrupted_by_0_1_goes_on_with_all_it_had_learned(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(Path(__file__).parent / "journals" / f"0.1-{name}.jsonl", folder / FILE)
    before = History(read(folder / FILE)[0])
    study = Study(**before.study["study"])
    journal = Journal(folder)
    loop = Loop(study, journal)
    shown = {
        t.number for t in before.trials if t.status == "paused" or (t.score(study.objective) and t.ended)
    }
    sampler = getattr(loop._state.sampler, "_sampler", loop._state.sampler)
    if name == "promotion":
        assert sampler._documents.keys() >= shown, "the default search"
    elif name == "hyperband":
        finished = [t for t in sampler._study.get_trials(deepcopy=False) if t.state.is_finished()]
        assert len(finished) >= len(shown)
    assert len(shown) > 10
    run(loop, lambda point, epoch: point["x"] ** 2 + 1 / epoch, workers=4)
    journal.close()
    after = History(read(folder / FILE)[0])
    assert len(after.trials) == 60 and all(t.ended for t in after.trials)
    ended = [t for t in before.trials if t.ended]
    assert [t for t in after.trials if t in ended] == ended, "what was finished stays"
    assert all([r.epoch for r in t.reports] == list(range(1, len(t.reports) + 1)) for t in after.trials)

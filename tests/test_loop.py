"""The loop without Ray: a person's own loop, points queued, earlier studies, rules that end a study, populations."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import quick
from raysweep import Float, Int, JournalError, Loop, RaysweepError, Space, Study, StudyError
from raysweep.journal import queue
from raysweep.journal.history import History
from raysweep.journal.journal import Journal
from raysweep.journal.records import FILE, read
from raysweep.search.samplers.optuna import should_terminate
from raysweep.search.schedulers.asha import Hyperband
from raysweep.search.schedulers.population import Population
from raysweep.search.sessions import EXTENDABLE, open_session
from raysweep.search.warm_start import fitted
from raysweep.study.objective import Objective
from raysweep.study.options import Seconds
from raysweep.trial import Report, Trial, front, ranking
from simulated import run, search

LOSS = Objective("loss", maximize=False)


def parabola(point: dict[str, Any]) -> float:
    return float((point["x"] - 0.3) ** 2)


def by_hand(study: Study, folder: Path, loss: Callable[[dict[str, Any]], float] = parabola) -> list[Trial]:
    with Loop.open(study, folder) as loop:
        while trial := loop.ask():
            loop.tell(trial, {"loss": loss(trial.point)})
        return loop.journal.trials


def history(folder: Path, name: str = "quick") -> History:
    return History(read(folder / name / FILE)[0])


# --- ask and tell ------------------------------------------------------------------------------------------


def test_a_loop_of_ones_own_asks_and_tells(tmp_path: Path) -> None:
    algorithm = {"name": "optuna", "startup": 5}
    trials = by_hand(quick(trials=25, algorithm=algorithm), tmp_path)
    assert [t.number for t in trials] == list(range(25))
    assert {t.status for t in trials} == {"completed"}
    assert history(tmp_path).trials == trials and history(tmp_path).over
    late = sorted(parabola(t.point) for t in trials[15:])
    assert late[5] < 0.1, "it learns from what it is told"
    assert by_hand(quick(trials=25, algorithm=algorithm), tmp_path) == trials, "complete"


MODELS = [{"name": "optuna", "startup": 1}, {"name": "hyperopt", "startup": 1}]


@pytest.mark.parametrize("algorithm", MODELS, ids=lambda a: a["name"])
def test_a_small_space_is_tried_whole_and_no_point_twice(algorithm: Any, tmp_path: Path) -> None:
    space = {"x": {"float": [0.0, 1.0], "step": 0.25}, "epochs": [1, 2]}
    trials = by_hand(quick(trials=30, algorithm=algorithm, space=space), tmp_path)
    assert len(trials) == len({str(t.point) for t in trials}) == 10


@pytest.mark.parametrize("algorithm", MODELS, ids=lambda a: a["name"])
def test_known_points_are_tried_first(algorithm: Any, tmp_path: Path) -> None:
    trials = by_hand(quick(trials=4, algorithm=algorithm, points=[{"x": 0.5}, {"x": -0.25}]), tmp_path)
    assert [t.point for t in trials[:2]] == [{"x": 0.5, "epochs": 3}, {"x": -0.25, "epochs": 3}]
    assert len({t.point["x"] for t in trials}) == 4


def test_a_loop_that_broke_off_goes_on(tmp_path: Path) -> None:
    algorithm = {"name": "optuna", "sampler": "cmaes", "startup": 4}
    whole = by_hand(quick(trials=20, algorithm=algorithm), tmp_path / "whole")
    study = quick(trials=20, algorithm=algorithm)
    with pytest.raises(ZeroDivisionError), Loop.open(study, tmp_path) as loop:
        for trial in iter(loop.ask, None):
            loop.tell(trial, {"loss": parabola(trial.point) / (trial.number != 11)})
    resumed = by_hand(study, tmp_path)
    assert [t.point for t in resumed] == [t.point for t in whole]
    assert resumed[11].attempts == 2


def test_what_is_told_wrongly_is_refused_and_loses_nothing(tmp_path: Path) -> None:
    with Loop.open(quick(trials=3), tmp_path) as loop:
        trial = loop.ask()
        assert trial is not None and trial.status == "running"
        with pytest.raises(RaysweepError, match="trial 0 must report loss"):
            loop.tell(trial, {"los": 1.0})
        with pytest.raises(RaysweepError, match="'done' is no end of a trial"):
            loop.tell(trial, {"loss": 1.0}, status="done")  # type: ignore[arg-type]
        loop.tell(trial, [{"loss": 2.0}, {"loss": 1.0}])
        with pytest.raises(RaysweepError, match="trial 0 is not running"):
            loop.tell(trial, {"loss": 1.0})
        second = loop.ask()
        assert second is not None
        loop.tell(second, {"loss": float("nan")})
        with (
            pytest.raises(JournalError, match="is being run by process"),
            Loop.open(quick(trials=3), tmp_path),
        ):
            pass
    first, diverged = history(tmp_path).trials
    assert [r.metrics["loss"] for r in first.reports] == [2.0, 1.0]
    assert (diverged.status, diverged.error) == ("diverged", "loss = nan at epoch 1")


def test_a_loop_of_ones_own_has_no_scheduler(tmp_path: Path) -> None:
    study = quick(scheduler="asha", space={"x": {"float": [0, 1]}, "epochs": 9})
    with pytest.raises(StudyError, match="decides itself when a trial stops"), Loop.open(study, tmp_path):
        pass


# --- points that a person hands in --------------------------------------------------------------------------


def test_queued_points_come_next_and_once(tmp_path: Path) -> None:
    study = quick(trials=4)
    with Loop.open(study, tmp_path) as loop:
        place = tmp_path / "quick"
        loop.tell(loop.ask() or pytest.fail(), {"loss": 1.0})
        queue.put(place, {"x": 0.5, "epochs": 3})
        queue.put(place, {"x": 0.5, "epochs": 3})
        (place / queue.FOLDER / "0.json").write_text('{"x": 7}')
        for _ in range(3):
            trial = loop.ask()
            assert trial is not None
            loop.tell(trial, {"loss": 1.0})
        assert loop.ask() is None
    points = [t.point for t in history(tmp_path).trials]
    assert points[1] == {"x": 0.5, "epochs": 3} and points.count(points[1]) == 1
    assert [p.name for p in (place / queue.FOLDER).iterdir()] == ["0.refused"]


# --- earlier studies ---------------------------------------------------------------------------------------


def test_a_study_starts_from_what_earlier_ones_found(tmp_path: Path) -> None:
    by_hand(quick(name="earlier", trials=30), tmp_path)
    algorithm = {"name": "optuna", "startup": 10}
    space = {"x": {"float": [0.0, 1.0]}, "epochs": 3}
    study = quick(name="later", trials=6, algorithm=algorithm, warm_start=["earlier"], space=space)
    trials = by_hand(study, tmp_path)
    (record,) = history(tmp_path, "later").warm
    inside = [t for t in history(tmp_path, "earlier").trials if t.point["x"] >= 0]
    assert len(record["trials"]) == len(inside) and record["dropped"] == 30 - len(inside)
    assert sum(abs(t.point["x"] - 0.3) < 0.2 for t in trials) >= 5, "no start-up: it knows already"
    assert len(trials) == 6, "trials of earlier studies are not this one's"
    again = by_hand(replaced(study, trials=8), tmp_path)
    assert again[:6] == trials and len(history(tmp_path, "later").warm) == 1


def replaced(study: Study, **changes: Any) -> Study:
    raw = {**study.to_dict(), **changes}
    return Study(**raw)


def test_an_earlier_study_that_is_not_there_or_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="there is no study 'earlier'"):
        by_hand(quick(name="later", warm_start=["earlier"]), tmp_path)
    by_hand(quick(name="earlier", trials=3), tmp_path)
    space = {"x": {"float": [5.0, 9.0]}, "epochs": 3}
    with pytest.raises(JournalError, match="none of the 3 trials of 'earlier' fits this space"):
        by_hand(quick(name="later", warm_start=["earlier"], space=space), tmp_path)


def test_a_point_fits_another_space_where_what_is_free_is_legal() -> None:
    space = Space({"kind": ["a", "b"], "x": Float(0.0, 1.0), "n": Int(1, 3, when={"kind": "b"}), "epochs": 5})
    assert fitted(space, {"kind": "a", "x": 0.5, "n": 2, "epochs": 9, "old": 1}) == {
        "kind": "a", "x": 0.5, "epochs": 5,
    }  # fmt: skip
    assert fitted(space, {"kind": "b", "x": 0.5}) is None, "n is missing"
    assert fitted(space, {"kind": "a", "x": 1.5}) is None


# --- rules that end a study ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "why", "least", "most"),
    [
        ({"value": 0.05}, "reaches 0.05", 1, 40),
        ({"no_improvement": 5}, "the last 5 trials brought no improvement", 6, 60),
        ({"gpu_hours": 1e-9}, "GPU hours are spent", 1, 1),
        ({"time": 1e-6}, "its time, 0.0 s, is up", 0, 0),
    ],
)
def test_a_study_ends_by_its_rules(
    rules: dict[str, Any], why: str, least: int, most: int, tmp_path: Path
) -> None:
    study = quick(trials=100, stop=rules, per_trial={"gpu": 1})
    with Loop.open(study, tmp_path) as loop:
        while trial := loop.ask():
            loop.tell(trial, {"loss": parabola(trial.point)})
        assert why in loop.rules.reason
    assert least <= len(history(tmp_path).trials) <= most
    if most:
        journal = Journal(tmp_path / "quick")
        assert Loop(study, journal).rules.reason, "who reads the journal later comes to the same end"
        journal.close()


def test_a_study_that_has_had_enough_owes_nobody_more_epochs(tmp_path: Path) -> None:
    by_hand(quick(trials=3), tmp_path)
    journal = Journal(tmp_path / "quick")
    journal.append("continue", trials=[0, 1], epochs=9)
    journal.append("continue", trials=[1], epochs=9)
    assert [(t.number, epochs) for t, epochs in journal.history.owed] == [(0, 9), (1, 9)]
    enough = Loop(quick(trials=3, stop={"value": 5.0}), journal)
    assert enough.next() is None and not enough.blocked
    more = Loop(quick(trials=3), journal)
    trial = more.next()
    assert trial is not None and trial.parent == (0, 0) and trial.point["epochs"] == 9
    assert journal.history.continues(trial.number) and not journal.history.continues(0)
    journal.close()


def test_a_study_without_a_number_of_trials_ends_by_its_time(tmp_path: Path) -> None:
    study = quick(trials=None, stop={"time": "1 s"})
    trials = by_hand(study, tmp_path)
    assert len(trials) > 10
    with pytest.raises(StudyError, match="trials: say how many points to try, or under stop a time"):
        quick(trials=None, stop={"value": 0.0})


def test_optuna_s_terminator_ends_a_search_that_has_converged() -> None:
    space, loss = Space({"x": Float(0.0, 1.0)}), Objective("loss", False)

    def trials(count: int) -> list[Trial]:
        points = [{"x": (i * 0.618) % 1 if i < 20 else 0.3 + 1e-4 * (i % 7)} for i in range(count)]
        return [
            Trial(i, p, "completed", (Report(1, {"loss": parabola(p)}, 0.0),)) for i, p in enumerate(points)
        ]

    assert not should_terminate(space, loss, trials(10))
    assert should_terminate(space, loss, trials(60))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90 s", 90.0), ("1.5 min", 90.0), ("2h", 7200.0), ("1 d", 86400.0), (5, 5.0)]
)
def test_durations_are_read_as_people_write_them(text: Any, seconds: float) -> None:
    from pydantic import TypeAdapter

    assert TypeAdapter(Seconds).validate_python(text) == seconds


# --- several objectives, and what is required ----------------------------------------------------------------


def ended(number: int, metrics: dict[str, float]) -> Trial:
    return Trial(number, {"x": float(number)}, "completed", (Report(1, metrics, 0.0),))


def test_the_front_is_what_nothing_beats_in_everything() -> None:
    both = Objective.of({"maximize": "accuracy", "minimize": ["seconds"]})
    table = [(0.9, 9.0), (0.8, 1.0), (0.7, 2.0), (0.9, 8.0), (0.6, 0.5), (0.5, 0.6)]
    trials = [ended(n, {"accuracy": a, "seconds": s}) for n, (a, s) in enumerate(table)]
    assert [t.number for t in front(trials, both)] == [3, 1, 4]
    assert [t.number for t in ranking(trials, both)] == [3, 1, 4, 0, 2, 5]
    assert str(both) == "maximize accuracy, minimize seconds"


def test_an_epoch_that_does_not_meet_what_is_required_does_not_count() -> None:
    small = Objective.of({"minimize": "loss", "require": {"params": "< 1e3", "recall": ">= 0.5"}})
    epochs = [(0.1, 5e3, 0.9), (0.2, 1e2, 0.4), (0.3, 1e2, 0.5)]
    reports = tuple(
        Report(i, {"loss": a, "params": b, "recall": c}, 0.0) for i, (a, b, c) in enumerate(epochs, 1)
    )
    trial = Trial(0, {}, "completed", reports)
    assert trial.score(small).value == 0.3 and trial.excess(small) == 0.0
    bad = replace(trial, reports=reports[:2])
    assert bad.score(small) is None and 0 < bad.excess(small) < 1
    assert ranking([bad, trial], small) == [trial]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "cmaes"])
@pytest.mark.parametrize("several", [False, True])
def test_optuna_s_samplers_take_several_objectives_and_what_is_required(
    sampler: str, several: bool, tmp_path: Path
) -> None:
    if several and sampler == "cmaes":
        pytest.skip("CMA-ES has one objective")
    study = quick(
        trials=16,
        algorithm={"name": "optuna", "sampler": sampler, "startup": 6},
        minimize=["loss", "size"] if several else "loss",
        require={"size": "< 0.8"},
    )
    with Loop.open(study, tmp_path) as loop:
        while trial := loop.ask():
            x = trial.point["x"]
            loop.tell(trial, {"loss": (x - 1) ** 2, "size": abs(x)})
        found = front(loop.journal.trials, study.objective)
    assert found and all(abs(t.point["x"]) < 0.8 for t in found)
    assert (len(found) > 1) == several


# --- brackets and populations --------------------------------------------------------------------------------


def test_brackets_get_trials_in_hyperband_s_proportions() -> None:
    brackets = Hyperband(LOSS, grace=1, reduction=3, epochs=27)
    assert brackets.milestones == {1, 3, 9}
    counts = [[brackets.bracket(n) for n in range(200)].count(i) for i in range(4)]
    # Hyperband for R = 27, eta = 3 begins 27, 12, 6 and 4 trials in a round.
    assert [round(c * 49 / 200) for c in counts] == pytest.approx([27, 12, 6, 4], abs=2)
    late = next(n for n in range(200) if brackets.bracket(n) == 1)
    assert [brackets.report(late, epoch, 0.0) for epoch in (1, 2, 3)] == ["go on", "go on", "pause"]


def test_fewer_brackets_are_the_first_ones_and_keep_their_proportions() -> None:
    brackets = Hyperband(LOSS, grace=1, reduction=3, epochs=27, brackets=2)
    counts = [[brackets.bracket(n) for n in range(390)].count(i) for i in range(2)]
    assert counts == pytest.approx([270, 120], abs=2), "27 to 12"


SPACE = Space({"lr": Float(1e-4, 1.0, log=True), "steps": Int(1, 9), "kind": ["a", "b", "c"], "epochs": 8})


@pytest.mark.parametrize("bandit", [False, True])
def test_who_does_badly_goes_on_from_one_who_does_well_with_another_point(bandit: bool) -> None:
    vary = ["lr", "steps", "kind"]
    population = Population(SPACE, LOSS, 0, interval=2, epochs=8, vary=vary, bandit=bandit)
    assert population.milestones == {2, 4, 6}
    trials = []
    for number in range(8):
        point = {"lr": 10.0 ** -(1 + number % 4), "steps": 5, "kind": "b", "epochs": 8}
        reports = tuple(Report(e, {"loss": number + 1 / e}, 0.0) for e in (1, 2))
        trials.append(Trial(number, point, "waiting", reports))
        assert population.report(number, 2, float(number)) == "pause"
        population.paused(number)
    assert population.promote() == 0
    assert population.report(0, 2, 0.0) == "go on", "who was promoted goes on"
    assert population.fork(0, trials, lambda n: 2) is None, "the best stays what it is"
    assert population.fork(7, trials, lambda n: None) is None, "there is no checkpoint to go on from"
    forks = [population.fork(n, trials, lambda n: 2) for n in (6, 7)]
    for fork in forks:
        assert fork is not None and fork.parent in {0, 1} and fork.epoch == 2
        assert SPACE.check(fork.point) == [] and fork.point != trials[fork.parent].point
    assert forks == [population.fork(n, trials, lambda n: 2) for n in (6, 7)], "the seed decides"


def test_a_changed_value_is_a_step_away_and_legal() -> None:
    point = {"lr": 0.1, "steps": 1, "kind": "a", "epochs": 8}
    trials = [Trial(n, point, "waiting", (Report(2, {"loss": float(n)}, 0.0),)) for n in range(4)]
    found = []
    for seed in range(20):
        population = Population(SPACE, LOSS, seed, 2, 8, ["steps", "kind", "lr"], resample=0.0)
        population.report(3, 2, 0.0)
        fork = population.fork(3, trials, lambda n: 2)
        assert fork is not None and SPACE.check(fork.point) == []
        found.append(fork.point)
    assert {p["steps"] for p in found} == {2} and {p["kind"] for p in found} == {"b"}, (
        "there is one side only"
    )
    assert {round(p["lr"], 3) for p in found} == {0.08, 0.12}


@pytest.mark.parametrize(
    ("param", "value"),
    [(Float(0.0, 0.7), 0.0), (Float(0.0, 0.7), 0.7), (Float(-1.0, 1.0), 0.0), (Int(1, 9), 9)],
)
def test_no_value_is_one_that_a_population_cannot_leave(param: Any, value: Any) -> None:
    space = Space({"x": param, "epochs": 8})
    trials = [
        Trial(n, {"x": value, "epochs": 8}, "paused", (Report(2, {"loss": float(n)}, 0.0),)) for n in range(4)
    ]
    for seed in range(10):
        population = Population(space, LOSS, seed, 2, 8, ["x"], resample=0.0)
        population.report(3, 2, 0.0)
        fork = population.fork(3, trials, lambda n: 2)
        assert fork is not None and fork.point["x"] != value and space.check(fork.point) == []


def test_the_bandit_s_forks_of_one_round_keep_away_from_each_other() -> None:
    """Algorithm 1 of PB2: those that have not reported yet count for how sure it is."""
    space = Space({"x": Float(0.0, 1.0), "epochs": 12})
    rng = random.Random(0)
    known: list[Trial] = []
    for number in range(8):
        x, loss, reports = rng.random(), 1.0, []
        for epoch in range(1, 5):
            loss -= 0.1 * (1 - abs(x - 0.5)) + rng.gauss(0, 0.02)
            reports.append(Report(epoch, {"loss": loss}, 0.0))
        known.append(Trial(number, {"x": x, "epochs": 12}, "paused", tuple(reports)))

    population, trials = Population(space, LOSS, 0, 4, 12, ["x"], resample=0.0, bandit=True), list(known)
    for number in range(8):
        population.report(number, 4, 0.0)
    worst = sorted(known, key=lambda t: -t.reports[-1].metrics["loss"])[:2]
    found = []
    for number in range(8, 14):  # six give way, one after the other
        population.report(number, 4, 0.0)
        member = replace(worst[number % 2], number=number)
        fork = population.fork(number, [*trials, member], lambda n: 4)
        assert fork is not None
        found.append(fork.point["x"])
        trials.append(Trial(number, fork.point, parent=(fork.parent, fork.epoch)))
    assert max(found) - min(found) > 0.5, found


def test_the_journal_tells_who_came_from_whom(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append("asked", trial=0, point={"x": 1.0}, seeds=[1])
    journal.append("asked", trial=1, point={"x": 2.0}, seeds=[2], parent=[0, 4])
    journal.close()
    again = History(read(tmp_path / FILE)[0])
    assert [t.parent for t in again.trials] == [None, (0, 4)]
    assert json.loads((tmp_path / FILE).read_bytes().splitlines()[1].split(b" ", 1)[1])["parent"] == [0, 4]


def test_when_the_first_trials_all_fail_no_more_are_begun_unless_one_gets_somewhere(tmp_path: Path) -> None:
    with Loop.open(quick(trials=40), tmp_path, "off") as loop:
        running = [loop.ask() for _ in range(7)]
        for trial in running[:5]:
            loop.tell(trial, status="failed", error="no such file")
        assert loop.ask() is None and loop.blocked
        assert loop.failing == "the first 5 trials all failed; trial 0: no such file"
        loop.tell(running[5], {"loss": 0.5})
        assert loop.failing == "" and loop.ask() is not None
    with Loop.open(quick("other", trials=40), tmp_path, "off") as loop:
        for _ in range(5):
            loop.tell(loop.ask(), status="failed", error="no such file")
        assert loop.ask() is None and not loop.blocked
    with Loop.open(quick("other", trials=40), tmp_path, "off") as loop:
        assert loop.ask() is not None, "another session may try"


def test_a_loop_of_ones_own_goes_on_after_it_was_stopped(tmp_path: Path) -> None:
    study = quick(trials=3)
    with Loop.open(study, tmp_path, "off") as loop:
        loop.tell(loop.ask() or pytest.fail(), {"loss": 1.0})
        queue.request_end(tmp_path / "quick", "stop")
        assert loop.ask() is None
    with Loop.open(study, tmp_path, "off") as loop:
        assert loop.ask() is not None


def test_threads_may_ask_and_tell(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with Loop.open(quick(trials=60, algorithm="random"), tmp_path, "off") as loop:

        def work() -> None:
            while trial := loop.ask():
                loop.tell(trial, {"loss": parabola(trial.point)})

        with ThreadPoolExecutor(8) as threads:
            for done in [threads.submit(work) for _ in range(8)]:
                done.result()
    trials = history(tmp_path).trials
    assert [t.number for t in trials] == list(range(60)) and {t.status for t in trials} == {"completed"}


@pytest.mark.parametrize("algorithm", ["random", "hyperopt"])
def test_a_point_that_stands_twice_is_tried_once(algorithm: str, tmp_path: Path) -> None:
    points = [{"x": 1}, {"x": 1}, {"x": 2}]
    study = quick(trials=3, space={"x": {"int": [1, 3]}, "epochs": 3}, points=points, algorithm=algorithm)
    assert sorted(t.point["x"] for t in by_hand(study, tmp_path)) == [1, 2, 3]


def test_optuna_s_terminator_is_asked_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes seconds; what it said is what a new process is told."""
    asked: list[int] = []

    def should_terminate(space: Any, objective: Any, trials: list[Trial]) -> bool:
        asked.append(len(trials))
        return len(trials) >= 45

    monkeypatch.setattr("raysweep.search.samplers.optuna.should_terminate", should_terminate)
    study = quick(trials=100, algorithm="random", stop={"terminator": True})
    assert len(by_hand(study, tmp_path)) == 46
    assert asked == [*range(20, 41), 42, 44, 46]
    asked.clear()
    journal = Journal(tmp_path / "quick")
    assert Loop(study, journal).rules.reason
    assert asked == [46]
    journal.close()


# --- another space -----------------------------------------------------------------------------------------------


def test_a_space_gets_another_name_and_what_is_there_had_the_default(tmp_path: Path) -> None:
    known = {"x": {"float": [0.5, 1.0]}, "epochs": 1}
    first = quick(trainable="trainables:bowl", trials=12, algorithm="hyperopt", space=known)
    search(first, tmp_path / "quick", lambda point, epoch: abs(point["x"] - 0.1))
    wider = {"x": {"float": [0.0, 1.0]}, "epochs": 1, "y": {"float": [-1.0, 1.0]}}
    more = replaced(first, space=wider, trials=40)
    journal = Journal(tmp_path / "quick")
    open_session(more, journal, may_change=EXTENDABLE)
    loop = Loop(more, journal)
    assert [t.point["y"] for t in journal.trials] == [0.0] * 12, "the trainable's own default"
    assert all(loop._state.fits(t) for t in journal.trials)
    run(loop, lambda point, epoch: abs(point["x"] - 0.1) + abs(point["y"] - 0.3))
    journal.close()
    trials = history(tmp_path).trials
    assert len(trials) == 40 and len({t.point["y"] for t in trials[12:]}) > 20
    assert ranking(trials, LOSS)[0].number >= 12


def test_a_parameter_becomes_fixed_and_trials_with_other_values_only_count(tmp_path: Path) -> None:
    space = {"x": {"float": [0.0, 1.0]}, "y": ["0", "1"], "epochs": 1}
    first = quick(trainable="trainables:anything", trials=8, algorithm="random", space=space)
    search(first, tmp_path / "quick", lambda point, epoch: point["x"])
    more = replaced(first, space={**space, "y": "1"}, trials=12)
    journal = Journal(tmp_path / "quick")
    open_session(more, journal, may_change=EXTENDABLE)
    run(Loop(more, journal), lambda point, epoch: point["x"])
    journal.close()
    trials = history(tmp_path).trials
    assert {t.point["y"] for t in trials[:8]} == {"0", "1"} and {t.point["y"] for t in trials[8:]} == {"1"}


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ({"z": {"float": [0.0, 1.0]}, "epochs": 1}, "space has lost a name"),
        ({"epochs": 1, "x": {"float": [0.0, 1.0]}}, "space has its names in another order"),
        ({"x": ["a", "b"], "epochs": 1}, "which is more than other bounds"),
    ],
)
def test_what_would_be_another_space_is_refused(space: dict[str, Any], told: str, tmp_path: Path) -> None:
    first = quick(trainable="trainables:anything", trials=2, space={"x": {"float": [0.0, 1.0]}, "epochs": 1})
    search(first, tmp_path / "quick", lambda point, epoch: point["x"])
    journal = Journal(tmp_path / "quick")
    with pytest.raises(JournalError, match=told):
        open_session(replaced(first, space=space), journal, may_change=EXTENDABLE)
    journal.close()

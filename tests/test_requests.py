"""What a person wants of one trial: it stops, it goes on, another goes on from its checkpoint. Without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import quick
from raysweep import Loop
from raysweep.journal import queue
from raysweep.journal.journal import Journal
from raysweep.search.sessions import open_session
from simulated import run, save

PROMOTION = {"name": "asha", "kind": "promotion", "grace": 1, "reduction": 3}


@contextmanager
def opened(folder: Path, **more: Any) -> Iterator[Loop]:
    given = {"trials": 6, "algorithm": "random", "scheduler": PROMOTION}
    space = {"x": {"float": [0.0, 1.0]}, "y": {"float": [-1.0, 1.0]}, "epochs": 9}
    study = quick(trainable="trainables:bowl", space=space, **{**given, **more})
    journal = Journal(folder / study.name)
    try:
        open_session(study, journal)
        yield Loop(study, journal)
    finally:
        journal.close()


def begin(loop: Loop) -> int:
    trial = loop.next()
    assert trial is not None
    loop.started(trial.number, "a worker")
    return trial.number


def to_first_rung(loop: Loop, trials: int) -> None:
    """Each of the next trials reports its number as its loss, and pauses."""
    for _ in range(trials):
        number = begin(loop)
        save(loop, number, 1)
        assert loop.reported(number, 1, {"loss": float(number)}, 0.0) == "pause"
        loop.released(number)


def want(folder: Path, act: queue.Act, trial: int, **values: Any) -> None:
    queue.request(folder / "quick", act, trial, values)


def attend(loop: Loop) -> list[str]:
    """What the search says of the requests that there are."""
    place = loop.journal.path.parent
    before = len(list(loop.journal.replay()))
    loop.attend(queue.requests(place))
    return [r["text"] for r, _ in list(loop.journal.replay())[before:] if r["kind"] == "said"]


def test_a_promoted_trial_goes_on_though_others_are_better(tmp_path: Path) -> None:
    with opened(tmp_path) as loop:
        to_first_rung(loop, 2)
        want(tmp_path, "promote", 1)
        assert attend(loop) == []
    with opened(tmp_path) as loop:  # killed in between
        assert begin(loop) == 1
        assert [loop.reported(1, e, {"loss": 1.0}, 0.0) for e in (2, 3)] == ["go on", "pause"]
        loop.released(1)
        run(loop)
        assert {t.status for t in loop.journal.trials} == {"completed", "stopped"} and loop.complete


def test_a_stopped_trial_ends_after_its_epoch_or_at_once_if_it_does_not_run(tmp_path: Path) -> None:
    with opened(tmp_path) as loop:
        to_first_rung(loop, 2)
        running = begin(loop)
        want(tmp_path, "stop", 0)
        want(tmp_path, "stop", running)
        assert attend(loop) == []
        assert loop.journal.trial(0).status == "stopped"
        assert loop.journal.trial(running).status == "running"
        assert loop.reported(running, 1, {"loss": -1.0}, 0.0) == "stop"
        loop.released(running)
        ended = loop.journal.trial(running)
        assert (ended.status, len(ended.reports)) == ("stopped", 1)
        run(loop)
        assert loop.complete


def test_a_fork_begins_from_the_newest_checkpoint_with_other_values(tmp_path: Path) -> None:
    with opened(tmp_path) as loop:
        to_first_rung(loop, 2)
        want(tmp_path, "fork", 1, x=0.25)
        attend(loop)
    with opened(tmp_path) as loop:  # killed in between
        number = begin(loop)
        child, parent = loop.journal.trial(number), loop.journal.trial(1)
        assert (child.parent, child.point) == ((1, 1), {**parent.point, "x": 0.25})
        assert queue.requests(tmp_path / "quick") == [] and attend(loop) == []
        run(loop)
        assert len(loop.journal.trials) == 7, "a fork is one trial more"


def test_a_complete_study_goes_on_with_a_fork(tmp_path: Path) -> None:
    with opened(tmp_path, scheduler="none") as loop:
        for _ in range(6):
            number = begin(loop)
            folder = loop.retention.folder(number)
            folder.mkdir(parents=True)
            for suffix in ("pt", "json"):
                (folder / f"epoch-000009.{suffix}").write_text("{}")
            loop.reported(number, 9, {"loss": float(number)}, 0.0)
            loop.end(number, "completed", "")
        assert loop.complete
    want(tmp_path, "fork", 0, epochs=9, x=0.5)
    with opened(tmp_path, scheduler="none") as loop:
        assert not loop.complete
        assert loop.journal.trial(begin(loop)).parent == (0, 9)


@pytest.mark.parametrize(
    ("act", "trial", "values", "told"),
    [
        ("stop", 9, {}, "stop 9: there is no trial 9."),
        ("promote", 2, {}, "promote 2: trial 2 has not paused: it is running."),
        ("fork", 0, {"x": 7.0}, 'fork 0: x: 7.0 is outside {"float": [0.0, 1.0]}.'),
        ("stop", 3, {}, "stop 3: trial 3 has ended (stopped)."),
    ],
)
def test_what_cannot_be_is_said_once_and_loses_nothing(
    act: queue.Act, trial: int, values: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with opened(tmp_path) as loop:
        to_first_rung(loop, 2)
        begin(loop)
        loop.end(begin(loop), "stopped", "")
        before = loop.journal.trials
        want(tmp_path, act, trial, **values)
        assert attend(loop) == [told] and attend(loop) == []
        assert loop.journal.trials == before


def test_what_is_no_request_is_set_aside(tmp_path: Path) -> None:
    with opened(tmp_path) as loop:
        folder = tmp_path / "quick" / queue.REQUESTS
        folder.mkdir()
        for name, text in {"a": "{", "b": '{"act": "erase", "trial": 1, "values": {}}', "c": "[]"}.items():
            (folder / f"{name}.json").write_text(text)
        assert attend(loop) == []
        assert sorted(p.name for p in folder.iterdir()) == ["a.refused", "b.refused", "c.refused"]

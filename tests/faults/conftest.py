"""What every fault must leave: one set of invariants, checked by one function."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from raysweep.journal.history import History
from raysweep.journal.records import FILE, read
from raysweep.storage import checkpoints, lock
from raysweep.study.study import Study
from raysweep.trial import ENDED, best

STUDY = """\
trainable: faulty:{function}
minimize: loss
trials: {trials}
concurrency: {concurrency}
{more}
space:
  x: {{float: [-1.0, 1.0]}}
  epochs: {epochs}
  marks: {marks}
"""
sys.path.insert(0, str(ROOT / "tests" / "faults"))  # faulty.py, as a user's own module


@pytest.fixture
def study(here: Path) -> Callable[..., Path]:
    """Writes the file of a study of a function in faulty.py."""

    def write(function: str, trials: int = 4, epochs: int = 4, concurrency: int = 2, more: str = "") -> Path:
        path = here / "faulty_study.yaml"
        path.write_text(
            STUDY.format(
                function=function,
                trials=trials,
                epochs=epochs,
                concurrency=concurrency,
                more=more,
                marks=here,
            )
        )
        return path

    return write


@pytest.fixture
def raysweep(here: Path) -> Callable[..., subprocess.Popen[str]]:
    """`raysweep ARGUMENTS`, begun as a process of its own, what it says in one stream."""

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            (sys.executable, "-m", "raysweep", *arguments),
            cwd=here,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "faults"), **environment},
        )

    return start


def history(place: Path) -> History:
    return History(read(place / FILE)[0])


def until(condition: Callable[[], Any], seconds: float = 600) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def assert_invariants(place: Path, interval: int = 1) -> History:
    """What holds after any fault, once a study is complete. `interval`: epochs between two checkpoints."""
    records, end = read(place / FILE)
    told = History(records)
    study = Study.recorded(told.study["study"])
    # I1: no trial is lost and none is there twice; each has one end.
    assert [t.number for t in told.trials] == list(range(len(told.trials)))
    assert sum(t.parent is None for t in told.trials) >= study.target or told.trials == []
    assert {t.status for t in told.trials} <= ENDED
    again = Counter(r["trial"] for r in records if r["kind"] == "again")
    ends = Counter(r["trial"] for r in records if r["kind"] == "ended")
    assert all(ends[t.number] == 1 + again[t.number] for t in told.trials)
    # I2, I3: nothing goes on after its end, and epochs grow by one, going back no further than a checkpoint.
    over: set[int] = set()
    last: dict[int, int] = {}
    for record in records:
        number = record.get("trial")
        if record["kind"] == "again":
            over.discard(number)
        if record["kind"] in {"started", "report", "ended"}:
            assert number not in over, f"trial {number} went on after its end"
        if record["kind"] == "started" and number in last and record.get("epoch") is not None:
            assert last[number] - record["epoch"] <= interval, "more is lost than a checkpoint's interval"
            last[number] = record["epoch"]
        if record["kind"] == "report":
            assert record["epoch"] == last.get(number, record["epoch"] - 1) + 1
            last[number] = record["epoch"]
        if record["kind"] == "ended":
            over.add(number)
    # I5: the best trial is finite, ended well, and has a checkpoint that is whole.
    winner = best(told.trials, study.objective)
    if winner is not None and (place / "trials").exists():
        report = winner.best(study.objective)
        assert report is not None
        assert checkpoints.load(place / "trials" / f"{winner.number:06d}", report.epoch) is not None
    # I6: the journal is whole and says that it is over; nobody holds it.
    assert end == (place / FILE).stat().st_size and told.over
    assert not lock.in_use(place / FILE)
    return told

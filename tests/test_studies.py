"""Whole studies: listed, compared, renamed, deleted, in their folder and in MLflow; and what their trials used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import raysweep
from conftest import quick
from journals import Told, write
from raysweep.cli import cli
from raysweep.execution.usage import Meter
from raysweep.journal.journal import Journal
from raysweep.journal.records import FILE, line, read
from raysweep.report.live import Progress
from raysweep.trial import Report, Trial


def said(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def two(here: Path) -> Path:
    """Two studies that were never run."""
    for name, best in (("first", 0.25), ("second", 0.5)):
        trials = [Told({"x": 0.1 * n, "epochs": 3}, [1.0 + n, best + n]) for n in range(4)]
        write(here / "studies" / name, quick(name, seed=int(best * 4)), trials)
    return here / "studies"


@pytest.fixture
def tracked(here: Path, mlflow_store: None, ray: Any) -> Any:
    """A study that has been run, in MLflow."""
    from mlflow import MlflowClient

    raysweep.run(quick("first"), verbose=0)
    return MlflowClient(tracking_uri=f"sqlite:///{here / 'studies' / 'mlflow.db'}")


def runs(client: Any) -> list[Any]:
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


def test_studies_are_listed(two: Path) -> None:
    (two / "empty").mkdir()
    (two / "empty" / FILE).write_bytes(b"")
    lines = said("ls").splitlines()
    assert len(lines) == 4
    assert any(
        "first" in line and "complete" in line and "4/4" in line and "0.2500" in line for line in lines
    )
    assert any("empty" in line and "not started" in line for line in lines)
    about = {a["study"]: a for a in json.loads(said("ls", "--json"))}
    assert about["second"]["best"] == 0.5 and about["second"]["size"] > 0
    assert "no studies" in said("ls", "--folder", "nowhere")


def test_studies_are_compared(two: Path) -> None:
    rows = {line.split("  ")[0]: line for line in said("compare", "first", "second").splitlines()}
    assert "0.2500" in rows["best"] and "0.5000" in rows["best"]
    assert rows["seed"].split()[1:] == ["1", "2"], "where their files differ"
    assert "trainable" not in rows


def test_a_report_goes_where_it_is_wanted(two: Path) -> None:
    answer = said("report", "first")
    assert "Trial 0 is the best of 4" in answer and "report: studies/first/report.html" in answer
    assert (two / "first" / "report.html").read_text().startswith("<!doctype html>")
    assert said("report", "first", "-o", "-").startswith("<!doctype html>")
    said("report", "first", "second")
    assert Path("report.html").read_text().count("<article") == 2
    (data,) = json.loads(said("report", "first", "--json"))
    assert data["value"] == 0.25
    assert "no study" in said("report", "third", code=1)


def test_what_to_try_next_is_a_file_that_loads(two: Path) -> None:
    said("report", "first", "--next", "next.yaml")
    following = raysweep.Study.load("next.yaml")
    assert (following.name, following.warm_start) == ("first_next", ["first"])
    assert "there already" in said("report", "first", "--next", "next.yaml", code=1)
    assert "of one study" in said("report", "first", "second", "--next", "other.yaml", code=1)


def test_a_study_is_renamed_and_deleted_everywhere(tracked: Any, here: Path) -> None:
    said("mv", "first", "other")
    assert not (here / "studies" / "first").exists()
    assert {r.data.tags["study"] for r in runs(tracked)} == {"other"}
    assert {r.info.run_name for r in runs(tracked) if r.data.tags["role"] == "study"} == {"other"}
    known = raysweep.load("other")
    assert known.study.name == "other" and not known.interrupted
    again = raysweep.run(quick("other", trials=5), verbose=0)
    assert len(again.trials) == 5, "it goes on under its new name"
    assert sorted(r.data.tags.get("trial", "study") for r in runs(tracked)) == [*"01234", "study"]
    assert "Aborted" in said("rm", "other", code=1), "without an answer, nothing is deleted"
    assert runs(tracked) and (here / "studies" / "other").exists()
    said("rm", "other", "--yes")
    assert not runs(tracked) and not (here / "studies" / "other").exists()


def test_a_running_study_is_left_alone(two: Path) -> None:
    journal = Journal(two / "first")
    try:
        for arguments in (("mv", "first", "other"), ("rm", "first", "--yes")):
            assert "first" in said(*arguments, code=1)
            assert (two / "first" / FILE).exists() and not (two / "other").exists()
    finally:
        journal.close()


def test_what_cannot_be_read_is_listed_and_can_be_deleted(two: Path) -> None:
    newer = {"kind": "study", "time": 1.0, "study": {"name": "newer", "flux": 1}, "id": "n", "format": 9}
    (two / "newer").mkdir(mode=0o700)
    (two / "newer" / FILE).write_bytes(line(newer))
    assert any("newer" in row and "unreadable" in row for row in said("ls").splitlines())
    (two / "empty").mkdir(mode=0o700)
    (two / "empty" / FILE).write_bytes(b"")
    for name in ("empty", "newer"):
        assert "is deleted" in said("rm", name, "--yes")
    assert sorted(p.name for p in two.iterdir()) == ["first", "second"]


def test_a_server_that_is_gone_is_said_before_anything_is_done(two: Path) -> None:
    for arguments in (("mv", "first", "other"), ("rm", "first", "--yes")):
        assert "does not answer" in said(*arguments, "--tracking", "http://127.0.0.1:9", code=1)
        assert (two / "first" / FILE).exists()


@pytest.mark.parametrize("name, why", [("second", "is there already"), ("no name", "not allowed")])
def test_a_name_that_cannot_be_is_refused(two: Path, name: str, why: str) -> None:
    done = CliRunner().invoke(cli, ("mv", "first", name))
    assert done.exit_code in {1, 2} and why in done.output
    assert (two / "first" / FILE).exists()


def test_the_time_left_is_by_what_is_done() -> None:
    """Six of ten trials are done after a minute: four completed, one paused, two half way. So it is 40 s more."""
    report = Report(1, {"loss": 1.0}, 1050.0)
    half = replace(report, epoch=2)
    trials = [
        *(Trial(n, {"x": 0.5, "epochs": 4}, "completed", (half,), finished=1010.0) for n in range(4)),
        Trial(4, {"x": 0.5, "epochs": 4}, "paused", (report,)),
        *(Trial(n, {"x": 0.5, "epochs": 4}, "running", (half,)) for n in (5, 6)),
    ]
    space = {"x": {"float": [-1.0, 1.0]}, "epochs": 4}
    progress = Progress(quick(trials=10, space=space), lambda: trials, began=1000.0, now=lambda: 1060.0)
    line = progress.line(trials)
    assert "4/10 trials" in line and "40 s left" in line and "best loss 1.0000 (trial 0)" in line
    later = Progress(quick(trials=10, space=space), lambda: trials, began=1055.0, now=lambda: 1060.0)
    assert "left" not in later.line(trials), "nothing has been done in this session"


# --- what trials use ------------------------------------------------------------------------------------------------


def test_a_meter_sees_time_and_memory() -> None:
    meter = Meter()
    meter.begin()
    before = meter.lap()
    block = bytearray(200_000_000)
    sum(range(1_000_000))
    after = meter.lap(2)
    del block
    assert after["memory"] >= before["memory"] + 150 and after["cpu"] > 0
    meter.begin()
    assert meter.lap()["memory"] < after["memory"] - 100, "another trial has its own peak"


def test_what_a_trial_used_is_kept_and_published(tracked: Any, here: Path) -> None:
    trials = {t.number: t for t in raysweep.load("first").trials}
    assert all(t.memory > 30 and t.cpu_seconds >= 0 for t in trials.values())
    used = [r["used"] for r in read(here / "studies" / "first" / FILE)[0] if r["kind"] == "report"]
    assert sum(t.cpu_seconds for t in trials.values()) == pytest.approx(sum(u["cpu"] for u in used))
    for run in runs(tracked):
        if run.data.tags["role"] == "trial":
            mine = trials[int(run.data.tags["trial"])]
            assert run.data.metrics["system/process_memory_peak_megabytes"] == mine.memory
    (parent,) = (r for r in runs(tracked) if r.data.tags["role"] == "study")
    assert "report.html" in {a.path for a in tracked.list_artifacts(parent.info.run_id)}
    assert (here / "studies" / "first" / "report.html").exists()


def test_a_report_that_fails_hides_no_result(ray: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raysweep.report import page

    def full(place: Path) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(page, "write_report", full)
    lines: list[str] = []
    result = raysweep.run(quick(), verbose=0, say=lines.append)
    assert not result.interrupted and len(result.trials) == 4
    assert any("was not written" in line for line in lines)

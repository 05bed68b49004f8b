"""The command line: whole outputs, exit codes, no traceback for a user's mistake."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from conftest import ROOT
from raysweep.cli import cli
from raysweep.journal import queue
from raysweep.journal.journal import Journal

STUDY = """\
trainable: trainables:parabola
minimize: loss
trials: 2
space:
  x: {float: [-1.0, 1.0]}
  epochs: 2
"""


@pytest.fixture
def raysweep(here: Path) -> Callable[..., Result]:
    """`raysweep ARGUMENTS` in this process, in a folder with one study file and one finished study."""
    (here / "tiny.yaml").write_text(STUDY)
    return lambda *arguments: CliRunner().invoke(cli, arguments, prog_name="raysweep")


@pytest.fixture
def finished(here: Path, raysweep: Callable[..., Result]) -> None:
    """The journal that running `tiny` leaves: two trials, the second of which failed."""
    from raysweep import Study

    study = Study.load(here / "tiny.yaml")
    journal = Journal(here / "studies" / "tiny")
    code = {"file": study.found.file, "sha256": study.found.sha256}
    journal.append(
        "study", format=1, id="abc", study=study.to_dict(), task="t", code=code, versions={}, git={}
    )
    journal.append("asked", trial=0, point={"x": 0.25, "epochs": 2}, seeds=[11])
    journal.append("started", trial=0, worker="laptop (process 7)")
    journal.append("report", trial=0, epoch=1, metrics={"loss": 1.0625, "other": 3e-5}, seconds=1.0)
    journal.append("report", trial=0, epoch=2, metrics={"loss": 0.5625, "other": 2e-5}, seconds=1.25)
    journal.append("ended", trial=0, status="completed", seconds=0.0, error="")
    journal.append("asked", trial=1, point={"x": -0.5, "epochs": 2}, seeds=[12])
    journal.append("started", trial=1, worker="laptop (process 8)")
    journal.append("ended", trial=1, status="failed", seconds=0.5, error="ValueError: no (x.py, line 1)")
    journal.close()


def test_check_says_what_would_be_run(raysweep: Callable[..., Result]) -> None:
    done = raysweep("check", "tiny.yaml")
    file = ROOT / "tests" / "trainables.py"
    assert done.exit_code == 0
    first, second, third, fourth, fifth = done.stdout.splitlines()
    few = "no trial is stopped early: 2 epochs are few"
    assert first == f"tiny: minimize loss of trainables:parabola by auto search; {few}"
    assert fifth == "model: none; there is no function export(point, state, folder) beside the trainable"
    assert second == "trials: 2 x 1, each with 1 cpu"
    assert third == "may vary: x"
    assert fourth.startswith(f"code: {file} (sha256 ")


def test_check_reads_the_data_too(raysweep: Callable[..., Result], here: Path) -> None:
    (here / "a.yaml").write_text("trainable: mlp\nmaximize: val_accuracy\nspace: {batch_size: 5000}\n")
    done = raysweep("check", "a.yaml")
    assert done.exit_code == 2
    assert done.stderr == "a.yaml: space.batch_size: 5,000 is larger than the training set (1,259)\n"
    assert done.stdout.endswith(
        "data: digits: 1,259 + 269 + 269 samples (train + validation + test), 64 inputs, 10 classes\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["check", "none.yaml"], 2, "none.yaml: cannot be read: No such file or directory\n"),
        (["run", "none.yaml"], 2, "none.yaml: cannot be read: No such file or directory\n"),
        (["trials", "none"], 1, "there is no study 'none' in studies. It has: garbage\n"),
        (["best", "none"], 1, "there is no study 'none' in studies. It has: garbage\n"),
        (["run", "tiny.yaml", "--tracking", "nowhere:1"], 1, "tracking: 'nowhere:1' is no MLflow store. Use"),
        (["nonsense"], 2, "Usage: raysweep [OPTIONS] COMMAND [ARGS]...\n"),
        (["run", "."], 2, ".: is a folder. Give a study file: table.yaml, target.yaml, tiny.yaml\n"),
        (["run", "some.py"], 2, "some.py: is Python. Give a study file, in YAML, that says trainable: some:FUNCTION\n"),
        (["run", "tiny.yaml", "--folder", "tiny.yaml"], 1, "{here}/tiny.yaml/tiny cannot be used for a study: Not a directory\n"),
        (["run", "tiny.yaml", "--folder", "/proc/here"], 1, "/proc/here/tiny cannot be used for a study: "),
        (["run", "tiny.yaml", "--set", "trials"], 2, "--set: write KEY=VALUE, such as space.epochs=10, got trials\n"),
        (["check", "tiny.yaml", "--set", "trials=many"], 2, 'tiny.yaml: trials: must be a valid integer, got "many"\n'),
        (["check", "tiny.yaml", "--set", "trainable=gone:train"], 2, "tiny.yaml: trainable: there is no module 'gone' in /"),
        (["run", "table.yaml"], 2, "data: 'gone.csv' does not exist (looked in "),
        (["check", "target.yaml"], 2, "data: 'some.csv' has no column '0'. A column's number is written without quotes: target: 0\n"),
        (["trials", "garbage"], 1, "study 'garbage' has not started: its journal, studies/garbage/journal.jsonl, is damaged from its first line on\n"),
        (["ui", "--port", "{port}"], 1, "port {port} cannot be used: Address already in use. Choose one: --port 5001\n"),
    ],
)  # fmt: skip
def test_a_mistake_gets_a_sentence_and_an_exit_code(
    arguments: list[str], code: int, sentence: str, raysweep: Callable[..., Result], here: Path
) -> None:
    (here / "some.csv").write_text("a,b\n1,2\n")
    (here / "some.py").touch()
    for name, data in (("table", "gone.csv"), ("target", "some.csv")):
        study = f"trainable: mlp\nmaximize: val_accuracy\ntrials: 2\nspace: {{data: {data}, target: '0', lr: [0.1, 0.2]}}\n"
        (here / f"{name}.yaml").write_text(study)
    (here / "studies" / "garbage").mkdir(parents=True, mode=0o700)
    (here / "studies" / "garbage" / "journal.jsonl").write_text("garbage\n")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = raysweep(*(a.format(port=port) for a in arguments))
    told = "\n".join(line for line in done.stderr.splitlines() if not line.startswith(("table: ", "Note: ")))
    assert done.exit_code == code and told.startswith(sentence.format(port=port, here=here).rstrip("\n")), (
        done.output
    )
    assert "Traceback" not in done.output and "Starting Ray" not in done.output


def test_sample_prints_the_points_that_run_would_try(raysweep: Callable[..., Result]) -> None:
    one, two = raysweep("sample", "tiny.yaml", "-n", "1"), raysweep("sample", "tiny.yaml")
    assert two.stdout.startswith(one.stdout)
    points = [json.loads(line) for line in two.stdout.splitlines()]
    assert [set(p) for p in points] == [{"x", "epochs"}] * 2


@pytest.mark.usefixtures("finished")
def test_trials_are_listed_best_first(raysweep: Callable[..., Result]) -> None:
    lines = [line.split() for line in raysweep("trials", "tiny").stdout.splitlines()]
    assert lines == [
        ["trial", "loss", "epoch", "seconds", "status", "x"],
        ["0", "0.5625", "2", "2.2", "completed", "0.25"],
        ["1", "0.5", "failed", "-0.5"],
    ]


@pytest.mark.usefixtures("finished")
def test_trials_as_json_and_csv_say_the_same(raysweep: Callable[..., Result]) -> None:
    records = json.loads(raysweep("trials", "tiny", "--json").stdout)
    assert records == [
        {"trial": 0, "status": "completed", "loss": 0.5625, "best_epoch": 2, "last_epoch": 2, "seconds": 2.25,
         "error": None, "x": 0.25, "epochs": 2},
        {"trial": 1, "status": "failed", "loss": None, "best_epoch": None, "last_epoch": 0, "seconds": 0.5,
         "error": "ValueError: no (x.py, line 1)", "x": -0.5, "epochs": 2},
    ]  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(raysweep("trials", "tiny", "--csv").stdout)))
    assert rows == [{k: "" if v is None else str(v) for k, v in r.items()} for r in records]


@pytest.mark.usefixtures("finished")
def test_best_prints_a_study_that_loads(raysweep: Callable[..., Result], here: Path) -> None:
    done = raysweep("best", "tiny")
    assert done.stdout == (
        "# trial 0 of tiny: loss 0.5625\n"
        "name: tiny_best\ntrainable: trainables:parabola\nminimize: loss\nspace:\n  x: 0.25\n  epochs: 2\n"
    )
    (here / "best.yaml").write_text(done.stdout)
    assert raysweep("check", "best.yaml").exit_code == 0


def test_best_of_several_objectives_prints_the_front_as_a_study(
    raysweep: Callable[..., Result], here: Path
) -> None:
    from conftest import quick
    from raysweep import Loop, Study

    with Loop.open(quick(name="pair", minimize=["loss", "size"]), here / "studies") as loop:
        for loss, size in [(1.0, 3.0), (2.0, 1.0), (3.0, 2.0), (0.5, 9.0)]:
            trial = loop.ask()
            assert trial is not None
            loop.tell(trial, {"loss": loss, "size": size})
    out = raysweep("best", "pair")
    assert out.stdout.splitlines()[:4] == [
        "# the Pareto front of pair: minimize loss, minimize size",
        "# trial 3: loss 0.5000, size 9.0000",
        "# trial 0: loss 1.0000, size 3.0000",
        "# trial 1: loss 2.0000, size 1.0000",
    ]
    (here / "front.yaml").write_text(out.stdout)
    again = Study.load(here / "front.yaml")
    assert again.target == 3 and len(again.first()) == 3
    assert "size" in raysweep("trials", "pair").stdout.splitlines()[0]


@pytest.mark.usefixtures("finished")
def test_a_point_is_queued_for_a_study(raysweep: Callable[..., Result], here: Path) -> None:
    out = raysweep("enqueue", "tiny", "x=1e-1")
    assert (out.exit_code, out.stdout) == (0, "queued for tiny: {'x': 0.1, 'epochs': 2}\n")
    assert "tiny has its 2 trials. Raise trials in its file" in out.stderr
    assert [p.read_text() for p in (here / "studies/tiny/queue").iterdir()] == ['{"x": 0.1, "epochs": 2}']
    wrong = raysweep("enqueue", "tiny", "x=5.0", "y=1")
    assert wrong.exit_code == 2
    assert "tiny: y: is not in the space" in wrong.stderr and "tiny: x: 5.0 is outside" in wrong.stderr
    assert "write NAME=VALUE, got x" in raysweep("enqueue", "tiny", "x").stderr


@pytest.mark.usefixtures("finished")
def test_one_trial_is_acted_on(raysweep: Callable[..., Result], here: Path) -> None:
    out = raysweep("stop", "tiny", "0")
    assert (out.exit_code, out.stderr) == (1, "trial 0 of tiny has ended: it is completed\n")
    assert "trial 0 of tiny has ended" in raysweep("promote", "tiny", "0").stderr
    assert "has no trial 9" in raysweep("fork", "tiny", "9", "x=0.5").stderr
    assert "tiny: x: 5.0 is outside" in raysweep("fork", "tiny", "0", "x=5.0").stderr
    assert "trial 0 of tiny has no checkpoint" in raysweep("fork", "tiny", "0", "x=0.5").stderr
    folder = here / "studies/tiny/trials/000000"
    folder.mkdir(parents=True)
    for suffix in ("pt", "json"):
        (folder / f"epoch-000002.{suffix}").write_text("{}")
    done = raysweep("fork", "tiny", "0", "x=0.5")
    assert done.stdout == (
        "queued for tiny: {'x': 0.5, 'epochs': 2}, from trial 0. Run it: raysweep resume tiny\n"
    )
    (request,) = queue.requests(here / "studies/tiny")
    assert (request.act, request.trial, request.values) == ("fork", 0, {"x": 0.5})


@pytest.mark.usefixtures("finished")
def test_show_prints_one_trial_with_its_curve(raysweep: Callable[..., Result]) -> None:
    done = raysweep("show", "tiny", "0")
    assert done.stdout.splitlines()[:3] == [
        "trial 0: completed, 2.2 s, on laptop (process 7)",
        "x: 0.25",
        "epochs: 2",
    ]
    curve = [line.split() for line in done.stdout.splitlines()[3:]]
    assert curve == [["epoch", "loss", "other"], ["1", "1.0625", "3e-05"], ["2*", "0.5625", "2e-05"]]
    failed = raysweep("show", "tiny", "1").stdout
    assert failed.startswith(
        "trial 1: failed, 0.5 s, on laptop (process 8)\nValueError: no (x.py, line 1)\nx: -0.5\n"
    )
    none = raysweep("show", "tiny", "9")
    assert (none.exit_code, none.stderr) == (1, "study 'tiny' has no trial 9; it has 2, from 0\n")


def test_schema_prints_json(raysweep: Callable[..., Result]) -> None:
    assert json.loads(raysweep("schema").stdout)["title"] == "raysweep study"


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_has_help(name: str, raysweep: Callable[..., Result]) -> None:
    done = raysweep(name, "--help")
    assert done.exit_code == 0
    assert done.stdout.startswith(f"Usage: raysweep {name} ")


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("x.high", "write NAME=FORM, or NAME.low, .high or .options = VALUE, got x.high"),
        ("x.middle=1", "write NAME=FORM, or NAME.low, .high or .options = VALUE, got x.middle=1"),
        ("y.high=1.0", "--space: 'y' is not in the space"),
        ("x.options=[1]", '--space x: it is {"float": [-1.0, 1.0]}, which has no options'),
        ("x.low=2.0", "low (2.0) is greater than high (1.0)"),
    ],
)
def test_a_bound_that_cannot_be_is_refused(raysweep: Callable[..., Result], change: str, told: str) -> None:
    done = raysweep("extend", "tiny", "--space", change)
    assert done.exit_code == 2 and told in done.stderr


def test_a_study_that_exists_gets_another_bound(command: Any, here: Path) -> None:
    (here / "tiny.yaml").write_text(
        "trainable: trainables:parabola\nminimize: loss\nalgorithm: random\ntrials: 2\nconcurrency: 1\n"
        "space: {x: {float: [-1.0, 0.0]}, epochs: 1}\n"
    )
    assert command("run", "tiny.yaml").returncode == 0
    done = command("extend", "tiny", "--space", "x.low=4.0", "--space", "x.high=5.0", "--trials", "+2")
    assert done.returncode == 0, done.stderr
    xs = [t["x"] for t in json.loads(command("trials", "tiny", "--json").stdout)]
    assert [x > 4 for x in sorted(xs)] == [False, False, True, True]


def test_a_study_whose_every_trial_fails_ends_with_the_first_error(command: Any, here: Path) -> None:
    (here / "bad.yaml").write_text(
        "trainable: trainables:moody\nminimize: loss\nalgorithm: grid\nspace: {x: [1, 2]}\n"
    )
    done = command("run", "bad.yaml", "--quiet")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"no trial gave a result; trial 0 failed: ValueError: x must not be 1 \(trainables.py, line \d+\)\n",
        done.stderr,
    )


@pytest.mark.long
@pytest.mark.usefixtures("mlflow_store")
def test_the_main_job_from_the_file_to_a_prediction(command: Any, here: Path) -> None:
    import numpy as np
    import pandas as pd
    from PIL import Image
    from sklearn.datasets import load_digits

    (here / "digits.yaml").write_text(
        "trainable: mlp\nmaximize: val_accuracy\ntrials: 3\nspace: {epochs: 8, lr: {float: [3e-3, 3e-2], log: true}}\n"
    )
    done = command("run", "digits.yaml")
    assert done.returncode == 0, done.stderr
    *table, ends, best, model, report, compare = done.stdout.splitlines()
    assert ends.startswith("3 trials: ")
    assert table[0].split()[0] == "trial" and len(table) == 4
    assert best.startswith("best: trial ") and "test_accuracy 0.9" in best
    assert model == "model: models:/digits@best  (raysweep predict digits INPUT)"
    assert report == "report: studies/digits/report.html" and (here / "studies/digits/report.html").exists()
    assert compare == "compare in MLflow: raysweep ui digits"
    assert "3/3 trial" in done.stderr
    assert "ray" not in done.stderr.lower().replace("starting ray", "").replace("raysweep", ""), (
        "its chatter is in a file"
    )

    x, y = load_digits(return_X_y=True)
    pd.DataFrame(np.round(x * 255 / 16)).to_csv(here / "new.csv", index=False)
    told = pd.read_csv(io.StringIO(command("predict", "digits", "new.csv").stdout))
    assert (told["prediction"] == y).mean() > 0.9
    (here / "pictures").mkdir()
    for i in range(5):
        Image.fromarray(np.round(x[i].reshape(8, 8) * 255 / 16).astype(np.uint8)).resize((32, 32)).save(
            here / "pictures" / f"{i}.png"
        )
    pictures = pd.read_csv(io.StringIO(command("predict", "digits", "pictures").stdout))
    assert pictures["file"].tolist() == [f"pictures/{i}.png" for i in range(5)]
    assert (pictures["prediction"] == y[:5]).mean() >= 0.8
    missing = command("predict", "digits", "digits.yaml")
    assert (missing.returncode, missing.stderr) == (
        2,
        "predict: this model takes a .csv or .parquet table, or images\n",
    )

    again = command("run", "digits.yaml")
    assert again.stderr.splitlines()[0] == "digits is complete: 3 of 3 trials."
    assert again.stdout == done.stdout
    _the_ui_answers(here)


def _the_ui_answers(here: Path) -> None:
    port = 5000 + os.getpid() % 5000
    server = subprocess.Popen(
        (sys.executable, "-m", "raysweep", "ui", "digits", "--port", str(port)),
        cwd=here,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    health = f"http://127.0.0.1:{port}/health"
    try:
        assert server.stdout is not None
        link = server.stdout.readline()
        assert link.startswith(
            f"http://127.0.0.1:{port}/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey="
        )
        for _ in range(300):
            try:
                assert urllib.request.urlopen(health, timeout=5).status == 200
                break
            except OSError:
                time.sleep(0.2)
        else:
            raise AssertionError("the server did not answer within a minute")
    finally:
        server.terminate()  # and not the processes that it has started
        server.wait(30)
    with pytest.raises(OSError):
        urllib.request.urlopen(health, timeout=5)

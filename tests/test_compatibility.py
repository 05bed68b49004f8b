"""What version 0.1 has written goes on: a study's folder, its MLflow store, its exported model."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import raysweep
from conftest import ROOT
from raysweep import Study
from raysweep.journal.history import History
from raysweep.journal.records import FILE, read

OLD = ROOT / "tests" / "studies-0.1"


@pytest.fixture
def old(here: Path) -> Path:
    """The folder of all studies as 0.1 left it: one study of six trials, in MLflow with its model."""
    studies = here / "studies"
    shutil.copytree(OLD / "digits", studies / "digits")
    for path in (studies, *studies.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)  # as 0.1 made it, whatever git and umask say
    with sqlite3.connect(studies / "mlflow.db") as store:
        store.executescript((OLD / "mlflow.sql").read_text().replace("{STUDIES}", str(studies)))
        (identity,) = store.execute("select model_id from logged_models").fetchone()
    shutil.copytree(OLD / "model", studies / "artifacts" / "models" / identity / "artifacts")
    (studies / "artifacts" / "models" / identity / "artifacts" / "code").mkdir()  # 0.1's; ours is loaded here
    return studies


def test_its_results_are_read(old: Path, command: Any) -> None:
    assert "trial 5" in command("best", "digits").stdout
    assert command("trials", "digits", "--csv").stdout.count("\n") == 7
    assert command("show", "digits", "5").stdout.startswith("trial 5: completed")
    assert "Trial 5 is the best of 6" in command("report", "digits").stdout
    assert "6/6 trials" in command("status", "digits").stderr + command("status", "digits").stdout


def test_its_model_predicts_as_it_did(old: Path, command: Any) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * 255 / 16).reshape(-1, 64)[:500]
    pd.DataFrame(pixels, columns=[f"p{i}" for i in range(64)]).to_csv("new.csv", index=False)
    done = command("predict", "digits", "new.csv", "--tracking", f"sqlite:///{old / 'mlflow.db'}")
    assert done.returncode == 0, done.stderr
    told = [line.split(",")[0] for line in done.stdout.splitlines()[1:]]
    right = np.mean([a == str(b) for a, b in zip(told, digits.target, strict=False)])
    assert right == pytest.approx(0.69, abs=0.06), "0.1 wrote 0.6914 for the validation split"


@pytest.mark.long
def test_it_is_extended_and_mlflow_holds_each_trial_once(old: Path, ray: Any) -> None:
    from mlflow import MlflowClient

    before = History(read(old / "digits" / FILE)[0])
    study = Study(**{**before.study["study"], "trials": 8})
    store = f"sqlite:///{old / 'mlflow.db'}"
    result = raysweep.run(study, folder=old, store=store)
    assert not result.interrupted and [t.number for t in result.trials] == list(range(8))
    assert list(result.trials[:6]) == before.trials
    client = MlflowClient(tracking_uri=store)
    runs = client.search_runs(["1"])
    assert Counter(r.data.tags.get("trial", "study") for r in runs) == dict.fromkeys(
        [*map(str, range(8)), "study"], 1
    )
    assert {r.info.status for r in runs} == {"FINISHED"}
    assert str(client.get_model_version_by_alias("digits", "best").version) in {"1", "2"}

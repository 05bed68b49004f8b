"""`ray up` for real: three machines, a study as a job, a machine that dies, a link that is cut; nothing left at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cluster.conftest import SHARED, Hosts
from conftest import ROOT
from faults.conftest import assert_invariants, history, until

FILE = "~/onprem.yaml"
PLACE = SHARED / "studies" / "digits_long"
RUNS = """
import json, mlflow
client = mlflow.MlflowClient()
found = client.search_runs([e.experiment_id for e in client.search_experiments()], "tags.role = 'trial'", max_results=1000)
print(json.dumps([[r.data.tags["trial"], r.info.status] for r in found]))
"""


def onprem() -> str:
    """The file as it is in the repository, its blanks filled in."""
    text = (ROOT / "cluster" / "onprem.yaml").read_text()
    workers = "[10.89.0.11, 10.89.0.12]"
    filled = {"<HEAD>": "10.89.0.10", "[<WORKER>, <WORKER>]": workers, "<USER>": "root"}
    for blank, value in filled.items():
        assert blank in text
        text = text.replace(blank, value)
    return text


def digits() -> str:
    """search_spaces/digits_mlp.yaml, its trials long enough to watch."""
    study = yaml.safe_load((ROOT / "search_spaces" / "digits_mlp.yaml").read_text())
    study |= {"scheduler": "none", "algorithm": "random", "trials": 18, "checkpoint_every": "1 s"}
    study["space"] |= {"epochs": 400, "patience": 400}
    return yaml.safe_dump(study, sort_keys=False)


def workers(place: Path) -> set[str]:
    return {t.worker.split()[0] for t in history(place).trials if t.status == "running" and t.reports}


@pytest.mark.cluster
def test_a_study_survives_what_happens_to_three_machines(hosts: Callable[[int], Hosts]) -> None:
    began = time.monotonic()

    def told(what: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {what}")

    three = hosts(3)
    three.write("cli", FILE, onprem())
    three.write("cli", "~/study/digits_long.yaml", digits())

    def raysweep(*arguments: str, code: int = 0) -> str:
        done = three.run("cli", f"raysweep {' '.join(arguments)}")
        assert done.returncode == code, done.stdout
        return done.stdout

    said = raysweep("cluster", "up", FILE)
    assert "3 nodes" in said and "10.89.0.12" in said
    told("up: three nodes, each can run trials")

    # Nobody gets in without the token.
    assert three.run("cli", "curl -s -m 5 http://10.89.0.10:8265/api/version").returncode == 7
    asked = "curl -s -o /dev/null -w '%{http_code}' 'http://10.89.0.10:5000/api/2.0/mlflow/experiments/search?max_results=1'"
    assert three.run("cli", asked).stdout == "401"
    joined = three.run(
        "cli", "env -u RAY_AUTH_MODE HOME=/tmp ray list nodes --address 10.89.0.10:6379", timeout=90
    )
    assert joined.returncode != 0
    for host in ("h0", "h1", "h2"):
        assert three.run(host, "stat -c %a ~/.ray/auth_token").stdout.strip() == "600"

    raysweep("run", "~/study/digits_long.yaml", "--cluster", FILE, "--detach")
    told("the study runs as a job")
    until(lambda: {"h1", "h2"} <= workers(PLACE))
    told("trials run on both workers")
    assert "runs: process" in raysweep("status", "digits_long", "--cluster", FILE)
    refused = raysweep("run", "~/study/digits_long.yaml", "--cluster", FILE, code=1)
    assert "is being run by process" in refused
    assert "digits_long runs there" in raysweep("cluster", "down", FILE, code=1)

    three.do("kill", "h2")
    moved = {t.number for t in history(PLACE).trials if t.worker.startswith("h2 ") and t.status == "running"}
    until(lambda: all(not history(PLACE).trial(n).worker.startswith("h2 ") for n in moved), 120)
    told(f"h2 is dead, and its trials {sorted(moved)} run elsewhere")

    three.do("cut", "h1")
    cut = {t.number for t in history(PLACE).trials if t.worker.startswith("h1 ") and t.status == "running"}
    until(lambda: all(not history(PLACE).trial(n).worker.startswith("h1 ") for n in cut), 240)
    told(f"the link to h1 is cut, and its trials {sorted(cut)} run elsewhere")
    three.do("join", "h1")

    said = raysweep("status", "digits_long", "--watch", "--cluster", FILE)
    told("the study is complete")
    assert "best: trial" in said and "models:/digits_long@best" in said
    trials = assert_invariants(PLACE, interval=400).trials
    assert len(trials) == 18 and all(t.status == "completed" for t in trials)

    three.write("h0", "~/runs.py", RUNS)
    done = three.run("h0", "(. ~/raysweep/cluster/env.sh; python ~/runs.py)")
    runs = json.loads(done.stdout.splitlines()[-1])
    assert sorted(int(n) for n, _ in runs) == list(range(18)) and {s for _, s in runs} == {"FINISHED"}
    told("MLflow on the head has every trial once")

    look = "sleep 8; curl -s http://127.0.0.1:5000/health; curl -s -o /dev/null -w ' %{http_code} ' http://127.0.0.1:8265; cat ~/ui"
    shown = three.run(
        "cli", f"(timeout 20 raysweep ui digits_long --cluster {FILE} >~/ui 2>&1 &); {look}"
    ).stdout
    assert "OK 200 MLflow: http://127.0.0.1:5000/#/experiments/" in shown, shown
    told("MLflow and the dashboard are reached through ssh")

    raysweep("cluster", "down", FILE)
    for host in ("h0", "h1"):
        left = three.run(host, "pgrep -r R,S,D -af 'ray::|raylet|gcs_server|mlflow|/ray/'").stdout
        assert left == "", left
    told("down: nothing left")

"""Clusters: the files that launch them, how many trials their nodes hold, and a study's way there and back."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import threading
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from packaging.requirements import Requirement

import raysweep
from conftest import ROOT, quick
from raysweep import DataError, Study, StudyError
from raysweep.cli import cli
from raysweep.cluster import jobs, launcher
from raysweep.errors import ClusterError, JournalError
from raysweep.execution import nodes
from raysweep.journal import queue
from raysweep.journal.journal import Journal
from raysweep.journal.records import FILE
from raysweep.study.options import Resources, amounts

CLUSTER = ROOT / "cluster"
LAUNCHED = ["aws", "azure", "gcp", "onprem"]
CLOUDS = ["aws", "azure", "gcp"]


def filled(name: str) -> str:
    """A cluster's file with its blanks filled in."""
    text = (CLUSTER / f"{name}.yaml").read_text().replace("<YOUR ADDRESS>", "192.0.2.7")
    return launcher.BLANK.sub("x", text)


def pinned(package: str) -> str:
    found = re.search(rf"^{package}==(\S+)$", (CLUSTER / "constraints.txt").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


# --- the files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_takes_every_cluster_file(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.yaml"
    file.write_text(filled(name))
    launcher.read(file)


@pytest.mark.parametrize("name", LAUNCHED)
def test_a_cluster_is_closed_pinned_and_shared(name: str) -> None:
    text, config = filled(name), yaml.safe_load(filled(name))
    assert config["file_mounts"] == {"~/raysweep": ".", "~/.ray/auth_token": "~/.ray/auth_token"}
    starts = [config[f"{role}_start_ray_commands"] for role in ("head", "worker")]
    assert all(any("cluster/env.sh" in c and "ray start" in c for c in commands) for commands in starts)
    assert any("--dashboard-host=127.0.0.1" in c for c in starts[0])
    assert any("mlflow.sh start" in c for c in starts[0])
    assert "0.0.0.0" not in text
    assert {i.partition(":")[2].split("-")[0] for i in re.findall(r"rayproject/ray:\S+", text)} <= {
        f":{pinned('ray')}"[1:]
    }
    assert (f"{name}.yaml" in text) and "<" not in "".join(config["cluster_name"])


@pytest.mark.parametrize("name", CLOUDS)
def test_a_cloud_costs_no_more_than_it_must(name: str) -> None:
    config = yaml.safe_load(filled(name))
    assert (
        config["idle_timeout_minutes"] <= 10 and config["provider"].get("cache_stopped_nodes", False) is False
    )
    kinds = dict(config["available_node_types"])
    head = kinds.pop(config["head_node_type"])
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    spot = {"aws": "MarketType: spot", "gcp": "preemptible: true", "azure": "priority: Spot"}[name]
    assert spot in (CLUSTER / f"{name}.yaml").read_text()
    assert all(kind["min_workers"] == 0 and kind["max_workers"] for kind in kinds.values())


def test_the_pins_are_what_the_project_allows_and_the_images_have() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = {r.name: r.specifier for r in map(Requirement, project["dependencies"])}
    for line in (CLUSTER / "constraints.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        assert line.startswith("#") or allowed[name].contains(version), line
    assert f"rayproject/ray:{pinned('ray')}-" in (CLUSTER / "Dockerfile").read_text()
    assert f"rayVersion: {pinned('ray')}" in (CLUSTER / "kuberay.yaml").read_text()
    assert f"mlflow[auth]=={pinned('mlflow')}" in (CLUSTER / "compose.yaml").read_text()


def test_kubernetes_objects_name_one_another() -> None:
    found = {d["kind"]: d for d in yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text())}
    cluster, job = found["RayCluster"]["spec"], found["RayJob"]["spec"]
    assert job["clusterSelector"] == {"ray.io/cluster": found["RayCluster"]["metadata"]["name"]}
    assert cluster["enableInTreeAutoscaling"] and cluster["authOptions"]["mode"] == "token"
    claim = found["PersistentVolumeClaim"]["metadata"]["name"]
    (workers,) = cluster["workerGroupSpecs"]
    for pod in (cluster["headGroupSpec"]["template"]["spec"], workers["template"]["spec"]):
        assert claim in [v.get("persistentVolumeClaim", {}).get("claimName") for v in pod["volumes"]]
        assert {v["name"] for v in pod["volumes"]} == {
            m["name"] for m in pod["containers"][0]["volumeMounts"]
        }
    service = f"http://{found['Service']['metadata']['name']}:5000"
    assert service in [e.get("value") for e in pod["containers"][0]["env"]]
    assert workers["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize("script", sorted(p.name for p in CLUSTER.glob("*.s*")))
def test_every_script_is_one(script: str) -> None:
    subprocess.run(("bash", "-n", CLUSTER / script), check=True)


def test_nodes_agree_on_what_the_environment_says(tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    script = f"set -euo pipefail; . {CLUSTER}/env.sh; echo $RAYSWEEP_FOLDER $MLFLOW_TRACKING_URI $RAY_AUTH_MODE ${{MLFLOW_TRACKING_PASSWORD:-}}"

    def says(**more: str) -> list[str]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **more}
        done = subprocess.run(
            ("bash", "-c", script), env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    own = says(RAY_HEAD_IP="192.0.2.1")
    assert own == ["/mnt/raysweep/studies", "http://192.0.2.1:5000", "token", "secret"]
    (tmp_path / "ray_bootstrap_config.yaml").write_text(
        '{"provider": {"type": "local", "head_ip": "192.0.2.9"}}'
    )
    assert says()[1] == "http://192.0.2.9:5000", "on the head it is in the cluster's file"
    assert says(RAYSWEEP_MLFLOW="https://mlflow.example.org")[1:] == ["https://mlflow.example.org", "token"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text, "has to be filled in first: line 11: <HEAD>"),
        (
            lambda text: launcher.BLANK.sub("x", text) + "\nmax_worker: 3\n",
            "is no cluster's file: .*max_worker",
        ),
        (lambda text: "a: [", "cannot be read"),
        (lambda text: "just a word", "is no cluster's file"),
    ],
)
def test_a_wrong_cluster_file_gets_a_sentence(change: Any, said: str, tmp_path: Path) -> None:
    file = tmp_path / "onprem.yaml"
    file.write_text(change((CLUSTER / "onprem.yaml").read_text()))
    with pytest.raises(ClusterError, match=said):
        launcher.read(file)
    done = CliRunner().invoke(cli, ["status", "any", "--cluster", str(file)])
    assert done.exit_code == 1 and re.search(said, done.stderr)


def test_a_command_for_the_head_arrives_as_it_was_written() -> None:
    head = launcher.Head("h", "me", "", "")
    *ssh, shell = head.command("printf '%s|' \"$1\" 'a b' \"it's\" $X")
    assert ssh[0] == "ssh" and ssh[-2:] == ["-T", "me@h"]
    done = subprocess.run(
        ("bash", "-c", shell.replace(launcher.ENV, "/dev/null")),
        capture_output=True,
        text=True,
        env={"X": "y"},
    )
    assert done.stdout == "|a b|it's|y|"
    inside = launcher.Head("h", "me", "", "box").command("true", terminal=True)
    assert "-tt" in inside and inside[-1].startswith("docker exec -it box bash --login -c ")


# --- how many trials the nodes hold ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "most", "one", "wanted"),
    [
        (4, 4, 2, 4),  # a cluster that does not grow
        (0, 16, 2, 2),  # nothing there yet: what one node takes
        (2, 16, 2, 4),  # twice as many as run
        (8, 16, 2, 16),
        (12, 16, 2, 16),  # never more than all of it
    ],
)
def test_trials_are_asked_for_as_nodes_come(now: int, most: int, one: int, wanted: int) -> None:
    assert nodes.Capacity(now, most, one).wanted == wanted


def test_the_kinds_of_node_that_may_come_are_in_the_file_on_the_head(tmp_path: Path) -> None:
    file = tmp_path / "ray_bootstrap_config.yaml"
    file.write_text(filled("gcp"))
    found, total = nodes._launched(file, 0.0)
    kinds = {k.name: k for k in found}
    assert total == 8  # of all kinds together
    assert set(kinds) == {"gpu_spot", "gpu"} and kinds["gpu"].most == 2
    assert nodes._fit(kinds["gpu"].resources, {"CPU": 1, "GPU": 0.25}) == 4
    assert nodes._fit({"GPU": 4}, {"GPU": 0.6}) == 4, "a share of one GPU, not of all of them together"
    assert nodes._fit({"GPU": 8}, {"GPU": 0.3}) == 24
    assert nodes._fit({"GPU": 8}, {"GPU": 2}) == 4
    assert nodes._fit(kinds["gpu"].resources, {"GPU": 1, "accelerator_type:L4": 0.001}) == 1
    assert nodes._fit(kinds["gpu"].resources, {"GPU": 1, "accelerator_type:H100": 0.001}) == 0


def test_a_kind_of_gpu_is_asked_for_as_ray_names_it() -> None:
    per_trial = Resources(gpu=1, accelerator="H100")
    assert per_trial.request() == {"cpu": 1, "gpu": 1, "accelerator_type:H100": 0.001}
    assert amounts(per_trial.request()) == "1 cpu, 1 gpu, H100"
    with pytest.raises(StudyError, match="per_trial: accelerator: H100 is a kind of GPU, and gpu is 0"):
        quick(per_trial={"accelerator": "H100"})


def test_every_node_is_asked_whether_it_can_run_trials(ray: Any, tmp_path: Path) -> None:
    (node,) = nodes.probe(tmp_path)
    assert node.head and node.problems == () and set(node.versions) == {"python", "ray", "torch", "raysweep"}
    assert list(tmp_path.iterdir()) == []
    alive = ray.nodes()[0]
    wrote = {"versions": {"python": "3.11.1"}, "driver": True}
    odd = nodes._judged(alive, wrote, ["some node"], {"versions": {"python": "3.11.2"}})
    assert odd.problems == (
        "has python 3.11.1, the head 3.11.2",
        "has an NVIDIA driver, but Ray sees no GPU",
        "does not see what 1 other nodes write: is the folder shared?",
    )


# --- a study's way there and back -------------------------------------------------------------------------------------


def test_what_is_shipped_arrives_and_nothing_else(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "studies" / "mine"
    for name in (
        "mine.yaml",
        "train.py",
        "more/data.csv",
        ".git/config",
        "studies/old/journal.jsonl",
        "env/pyvenv.cfg",
    ):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(name)
    code = jobs.receive(there, io.BytesIO(jobs.bundle(here)))
    assert sorted(str(p.relative_to(code)) for p in code.rglob("*") if p.is_file()) == [
        "mine.yaml",
        "more/data.csv",
        "train.py",
    ]
    (here / "train.py").unlink()
    assert not (jobs.receive(there, io.BytesIO(jobs.bundle(here))) / "train.py").exists()
    journal = Journal(there)
    with pytest.raises(JournalError, match=r"is being run by process .* or raysweep stop mine"):
        jobs.receive(there, io.BytesIO(jobs.bundle(here)))
    journal.close()


def test_a_folder_that_is_too_large_is_not_shipped(tmp_path: Path) -> None:
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(jobs.LARGEST + 1)
    with pytest.raises(StudyError, match="holds more than 100 MB"):
        jobs.bundle(tmp_path)


def test_a_study_is_looked_at_and_ended_from_another_process(here: Path, ray: Any) -> None:
    """stop lets what runs run to its end; the study then goes on where it was left."""
    gate = here / "gate"
    space = {"x": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "epochs": 8, "gate": str(gate)}
    study = quick("long", "trainables:gated", trials=6, concurrency=1, scheduler="none", space=space)
    place = here / "studies" / "long"
    results: list[raysweep.Result] = []
    run = threading.Thread(target=lambda: results.append(raysweep.run(study)))
    run.start()
    invoke = CliRunner().invoke
    while not (place / FILE).exists() or '"report"' not in (place / FILE).read_text():
        assert run.is_alive()
        time.sleep(0.05)
    assert json.loads(invoke(cli, ["status", "long", "--json"]).stdout)["state"] == "runs"
    assert "1 running" in invoke(cli, ["status", "long"]).stdout
    assert invoke(cli, ["stop", "long"]).exit_code == 0
    while "Asked to end" not in (place / FILE).read_text():
        assert run.is_alive()
        time.sleep(0.05)
    gate.touch()
    run.join(600)
    trials = results[0].trials
    assert results[0].interrupted and all(t.status == "completed" for t in trials) and len(trials) < 6
    assert queue.requested_end(place) == ""
    watched = invoke(cli, ["status", "long", "--watch"])
    assert watched.exit_code == 130 and "Continue with: raysweep resume long" in watched.stderr
    assert invoke(cli, ["stop", "long"]).stderr == "long is not running\n"
    told = invoke(cli, ["logs", "long"]).stdout
    assert "Asked to end: no trial begins any more." in told and "trial 0 completed" in told
    assert "trial 0 epoch 8: loss" in invoke(cli, ["logs", "long", "0"]).stdout
    raysweep.run(study)
    watched = invoke(cli, ["status", "long", "--watch"])
    assert watched.exit_code == 0 and "best: trial" in watched.stdout


def test_who_looks_from_elsewhere_is_told_what_was_wrong(here: Path, ray: Any) -> None:
    space = {"data": "gone.csv", "lr": {"float": [0.1, 0.2]}}
    study = Study(name="lost", trainable="mlp", maximize="val_accuracy", trials=1, space=space)
    with pytest.raises(DataError) as wrong:
        raysweep.run(study)
    done = CliRunner().invoke(cli, ["status", "lost", "--watch"])
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (1, str(wrong.value))

"""Studies on a cluster of several nodes, which comes and goes: real raylets of this machine, with resources of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from faults.conftest import assert_invariants, history, until
from raysweep.journal.records import FILE

# One cluster, which grows and shrinks from test to test.
pytestmark = [pytest.mark.xdist_group("nodes"), pytest.mark.long]

# Adds a node for each line that it reads, or takes the last one away.
CLUSTER = """
import json, sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = []
print(cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "take":
        cluster.remove_node(nodes.pop(), allow_graceful=False)
    else:
        nodes.append(cluster.add_node(**json.loads(line)))
    print("done", flush=True)
cluster.shutdown()
"""
GPUS = '{"num_cpus": 2, "num_gpus": 2, "resources": {"accelerator_type:H100": 1}}'
BOX = '{"num_cpus": 1, "resources": {"box": 1}}'
CRATE = '{"num_cpus": 1, "resources": {"crate": 1}}'


class Nodes:
    """A head that holds no trials, and what `add` and `take` make of it."""

    def __init__(self) -> None:
        self.environment = {
            **os.environ,
            "RAY_AUTH_MODE": "disabled",
            # A node that is gone answers nothing at once, and is seen in 2 s rather than 12; one that is only slow has
            # half a minute.
            "RAY_health_check_initial_delay_ms": "1000",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_timeout_ms": "30000",
            "RAY_health_check_failure_threshold": "3",
            "PYTHONPATH": str(ROOT / "tests"),
            "MLFLOW_TRACKING_URI": "off",
        }
        self._process = subprocess.Popen(
            (sys.executable, "-c", CLUSTER),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment,
            start_new_session=True,
        )
        self.address = self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def add(self, node: str) -> None:
        assert self._process.stdin is not None
        print(node, file=self._process.stdin, flush=True)
        assert self._answer() == "done"

    def take(self) -> None:
        self.add("take")

    def run(self, file: Path, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            (sys.executable, "-m", "raysweep", "run", file.name, "--address", self.address, "--open-cluster"),
            cwd=file.parent,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**self.environment, **more},
        )

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    made = Nodes()
    yield made
    made.end()


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Path]:
    def write(**given: object) -> Path:
        path = tmp_path / "spread.yaml"
        path.write_text(
            yaml.safe_dump({"algorithm": "random", "scheduler": "none", **given}, sort_keys=False)
        )
        return path

    return write


def test_a_study_follows_its_cluster_as_it_grows_and_shrinks(
    nodes: Nodes, study: Callable[..., Path], tmp_path: Path
) -> None:
    nodes.add(BOX)
    gate = tmp_path / "gate"
    space = {"x": {"float": [-1.0, 1.0]}, "epochs": 4, "gate": str(gate)}
    file = study(
        trainable="trainables:gated", minimize="loss", trials=3, per_trial={"custom": {"box": 1}},
        checkpoint_every=0.1, space=space,
    )  # fmt: skip
    place = file.parent / "studies" / "spread"
    process = nodes.run(file)

    def running() -> int:
        trials = history(place).trials if (place / FILE).exists() else []
        return sum(t.status == "running" and bool(t.reports) for t in trials)

    until(lambda: running() == 1)
    nodes.add(BOX)
    until(lambda: running() == 2)
    nodes.take()
    until(lambda: any(t.losses for t in history(place).trials))
    until(lambda: "holds 1 trials at once now (it was 2)" in (place / FILE).read_text())
    gate.touch()
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert "holds 2 trials at once now (it was 1)" in said and "holds 1 trials at once now (it was 2)" in said
    told = assert_invariants(place, interval=2)
    assert {t.status for t in told.trials} == {"completed"}
    assert [loss.cause for t in told.trials for loss in t.losses] == ["node"]


def test_what_waits_for_a_node_that_does_not_come_is_taken_back(
    nodes: Nodes, study: Callable[..., Path], tmp_path: Path
) -> None:
    """An autoscaler is said to have more nodes, and has none: a trial waits for one when the study is to end."""
    nodes.add(CRATE)
    gate = tmp_path / "gate"
    space = {"x": {"float": [-1.0, 1.0]}, "gate": str(gate)}
    file = study(
        trainable="trainables:gated", minimize="loss", trials=9, per_trial={"custom": {"crate": 1}}, space=space
    )  # fmt: skip
    place = file.parent / "studies" / "spread"
    more = json.dumps({"crate": {"resources": {"CPU": 1, "crate": 1}, "max_workers": 4}})
    process = nodes.run(file, RAYSWEEP_NODES=more)
    until(lambda: (place / FILE).exists() and any(t.reports for t in history(place).trials))
    until(lambda: len(history(place).trials) == 2)
    command = (sys.executable, "-m", "raysweep", "stop", "spread")
    subprocess.run(command, cwd=file.parent, env=nodes.environment, check=True)
    until(lambda: "Asked to end" in (place / FILE).read_text())
    gate.touch()
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 130 and "Asked to end" in said, said
    assert sorted(t.status for t in history(place).trials) == ["completed", "waiting"]


def test_a_trial_on_two_gpus_is_one_trial(nodes: Nodes, study: Callable[..., Path]) -> None:
    nodes.add(GPUS)
    file = study(
        trainable="mlp", maximize="val_accuracy", trials=2, repeats=2,
        per_trial={"cpu": 2, "gpu": 2, "accelerator": "H100"},
        space={"data": "digits", "epochs": 4, "units": 32, "lr": [0.003, 0.01], "batch_norm": True},
    )  # fmt: skip
    process = nodes.run(file)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    place = file.parent / "studies" / "spread"
    assert assert_invariants(place, interval=4).trials[0].status == "completed"
    assert all(r.metrics["val_accuracy"] > 0.8 for t in history(place).trials for r in t.reports[-1:])


def test_what_no_node_has_is_said_before_anything_waits_for_it(
    nodes: Nodes, study: Callable[..., Path]
) -> None:
    file = study(
        trainable="trainables:parabola", minimize="loss", trials=1, per_trial={"gpu": 1, "accelerator": "A100"},
        space={"x": 0.5},
    )  # fmt: skip
    process = nodes.run(file)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "a trial needs 1 CPU, 1 GPU, A100, but no node has it" in said

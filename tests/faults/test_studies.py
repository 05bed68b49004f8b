"""What happens to the process, the node, the disk or the cluster of a study costs it nothing that was finished."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from faults.conftest import assert_invariants, history, until
from raysweep.journal.journal import Journal
from raysweep.journal.records import FILE

Start = Callable[..., subprocess.Popen[str]]
KILLS = 20


def finished(process: subprocess.Popen[str], code: int = 0, seconds: float = 120) -> str:
    said, _ = process.communicate(timeout=seconds)
    assert process.returncode == code, said
    return said


def reports(place: Path) -> int:
    return sum(len(t.reports) for t in history(place).trials) if (place / FILE).exists() else 0


@pytest.mark.slow
def test_a_search_killed_again_and_again_ends_as_if_it_had_not_been(
    here: Path, study: Callable[..., Path], raysweep: Start
) -> None:
    """At one trial at a time the journals tell the same story, decisions included."""
    plan = "algorithm: {name: optuna, sampler: cmaes, startup: 2}\nscheduler: {name: asha, kind: promotion, reduction: 2}"
    study("steady", trials=12, epochs=4, concurrency=1, more=f"{plan}\ncheckpoint_every: 1e-6")
    place, rng = here / "studies" / "faulty_study", random.Random(4)
    finished(raysweep("run", "faulty_study.yaml", "--folder", "whole", "-q"))
    for _ in range(KILLS):
        before = reports(place)
        process = raysweep("run", "faulty_study.yaml", "-q")
        until(lambda seen=before, run=process: reports(place) > seen or run.poll() is not None)
        time.sleep(rng.uniform(0.0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=600)
    finished(raysweep("resume", "faulty_study", "-q"))

    def story(folder: Path) -> list[object]:
        return [(t.point, t.seeds, t.status, [(r.epoch, r.metrics) for r in t.reports]) for t in
                history(folder).trials]  # fmt: skip

    assert story(place) == story(here / "whole" / "faulty_study")
    assert_invariants(place)


@pytest.mark.slow
def test_a_node_out_of_memory_costs_one_trial(
    here: Path, study: Callable[..., Path], raysweep: Start
) -> None:
    study("hungry", trials=3, concurrency=1)
    about = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (int(about[name].split()[0]) / (1 << 20) for name in ("MemTotal", "MemAvailable"))
    if free < 12:
        pytest.skip("takes eight gigabytes")
    limits = {
        "RAY_memory_usage_threshold": f"{(total - free + 5) / total:.3f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    finished(raysweep("run", "faulty_study.yaml", "-q", **limits))
    told = assert_invariants(here / "studies" / "faulty_study")
    assert sorted(t.status for t in told.trials) == ["completed", "completed", "out of memory"]


@pytest.fixture
def small_disk(here: Path) -> Iterator[Path]:
    """A disk of eight megabytes."""
    place = here / "small"
    place.mkdir()
    done = subprocess.run(
        ("mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", place), capture_output=True
    )
    if done.returncode:
        pytest.skip("only root may mount a disk")
    yield place
    subprocess.run(("umount", "-l", place), check=True)


@pytest.mark.slow
def test_a_search_on_a_full_disk_waits_for_room_and_goes_on(
    small_disk: Path, study: Callable[..., Path], raysweep: Start
) -> None:
    more = "checkpoint_every: 1e-6\nkeep: 1\nscheduler: none"  # so that it does not fill the disk itself
    study("large", trials=8, epochs=6, concurrency=1, more=more)
    place = small_disk / "faulty_study"
    process = raysweep("run", "faulty_study.yaml", "--folder", str(small_disk))
    until(lambda: reports(place) > 8)
    filler = small_disk / "filler"
    with filler.open("wb") as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(b"0" * 65536)
            file.flush()
    before = reports(place)
    time.sleep(4)
    assert process.poll() is None, "it waits"
    stuck = reports(place)
    time.sleep(3)
    assert reports(place) == stuck <= before + 6, "it computes nothing that it could not keep"
    filler.unlink()
    said = finished(process)
    assert "Paused: 0 MB free" in said and "There is room again" in said
    assert_invariants(place)


def test_a_second_start_is_refused_wherever_it_comes_from(tmp_path: Path) -> None:
    from raysweep import JournalError
    from raysweep.storage import lock

    journal = Journal(tmp_path)
    with pytest.raises(
        JournalError, match=rf"is being run by process {os.getpid()} on .*, heard of \d+ s ago"
    ):
        Journal(tmp_path)
    # A machine that shares the folder but not its file locks takes over once ours has been silent for long ...
    elsewhere = json.loads((tmp_path / lock.FILE).read_text()) | {"host": "elsewhere", "token": "another"}
    journal.close()
    (tmp_path / lock.FILE).write_text(json.dumps(elsewhere | {"heartbeat": time.time() - 5}))
    with pytest.raises(JournalError, match=r"on elsewhere, heard of \d+ s ago.*if that machine is gone"):
        Journal(tmp_path)
    silent = time.time() - lock.STALE - 1
    os.utime(tmp_path / lock.FILE, (silent, silent))
    second = Journal(tmp_path)
    assert second.fence == journal.fence + 1
    # ... and whoever finds that the study was taken over writes no more.
    (tmp_path / lock.FILE).write_text(
        json.dumps(elsewhere | {"fence": second.fence + 1, "heartbeat": time.time()})
    )
    until(lambda: second._usurper is not None)
    with pytest.raises(JournalError, match=r"was taken over by process .* on elsewhere"):
        second.append("over")
    second.close()
    assert lock.holder(tmp_path).fence == second.fence + 1, "the lock is the other's now"  # type: ignore[union-attr]


def test_of_two_that_start_at_once_one_runs(here: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from raysweep import JournalError\n"
        "from raysweep.journal.journal import Journal\n"
        "time.sleep(max(0, float(sys.argv[1]) - time.time()))\n"
        "try:\n    journal = Journal(Path('study'))\nexcept JournalError:\n    print('refused')\n"
        "else:\n    print('runs')\n"
        "sys.stdout.flush(); sys.stdin.read()"  # until both have said what they are
    )
    for _ in range(3):
        at = str(time.time() + 1.5)
        both = [
            subprocess.Popen(
                (sys.executable, "-c", code, at),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=here,
            )
            for _ in range(2)
        ]
        said = [p.stdout.readline().strip() for p in both if p.stdout]
        for process in both:
            process.communicate(timeout=600)
        assert sorted(said) == ["refused", "runs"]


def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    from raysweep import JournalError

    tmp_path.chmod(0o770)
    with pytest.raises(JournalError, match=r"can be written to by others. Close it: chmod go-w"):
        Journal(tmp_path)


CLUSTER = """
import sys, time
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
node = cluster.add_node(num_cpus=1)
print(cluster.address, *(p.process.pid for ps in cluster.head_node.all_processes.values() for p in ps), "|",
      *(p.process.pid for ps in node.all_processes.values() for p in ps), flush=True)
time.sleep(600)
"""


@pytest.fixture
def cluster() -> Iterator[tuple[str, list[int], list[int]]]:
    """A cluster of a head and a node: its address, and the processes of either."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_health_check_failure_threshold": "2"}
    process = subprocess.Popen(
        (sys.executable, "-c", CLUSTER),
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout is not None
    words = next(line for line in process.stdout if "|" in line).split()
    bar = words.index("|")
    yield words[0], [int(w) for w in words[1:bar]], [int(w) for w in words[bar + 1 :]]
    os.killpg(process.pid, signal.SIGKILL)
    for pid in map(int, words[1:bar] + words[bar + 1 :]):
        kill_tree(pid)
    process.wait()


def kill_tree(pid: int) -> None:
    """Kill a process and all that it started, the children first found first lost."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    below = children.read_text().split() if children.exists() else []
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for child in below:
        kill_tree(int(child))


@pytest.mark.slow
def test_a_node_that_dies_costs_its_trials_a_move(
    cluster: tuple[str, list[int], list[int]], here: Path, study: Callable[..., Path], raysweep: Start
) -> None:
    address, _, node = cluster
    study("steady", trials=4, epochs=40, more="checkpoint_every: 1e-6\nretries: 0\nscheduler: none")
    place = here / "studies" / "faulty_study"
    process = raysweep("run", "faulty_study.yaml", "--address", address, "--open-cluster", "-q",
                       RAY_AUTH_MODE="disabled")  # fmt: skip
    until(lambda: sum(t.status == "running" and len(t.reports) > 3 for t in history(place).trials)
          == 2 if (place / FILE).exists() else False)  # fmt: skip
    for pid in node:
        kill_tree(pid)
    finished(process, seconds=200)
    told = assert_invariants(place, interval=2)
    assert [t.error for t in told.trials if t.error] == []
    assert [t.losses[0].cause for t in told.trials if t.losses] == ["node"]


@pytest.mark.slow
def test_a_node_that_is_to_be_taken_away_has_its_checkpoints_written_in_time(
    cluster: tuple[str, list[int], list[int]], here: Path, study: Callable[..., Path], raysweep: Start
) -> None:
    address, _, node = cluster
    study("steady", trials=2, epochs=60, more="checkpoint_every: 1000\nscheduler: none")
    place = here / "studies" / "faulty_study"
    process = raysweep("run", "faulty_study.yaml", "--address", address, "--open-cluster",
                       RAY_AUTH_MODE="disabled")  # fmt: skip
    until(lambda: sum(t.status == "running" and len(t.reports) > 3 for t in history(place).trials)
          == 2 if (place / FILE).exists() else False)  # fmt: skip
    drain = (
        "import sys, time; from ray._raylet import GcsClient; import ray; ray.init(sys.argv[1], log_to_driver=False)\n"
        "node = next(n['NodeID'] for n in ray.nodes() if 'node:__internal_head__' not in n['Resources'])\n"
        "print(GcsClient(address=sys.argv[1]).drain_node(node, 2, 'spot', int(time.time() * 1000) + 60_000))"
    )
    subprocess.run((sys.executable, "-c", drain, address), check=True,
                   env={**os.environ, "RAY_AUTH_MODE": "disabled"})  # fmt: skip
    time.sleep(4)
    for pid in node:
        kill_tree(pid)
    said = finished(process, seconds=200)
    assert "is about to be taken away" in said
    told = assert_invariants(place, interval=1)  # without the notice, all of them would be lost
    assert [t.losses[0].cause for t in told.trials if t.losses] == ["node"]


@pytest.mark.slow
def test_a_search_that_loses_its_head_says_how_to_go_on(
    cluster: tuple[str, list[int], list[int]], here: Path, study: Callable[..., Path], raysweep: Start
) -> None:
    address, head, node = cluster
    study("steady", trials=4, epochs=40, more="checkpoint_every: 1e-6\nscheduler: none")
    place = here / "studies" / "faulty_study"
    process = raysweep("run", "faulty_study.yaml", "--address", address, "--open-cluster", "-q",
                       RAY_AUTH_MODE="disabled", MLFLOW_TRACKING_URI=f"sqlite:///{here}/mlflow.db")  # fmt: skip
    until(lambda: reports(place) > 8)
    for pid in head + node:
        kill_tree(pid)
    said, _ = process.communicate(timeout=150)
    assert process.returncode != 0
    assert "The search of faulty_study is gone. Continue with: raysweep resume faulty_study" in said
    study_file = (place / "study.yaml").read_text()
    (place / "study.yaml").write_text(study_file)  # it is there, whole
    finished(raysweep("resume", "faulty_study", "-q", "--tracking", "off"))
    told = assert_invariants(place, interval=2)
    assert {t.status for t in told.trials} == {"completed"}


@pytest.mark.slow
def test_a_search_whose_first_trials_all_fail_is_given_up_and_says_why(
    here: Path, study: Callable[..., Path], raysweep: Start
) -> None:
    study("broken", trials=40, concurrency=1)
    place = here / "studies" / "faulty_study"
    said = finished(raysweep("run", "faulty_study.yaml", "-q"), code=1)
    assert (
        "Given up: the first 5 trials all failed; trial 0: FileNotFoundError: no such file: corpus.txt"
        in said
    )
    assert len(history(place).trials) == 5
    (here / "mended").touch()
    finished(raysweep("resume", "faulty_study", "--retry-failed", "-q"))
    assert {t.status for t in assert_invariants(place).trials} <= {"completed", "stopped"}


@pytest.mark.slow
def test_a_thousand_trials_are_all_there(here: Path, study: Callable[..., Path], raysweep: Start) -> None:
    study("steady", trials=1000, epochs=1, more="scheduler: none\nalgorithm: random")
    text = (here / "faulty_study.yaml").read_text().replace("marks:", "pause: 0.0\n  marks:")
    (here / "faulty_study.yaml").write_text(text)
    finished(raysweep("run", "faulty_study.yaml", "-q"), seconds=600)
    told = assert_invariants(here / "studies" / "faulty_study")
    assert len(told.trials) == 1000 and {t.status for t in told.trials} == {"completed"}

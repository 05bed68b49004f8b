"""The nodes of a Ray cluster: how many trials they hold and could hold, and whether each of them can run one."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ray

from raysweep.cluster import ray_internals
from raysweep.cluster.ray_internals import is_head
from raysweep.errors import ClusterError
from raysweep.study.options import amounts

PACKAGES = ("ray", "torch", "raysweep")
PROBE = 60.0  # seconds that a node may take to answer
POLL = 1.0

Amounts = Mapping[str, float]


@dataclass(frozen=True)
class Kind:
    """A kind of node that an autoscaler may add: what one holds, and how many there may be."""

    name: str
    resources: Amounts
    most: int


@dataclass(frozen=True)
class Capacity:
    """How many trials fit at once."""

    now: int
    """On the nodes that are there."""
    most: int
    """With all nodes that may come."""
    one: int
    """On a single node: the one that holds most, of those that are there or may come."""

    @property
    def wanted(self) -> int:
        """How many trials to request. Those that do not fit yet make the autoscaler add nodes. At most as
        many wait as already run, since a waiting point was chosen without the results of the running ones."""
        return min(self.most, self.now + max(self.now, self.one))


def capacity(request: Amounts, grows: bool) -> Capacity:
    """How many trials fit if each holds `request` (in Ray Tune's names), including on the nodes that the
    autoscaler may add if the cluster `grows`. Raises ClusterError when no node can ever hold one."""
    wanted = {k.upper() if k in {"cpu", "gpu"} else k: v for k, v in request.items()}
    alive = [n for n in ray.nodes() if n["Alive"]]
    nodes = [n["Resources"] for n in alive]
    fits = [_fit(node, wanted) for node in nodes]
    kinds, total = autoscaled() if grows else ([], 0)
    coming = sorted((_fit(kind.resources, wanted) for kind in kinds for _ in range(kind.most)), reverse=True)
    best = max([*fits, *coming[:1]], default=0)
    if not best:
        known = [*nodes, *(k.resources for k in kinds if k.most)]
        largest = {k: max((node.get(k, 0) for node in known), default=0) for k in wanted}
        raise ClusterError(
            f"per_trial: a trial needs {amounts(wanted)}, but no node has it{' or could' * bool(kinds)}"
            f" (at most {amounts(largest)}). It would wait forever"
        )
    on_head = sum(_fit(n["Resources"], wanted) for n in alive if is_head(n))
    return Capacity(sum(fits), max(sum(fits), on_head + sum(coming[:total])), best)


def _fit(node: Amounts, wanted: Amounts) -> int:
    def held(name: str, amount: float) -> int:
        have = node.get(name, 0)
        if name == "GPU" and amount < 1:  # a share of one GPU, not of all of them together
            return int(have) * int(1 / amount + 1e-9)
        return int(have / amount + 1e-9)

    return min(held(name, amount) for name, amount in wanted.items())


def autoscaled() -> tuple[list[Kind], int]:
    """The kinds of node that the autoscaler of this machine's cluster may add, and how many in all. Ray does
    not say: `ray up` leaves its file on the head, where studies run; elsewhere RAYSWEEP_NODES has to list
    them, as in `{"gpu": {"resources": {"CPU": 4, "GPU": 1}, "max_workers": 8}}`.
    """
    told, file = os.environ.get("RAYSWEEP_NODES"), Path(ray_internals.LAUNCHED).expanduser()
    if told:
        return _kinds({"available_node_types": json.loads(told)})
    return _launched(file, file.stat().st_mtime) if file.exists() else ([], 0)


@cache
def _launched(file: Path, changed: float) -> tuple[list[Kind], int]:
    import yaml

    return _kinds(yaml.safe_load(file.read_text()))


def _kinds(config: Mapping[str, Any]) -> tuple[list[Kind], int]:
    kinds = {k: v for k, v in config["available_node_types"].items() if k != config.get("head_node_type")}
    total = config.get("max_workers", sum(kind.get("max_workers", 0) for kind in kinds.values()))
    return [
        Kind(name, kind.get("resources", {}), min(kind.get("max_workers", total), total))
        for name, kind in kinds.items()
    ], total


# --- whether they can run a trial ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """One node that is alive, and what is wrong with it."""

    address: str
    head: bool
    resources: Amounts
    versions: Mapping[str, str]
    problems: tuple[str, ...]


def wait_for(workers: int, patience: float, say: Callable[[str], None]) -> None:
    """Wait until this many workers have joined, at most `patience` seconds, and say how many have so far."""
    deadline, told = time.monotonic() + patience, -1
    while (there := sum(n["Alive"] for n in ray.nodes()) - 1) < workers and time.monotonic() < deadline:
        if there != told:
            say(f"{there} of {workers} workers have joined ...")
            told = there
        time.sleep(POLL)


def probe(folder: Path) -> list[Node]:
    """Ask every node which versions it runs, and check that each sees in the studies' `folder` what the
    others write there."""
    alive = [n for n in ray.nodes() if n["Alive"]]
    place = folder / f".probe-{secrets.token_hex(4)}"
    place.mkdir(parents=True, mode=0o700)
    try:
        written = _everywhere(alive, _write, place)
        names = [n["NodeID"] for n, got in zip(alive, written, strict=True) if isinstance(got, dict)]
        seen = _everywhere(alive, _read, place, names)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    first = next(
        (got for n, got in zip(alive, written, strict=True) if is_head(n) and isinstance(got, dict)), {}
    )
    found = [_judged(n, w, s, first) for n, w, s in zip(alive, written, seen, strict=True)]
    return sorted(found, key=lambda node: (not node.head, node.address))


def used() -> dict[str, dict[str, float]]:
    """The resources in use on each node, by its address."""
    free = ray_internals.free_resources()
    return {
        n["NodeManagerAddress"]: {
            k: v - free.get(n["NodeID"], {}).get(k, 0) for k, v in n["Resources"].items()
        }
        for n in ray.nodes()
        if n["Alive"]
    }


def _judged(node: Mapping[str, Any], wrote: Any, read: Any, head: Mapping[str, Any]) -> Node:
    problems = [str(got) for got in (wrote, read) if isinstance(got, Exception)]
    versions = wrote["versions"] if isinstance(wrote, dict) else {}
    for name, version in head.get("versions", {}).items():
        if versions and versions[name] != version:
            problems.append(f"has {name} {versions[name]}, the head {version}")
    if isinstance(wrote, dict) and wrote["driver"] and not node["Resources"].get("GPU"):
        problems.append("has an NVIDIA driver, but Ray sees no GPU")
    if isinstance(read, list) and read:
        problems.append(f"does not see what {len(read)} other nodes write: is the folder shared?")
    resources = {
        k: v for k, v in node["Resources"].items() if ":" not in k or k.startswith("accelerator_type:")
    }
    return Node(node["NodeManagerAddress"], is_head(node), resources, versions, tuple(problems))


def _everywhere(nodes: list[Any], function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function` returns on each node, or the error that it met there."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(function)
    asked = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n["NodeID"], soft=False)).remote(
            n["NodeID"], *arguments
        )
        for n in nodes
    ]
    ray.wait(asked, num_returns=len(asked), timeout=PROBE)
    return [_got(reference) for reference in asked]


def _got(reference: Any) -> Any:
    try:
        return ray.get(reference, timeout=0.1)
    except ray.exceptions.GetTimeoutError:
        return ClusterError(f"did not answer within {PROBE:.0f} s")
    except ray.exceptions.RayTaskError as error:
        return ClusterError(f"cannot write to the studies' folder: {error.cause}")
    except ray.exceptions.RayError as error:
        return ClusterError(str(error).splitlines()[0])


def _write(node: str, place: Path) -> dict[str, Any]:
    (place / node).write_text(node)
    versions = {"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in PACKAGES}}
    return {"versions": versions, "driver": os.path.exists("/dev/nvidiactl")}


def _read(node: str, place: Path, names: list[str]) -> list[str]:
    """Those of `names` whose files cannot be seen here."""
    return [n for n in names if not (place / n).exists()]

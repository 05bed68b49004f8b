"""A cluster that `ray up` launches, from the user's machine: up, down, and commands on its head over ssh."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from raysweep.cluster import ray_internals
from raysweep.errors import ClusterError

ENV = "~/raysweep/cluster/env.sh"  # on the nodes: the settings that they share
BLANK = re.compile(r"<[A-Z][A-Z0-9_ -]*>")  # what a person has to fill in
SSH = (
    # As Ray itself connects: the machine behind an address may change.
    "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
    "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=5",
    "-o", "ControlMaster=auto", "-o", "ControlPath=~/.ssh/raysweep-%C", "-o", "ControlPersist=60",
)  # fmt: skip

UNREACHABLE = 255  # ssh's own exit code

Say = Callable[[str], None]


@dataclass(frozen=True)
class Head:
    """The head of a cluster that is up."""

    address: str
    user: str
    key: str
    container: str
    """The container that Ray runs in; empty where there is none."""

    def command(self, script: str, terminal: bool = False) -> list[str]:
        """The command that runs a shell script on the head, with the nodes' shared settings set."""
        shell = f"bash --login -c {shlex.quote(f'. {ENV} && {script}')}"
        if self.container:
            shell = f"docker exec {'-it' if terminal else '-i'} {self.container} {shell}"
        return [*self.ssh("-tt" if terminal else "-T"), shell]

    def ssh(self, *options: str) -> list[str]:
        """The ssh command that connects to the head."""
        key = ("-i", os.path.expanduser(self.key)) if self.key else ()
        return ["ssh", *key, *SSH, *options, f"{self.user}@{self.address}"]

    def run(self, script: str, terminal: bool = False, packed: bytes | None = None) -> int:
        """Run a script on the head as if it ran here. Returns its exit code."""
        return subprocess.run(self.command(script, terminal), input=packed).returncode  # noqa: S603

    def ask(self, script: str) -> str:
        """Run a script on the head and return its output. Raises ClusterError when it fails."""
        done = subprocess.run(self.command(script), capture_output=True, text=True)  # noqa: S603
        if done.returncode:
            raise ClusterError(f"the head at {self.address}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


def read(file: Path) -> dict[str, Any]:
    """Read a cluster's file, in the form that Ray expects. Raises ClusterError that says what is wrong."""
    try:
        text = file.read_text(encoding="utf-8")
        config = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ClusterError(f"{file.name} cannot be read: {' '.join(str(error).split())}") from None
    blanks = [
        f"line {number}: {', '.join(found)}"
        for number, line in enumerate(text.splitlines(), 1)
        if (found := BLANK.findall(line.partition(" #")[0] if not line.startswith("#") else ""))
    ]
    if blanks:
        raise ClusterError(f"{file.name} has to be filled in first: {'; '.join(blanks)}")
    try:
        ray_internals.check_cluster_config(dict(config))
    except Exception as error:  # Ray may reject a file with any kind of exception
        raise ClusterError(f"{file.name} is no cluster's file: {str(error).splitlines()[0]}") from None
    return dict(config)


def head_of(file: Path) -> Head:
    """The head of the cluster that a file describes. Raises ClusterError when it is not up."""
    config, said = read(file), io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):  # Ray's launcher prints a lot
            whole = _bootstrapped(config)
            address = _address(whole)
    except Exception as error:  # the clouds' own errors, of which there are many
        why = " ".join(f"{error} {said.getvalue()[-1000:]}".split())
        raise ClusterError(
            f"the cluster of {file.name} is not up: raysweep cluster up {file}\n{why}"
        ) from None
    auth, docker = whole["auth"], whole.get("docker") or {}
    container = docker.get("container_name", "") if docker.get("image") or docker.get("head_image") else ""
    return Head(address, auth["ssh_user"], auth.get("ssh_private_key", ""), container)


def _bootstrapped(config: dict[str, Any]) -> dict[str, Any]:
    """The config with what the cloud adds, such as the key that Ray has made there."""
    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)
    return ray_internals.bootstrapped_config(config)


def _address(config: dict[str, Any]) -> str:
    from ray.autoscaler.sdk import get_head_node_ip

    address: str = get_head_node_ip(config)
    return address


def tunnels(head: Head, ports: Sequence[int]) -> None:
    """Become an ssh that forwards these ports of the head to the same ports here, until interrupted."""
    forwards = [part for port in ports for part in ("-L", f"{port}:127.0.0.1:{port}")]
    own = ("-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "ExitOnForwardFailure=yes")
    command = head.ssh("-N", *own, *forwards)
    os.execvp(command[0], command)  # noqa: S606


# --- up and down --------------------------------------------------------------------------------------------------


def up(file: Path, say: Say, patience: float, restart: bool) -> bool:
    """Launch a cluster, or bring it up to date, and wait for its workers. Returns whether all can run
    trials."""
    config = read(file)  # report errors in it before anything starts
    if "." in config.get("file_mounts", {}).values() and not Path("cluster/env.sh").exists():
        raise ClusterError(f"{file.name} ships the current folder. Run this in the repository's root")
    running = not restart and _runs(file)
    if running:
        say("Ray is already running there and keeps running (--restart restarts it).")
    _ray(say, "up", "-y", "--no-config-cache", str(file), *(["--no-restart"] if running else []))
    return status(file, say, patience)


def status(file: Path, say: Say, patience: float = 0.0) -> bool:
    """Print a cluster's nodes, once its permanent nodes have joined or `patience` seconds have passed.
    Returns whether each of them can run trials."""
    config, head = read(file), head_of(file)
    workers = _workers(config)
    kinds = config.get("available_node_types", {}).values()
    count = len(workers) or sum(kind.get("min_workers", 0) for kind in kinds)
    if not head.run(f"raysweep cluster status --wait {count} --patience {patience:g}"):
        return True
    for worker in set(workers) - {n["address"] for n in _about(head)["nodes"]}:
        say(f"{worker} has not joined. What the head's log says about it:")
        head.run(f"grep -ahF {worker} /tmp/ray/session_latest/logs/monitor.* | tail -n 3 >&2")
    return False


def down(file: Path, say: Say, force: bool) -> None:
    """Shut a cluster down, and everything on its machines. Raises ClusterError while a study runs there."""
    config = read(file)
    workers = _workers(config)
    try:
        head = head_of(file)
    except ClusterError as error:
        say(f"{error}\nShutting down what is left of it.")
        _ray(say, "down", "-y", str(file))
        return
    studies = _about(head)["studies"]
    if studies and not force:
        raise ClusterError(f"{', '.join(studies)} runs there. Use raysweep stop first, or --force")
    for worker in workers:  # Ray does not stop processes on machines that it did not create
        if head.run(f"{_hop(config, worker)} bash raysweep/cluster/stop.sh $raysweep_head"):
            say(f"{worker} could not be stopped.")
    head.run("bash ~/raysweep/cluster/mlflow.sh stop")
    _ray(say, "down", "-y", str(file))
    if workers:
        head.run("bash ~/raysweep/cluster/stop.sh")


def _hop(config: dict[str, Any], worker: str) -> str:
    """The ssh command from the head to a worker, with the key that `ray up` has left on the head."""
    options = f"-i ~/ray_bootstrap_key.pem {' '.join(SSH[:6])} -o ConnectTimeout=10"
    return f"ssh {options} {config['auth']['ssh_user']}@{worker}"


def _about(head: Head) -> dict[str, Any]:
    """A cluster's nodes and its running studies; none of either when Ray is not running."""
    try:
        about: dict[str, Any] = json.loads(head.ask("raysweep cluster status --json || true"))
    except (ClusterError, ValueError):
        return {"nodes": [], "studies": []}
    return about


def _runs(file: Path) -> bool:
    """Whether Ray runs on the cluster's head. Raises ClusterError when a head exists but does not answer."""
    try:
        head = head_of(file)
    except ClusterError:
        return False
    asked = head.command("ray health-check --address $RAYSWEEP_NODE:6379")
    done = subprocess.run(asked, capture_output=True, text=True)  # noqa: S603
    if done.returncode == UNREACHABLE and not _workers(read(file)):
        what = f"the head at {head.address} does not answer: {done.stderr.strip()}. --restart restarts Ray"
        raise ClusterError(what)
    return done.returncode == 0


def _workers(config: dict[str, Any]) -> list[str]:
    """The addresses of machines that already exist and are not launched."""
    return list(config["provider"].get("worker_ips", []))


def _ray(say: Say, *arguments: str) -> None:
    """Run Ray's launcher. Its long output goes to a log, for anyone looking for an error."""
    command = [sys.executable, "-m", "ray.scripts.scripts", *arguments]
    log = Path.home() / ".ray" / f"raysweep-{arguments[0]}.log"
    say(f"ray {' '.join(arguments)} (its output goes to {log}) ...")
    log.parent.mkdir(mode=0o700, exist_ok=True)
    with log.open("w") as file:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)  # noqa: S603
    if done.returncode:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise ClusterError(f"ray {' '.join(arguments)} failed. The end of {log}:\n{last}")

"""Machines for clusters: namespaces of this one, with networks, processes and disks of their own (hosts.sh)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import ROOT

SCRIPT = ROOT / "tests" / "cluster" / "hosts.sh"
SHARED = Path("/mnt/raysweep")  # as cluster/env.sh has it
NEEDS = ("sshd", "rsync", "ip", "unshare", "nsenter")


class Hosts:
    """A client, `cli`, and machines h0, h1 ... at 10.89.0.10, .11 ..., all with this Python and this repository."""

    def __init__(self, environment: dict[str, str]):
        self._environment = {**os.environ, **environment}

    def do(self, *arguments: str) -> None:
        subprocess.run(("bash", str(SCRIPT), *arguments), env=self._environment, check=True)

    def run(
        self, host: str, script: str, timeout: float = 300, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A script on one of them, what it says in one stream."""
        return subprocess.run(
            ("bash", str(SCRIPT), "in", host, "bash", "-c", f"cd {ROOT} && {script}"),
            env=self._environment,
            input=text,
            stdin=None if text is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def write(self, host: str, path: str, text: str) -> None:
        assert self.run(host, f"mkdir -p $(dirname {path}); cat > {path}", text=text).returncode == 0


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Callable[[int], Hosts]]:
    """Makes so many machines."""
    lacking = [
        name for name in NEEDS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None
    ]
    if os.geteuid() or lacking:
        pytest.fail(f"needs root, and {', '.join(lacking) or 'nothing else'}")
    if SHARED.exists() and any(SHARED.iterdir()):
        pytest.fail(f"{SHARED} is in use")
    SHARED.mkdir(exist_ok=True)
    shown = [str(ROOT), sys.prefix, sys.base_prefix]
    made = Hosts(
        {
            "HOSTS_PATH": str(Path(sys.prefix) / "bin"),
            "HOSTS_SHOW": "\n".join(p for p in dict.fromkeys(shown) if p != "/usr"),
            "HOSTS_SHARE": str(SHARED),
            "HOSTS_STATE": f"/run/raysweep-hosts-{os.getpid()}",
        }
    )

    def make(count: int) -> Hosts:
        made.do("up", str(count))
        return made

    try:
        yield make
    finally:
        made.do("down")
        for path in SHARED.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

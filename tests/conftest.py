"""What tests share: one Ray for the whole run, studies that take no time, the command line as a function."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raysweep import Study

ROOT = Path(__file__).parents[1]
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run beside one another, and their networks are small
sys.path.insert(0, str(ROOT / "tests"))  # trainables.py, as a user's own module


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: several tests run at once, and none is to be waited for at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def ray() -> Iterator[Any]:
    """A Ray of two cores. `raysweep.run` uses the Ray that is there."""
    from raysweep.execution.ray_session import connected

    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"raysweep-tests-{os.getpid()}.log"
    with connected(None, path) as started:
        yield started
    path.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def digits() -> Any:
    """The digits, as the built-in trainables get them. Nobody may write into them."""
    from raysweep.trainables.data import load

    return load("digits")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and no MLflow: most tests are not about it, and it takes seconds to start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "off")
    return tmp_path


@pytest.fixture
def mlflow_store(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow where a study has it by default: in one file of the studies' folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")


def quick(name: str = "quick", trainable: str = "trainables:parabola", **more: Any) -> Study:
    """A study whose trials take no time, one after the other: a second process would take seconds to start."""
    space = {"x": {"float": [-1.0, 1.0]}, "epochs": 3}
    given = {"minimize": "loss", "trials": 4, "concurrency": 1, "space": space}
    return Study(name=name, trainable=trainable, **{**given, **more})


def saved(state: Any) -> Any:
    """A trainable's state as it comes back from a checkpoint."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.fixture
def command(here: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`raysweep ARGUMENTS` in a process of its own, in an empty folder."""

    def run(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (sys.executable, "-m", "raysweep", *arguments),
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=here,
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        )

    return run

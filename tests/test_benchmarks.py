"""Every benchmark runs, in its smallest form: a figure that cannot be had again is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

FOLDER = ROOT / "tests" / "benchmarks"
OURS = ["raysweep random, promotion", "raysweep auto, stopping", "raysweep auto, promotion"]
TOY = ("--table", "toy", "--workers", "4", "--seeds", "2", "--processes", "1")
SMALLEST: dict[str, tuple[str, ...]] = {
    "classic": ("--data", "digits", "--rounds", "1"),
    "digits": ("--seeds", "1", "--trials", "3"),
    "extraction": ("--data", "images", "--backbones", "squeezenet1_1", "--images", "8", "--rounds", "1"),
    "failures": ("--seeds", "2"),
    "journal": ("--trials", "50"),
    "kinds": ("--points", "1", "--seeds", "2"),
    "overhead": ("--trials", "4"),
    "packs": ("--at-once", "2", "--epochs", "1", "--rounds", "1"),
    "quality": (*TOY, "--picture", "quality.png"),
    "repeats": ("--trials", "1", "--rounds", "1"),
    "race": ("--data", "images", "--weights", "mobilenet.pt", "--splits", "1"),
    "scale": ("--trials", "8", "--at-once", "4", "--pause", "0"),
    "tabular": ("--data", "diabetes", "--splits", "1", "--trials", "2"),
    "throughput": ("--reports", "20"),
    "winner": ("--seeds", "1", "--data", "breast_cancer"),
    "transfer": ("--data", "images", "--weights", "mobilenet.pt", "--measured", "1", "1"),
}
MODULES = {"tables"}  # what others use


def bench(name: str, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        (sys.executable, str(FOLDER / f"{name}.py"), *arguments),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "PYTHONPATH": str(FOLDER)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_every_benchmark_is_in_the_table() -> None:
    assert {p.stem for p in FOLDER.glob("*.py")} == SMALLEST.keys() | MODULES


def test_the_default_search_is_replayed(tmp_path: Path) -> None:
    told = bench("quality", tmp_path, *TOY, "--only", *OURS)
    assert all(name in told for name in OURS) and "mean rank of 3, with curves, all workers" in told


def test_what_the_journal_costs_is_measured(tmp_path: Path) -> None:
    told = bench("journal", tmp_path, *SMALLEST["journal"])
    assert "a record" in told and "resuming" in told


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_a_benchmark_runs_in_its_smallest_form(name: str, here: Path) -> None:
    if name == "quality":
        pytest.importorskip("matplotlib")
    if name in {"extraction", "race", "transfer"}:
        material(here)
    assert bench(name, here, *SMALLEST[name]).strip()


def material(folder: Path) -> None:
    """Images of two classes, and a network that has learned nothing."""
    import numpy as np
    import torch
    from PIL import Image
    from torchvision import models

    rng = np.random.default_rng(0)
    for part, count in (("train", 40), ("val", 8)):
        for kind in ("ants", "bees"):
            place = folder / "images" / part / kind
            place.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.jpg")
    torch.save(models.mobilenet_v2().state_dict(), folder / "mobilenet.pt")

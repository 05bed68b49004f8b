"""A checkpoint is whole or does not count."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from raysweep.errors import StorageError
from raysweep.storage import checkpoints


def _content(epoch: int) -> dict[str, object]:
    return {"epoch": epoch, "states": [{"w": torch.full((3,), float(epoch))}]}


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _missing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [_truncate, _flip, _empty, _missing])
@pytest.mark.parametrize("suffix", [".pt", ".json"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    damage: Callable[[Path], None], suffix: str, tmp_path: Path
) -> None:
    for epoch in (3, 5):
        checkpoints.save(tmp_path, epoch, _content(epoch))
    damage(tmp_path / f"epoch-000005{suffix}")
    found = checkpoints.newest(tmp_path, at_most=9)
    assert found is not None and found["epoch"] == 3
    assert torch.equal(found["states"][0]["w"], torch.full((3,), 3.0))


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "inner/../../outside"])
def test_a_packed_folder_is_written_nowhere_else(name: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="holds a file outside its folder"):
        checkpoints.unpack(checkpoints.Files({name: b"x"}), tmp_path / "folder")
    assert not (tmp_path / "outside").exists()


def test_a_checkpoint_ahead_of_the_journal_is_passed_over(tmp_path: Path) -> None:
    for epoch in (3, 5):
        checkpoints.save(tmp_path, epoch, _content(epoch))
    found = checkpoints.newest(tmp_path, at_most=4)
    assert found is not None and found["epoch"] == 3
    assert checkpoints.newest(tmp_path, at_most=2) is None


def test_only_what_is_wanted_is_kept(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        checkpoints.save(tmp_path, epoch, _content(epoch))
    replaced = [1, 2, 3]
    checkpoints.settle(tmp_path, {1, 3}, replaced)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "epoch-000001.json",
        "epoch-000001.pt",
        "epoch-000003.json",
        "epoch-000003.pt",
    ]
    assert all(p.stat().st_mode & 0o77 == 0 for p in tmp_path.iterdir())


@pytest.mark.parametrize(
    "state",
    [{"n": np.float64(1)}, [{"deep": (1, {"n": np.int64(1)})}], {"p": Path("x")}],
    ids=["numpy", "deep", "path"],
)
def test_what_could_not_be_loaded_again_is_refused_at_every_write(state: object, tmp_path: Path) -> None:
    checkpoints.save(
        tmp_path, 1, {"epoch": 1, "states": [{"w": torch.ones(2), "n": 1.0, "t": (1, "a", None)}]}
    )
    with pytest.raises(TypeError, match="the state must hold tensors and plain types only") as error:
        checkpoints.save(tmp_path, 2, {"epoch": 2, "states": [state]})
    assert "\x1b" not in str(error.value)
    assert checkpoints.epochs(tmp_path) == [1] and not list(tmp_path.glob("*.part"))


def test_a_file_that_matches_but_cannot_be_loaded_is_passed_over(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, 1, _content(1))
    data, manifest = (tmp_path / name for name in checkpoints.file_names(2))
    torch.save({"epoch": 2, "n": np.float64(1)}, data)
    manifest.write_text(json.dumps({"sha256": hashlib.sha256(data.read_bytes()).hexdigest()}))
    found = checkpoints.newest(tmp_path, at_most=9)
    assert found is not None and found["epoch"] == 1
    assert (tmp_path / f"{data.name}.bad").exists()


def test_checkpoints_of_a_beaten_trial_do_not_come_back(tmp_path: Path) -> None:
    """Its worker holds an epoch that it has not written, when the trial is stopped and beaten."""
    from concurrent.futures import ThreadPoolExecutor

    from raysweep.execution.executions import Code, Job
    from raysweep.execution.lockstep import Lockstep, TrialEnds
    from raysweep.study.objective import Objective

    loss = Objective("loss", False)
    job = Job(
        code=Code("mlp"),
        gpus=0,
        objective=loss,
        folder=str(tmp_path),
        threads=1,
        data={},
        checkpoint_every=1e9,
    )
    executions = [iter([({"loss": 1.0 / e}, {"epoch": e}) for e in (1, 2, 3)])]
    with ThreadPoolExecutor(1) as settling:
        checkpoints.claim(tmp_path, 5)
        trial = Lockstep(executions, tmp_path, job, None, settling, 0, attempt=5)
        trial.advance()
        trial.save_when_due(1.0, now=True)
        trial.advance()
        trial.save_when_due(0.5, now=False)
        checkpoints.discard(tmp_path)
        with pytest.raises(TrialEnds):
            trial.flush()
    assert not list(tmp_path.glob("epoch-*"))


def test_a_full_disk_does_not_keep_a_beaten_trial_s_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.save(tmp_path, 1, _content(1))

    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.disk, "write", full)
    checkpoints.discard(tmp_path)
    assert not list(tmp_path.glob("epoch-*"))


def test_a_tensor_with_something_attached_is_seen_before_it_is_lost(tmp_path: Path) -> None:
    weights = torch.ones(2)
    weights.note = Path("x")  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="the state must hold tensors and plain types only"):
        checkpoints.save(tmp_path, 1, {"w": weights})
    model = torch.nn.Linear(2, 2)
    checkpoints.save(tmp_path, 2, {"model": model.state_dict(), "n": 1 << 80})
    assert checkpoints.load(tmp_path, 2) is not None


def test_a_copy_is_of_the_same_kind_and_does_not_change_with_the_training() -> None:
    from collections import namedtuple

    Pair = namedtuple("Pair", "w n")
    weights = torch.ones(3)
    copy = checkpoints.snapshot({"a": [weights, Pair(weights, 1)], "b": (weights, "x")})
    weights += 1
    assert copy["a"][1].n == 1 and type(copy["a"][1]) is Pair
    assert all(torch.equal(t, torch.ones(3)) for t in (copy["a"][0], copy["a"][1].w, copy["b"][0]))

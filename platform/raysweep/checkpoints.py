"""The checkpoints of one trial: files that are whole or do not count.

`epoch-000003.pt` holds tensors and plain types only; `epoch-000003.json`, written after it, holds its SHA-256.
A file that does not match is passed over for the one before it. (Ray Tune's own checkpoints are not used: their
numbering starts over with every driver, writing over older ones in place, and a flipped byte goes unseen.)
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

SUFFIXES = (".pt", ".json")
CLAIM = "attempt"


def save(folder: Path, epoch: int, content: dict[str, Any], verify: bool = False) -> None:
    """Write `content` as the checkpoint of `epoch`. `verify` first sees that it can be loaded again: raises
    TypeError when it holds anything but tensors and plain types."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    if verify:
        try:
            torch.load(io.BytesIO(buffer.getbuffer()), weights_only=True, map_location="cpu")
        except pickle.UnpicklingError as error:
            what = str(error).splitlines()[0]
            raise TypeError(f"the state must hold tensors and plain types only ({what})") from None
    data = buffer.getbuffer()
    stem = folder / f"epoch-{epoch:06d}"
    manifest = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    _write(stem.with_suffix(".pt"), data)
    _write(stem.with_suffix(".json"), json.dumps(manifest).encode())


def _write(path: Path, data: bytes | memoryview) -> None:
    temporary = path.with_suffix(path.suffix + ".part")
    try:
        with open(temporary, "wb", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
            file.write(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # half a file takes room and helps nobody
        raise


def epochs(folder: Path) -> list[int]:
    """The epochs that have a checkpoint, newest first."""
    return sorted((int(p.stem.removeprefix("epoch-")) for p in folder.glob("epoch-*.json")), reverse=True)


def load(folder: Path, epoch: int) -> dict[str, Any] | None:
    """The checkpoint of `epoch`, or None when it is missing or damaged."""
    stem = folder / f"epoch-{epoch:06d}"
    try:
        manifest = json.loads(stem.with_suffix(".json").read_bytes())
        data = stem.with_suffix(".pt").read_bytes()
    except (OSError, ValueError):
        return None
    if hashlib.sha256(data).hexdigest() != manifest.get("sha256"):
        return None
    content: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    return content


def newest(folder: Path, at_most: int) -> dict[str, Any] | None:
    """The newest checkpoint that is whole and not of an epoch after `at_most`, or None.

    Those after it that are damaged are set aside as `.bad`, for a person to look at.
    """
    for epoch in epochs(folder):
        if epoch > at_most:
            continue
        content = load(folder, epoch)
        if content is not None:
            return content
        for suffix in SUFFIXES:
            stem = folder / f"epoch-{epoch:06d}{suffix}"
            with suppress(FileNotFoundError):
                stem.replace(stem.with_name(f"{stem.name}.bad"))
    return None


def claim(folder: Path, attempt: int) -> None:
    """Make the checkpoints of a trial those of this attempt: an earlier one that still runs somewhere, cut off
    from the search, must write no more."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(folder / CLAIM, str(attempt).encode())


def claimed(folder: Path) -> int:
    """The attempt whose checkpoints these are; 0 when nobody said."""
    try:
        return int((folder / CLAIM).read_text())
    except (OSError, ValueError):
        return 0


def settle(folder: Path, kept: Collection[int], replaced: Collection[int]) -> None:
    """Bring the checkpoints of the epochs `kept` to the disk, and only then delete those that they have `replaced`:
    not all others, since a newer one may be there by then.

    Apart from `save`, since a disk may take its time and a training need not wait for it: what a power failure
    tears is seen by its hash, and the checkpoint before it is still there.
    """
    for epoch in kept:
        for suffix in SUFFIXES:
            with suppress(FileNotFoundError), (folder / f"epoch-{epoch:06d}{suffix}").open("rb") as file:
                os.fsync(file.fileno())
    for epoch in set(replaced) - set(kept):
        for suffix in SUFFIXES:
            (folder / f"epoch-{epoch:06d}{suffix}").unlink(missing_ok=True)


def copied(value: Any) -> Any:
    """A deep copy whose tensors no longer change with the training."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {k: copied(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(v) for v in value)
    return value

"""The checkpoints of one trial. Incomplete or damaged files do not count.

`epoch-000003.pt` holds tensors and plain types only; `epoch-000003.json`, written after it, holds its SHA-256.
If a file does not match, the checkpoint before it is used. (Ray Tune's own checkpoints are not used: their
numbering restarts with every driver and overwrites older ones in place, and a flipped byte goes unnoticed.)

torch is imported only where it is needed: a search only deletes checkpoints and does not need it.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections import OrderedDict
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from raysweep.errors import StorageError
from raysweep.storage import disk, output

SUFFIXES = (".pt", ".json")
CLAIM = "attempt"
OVER = 10**15  # later than every attempt: nobody may write any more
CHUNK = 1 << 20
PLAIN = (bool, int, float, complex, str, bytes, type(None))


def trial_folder(study: str | Path, number: int) -> Path:
    """The folder of a trial in its study's: its checkpoints, and what it has printed."""
    return Path(study) / "trials" / f"{number:06d}"


def file_names(epoch: int) -> list[str]:
    """The files of an epoch's checkpoint, the data first."""
    return [f"epoch-{epoch:06d}{suffix}" for suffix in SUFFIXES]


def save(folder: Path, epoch: int, content: dict[str, Any]) -> None:
    """Write `content` as the checkpoint of `epoch`. Raises TypeError when it holds anything but tensors and
    plain types: other types could not be loaded again."""
    import torch

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    data, manifest = (folder / name for name in file_names(epoch))
    try:
        checked = _is_plain(content)
    except RecursionError:
        checked = False
    with disk.replacing(data, sync=False) as file:
        hashed = _Hashed(file)
        try:
            torch.save(content, cast(IO[bytes], hashed))  # writes, and no more
            if not checked:
                file.flush()
                torch.load(file.name, weights_only=True, map_location="cpu")
        except (TypeError, AttributeError, pickle.PickleError) as error:
            raise TypeError(
                f"the state must hold tensors and plain types only: {_culprit(content)}"
            ) from error
    about = {"sha256": hashed.digest.hexdigest(), "bytes": hashed.bytes}
    disk.write(manifest, json.dumps(about | {"best_epoch": content.get("best_epoch")}), sync=False)


class _Hashed:
    """A file that hashes what is written to it: the state is never in memory twice."""

    def __init__(self, file: BinaryIO):
        self._file, self.digest, self.bytes = file, hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.bytes += len(memoryview(data).cast("B"))
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _is_plain(value: Any) -> bool:
    """Whether a state holds only types that every torch loads. Types must match exactly, since a NumPy float
    is a float, too. Values may carry no attributes except those that PyTorch adds to a state dict."""
    import torch

    if type(value) in {dict, OrderedDict}:
        own = vars(value).keys() <= {"_metadata"} if type(value) is OrderedDict else True
        return own and all(type(k) in PLAIN and _is_plain(v) for k, v in value.items())
    if type(value) in {list, tuple}:
        return all(map(_is_plain, value))
    if type(value) is int:
        return abs(value) < 1 << 63
    return type(value) in PLAIN or (
        type(value) in {torch.Tensor, torch.nn.Parameter}
        and not vars(value)
        and value.layout == torch.strided
    )


def _culprit(content: Mapping[str, Any]) -> str:
    """What of the states cannot be stored, and what to do: `state['net'] is a Net`."""
    left = [("state", state) for state in content.get("states", [content])]
    for where, value in left:  # grows
        if isinstance(value, dict):
            left += [(f"{where}[{k!r}]", v) for k, v in value.items()]
        elif isinstance(value, list | tuple):
            left += [(f"{where}[{i}]", v) for i, v in enumerate(value)]
        elif not _is_plain(value):
            more = ". Yield its state_dict()" if hasattr(value, "state_dict") else ""
            return f"{where} is a {type(value).__name__}{more}"
    return "it holds a type that torch.load does not take"


def epochs(folder: Path) -> list[int]:
    """The epochs that have a checkpoint, newest first."""
    return sorted((int(p.stem.removeprefix("epoch-")) for p in folder.glob("epoch-*.json")), reverse=True)


def load(folder: Path, epoch: int) -> dict[str, Any] | None:
    """The checkpoint of `epoch`, or None when it is missing, damaged, or of types that cannot be loaded."""
    import torch

    data, manifest = (folder / name for name in file_names(epoch))
    try:
        known = json.loads(manifest.read_bytes()).get("sha256")
        if _digest(data) != known:
            return None
        content: dict[str, Any] = torch.load(data, weights_only=True, map_location="cpu")
        return content
    except (OSError, ValueError, AttributeError, EOFError, RuntimeError, pickle.UnpicklingError):
        return None


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            digest.update(data)
    return digest.hexdigest()


def newest(folder: Path, at_most: int) -> dict[str, Any] | None:
    """The newest intact checkpoint of an epoch up to `at_most`, or None.

    Newer ones that are damaged are renamed to `.bad`, for a person to inspect.
    """
    for epoch in epochs(folder):
        if epoch > at_most:
            continue
        content = load(folder, epoch)
        if content is not None:
            return content
        for name in file_names(epoch):
            with suppress(FileNotFoundError):
                (folder / name).replace(folder / f"{name}.bad")
    return None


def best(folder: Path, epoch: int) -> int | None:
    """The epoch of the checkpoint to use where `epoch` was the best: this one, or, of a training that does not
    write one every epoch, the best that it wrote, as its newest says. None if there is no checkpoint."""
    there = epochs(folder)
    if epoch in there or not there:
        return epoch if there else None
    with suppress(OSError, ValueError):
        found: int | None = json.loads((folder / file_names(there[0])[1]).read_bytes()).get("best_epoch")
        return found
    return None


def claim(folder: Path, attempt: int) -> None:
    """Claim a trial's checkpoints for this attempt. An earlier attempt that still runs somewhere, cut off
    from the search, must not write any more."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    disk.write(folder / CLAIM, str(attempt), sync=False)


def claimed(folder: Path) -> int:
    """The attempt that has claimed the checkpoints; 0 if none has."""
    try:
        return int((folder / CLAIM).read_text())
    except (OSError, ValueError):
        return 0


def discard(folder: Path) -> None:
    """Delete a trial's checkpoints. A worker that still holds its last epoch must not write it."""
    if not folder.exists():
        return
    for path in folder.glob("epoch-*"):
        with suppress(OSError):  # the end of the search sweeps once more
            path.unlink(missing_ok=True)
    with suppress(OSError):
        claim(folder, OVER)


def remove(folder: Path) -> None:
    """Delete everything in a trial's folder but what the trial has printed."""
    with suppress(OSError):  # the next session sweeps again
        for path in folder.iterdir():
            if path.name != output.FILE:
                path.unlink()
        folder.rmdir()


def settle(folder: Path, kept: Collection[int], replaced: Collection[int]) -> None:
    """Flush the checkpoints of the epochs `kept` to disk, and only then delete those that they have
    `replaced`. Others stay, since a newer one may exist by then.

    Separate from `save`, since a disk may be slow and training need not wait for it. If a power failure tears
    a checkpoint, its hash shows it, and the checkpoint before it is still there.
    """
    for name in (name for epoch in kept for name in file_names(epoch)):
        with suppress(FileNotFoundError), (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    for epoch in set(replaced) - set(kept):
        for name in file_names(epoch):
            (folder / name).unlink(missing_ok=True)


def snapshot(value: Any) -> Any:
    """A deep copy whose tensors no longer change with the training."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {k: snapshot(v) for k, v in value.items()}
    if isinstance(value, list):
        return [snapshot(v) for v in value]
    if isinstance(value, tuple):
        parts = map(snapshot, value)
        return value._make(parts) if hasattr(value, "_make") else tuple(parts)
    return value


# --- a folder as a state: the checkpoint of a Ray Tune function ------------------------------------------------

FILES = "files of a checkpoint"


def pack(folder: Path) -> dict[str, Any]:
    """All files of a folder as a state. It is in memory once."""
    import numpy
    import torch

    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    content = (torch.from_numpy(numpy.fromfile(p, numpy.uint8)) for p in paths)
    return {FILES: dict(zip((str(p.relative_to(folder)) for p in paths), content, strict=True))}


def is_packed(state: Any) -> bool:
    """Whether a state is a packed folder."""
    return isinstance(state, dict) and state.keys() == {FILES}


class Files(dict[str, bytes]):
    """The files of a packed folder, by their relative paths."""


def files(state: Any) -> Files:
    """The files of a packed folder."""
    return Files((name, content.numpy().tobytes()) for name, content in state[FILES].items())


def unpack(content: Files, folder: Path) -> None:
    """Write these files into `folder`. Raises StorageError when a name leads elsewhere: a checkpoint may have
    come from a mirror."""
    for name, data in content.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise StorageError(f"a checkpoint holds a file outside its folder: {name}. It is not written")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def best_state(folder: Path, epoch: int) -> Any:
    """The state of a trial's best execution at its best epoch, or its files if it is a packed folder; None if
    there is none. Raises StorageError when it is damaged."""
    found = best(folder, epoch)
    if found is None:
        return None
    saved = load(folder, found)
    if saved is None:
        raise StorageError(f"the checkpoint of epoch {found} in {folder} is damaged")
    state = saved["states"][saved["best_execution"]]
    return files(state) if is_packed(state) else state


def best_execution(folder: Path, epoch: int) -> int:
    """Which of a trial's executions was the best at its best epoch."""
    found = best(folder, epoch)
    saved = load(folder, found) if found is not None else None
    return int(saved["best_execution"]) if saved else 0


def write_state(state: Any, path: Path) -> None:
    """Write a state to a file, for torch.load; files into a folder of that name; nothing if there is no state."""
    import torch

    if isinstance(state, Files):
        unpack(state, path)
    elif state is not None:
        torch.save(state, path)

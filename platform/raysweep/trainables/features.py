"""A cache of a frozen network's features of a data set, computed once: an array on disk that every trial
maps.

An entry is named by the hash of everything that determines it (weights, cut, transform, data, versions ...),
so it is never stale. All processes that need it fill it, shard by shard. Each claims a shard with a file
lock, which is released if the process dies; finished shards are kept. So trials of one study, or of two, that
need the same features at once need no coordination.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from raysweep.errors import DataError
from raysweep.storage import disk
from raysweep.storage.lock import file_lock
from raysweep.trainables.trainable import SHARD

Array = np.ndarray[Any, np.dtype[Any]]

FORMAT = 1  # increased when the same description gives other numbers: blocks cut elsewhere, say
WAIT = 0.2  # seconds between two checks of shards that other processes have claimed
CACHE = Path(os.environ.get("RAYSWEEP_CACHE") or Path.home() / ".cache" / "raysweep" / "features")
VERSIONS = ("torch", "torchvision", "pillow", "numpy")


class TooLargeError(DataError):
    """An entry that does not fit in the cache even if everything else is deleted."""


_version = functools.cache(importlib.metadata.version)  # it reads files, for every trial


class Features:
    """One entry: rows of one shape and type, as many as the data set has samples."""

    def __init__(
        self,
        about: dict[str, Any],
        rows: int,
        describe: Callable[[], tuple[tuple[int, ...], str]],
        root: Path = CACHE,
        limit: float = float("inf"),
    ):
        """Open the entry of `about` under `root`, or create it with the row shape and type from `describe`.
        `packages` in `about` names further packages whose versions count. To stay below `limit` bytes, unused
        entries are deleted, the least recently used first.

        Raises TooLargeError when the entry would not fit at all, DataError when the disk has no room.
        """
        about = {"format": FORMAT, "shard": SHARD, **about}
        about["versions"] = {p: _version(p) for p in (*VERSIONS, *about.pop("packages", ()))}
        self.key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        self.folder, self.count = root / self.key[:32], rows
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._use: int | None = None
        with file_lock(root / "lock"):
            if not all((self.folder / name).exists() for name in ("about.json", "rows", "done")):
                self._begin(about, *describe(), root, limit)
            known = json.loads((self.folder / "about.json").read_text())
            self.shape, self.dtype = tuple(known["shape"]), np.dtype(known["dtype"])
            self._refuse(self.size, limit)
            self._hold()

    def _begin(
        self, about: dict[str, Any], shape: tuple[int, ...], dtype: str, root: Path, limit: float
    ) -> None:
        size = self.count * int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._refuse(size, limit)
        _evict(root, min(limit - size, _taken(root) + shutil.disk_usage(root).free - size - disk.FLOOR))
        if shutil.disk_usage(root).free < size or not disk.has_room(root):
            raise DataError(f"features: {size / 1e9:.1f} GB are needed in {root}; {disk.space_left(root)}")
        # Remove what a killed process has left half-written or half-deleted.
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "done").mkdir(parents=True, mode=0o700)
        with (self.folder / "rows").open("wb") as file:
            file.truncate(size)
        text = json.dumps({**about, "shape": list(shape), "dtype": dtype}, indent=2)
        disk.write(self.folder / "about.json", text, sync=False)  # last: an entry that is there is whole

    def _refuse(self, size: int, limit: float) -> None:
        if size > limit:
            raise TooLargeError(
                f"features: {self.count:,} rows take {size / 1e9:.1f} GB, more than cache_gb allows ({limit / 1e9:g})."
                " Raise cache_gb, use pooling: average, or unfreeze more"
            )

    def _hold(self) -> None:
        """Mark the entry as in use until this process ends."""
        self._use = os.open(self.folder / "use", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._use, fcntl.LOCK_SH)
        os.utime(self.folder / "use")

    def close(self) -> None:
        """Release the entry, so that it may be deleted to make room. Mapped arrays stay valid."""
        if self._use is not None:
            os.close(self._use)
            self._use = None

    @property
    def size(self) -> int:
        """Bytes."""
        total: int = self.count * int(np.prod(self.shape)) * self.dtype.itemsize
        return total

    def pending(self) -> list[int]:
        """The shards that are not there yet."""
        done = {p.name for p in (self.folder / "done").iterdir()}
        return [i for i in range(-(-self.count // SHARD)) if f"{i:06d}" not in done]

    def fill(self, shard: int, compute: Callable[[Array], Array]) -> int:
        """Compute a shard unless it exists or another process computes it. Return the number of rows
        computed. `compute` gets the numbers of rows, in ascending order.

        Raises DataError when the results are not finite, or too large for the type.
        """
        mark = self.folder / "done" / f"{shard:06d}"
        with _claimed(self.folder / f"claim-{shard:06d}") as mine:
            if not mine or mark.exists():
                return 0
            part = np.arange(shard * SHARD, min((shard + 1) * SHARD, self.count))
            missing = np.setdiff1d(part, self._sampled())
            data = self._fitting(compute(missing)) if len(missing) else None
            with file_lock(self.folder / "lock"):
                if data is not None:
                    self._write(missing, data)
                disk.write(mark, str(zlib.crc32(self.rows()[part].data)), sync=False)
            return len(missing)

    def sample(self, rows: Array, compute: Callable[[Array], Array]) -> Array:
        """Some rows, by their numbers in ascending order. Those that are missing are computed, and need not be computed
        again when their shard is."""
        missing = self._missing(rows)
        if len(missing):
            data = self._fitting(compute(missing))
            with file_lock(self.folder / "lock"):
                left = np.isin(missing, self._missing(missing))  # others may have written some meanwhile
                if left.any():
                    self._keep(missing[left], data[left])
        found: Array = self.rows()[rows]
        return found

    def _missing(self, rows: Array) -> Array:
        return np.setdiff1d(rows, np.concatenate([self._sampled(), self._in_shards()]))

    def _keep(self, rows: Array, data: Array) -> None:
        """Write rows of a sample, and that they are there."""
        self._write(rows, data)
        name = hashlib.sha256(rows.tobytes()).hexdigest()[:32]
        about = {"rows": rows.tolist(), "crc": zlib.crc32(data.data)}
        disk.write(self.folder / "done" / f"{name}.sample", json.dumps(about), sync=False)

    def _sampled(self) -> Array:
        """The numbers of the rows that are there as part of a sample, and whole."""
        found, rows = [np.zeros(0, int)], self.rows()
        for path in (self.folder / "done").glob("*.sample"):
            with suppress(ValueError, KeyError):  # a file that was not written whole counts for nothing
                about = json.loads(path.read_text())
                if zlib.crc32(rows[about["rows"]].data) == about["crc"]:
                    found.append(np.asarray(about["rows"]))
        return np.concatenate(found)

    def _in_shards(self) -> Array:
        """The numbers of the rows whose shard is there."""
        every = np.arange(self.count)
        return every[~np.isin(every // SHARD, self.pending())]

    def _fitting(self, data: Array) -> Array:
        """Rows as they are kept. Raises DataError for numbers that cannot be."""
        with np.errstate(over="ignore"):
            data = np.ascontiguousarray(data, dtype=self.dtype)
        if data.dtype.kind == "f" and not np.isfinite(data).all():
            raise DataError(f"features: numbers came out that {self.dtype} cannot hold. Use float32")
        return data

    def _write(self, rows: Array, data: Array) -> None:
        with (self.folder / "rows").open("r+b") as file:
            for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
                file.seek(int(rows[run[0]]) * data[0].nbytes)
                file.write(data[run].data)  # not mapped, so that a full disk raises an error
            file.flush()
            os.fsync(file.fileno())

    def complete(self, compute: Callable[[Array], Array]) -> int:
        """Compute shards until all exist. Return the number of rows computed here."""
        computed = 0
        while pending := self.pending():
            made = sum(self.fill(shard, compute) for shard in pending)
            computed += made
            if not made and self.pending() == pending:
                time.sleep(WAIT)
        return computed

    def verify(self) -> None:
        """Discard the shards whose bytes differ from what was written."""
        rows = np.memmap(self.folder / "rows", dtype=np.uint8, mode="r")
        step = SHARD * self.size // max(1, self.count)
        for mark in [m for m in (self.folder / "done").iterdir() if not m.suffix]:
            start = int(mark.name) * step
            if mark.read_text() != str(zlib.crc32(rows[start : start + step].data)):
                mark.unlink(missing_ok=True)

    def rows(self) -> Array:
        """All of it `[rows, *shape]`, mapped read-only: processes of one machine share the memory."""
        return np.memmap(self.folder / "rows", self.dtype, "r", shape=(self.count, *self.shape))


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Claim `path`: whether this process got it. The file is removed when the claim ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
        path.unlink(missing_ok=True)


def _evict(root: Path, limit: float) -> None:
    """Delete entries until the others take no more than `limit` bytes, the least recently used first."""
    for entry in sorted((f for f in root.iterdir() if f.is_dir()), key=_used):
        if _taken(root) <= limit:
            return
        with suppress(OSError), (entry / "use").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError if it is in use
            shutil.rmtree(entry)


def _taken(root: Path) -> int:
    return sum(p.stat().st_size for p in root.glob("*/rows"))


def _used(entry: Path) -> float:
    try:
        return (entry / "use").stat().st_mtime
    except OSError:
        return 0.0  # it was killed while it was begun

"""A copy of a study on other storage (`s3://`, `gs://`, another disk): its journal, a few seconds behind, and
the checkpoints that it keeps. If a machine is lost with its disk, only what was not copied yet is lost.

The copy holds the journal in parts, because object stores cannot append. Part i holds the bytes from i * PART
on, so only the last part is ever rewritten. Two machines never write to one copy: `holder.json` says whose it
is, and the storage's own clock gives the age of that file.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from raysweep.errors import StorageError, scrubbed
from raysweep.journal.records import FILE, parse
from raysweep.storage import disk
from raysweep.storage.background import Background
from raysweep.storage.lock import STALE, in_use

EVERY = 4.0  # seconds between two looks at the journal
PART = 1 << 20
CHUNK = 8 << 20  # bytes of a checkpoint that are written before the journal is looked at again
DRAIN = 60.0  # seconds that the end of a search waits for the copy
KEPT = ("trials/*/epoch-*", "trials/*/log.txt", "best/**/*", "weights/**/*")


class Mirror:
    """Keeps the copy at `uri`/NAME while the study in `place` is run by this process."""

    def __init__(self, place: Path, uri: str, say: Callable[[str], None]):
        """Raises StorageError when the copy cannot be written to, or belongs to another study or machine."""
        self._place, self._uri, self._say = place, scrubbed(uri), say
        self._files, self._base = _opened(uri, place.name)
        self._refuse_held()
        there, here = _journal(self._files, self._base), (place / FILE).read_bytes()
        begun = any(record["kind"] == "asked" for record, _ in parse(there))
        if begun and not here.startswith(there):
            raise StorageError(
                f"{self._uri} holds a study '{place.name}' that is not the one in {place}: another of that name,"
                " or it went on elsewhere. Use another mirror or name, or delete the folder that is wrong"
            )
        self._sent, self._looked, self._held = 0, 0.0, False
        self._known: dict[str, Any] = dict.fromkeys(_names(self._files, self._base))
        self._behind = False
        self._copying = Background(f"The mirror at {self._uri} falls behind", self._step, EVERY, say)
        self._hold(os.getpid())

    def start(self) -> None:
        """Begin to copy."""
        self._copying.start()

    def close(self) -> None:
        """Copy the rest, and release the copy. Says so if that takes too long."""
        if not self._copying.started:
            return
        end = time.monotonic() + DRAIN
        whole = self._copying.close(DRAIN) and self._copying.once()
        while not whole and time.monotonic() < end:
            time.sleep(1.0)
            whole = self._copying.once()
        size = (self._place / FILE).stat().st_size
        if not whole or self._sent < size:
            self._say(
                f"The mirror at {self._uri} has {self._sent:,} of {size:,} bytes of the journal."
                f" Bring it the rest with: raysweep resume {self._place.name}"
            )
            return
        try:
            self._hold(0)
        except (OSError, ValueError) as error:
            self._say(f"The mirror at {self._uri} was not released ({error}): it is free in {STALE:.0f} s.")

    def _step(self) -> None:
        behind, self._behind = self._behind, True
        self._journal()
        found = self._copy_new()
        self._journal()  # which must not be behind the checkpoints: one of an unreported epoch does not count
        self._delete_old(found)
        self._behind = False
        if behind:
            self._say(f"The mirror at {self._uri} has caught up.")

    def _journal(self) -> None:
        self._looked = time.monotonic()
        self._hold(os.getpid())
        with (self._place / FILE).open("rb") as file:
            start = file.seek(self._sent // PART * PART)
            while data := file.read(PART):
                if start + len(data) > self._sent:
                    self._write(_part(start), data)
                start += len(data)
                self._sent = start
                if start % PART:
                    break  # the next look copies what came meanwhile: a part begins at a multiple of its size

    def _copy_new(self) -> Collection[str]:
        """Copy new files, data before the manifest that makes it count. Returns the names of all."""
        found = {
            p.relative_to(self._place).as_posix(): p
            for k in KEPT
            for p in self._place.glob(k)
            if p.is_file() and p.suffix != ".part"
        }
        for name in sorted(found, key=lambda n: (n.endswith(".json"), n)):
            with suppress(FileNotFoundError):  # it has just been deleted
                about = found[name].stat()
                seen = (about.st_size, about.st_mtime_ns)
                if self._known.get(name) != seen:
                    self._copy(found[name], name)
                    self._known[name] = seen
        return found.keys()

    def _delete_old(self, found: Collection[str]) -> None:
        """Delete what was deleted here."""
        for name in sorted(self._known.keys() - set(found), key=lambda n: (not n.endswith(".json"), n)):
            with suppress(FileNotFoundError):
                self._files.delete_file(f"{self._base}/{name}")
            del self._known[name]

    def _copy(self, path: Path, name: str) -> None:
        with path.open("rb") as file:
            self._make_room_for(name)
            with self._files.open_output_stream(f"{self._base}/{name}") as out:
                while data := file.read(CHUNK):
                    out.write(data)
                    if time.monotonic() - self._looked > EVERY:
                        self._journal()

    def _write(self, name: str, data: bytes) -> None:
        self._make_room_for(name)
        with self._files.open_output_stream(f"{self._base}/{name}") as out:
            out.write(data)

    def _make_room_for(self, name: str) -> None:
        self._files.create_dir(f"{self._base}/{name}".rpartition("/")[0], recursive=True)

    # --- whose it is -------------------------------------------------------------------------------------------

    def _hold(self, pid: int) -> None:
        """Mark the copy as ours. If another machine has taken it over, leave it alone and raise OSError."""
        who = {"host": platform.node(), "place": str(self._place), "pid": pid}
        if self._held:
            held = self._files.get_file_info(f"{self._base}/holder.json")
            now = _holder(_read(self._files, held.path)) if held.is_file else who
            if now and (now["host"], now["place"]) != (who["host"], who["place"]):
                raise OSError(f"process {now['pid']} on {now['host']} has taken it over")
        self._held = True
        self._write("holder.json", json.dumps(who).encode())

    def _refuse_held(self) -> None:
        """Raise StorageError while another machine holds this copy, or if the copy cannot be written to."""
        try:
            self._write("probe", b"")
            now, held = self._files.get_file_info([f"{self._base}/probe", f"{self._base}/holder.json"])
            self._files.delete_file(now.path)
            who = _holder(_read(self._files, held.path)) if held.is_file else {}
        except OSError as error:
            what = " ".join(str(error).split())[:300]
            raise StorageError(f"{self._uri} cannot be written to: {what}") from None
        age = (now.mtime_ns - held.mtime_ns) / 1e9 if held.is_file else STALE
        mine = (who.get("host"), who.get("place")) == (platform.node(), str(self._place))
        if who.get("pid") and not mine and age < STALE:
            raise StorageError(
                f"{self._uri} is the mirror of '{self._place.name}' as process {who['pid']} on {who['host']} runs it,"
                f" heard of {age:.0f} s ago. If that machine is gone, try again in {STALE:.0f} s"
            )


def _holder(data: bytes) -> dict[str, Any]:
    """Who holds a copy; empty if that cannot be read: a torn write, which the next one repairs."""
    try:
        who = json.loads(data)
    except ValueError:
        return {}
    return who if isinstance(who, dict) and {"host", "place", "pid"} <= who.keys() else {}


def fetch(place: Path, uri: str) -> bool:
    """Update the study in `place` from its copy at `uri`, if the copy has more. Returns whether it did.

    Raises StorageError when the storage cannot be read. A copy that differs is left for `Mirror` to refuse.
    """
    path = place / FILE
    if path.exists() and in_use(path):
        return False
    files, base = _opened(uri, place.name)
    try:
        there, here = _journal(files, base), path.read_bytes() if path.exists() else b""
        if len(there) <= len(here) or not there.startswith(here):
            return False
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in _names(files, base):
            own = place / name
            if not own.resolve().is_relative_to(place.resolve()):
                raise StorageError(f"{scrubbed(uri)} holds a file that would lie outside the study: {name}")
            own.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            disk.write(own, _read(files, f"{base}/{name}"))
    except OSError as error:
        raise StorageError(f"{scrubbed(uri)} cannot be read: {' '.join(str(error).split())[:300]}") from None
    disk.write(path, there)  # last: a study whose journal is here has all that it needs
    return True


def _opened(uri: str, name: str) -> tuple[Any, str]:
    """The file system of `uri`, and the folder of a study in it."""
    from pyarrow import ArrowInvalid, fs

    try:
        files, base = fs.FileSystem.from_uri(uri)
    except (ArrowInvalid, OSError) as error:
        raise StorageError(
            f"'{scrubbed(uri)}' is no place for a mirror, as s3://bucket/folder: {error}"
        ) from None
    return files, f"{base.rstrip('/')}/{name}"


def _part(start: int) -> str:
    return f"journal/{start // PART:06d}"


def _journal(files: Any, base: str) -> bytes:
    """The longest valid prefix of the journal that a copy holds."""
    parts = iter(_listed(files, f"{base}/journal"))
    data = b"".join(_read(files, path) for path in parts)
    return data[: max((end for _, end in parse(data)), default=0)]


def _names(files: Any, base: str) -> list[str]:
    """The other files of a copy, data before manifests."""
    paths = [p for top in ("trials", "best", "weights") for p in _listed(files, f"{base}/{top}")]
    return sorted((p[p.rindex(base) + len(base) + 1 :] for p in paths), key=lambda n: n.endswith(".json"))


def _listed(files: Any, folder: str) -> Iterator[str]:
    from pyarrow import fs

    found = files.get_file_info(fs.FileSelector(folder, allow_not_found=True, recursive=True))
    yield from sorted(f.path for f in found if f.is_file)


def _read(files: Any, path: str) -> bytes:
    with files.open_input_stream(path) as file:
        data: bytes = file.read()
        return data

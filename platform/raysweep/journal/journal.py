"""The append-only record of a study, open for writing. It is the source of truth: every table, MLflow run and
resumed search is computed from it.

A line is handed to the operating system before `append` returns, so nothing is lost if the process dies. A
thread flushes it to disk within SYNC seconds; a power failure may lose that much.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raysweep.errors import JournalError
from raysweep.journal.history import History
from raysweep.journal.records import FILE, Record, line, parse, read
from raysweep.storage import disk
from raysweep.storage.background import Background
from raysweep.storage.lock import HEARTBEAT, STALE, Holder, Lock, holder, in_use
from raysweep.trial import Trial

SYNC = 0.25
SILENT = 300.0  # seconds without a heartbeat of our own until we give up
FULL = 1.0  # seconds between two tries to write to a disk that is full


def running(folder: Path) -> Holder | None:
    """Who runs the study in `folder` now, on this machine or on one that shares the folder."""
    last = holder(folder)
    if last is None or not last.pid:
        return None
    if last.host == platform.node():
        return last if in_use(folder / FILE) else None
    return last if time.time() - last.heartbeat < STALE else None


class Journal:
    """The journal of one study, open for writing by this process alone."""

    def __init__(self, folder: Path):
        """Open (or begin) the journal in `folder`. Raises JournalError if another process has it open."""
        self.path = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _private(folder)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise JournalError(f"{folder} cannot be used for a study: {error.strerror}") from None
        try:
            self._lock = Lock(folder, self._file)
        except BaseException:
            os.close(self._file)
            raise
        records, self._end = read(self.path)
        self.history = History(records)
        os.ftruncate(self._file, self._end)  # a torn last line would hide what is written after it
        self.lock = threading.RLock()
        self._usurper: Holder | None = None
        self._closed = False
        self._dirty = False
        self._beaten = time.time()  # not monotonic: a machine that sleeps gives no sign of life
        self._syncer = Background("The journal", self._sync, SYNC, _warn)
        self._heart = Background("The study's heartbeat", self._beat, HEARTBEAT, _warn)
        self._syncer.start()
        self._heart.start()

    @property
    def fence(self) -> int:
        """How many processes have held this study, including this one."""
        return self._lock.fence

    def replay(self) -> Iterator[tuple[Record, History]]:
        """Every record, with the history up to it."""
        history = History()
        with self.path.open("rb") as file:
            data = file.read(self._end)
        for record, _ in parse(data):
            history.add(record)
            yield record, history

    def append(self, kind: str, **fields: Any) -> Record:
        """Record one thing that happened, now. Returns the record."""
        record = {"kind": kind, "time": time.time(), **fields}
        self._see_that_it_is_ours()
        with self.lock:
            if self._closed:
                raise JournalError(f"{self.path} is closed")
            data = line(record)
            self._write(data)
            self._end += len(data)
            self.history.add(record)
            self._dirty = True
        return record

    def _see_that_it_is_ours(self) -> None:
        """Raise JournalError if another process has taken the study over. When our heartbeat is late, one may
        have: then wait until a heartbeat succeeds, for as long as the disk is full, or else for some
        minutes."""
        while self._usurper is None and time.time() - self._beaten > STALE / 2:
            if self._heart.once():
                continue
            if not disk.is_full(self._heart.error) and time.time() - self._beaten > SILENT:
                raise JournalError(f"{self.path.parent} cannot be written to: {self._heart.error}")
            time.sleep(FULL)
        if self._usurper is not None:
            raise JournalError(f"study '{self.path.parent.name}' was taken over by {self._usurper}")

    def _write(self, data: bytes) -> None:
        """Write a whole line. While the disk is full, wait for room: no record may be lost."""
        told = False
        while True:
            try:
                if os.write(self._file, data) == len(data):
                    return
            except OSError as error:
                if not disk.is_full(error):
                    raise
            os.ftruncate(self._file, self._end)
            if not told:
                print(f"The disk is full. Waiting for room to write {self.path}", file=sys.stderr, flush=True)
                told = True
            time.sleep(FULL)

    @property
    def trials(self) -> list[Trial]:
        """All trials as they stand."""
        with self.lock:
            return self.history.trials

    def trial(self, number: int) -> Trial:
        """One trial as it stands."""
        with self.lock:
            return self.history.trial(number)

    def begin_session(self, argv: list[str], store: str = "", mirror: str = "", code: str = "") -> None:
        """Record that this process now runs the study; `code` is the digest of its code."""
        where = {"store": store, "mirror": mirror, "code": code}
        self.append("session", pid=os.getpid(), host=platform.node(), argv=argv, **where)

    def reset(self) -> None:
        """Forget everything: only for a study of which no trial has a result."""
        with self.lock:
            os.ftruncate(self._file, 0)
            self._end, self.history = 0, History()
        shutil.rmtree(self.path.parent / "trials", ignore_errors=True)

    def close(self) -> None:
        """Flush everything to disk and release the study."""
        with self.lock:
            if self._closed:
                return
            self._closed = True
        self._heart.close()
        self._syncer.close()
        self._syncer.once()
        self._lock.release()
        os.close(self._file)

    def _sync(self) -> None:
        """Flush to disk what was written. An error is reported, and the flush is tried again after the next
        write. Until then the operating system holds the data, but a power failure may lose it."""
        if self._dirty:
            self._dirty = False
            os.fsync(self._file)

    def _beat(self) -> None:
        self._usurper = self._lock.beat()
        if self._usurper is None:
            self._beaten = time.time()

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray Tune pickles what it is given, for snapshots that we do not use. A copied journal can only read.
        return History, ()


def _warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _private(folder: Path) -> None:
    """Check that nobody else can write to a study: its journal decides what is run. Raises JournalError."""
    about = folder.stat()
    if about.st_uid != os.getuid():
        raise JournalError(f"{folder} belongs to another user. Copy it, and run your copy")
    if about.st_mode & 0o022:
        raise JournalError(f"{folder} can be written to by others. Close it: chmod go-w {folder}")

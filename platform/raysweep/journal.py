"""The append-only record of a study. It is the truth: every table, run and resumed search is a fold of it.

One line a record: the CRC-32 of the text in hexadecimal, a space, the text (JSON). What follows the first
line that is torn or does not match its CRC does not count. A line is handed to the operating system before
`append` returns, so the death of the process loses nothing; a thread brings it to the disk within SYNC seconds,
which is what a power failure may cost.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from raysweep import disk
from raysweep.background import Background
from raysweep.errors import JournalError
from raysweep.lock import HEARTBEAT, STALE, Holder, Lock, holder, in_use
from raysweep.trial import Loss, Report, Trial

FILE = "journal.jsonl"
FORMAT = 1
SYNC = 0.25
SILENT = 300.0  # seconds without a heartbeat of our own until we give up
FULL = 1.0  # seconds between two tries to write to a disk that is full

Record = dict[str, Any]


def line(record: Record) -> bytes:
    """A record as its line in the file."""
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def parse(data: bytes) -> Iterator[tuple[Record, int]]:
    """The records in the longest valid prefix of `data`, each with the offset at which it ends."""
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        crc, _, text = data[start:end].partition(b" ")
        if crc != b"%08x" % zlib.crc32(text):
            return
        start = end + 1
        yield json.loads(text), start


def read(path: Path, offset: int = 0) -> tuple[list[Record], int]:
    """The records from `offset` (an end that `read` gave before) on, and where they end."""
    with path.open("rb") as file:
        file.seek(offset)
        found = list(parse(file.read()))
    return [record for record, _ in found], offset + (found[-1][1] if found else 0)


def running(folder: Path) -> Holder | None:
    """Who runs the study in `folder` now, on this machine or on one that shares the folder."""
    last = holder(folder)
    if last is None or not last.pid:
        return None
    if last.host == platform.node():
        return last if in_use(folder / FILE) else None
    return last if time.time() - last.heartbeat < STALE else None


class History:
    """What a journal says, folded: the study, its trials as they stand, and its best."""

    def __init__(self, records: Iterable[Record] = ()):
        self.study: Record = {}
        """The first record: the study as written, its id, versions, code and data."""
        self.begun: Record = {}
        """The same as it was at first, before it was changed or extended."""
        self.best: Record = {}
        """The winner after the last complete search: trial, epoch, the metrics of its test split."""
        self.data: dict[str, str] = {}
        """The fingerprint of each data set, by the arguments that load it."""
        self.complete = False
        """Whether the last session came to the study's end."""
        self.error = ""
        """What ended the last session before the study's end, if it was something that is wrong."""
        self.over = False
        """Whether the last session ended by itself, complete or interrupted."""
        self.session: Record = {}
        self.warm: list[Record] = []
        """What was taken over from each earlier study: its name, its trials, how many did not fit."""
        self.features: list[Record] = []
        """What was made once for all trials: `key`, `images`, `bytes`, the seconds it `took`, whether it was `warm`."""
        self.continued: dict[tuple[int, int], None] = {}
        """The trials that are to have more epochs, and how many: a set, in order."""
        self.replaced: set[int] = set()
        """The trials of which a later attempt has reported epochs again, and otherwise."""
        self.computed = 0.0
        """Seconds that all trials have computed, together."""
        self._elapsed, self._began, self._latest = 0.0, 0.0, 0.0
        self._trials: dict[int, Trial] = {}
        self._new: dict[int, list[Report]] = {}  # reports not yet in the frozen trials, to append in O(1)
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Fold one more record in. Kinds that this version does not know are passed over."""
        kind = record["kind"]
        if kind == "session":
            self._elapsed, self._began = self.elapsed(self._latest), record["time"]
            self._latest = self._began
        self._latest = max(self._latest, record["time"])
        self.computed += record.get("seconds", 0.0)
        if kind == "study":
            self.study = self.begun = record
        elif kind == "session":
            self.session, self.over, self.complete, self.error = record, False, False, ""
            self._lose()
        elif kind == "over":
            self.over, self.complete = True, record.get("complete", bool(self.best))
            self.error = record.get("error", "")
            self._lose()
        elif kind == "changed":
            self.study = {**self.study, "study": record["study"]}
        elif kind == "continue":
            self.continued |= {(n, record["epochs"]): None for n in record["trials"]}
        elif kind == "best":
            self.best = record
        elif kind == "warm":
            self.warm.append(record)
        elif kind == "features":
            self.features.append(record)
        elif kind == "data":
            self.data[record["key"]] = record["fingerprint"]
        elif kind == "asked":
            parent = record.get("parent")
            self._trials[record["trial"]] = Trial(
                record["trial"],
                record["point"],
                seeds=tuple(record["seeds"]),
                asked=record["time"],
                parent=(parent[0], parent[1]) if parent else None,
            )
        elif kind == "paused":
            self._trials[record["trial"]] = replace(self._trials[record["trial"]], status="paused")
        elif kind == "lost":
            trial = self.trial(record["trial"])
            loss = Loss(record["cause"], trial.last.epoch if trial.last else 0, record["error"])
            self._trials[trial.number] = replace(
                trial,
                status="waiting",
                losses=(*trial.losses, loss),
                seconds=trial.seconds + record.get("seconds", 0.0),
            )
        elif kind == "again":
            trial = self.trial(record["trial"])
            self._trials[trial.number] = replace(
                trial, status="waiting", error="", losses=(), finished=0.0, seconds=0.0
            )
        elif kind in {"started", "report", "ended"}:
            self._update(kind, record)

    def elapsed(self, now: float) -> float:
        """Seconds that the study has been run for at the time `now`, over all sessions."""
        return self._elapsed + (max(0.0, now - self._began) if self.session else 0.0)

    @property
    def latest(self) -> float:
        """When the last record was written."""
        return self._latest

    def _lose(self) -> None:
        """Nothing outlives the session that started it: what was running waits for the next."""
        for number, trial in self._trials.items():
            if trial.status == "running":
                self._trials[number] = replace(trial, status="waiting")

    def _update(self, kind: str, record: Record) -> None:
        number = record["trial"]
        trial = self._trials[number]
        if kind == "report":
            self._new.setdefault(number, []).append(
                Report(record["epoch"], record["metrics"], record["time"])
            )
            self._trials[number] = replace(trial, seconds=trial.seconds + record["seconds"])
        elif kind == "started":
            self._trials[number] = replace(
                trial,
                status="running",
                attempts=trial.attempts + 1,
                worker=record["worker"],
                started=trial.started or record["time"],
            )
        else:
            self._trials[number] = replace(
                self.trial(number),
                status=record["status"],
                error=record["error"],
                finished=record["time"],
                seconds=trial.seconds + record["seconds"],
            )

    def trial(self, number: int) -> Trial:
        """One trial as it stands."""
        trial, new = self._trials[number], self._new.pop(number, None)
        if new:
            reports, replaced = _merged(trial.reports, new)
            if replaced:
                self.replaced.add(number)
            trial = self._trials[number] = replace(trial, reports=reports)
        return trial

    def continues(self, number: int) -> bool:
        """Whether a trial is one that was given more epochs, and is to have them all."""
        trial = self._trials[number]
        return trial.parent is not None and (trial.parent[0], trial.point.get("epochs")) in self.continued

    def ended(self, number: int) -> bool:
        """Whether a trial is over."""
        return self._trials[number].ended

    @property
    def owed(self) -> list[tuple[Trial, int]]:
        """The trials that are to have so many epochs, and have no successor yet that gets them."""
        if not self.continued:
            return []
        given = {(t.parent[0], t.point.get("epochs")) for t in self.trials if t.parent}
        return [(self.trial(n), epochs) for n, epochs in self.continued if (n, epochs) not in given]

    @property
    def trials(self) -> list[Trial]:
        """All trials as they stand, in the order in which they were asked for."""
        return [self.trial(n) for n in list(self._trials)]


def _merged(reports: tuple[Report, ...], new: Iterable[Report]) -> tuple[tuple[Report, ...], bool]:
    """A trial's epochs with those reported since, and whether some of them were replaced.

    A later attempt that started over from a checkpoint does epochs again: the same, and nothing has happened, or
    different, and what was said of them and later ones no longer counts.
    """
    kept, replaced = list(reports), False
    for report in new:
        if kept and report.epoch <= kept[-1].epoch:
            if any(r.epoch == report.epoch and r.metrics == report.metrics for r in kept):
                continue
            replaced = True
            while kept and kept[-1].epoch >= report.epoch:
                kept.pop()
        kept.append(report)
    return tuple(kept), replaced


class Reader:
    """The journal of a study that another process may be writing, read as it grows."""

    def __init__(self, folder: Path):
        self._path, self._end = folder / FILE, 0
        self.history = History()

    def update(self) -> list[Record]:
        """What was written since the last time; `history` has it folded in."""
        if self._path.stat().st_size < self._end:  # it was begun anew
            self.history, self._end = History(), 0
        records, self._end = read(self._path, self._end)
        for record in records:
            self.history.add(record)
        return records


class Journal:
    """The journal of one study, open for writing by this process alone."""

    def __init__(self, folder: Path):
        """Open (or begin) the journal in `folder`. Raises JournalError if another process has it open."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _private(folder)
        self.path = folder / FILE
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
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
        """How many have held this study, this process included."""
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
        """Raise JournalError when another has taken the study over. When the heartbeat is late, another may have: then
        wait until it is said again that we are alive, for as long as a disk is full, or some minutes."""
        while self._usurper is None and time.time() - self._beaten > STALE / 2:
            if self._heart.once():
                continue
            if not disk.is_full(self._heart.error) and time.time() - self._beaten > SILENT:
                raise JournalError(f"{self.path.parent} cannot be written to: {self._heart.error}")
            time.sleep(FULL)
        if self._usurper is not None:
            raise JournalError(f"study '{self.path.parent.name}' was taken over by {self._usurper}")

    def _write(self, data: bytes) -> None:
        """Write a line, whole; while the disk is full, wait for room: what happened must not be forgotten."""
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

    def begin_anew(self) -> None:
        """Forget everything: only for a study that has no trials yet."""
        with self.lock:
            os.ftruncate(self._file, 0)
            self._end, self.history = 0, History()

    def close(self) -> None:
        """Bring everything to the disk and let the study go."""
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
        """Bring what was written to the disk. An error is told, and tried again with what comes next: what could not be
        brought there is still with the operating system, but a power failure may lose it."""
        if self._dirty:
            self._dirty = False
            os.fsync(self._file)

    def _beat(self) -> None:
        self._usurper = self._lock.beat()
        if self._usurper is None:
            self._beaten = time.time()

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray Tune pickles what it is given, for snapshots that we do not use. A copy of a journal reads, no more.
        return History, ()


def _warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _private(folder: Path) -> None:
    """See that nobody else can write to a study: its journal decides what is run. Raises JournalError."""
    about = folder.stat()
    if about.st_uid != os.getuid():
        raise JournalError(f"{folder} belongs to another user. Copy it, and run your copy")
    if about.st_mode & 0o022:
        raise JournalError(f"{folder} can be written to by others. Close it: chmod go-w {folder}")

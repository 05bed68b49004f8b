"""One writer per study, wherever it runs. On one machine, a file lock, which is released when its holder
dies; between machines that share a folder but perhaps not file locks, a heartbeat with a fencing number."""

from __future__ import annotations

import json
import os
import platform
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from raysweep.errors import JournalError
from raysweep.storage import disk

FILE = "lock.json"
HEARTBEAT = 5.0  # seconds between two heartbeats
STALE = 30.0  # seconds without a heartbeat until another machine's holder counts as dead
ME = uuid.uuid4().hex
"""Identifies this process: two containers may have the same host name and the same process id."""


@dataclass(frozen=True)
class Holder:
    """The process that runs a study, or ran it last if `pid` is 0."""

    host: str
    pid: int
    fence: int
    """Grows by one with every holder."""
    heartbeat: float
    token: str = ""
    """Identifies the process, independently of its host and id."""

    def __str__(self) -> str:
        return (
            f"process {self.pid} on {self.host}, heard of {max(0.0, time.time() - self.heartbeat):.0f} s ago"
        )


def holder(folder: Path) -> Holder | None:
    """Who holds the study in `folder`, or held it last; None if nobody ever did."""
    try:
        return Holder(**json.loads((folder / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


class Lock:
    """This process's hold on a study, whose journal is open as `file`."""

    def __init__(self, folder: Path, file: int):
        """Take it. Raises JournalError when another has it."""
        last = holder(folder)
        if not try_flock(file):
            who = last or "another process"
            raise JournalError(f"study '{folder.name}' is being run by {who}. Wait for it, or stop it")
        self._folder, self.fence = folder, (last.fence if last else 0) + 1
        # Where locks are not shared, flock succeeds even if another machine holds the study.
        elsewhere = last is not None and last.pid and last.host != platform.node()
        if last is not None and elsewhere and self._age() < STALE:
            raise JournalError(
                f"study '{folder.name}' is being run by {last}. Wait for it, or stop it; if that machine is gone,"
                f" try again in {STALE:.0f} s"
            )
        try:
            self._write(os.getpid())
        except OSError as error:
            if not disk.is_full(error):  # a full disk is reported when the journal is written
                raise

    def _age(self) -> float:
        """Seconds since the last heartbeat, by the file server's clock: machines' clocks differ."""
        probe, held = self._folder / f"{FILE}.{ME}.probe", (self._folder / FILE).stat().st_mtime
        try:
            disk.write(probe, "", sync=False)
            now = probe.stat().st_mtime
            probe.unlink()
            return now - held
        except OSError:  # the disk is full: use our own clock
            return time.time() - held

    def beat(self) -> Holder | None:
        """Write a heartbeat. If another process has taken over the study, return its holder instead: we must
        not write any more. Raises OSError when the heartbeat cannot be written."""
        now = holder(self._folder)
        if now is not None and now.fence >= self.fence and now.token != ME:
            return now  # if two took it at the same instant, the last to write has it
        self._write(os.getpid())
        return None

    def release(self) -> None:
        """Release the study, unless another process already has it."""
        now = holder(self._folder)
        if now is None or now.fence == self.fence:
            with suppress(OSError):  # the next process sees the heartbeat grow old
                self._write(0)

    def _write(self, pid: int) -> None:
        who = Holder(platform.node(), pid, self.fence, time.time(), ME)
        disk.write(self._folder / FILE, json.dumps(asdict(who)), sync=False)


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` among the processes of this machine."""
    import fcntl  # where an exported model is loaded on Windows, nothing is locked

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def try_flock(file: int, tries: int = 5, shared: bool = False) -> bool:
    """Take the file's lock, which is released when its holder dies. `in_use` may hold it briefly."""
    import fcntl

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    for left in reversed(range(tries)):
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(0.05 if left else 0)
    return False


def in_use(path: Path) -> bool:
    """Whether a process of this machine has the journal at `path` open for writing."""
    with path.open("rb") as file:
        # Shared, since NFS gives an exclusive lock only to processes that may write.
        return not try_flock(file.fileno(), tries=1, shared=True)

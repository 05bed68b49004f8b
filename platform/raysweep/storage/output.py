"""What a trial prints: `log.txt` beside its checkpoints, with tracebacks and warnings; the last megabyte of it."""

from __future__ import annotations

import codecs
import io
import os
import platform
import re
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from raysweep.storage.background import Background

FILE = "log.txt"
LIMIT = 1 << 20  # bytes that are kept
CUT = b"[earlier output was left out]\n"
LINE, LINE_END = 1 << 12, re.compile(rb"[\r\n]")  # a longer first line is cut in the middle
LOOK = 1.0  # seconds between two looks at the size


class Output:
    """Captures what this process and its children print while a trial runs, down to their file descriptors."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._begin, self._header = 0, b""  # where this part of the log begins, and its first line
        self._own: tuple[int, int] | None = None  # where the process prints when no trial runs
        self._turn = threading.Lock()  # one of the two cuts at a time
        self._trimming = Background("A trial's log", self._trim_when_large, LOOK, _ignored)

    def open(self, folder: Path) -> None:
        """From now on, everything that is printed goes to the log in `folder`, after what is there."""
        path = folder / FILE
        if path == self._path:
            return
        if self._own is None:
            self._own = os.dup(1), os.dup(2)
            self._trimming.start()
        sys.stdout, sys.stderr = _text(1), _text(2)  # an earlier trial may have replaced or closed them
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError:  # a full disk: the trial can do without a log
            return
        self._begin = os.fstat(file).st_size
        self._header = b""
        if self._begin:
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            self._header = f"--- {now}, on {platform.node()} (process {os.getpid()})\n".encode()
            with suppress(OSError):
                os.write(file, self._header)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)
        self._path = path

    def close(self) -> None:
        """The trial is over. If nothing was printed, nothing is left of this part of its log."""
        path = self._path
        if path is None or self._own is None:
            return
        with suppress(OSError):  # a full disk, or a share that is gone: the trial has its result
            with self._turn:
                self._trim(LIMIT)
            if path.stat().st_size == self._begin + len(self._header):
                os.truncate(path, self._begin)
                if not self._begin:
                    path.unlink()
        self._path = None
        os.dup2(self._own[0], 1)
        os.dup2(self._own[1], 2)

    def end(self) -> None:
        """Nothing is captured any more."""
        self.close()
        self._trimming.close()
        for file in self._own or ():
            os.close(file)
        self._own = None

    def _trim_when_large(self) -> None:
        with self._turn:
            self._trim(2 * LIMIT)

    def _trim(self, limit: int) -> None:
        """Keep the end of a log that is larger than `limit`. It is open for appending in this process and its
        children, so its content is replaced, not the file."""
        path = self._path
        if path is None or path.stat().st_size <= limit:
            return
        with path.open("rb") as file:
            file.seek(-LIMIT, os.SEEK_END)
            end = file.read()
        os.truncate(path, 0)
        line = LINE_END.search(end, 0, LINE)
        with path.open("ab") as file:
            file.write(CUT + end[line.end() if line else 0 :])


class _Forgiving(io.FileIO):
    """A full disk must not end a training that prints."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _text(file: int) -> io.TextIOWrapper:
    raw = _Forgiving(file, "w", closefd=False)
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def _ignored(text: str) -> None:
    """Nobody reads the errors of the log itself."""


def read(folder: Path, offset: int = 0) -> tuple[str, int]:
    """What a trial has printed, from `offset` (an end that `read` gave before) on, and where that ends: not in
    the middle of a character. Of a log that has been cut since, all of it."""
    try:
        with (folder / FILE).open("rb") as file:
            if file.seek(0, os.SEEK_END) < offset:  # the log was cut
                offset = 0
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return "", 0
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    text, left = decoder.decode(data), len(decoder.getstate()[0])
    return text, offset + len(data) - left

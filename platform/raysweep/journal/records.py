"""The journal's file: one line a record, the CRC-32 of the text in hexadecimal, a space, the text (JSON).

From the first line that is torn or does not match its CRC, everything is ignored.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = "journal.jsonl"
FORMAT = 1

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

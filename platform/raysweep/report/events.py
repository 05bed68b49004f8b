"""What happened in a study, a line for each event of its journal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from raysweep.journal.records import Record
from raysweep.report.tables import number

BRIEF = {"said", "lost", "ended", "best", "over"}


def events(records: Iterable[Record], of_trial: int | None = None, brief: bool = False) -> Iterator[str]:
    """A line for each event in a journal's records. With `of_trial`, only that trial's events, and its epochs
    too. With `brief`, without events such as the start or pause of a trial."""
    for record in records:
        number = record.get("trial")
        if of_trial is not None and (number != of_trial or record["kind"] == "best"):
            continue
        if brief and record["kind"] not in BRIEF:
            continue
        told = _told(record, of_trial is not None)
        if told:
            yield f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(record['time']))} {told}"


def _told(record: Record, epochs: bool) -> str:
    kind, trial = record["kind"], f"trial {record.get('trial')}"
    if kind == "said":
        return str(record["text"])
    if kind == "session":
        return f"begun by process {record['pid']} on {record['host']}: {' '.join(record['argv'])}"
    if kind == "over":
        return "the session ended" + (f": {record['error']}" if record.get("error") else "")
    if kind == "started":
        after = f" after epoch {record['epoch']}" if record.get("epoch") else ""
        return f"{trial} started{after} on {record['worker']}"
    if kind == "report" and epochs:
        values = ", ".join(f"{name} {number(value)}" for name, value in record["metrics"].items())
        return f"{trial} epoch {record['epoch']}: {values}"
    if kind == "lost":
        return f"{trial} lost ({record['cause']}): {record['error']}"
    if kind == "paused":
        return f"{trial} paused"
    if kind == "ended":
        return f"{trial} {record['status']}" + (f": {record['error']}" if record["error"] else "")
    if kind == "best":
        tested = ", ".join(f"{name} {number(value)}" for name, value in record["metrics"].items())
        tested = tested or (f"not exported: {record['error']}" if record.get("error") else "")
        return f"{trial} is the best, at epoch {record['epoch']}" + (f": {tested}" if tested else "")
    return ""

"""Journals of studies that were never run: what each trial is to have reported is given."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysweep import Study
from raysweep.journal.records import FILE, line


@dataclass
class Told:
    """What a trial is to have done."""

    point: dict[str, Any]
    curve: Sequence[float | dict[str, float]]
    status: str = "completed"
    error: str = ""
    seconds: float = 1.0
    used: dict[str, float] = field(default_factory=dict)
    executions: int = 1
    of: int | None = None
    """The trial that it trains again, as a finalist."""


def write(place: Path, study: Study, trials: Sequence[Told], examples: int = 0, over: bool = True) -> Path:
    """Write the journal of a study in `place`, whose trials ran one after the other, a second an epoch."""
    clock = 1_700_000_000.0
    records: list[dict[str, Any]] = []

    def add(kind: str, **fields: Any) -> None:
        records.append({"kind": kind, "time": clock, **fields})

    add("study", format=1, id="abc", study=study.to_dict(), task="task", code={"file": "f", "sha256": "s" * 64},
        versions={"raysweep": "0"}, git={})  # fmt: skip
    add("session", pid=1, host="here", argv=["raysweep", "run"], store="off", mirror="off", code="")
    if examples:
        sizes = {"train": examples, "validation": examples, "test": examples}
        add("data", key="{}", fingerprint="f" * 64, text="data", examples=sizes)
    for number, told in enumerate(trials):
        more = {} if told.of is None else {"of": told.of}
        add(
            "asked",
            trial=number,
            point=told.point,
            seeds=[100 * number + i for i in range(told.executions)],
            source="sampler",
            attempt=0,
            **more,
        )
        add("started", trial=number, worker="here (process 1)", epoch=0)
        for epoch, value in enumerate(told.curve, 1):
            clock += told.seconds
            metrics = value if isinstance(value, dict) else {study.objective.metric: value}
            used = {"used": told.used} if told.used else {}
            add("report", trial=number, epoch=epoch, metrics=metrics, seconds=told.seconds, **used)
        add("ended", trial=number, status=told.status, seconds=0.0, error=told.error)
    if over:
        add("over", complete=True, error="")
    place.mkdir(parents=True, mode=0o700)
    (place / FILE).write_bytes(b"".join(map(line, records)))
    (place / FILE).chmod(0o600)
    (place / "study.yaml").write_text(study.to_yaml())
    return place


def sampled(
    study: Study, count: int, told: Callable[[dict[str, Any], random.Random], Told], seed: int = 0
) -> list[Told]:
    """Trials at random points of a study's space."""
    rng = random.Random(seed)
    return [told(study.space.sample(rng), rng) for _ in range(count)]

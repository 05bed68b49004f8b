"""What the journal costs: a record, a report as the search takes it in, and going on with a study of many trials.

No Ray, no training. `a record` is the journal alone; `a report` is journalled, and the sampler, the scheduler and the
rules have taken it in. Resuming is opening the journal, folding it, and asking the sampler for a new point.

    python tests/benchmarks/journal.py [--trials 10000] [--epochs 9]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raysweep import Float, Study
from raysweep.journal.journal import Journal
from raysweep.search.loop import Loop
from raysweep.search.sessions import open_session


def unused(x: float, y: float, epochs: int, state: Any = None) -> Iterator[Any]:
    yield from ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=9)
    given = parser.parse_args()
    space = {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0), "epochs": given.epochs}
    # Two trials more than are run: there is one to ask for when it goes on.
    study = Study(name="many", trainable=unused, minimize="loss", trials=given.trials + 2, space=space)
    with tempfile.TemporaryDirectory() as scratch:
        journal = Journal(Path(scratch) / "many")
        open_session(study, journal)
        loop, asks, reports, records = Loop(study, journal), [], [], []
        ended = 0
        while ended < given.trials:
            began = time.perf_counter()
            trial = loop.next()
            asks.append(time.perf_counter() - began)
            if trial is None:
                break
            loop.started(trial.number, "a worker")
            for epoch in range(trial.last.epoch + 1 if trial.last else 1, given.epochs + 1):
                metrics = {"loss": trial.point["x"] ** 2 + 1 / epoch, "accuracy": 0.5, "train_loss": 0.1}
                began = time.perf_counter()
                decision = loop.reported(trial.number, epoch, metrics, 0.1)
                reports.append(time.perf_counter() - began)
                if decision != "go on":
                    loop.released(trial.number)
                    break
            else:
                loop.end(trial.number, "completed", "")
            ended = max(ended, trial.number + 1)
        for _ in range(20_000):
            began = time.perf_counter()
            journal.append("said", text="one record of about the length that a report has, on the same disk")
            records.append(time.perf_counter() - began)
        size, trials = journal.path.stat().st_size / 1e6, len(journal.trials)
        journal.close()
        began = time.perf_counter()
        journal = Journal(Path(scratch) / "many")
        opened = time.perf_counter() - began
        loop = Loop(study, journal)
        folded = time.perf_counter() - began
        loop._state.sampler.ask(len(journal.trials))  # a trial that is promoted would need no sampler
        asked = time.perf_counter() - began
        journal.close()
    print(f"{trials:,} trials, {len(reports):,} reports, a journal of {size:.0f} MB; {study.method}")
    for what, times in (("a record", records), ("a report", reports), ("an ask", asks)):
        middle, late = statistics.median(times) * 1e6, statistics.quantiles(times, n=100)[98] * 1e6
        print(f"  {what:9} {middle:9.1f} us median {late:9.1f} us at p99")
    print(f"  resuming  {asked:9.2f} s: {opened:.2f} opened, {folded:.2f} folded, the rest the first ask")


if __name__ == "__main__":
    main()

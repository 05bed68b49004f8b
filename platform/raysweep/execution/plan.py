"""What a study will take, before anything is paid for: a few points are trained for an epoch or two here, and the
search is run in virtual time, by the real loop and scheduler with made-up results."""

from __future__ import annotations

import heapq
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.errors import Infeasible, Problem, StudyError
from raysweep.execution.executions import Executions, Job
from raysweep.execution.lockstep import Lockstep, TrialEnds
from raysweep.execution.slots import most_at_once
from raysweep.execution.trying import job_of
from raysweep.journal.journal import Journal
from raysweep.search.loop import Loop
from raysweep.search.samplers import sampler_of
from raysweep.search.sessions import open_session
from raysweep.study.options import Plain, Stop
from raysweep.study.study import UNBOUNDED, Study

POINTS = 8  # points that are tried, at most
LONGEST = 60.0  # seconds of trying, after which no other point is begun
RECORDS = 20_000  # epochs of a simulation, at most: a longer search is simulated in part
# In times that a process takes to import what it needs: until the first epoch, and after the last.
START, END = 3.0, 1.0
RECORD = 250  # bytes of an epoch in the journal
SPREAD = 1.4  # by which a plan may be wrong even if all epochs took the same time


@dataclass(frozen=True)
class Sample:
    """What trying a few points has shown."""

    epochs: tuple[float, ...]
    """Seconds of an epoch of one trial, of each point tried."""
    setup: float
    """Seconds from a trial's start to its first epoch."""
    state_bytes: int
    """The size of a checkpoint."""
    together: int
    """How many trials a worker trains together."""
    imports: float
    """Seconds that a process takes to import what it needs."""


@dataclass(frozen=True)
class Plan:
    """What a study will take. Times are in seconds."""

    trials: int
    workers: int
    together: int
    epochs: int
    """The epochs that are trained."""
    whole: int
    """The epochs there would be without early stopping."""
    epoch: float
    """An epoch of one trial."""
    computing: float
    """All trials together."""
    first: float
    """When the first trial ends."""
    wall: float
    low: float
    high: float
    """A range for `wall`."""
    twice: float
    """`wall` with twice the workers."""
    disk: int
    """Bytes, at most: checkpoints and the journal."""
    gpu_hours: float


def plan(study: Study, data: Mapping[str, Any], workers: int | None = None) -> Plan:
    """What a study will take on so many workers (by default as many as fit on this machine). `data` holds what is
    loaded, by `data_key`. Raises StudyError when it cannot be tried here."""
    study = study.narrowed(study.candidates[:1])  # a race comes on top
    workers = workers or _workers(study)
    sample = _sampled(study, data, workers)
    return of_sample(study, sample, workers)


def of_sample(study: Study, sample: Sample, workers: int) -> Plan:
    """The same, where a sample is known."""
    trials = study.target if study.target < UNBOUNDED else 100
    found, double = (_simulated(study, sample, w, trials) for w in (workers, 2 * workers))
    ends = (START + END) * sample.imports
    epoch = statistics.fmean(sample.epochs)
    wall = found.wall + ends
    error = statistics.stdev(sample.epochs) / math.sqrt(len(sample.epochs)) if len(sample.epochs) > 1 else 0.0
    factor = SPREAD * (1 + error / epoch)
    state = 2 * sample.state_bytes * (found.most + study.keep)
    return Plan(
        trials,
        workers,
        sample.together,
        found.epochs,
        trials * (study.most_epochs or 1),
        epoch,
        found.computing,
        found.first + START * sample.imports,
        wall,
        wall / factor,
        wall * factor,
        double.wall + ends,
        state + RECORD * found.epochs,
        found.computing / 3600 * study.per_trial.gpu,
    )


def _workers(study: Study) -> int:
    fits = max(1, int((os.cpu_count() or 1) / study.per_trial.cpu))
    return min(fits, study.concurrency or fits, study.target)


# --- trying ------------------------------------------------------------------------------------------------------


def _sampled(study: Study, data: Mapping[str, Any], workers: int) -> Sample:
    """Train a few points, as many together as a worker would."""
    if study.found.of_ray_tune:
        raise StudyError(
            [Problem("trainable", "a Ray Tune function runs in a worker of Ray only: it cannot be tried")]
        )
    imports = _import_time()
    sampler, began = sampler_of(study), time.monotonic()
    points = [p for n in range(POINTS) if (p := sampler.ask(n)) is not None]
    epochs: list[float] = []
    setups: list[float] = []
    size, together = 0, 1
    with ThreadPoolExecutor(1) as settling, tempfile.TemporaryDirectory(prefix="raysweep-") as scratch:
        job = job_of(study, scratch)
        makes = Executions(job, data)
        # Imports, and measures how many pay off together.
        _tried(study, makes, job, points[:1], Path(scratch), settling)
        share = -(-most_at_once(study, workers, study.target) // workers)
        together = min(makes.slots, share, len(points))
        for start in range(0, len(points), together):
            if time.monotonic() - began > LONGEST and epochs:
                break
            some = points[start : start + together]
            setup, epoch, size = _tried(study, makes, job, some, Path(scratch), settling)
            if epoch:
                setups.append(setup)
                epochs += [epoch] * len(some)
    if not epochs:
        raise StudyError([Problem("space", "every point that was tried failed: see check --try")])
    return Sample(tuple(epochs), statistics.fmean(setups), size, together, imports)


def _tried(
    study: Study, makes: Executions, job: Job, points: list[Any], scratch: Path, settling: Any
) -> tuple[float, float, int]:
    """The seconds that a trial of these, which are trained together, takes to begin and for an epoch; the bytes of a
    checkpoint. Points that end at once do not count."""
    began, trials = time.perf_counter(), []
    folder = scratch / str(time.monotonic_ns())
    folder.mkdir()
    for point in points:
        try:
            made = makes.create(point, list(range(study.executions)), [None] * study.executions)
            trials.append(Lockstep(made, folder, job, None, settling, 0, attempt=1))
        except (Infeasible, TrialEnds):
            continue
    first = _round(trials)
    setup = time.perf_counter() - began
    began = time.perf_counter()
    again = _round(first) if (study.most_epochs or 1) > 1 else []
    epoch = (time.perf_counter() - began) / len(again) if again else setup / max(1, len(first))
    if first:
        first[0].save_when_due(None, now=True)
    size = sum(p.stat().st_size for p in folder.glob("*.pt"))
    for trial in trials:
        trial.close()
    return max(0.0, setup / max(1, len(first)) - epoch), epoch if first else 0.0, size


def _round(trials: list[Lockstep]) -> list[Lockstep]:
    """One epoch of each; those that go on."""
    going = []
    for trial in trials:
        try:
            if trial.advance() is not None:
                going.append(trial)
        except (Infeasible, TrialEnds):
            continue
    return going


def _import_time() -> float:
    """Seconds that a process takes to import what a worker needs."""
    began = time.perf_counter()
    subprocess.run((sys.executable, "-c", "import torch, ray.tune"), check=True)
    return time.perf_counter() - began


# --- in virtual time ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Simulation:
    wall: float
    computing: float
    epochs: int
    first: float
    """When the first trial ends."""
    most: int
    """How many trials have a checkpoint at once, at most."""


def _simulated(study: Study, sample: Sample, workers: int, trials: int) -> _Simulation:
    """The search, in virtual time. A worker trains its trials an epoch each, in turns."""
    epochs = study.most_epochs or 1
    part = min(trials, max(2 * workers * sample.together, RECORDS // epochs))
    update: dict[str, Any] = {"stop": Stop(), "warm_start": [], "points": []}
    if study.algorithm.name != "grid":
        update |= {"algorithm": Plain(), "trials": part}
    made_up = study.model_copy(update=update)
    made_up.__dict__.pop("target", None)  # it is cached, and depends on them
    with tempfile.TemporaryDirectory(prefix="raysweep-") as scratch:
        journal = Journal(Path(scratch) / "plan")
        try:
            open_session(made_up, journal)
            found = _Virtual(Loop(made_up, journal), sample, workers, epochs).run()
        finally:
            journal.close()
    scale = max(1.0, trials / made_up.target)
    return _Simulation(
        found.wall * scale, found.computing * scale, round(found.epochs * scale), found.first, found.most
    )


class _Virtual:
    """Workers in virtual time."""

    def __init__(self, loop: Loop, sample: Sample, workers: int, epochs: int):
        self._loop, self._sample, self._workers, self._epochs = loop, sample, workers, epochs
        self._rng = random.Random(0)
        self._seconds: dict[int, float] = {}  # of an epoch of each trial
        self._quality: dict[int, float] = {}
        self._open: set[int] = set()  # trials that have begun and not ended: they have a checkpoint

    def run(self) -> _Simulation:
        held: dict[int, list[int]] = {worker: [] for worker in range(self._workers)}
        queue = [(0.0, worker) for worker in held]
        idle: list[int] = []
        wall = computing = first = 0.0
        epochs = most = 0
        while queue:
            now, worker = heapq.heappop(queue)
            wall, mine = now, held[worker]
            if mine:  # what it reports may let idle workers have a trial
                queue += [(now, other) for other in idle]
                heapq.heapify(queue)
                idle.clear()
            for number in list(mine):
                if not self._report(number):
                    mine.remove(number)
                    self._loop.released(number)
                    if self._loop.journal.history.ended(number):
                        self._open.discard(number)
                        first = first or now
            took = self._fill(mine)
            most = max(most, len(self._open))
            if mine:
                took += sum(self._seconds[n] for n in mine)
                computing, epochs = computing + took, epochs + len(mine)
                heapq.heappush(queue, (now + took, worker))
            else:
                idle.append(worker)
        return _Simulation(wall, computing, epochs, first or wall, most)

    def _fill(self, mine: list[int]) -> float:
        """Give a worker trials. Returns the seconds that they take to begin."""
        took = 0.0
        while len(mine) < self._sample.together and (trial := self._loop.next()) is not None:
            number = trial.number
            if number not in self._seconds:
                more = len(trial.seeds) / self._loop.study.executions  # of a finalist
                self._seconds[number] = self._rng.choice(self._sample.epochs) * more
                self._quality[number] = self._rng.gauss(0.0, 1.0)
            self._loop.started(number, "w", trial.last.epoch if trial.last else 0)
            mine.append(number)
            self._open.add(number)
            took += self._sample.setup
        return took

    def _report(self, number: int) -> bool:
        """An epoch of a trial; its values approach its quality. Returns whether the trial goes on."""
        trial = self._loop.journal.trial(number)
        epoch = (trial.last.epoch if trial.last else 0) + 1
        share = epoch / self._epochs
        loss = 3 * math.exp(-4 * share) - self._quality[number] + self._rng.gauss(0.0, 1.0) * (1 - share)
        objective = self._loop.study.objective
        metrics = {o.metric: -loss if o.maximize else loss for o in objective.all}
        metrics |= {r.metric: r.bound for r in objective.require}
        goes_on = self._loop.reported(number, epoch, metrics, 0.0) == "go on"
        if goes_on and (epoch >= self._epochs or trial.baseline):
            self._loop.end(number, "completed", "")
            return False
        return goes_on

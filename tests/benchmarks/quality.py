"""How good the searches are: real tuning tables replayed in virtual time, through our code and through the peers'.

Workers take as long over an epoch as the table says; what a search itself computes is measured and delays whoever
waits for it. Peers are called as their users call them: Optuna's and HyperOpt's own ask and tell with their
pruners, Ray Tune's searchers with its ASHA. Ours is the loop that Ray Tune is driven by, with its journal on the
disk. A trial that waits at a rung goes on for free (raysweep's workers stay; a checkpoint of a
small model takes milliseconds); starting a process costs nothing either, which favours the peers.

    python tests/benchmarks/quality.py --tables FOLDER [--quick] [--picture quality.png]

Prints, for each table and number of workers: the time to the top 1 % and the regret at three budgets, medians
and quartiles over the seeds, and the mean rank.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import logging
import math
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from tables import TABLES, Task

BUDGETS = {1: 20.0, 4: 10.0, 32: 2.0}
"""How long a search lasts, in whole trainings one after the other, by the number of workers."""
SHARES = (0.25, 0.5, 1.0)  # of the budget, at which regret is taken


class Search(Protocol):
    """What is compared."""

    def ask(self) -> tuple[Any, dict[str, Any]] | None:
        """An identity and its point (a known identity: it goes on), or None: nothing now."""
        ...

    def report(self, identity: Any, epoch: int, loss: float) -> bool:
        """Whether a trial goes on after an epoch."""
        ...

    def done(self, identity: Any, failed: bool) -> None:
        """A trial ran to its end, or failed, or was let go after `report` said no."""
        ...


# --- ours ------------------------------------------------------------------------------------------------


class Ours:
    def __init__(self, algorithm: Any, scheduler: Any, task: Task, seed: int):
        from raysweep import Study
        from raysweep.journal.journal import Journal
        from raysweep.search.loop import Loop

        study = Study(
            name="quality", trainable=_unused, minimize="loss", trials=100_000, seed=seed, space=task.space,
            algorithm=algorithm, scheduler=scheduler,
        )  # fmt: skip
        self._folder = tempfile.TemporaryDirectory(prefix="quality-")
        self._journal = Journal(Path(self._folder.name) / "quality")
        self._loop = Loop(study, self._journal)

    def ask(self) -> tuple[Any, dict[str, Any]] | None:
        trial = self._loop.next()
        if trial is None:
            return None
        self._loop.started(trial.number, "virtual")
        return trial.number, trial.point

    def report(self, identity: Any, epoch: int, loss: float) -> bool:
        goes_on = self._loop.reported(identity, epoch, {"loss": loss}, 0.0) == "go on"
        if not goes_on:
            self._loop.released(identity)
        return goes_on

    def done(self, identity: Any, failed: bool) -> None:
        self._loop.end(identity, "diverged" if failed else "completed", "")

    def close(self) -> None:
        self._journal.close()
        self._folder.cleanup()


def _unused(state: Any = None, **point: Any) -> Iterator[Any]:
    """Takes a state, so that trials may wait."""
    yield from ()
    raise AssertionError("the tables say what training it would come to")


# --- the peers, as their users call them --------------------------------------------------------------------


def _free(task: Task) -> dict[str, Any]:
    return {n: task.space[n] for n in task.space.free}


class Optuna:
    """study.ask, trial.report, trial.should_prune, study.tell."""

    def __init__(self, sampler: Callable[[int], Any], pruner: Callable[[], Any], task: Task, seed: int):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._task, self._states = task, optuna.trial.TrialState
        self._study = optuna.create_study(sampler=sampler(seed), pruner=pruner())
        self._last: dict[int, float] = {}
        self._trials: dict[int, Any] = {}

    def ask(self) -> tuple[Any, dict[str, Any]] | None:
        from raysweep import Float

        trial = self._study.ask()
        point = {}
        for name, p in _free(self._task).items():
            suggest = trial.suggest_float if isinstance(p, Float) else trial.suggest_int
            point[name] = suggest(name, p.low, p.high, log=p.log)
        self._trials[trial.number] = trial
        return trial.number, point

    def report(self, identity: Any, epoch: int, loss: float) -> bool:
        trial = self._trials[identity]
        trial.report(loss, epoch)
        self._last[identity] = min(loss, self._last.get(identity, math.inf))
        if trial.should_prune():
            self._study.tell(trial, state=self._states.PRUNED)
            return False
        return True

    def done(self, identity: Any, failed: bool) -> None:
        if failed:
            self._study.tell(self._trials[identity], state=self._states.FAIL)
        else:
            self._study.tell(self._trials[identity], self._last[identity])


class HyperOpt:
    """fmin's own loop, with a pool of workers: tpe.suggest over a Trials object."""

    def __init__(self, task: Task, seed: int):
        import numpy as np
        from hyperopt import base, hp, tpe

        from raysweep import Float

        space = {}
        for name, p in _free(task).items():
            low, high = (math.log(p.low), math.log(p.high)) if p.log else (p.low, p.high)
            if isinstance(p, Float):
                space[name] = (hp.loguniform if p.log else hp.uniform)(name, low, high)
            else:
                space[name] = hp.qloguniform(name, low, high, 1) if p.log else hp.uniformint(name, low, high)
        self._task, self._base, self._suggest = task, base, tpe.suggest
        self._domain = base.Domain(lambda point: 0.0, space)
        self._trials = base.Trials()
        self._rng = np.random.default_rng(seed)
        self._best: dict[int, float] = {}

    def ask(self) -> tuple[Any, dict[str, Any]] | None:
        (number,) = self._trials.new_trial_ids(1)
        self._trials.refresh()
        (document,) = self._suggest([number], self._domain, self._trials, self._rng.integers(2**31 - 1))
        self._trials.insert_trial_docs([document])
        self._trials.refresh()
        document = next(d for d in self._trials._dynamic_trials if d["tid"] == number)
        document["state"] = self._base.JOB_STATE_RUNNING
        values = {k: v[0] for k, v in document["misc"]["vals"].items()}
        point = {n: p.nearest(float(values[n])) for n, p in _free(self._task).items()}
        self._best[number] = math.inf
        return number, point

    def report(self, identity: Any, epoch: int, loss: float) -> bool:
        self._best[identity] = min(loss, self._best[identity])
        return True

    def done(self, identity: Any, failed: bool) -> None:
        document = next(d for d in self._trials._dynamic_trials if d["tid"] == identity)
        document["state"] = self._base.JOB_STATE_DONE
        ok = {"status": self._base.STATUS_OK, "loss": self._best[identity]}
        document["result"] = {"status": self._base.STATUS_FAIL} if failed else ok
        self._trials.refresh()


class RayTune:
    """A searcher of Ray Tune (None: its random search) and its ASHA, at our grace: its own of 1 would lose."""

    def __init__(self, searcher: str | None, task: Task, seed: int):
        import random

        from ray import tune
        from ray.tune.schedulers import AsyncHyperBandScheduler
        from ray.tune.search.hyperopt import HyperOptSearch
        from ray.tune.search.optuna import OptunaSearch

        from raysweep import Float

        space = {}
        for name, p in _free(task).items():
            if isinstance(p, Float):
                space[name] = (tune.loguniform if p.log else tune.uniform)(p.low, p.high)
            else:
                space[name] = (tune.lograndint if p.log else tune.randint)(p.low, p.high + 1)
        said = {"metric": "loss", "mode": "min"}
        make = {"optuna": OptunaSearch, "hyperopt": HyperOptSearch}
        key = "seed" if searcher == "optuna" else "random_state_seed"
        self._searcher = make[searcher](space, **said, **{key: seed}) if searcher else None
        self._asha = AsyncHyperBandScheduler(
            time_attr="training_iteration", max_t=task.epochs, grace_period=2, **said
        )
        self._task, self._rng = task, random.Random(seed)
        self._numbers = itertools.count()
        self._last: dict[str, dict[str, Any]] = {}

    def ask(self) -> tuple[Any, dict[str, Any]] | None:
        identity = f"trial{next(self._numbers)}"
        point = self._searcher.suggest(identity) if self._searcher else self._task.space.sample(self._rng)
        self._asha.on_trial_add(None, SimpleNamespace(trial_id=identity))
        return identity, point

    def report(self, identity: Any, epoch: int, loss: float) -> bool:
        result = self._last[identity] = {"loss": loss, "training_iteration": epoch}
        if self._searcher:
            self._searcher.on_trial_result(identity, result)
        if epoch == self._task.epochs:
            return True
        goes_on = self._asha.on_trial_result(None, SimpleNamespace(trial_id=identity), result) == "CONTINUE"
        if not goes_on and self._searcher:
            self._searcher.on_trial_complete(identity, result)
        return goes_on

    def done(self, identity: Any, failed: bool) -> None:
        result = self._last.get(identity)
        if result:
            self._asha.on_trial_complete(None, SimpleNamespace(trial_id=identity), result)
        if self._searcher:
            self._searcher.on_trial_complete(identity, None if failed else result, error=failed)


def _tpe(seed: int) -> Any:
    import optuna

    return optuna.samplers.TPESampler(seed=seed)


def _pruner(name: str, **options: Any) -> Callable[[], Any]:
    def make() -> Any:
        import optuna

        return getattr(optuna.pruners, name)(**options)

    return make


def _ours(algorithm: Any, scheduler: Any = "none") -> Callable[[Task, int], Search]:
    return lambda task, seed: Ours(algorithm, scheduler, task, seed)


PROMOTION = {"name": "asha", "kind": "promotion"}
CONTESTANTS: dict[str, Callable[[Task, int], Search]] = {
    "Optuna": lambda task, seed: Optuna(_tpe, _pruner("NopPruner"), task, seed),
    "Optuna, median": lambda task, seed: Optuna(_tpe, _pruner("MedianPruner"), task, seed),
    "Optuna, halving": lambda task, seed: Optuna(_tpe, _pruner("SuccessiveHalvingPruner"), task, seed),
    "Optuna, Hyperband": lambda task, seed: Optuna(
        _tpe, _pruner("HyperbandPruner", max_resource=task.epochs), task, seed
    ),
    "HyperOpt": lambda task, seed: HyperOpt(task, seed),
    "Ray random, ASHA": lambda task, seed: RayTune(None, task, seed),
    "Ray Optuna, ASHA": lambda task, seed: RayTune("optuna", task, seed),
    "Ray HyperOpt, ASHA": lambda task, seed: RayTune("hyperopt", task, seed),
    "raysweep random": _ours("random"),
    "raysweep random, asha": _ours("random", "asha"),
    "raysweep random, promotion": _ours("random", PROMOTION),
    "raysweep random, hyperband": _ours("random", "hyperband"),
    "raysweep qmc, promotion": _ours({"name": "optuna", "sampler": "qmc"}, PROMOTION),
    "raysweep optuna": _ours("optuna"),
    "raysweep optuna, asha": _ours("optuna", "asha"),
    "raysweep optuna, promotion": _ours("optuna", PROMOTION),
    "raysweep hyperopt": _ours("hyperopt"),
    "raysweep hyperopt, asha": _ours("hyperopt", "asha"),
    "raysweep hyperopt, promotion": _ours("hyperopt", PROMOTION),
}
WITHOUT_CURVES = [n for n in CONTESTANTS if "," not in n]  # where a table has ends only


# --- virtual time ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One search of one task. Times are in whole trainings."""

    contestant: str
    table: str
    task: str
    workers: int
    seed: int
    reached: float | None
    """When the top 1 % was reached, or None."""
    regrets: tuple[float, ...]
    """At each share of the budget: 0 is the best of the pool, 1 its median."""
    trials: int
    ask: float
    """Median milliseconds of an ask."""


def simulate(name: str, task: Task, workers: int, seed: int) -> Run:
    """One search over its budget of virtual time."""
    search = CONTESTANTS[name](task, seed)
    limit = BUDGETS[workers] * task.full
    order = itertools.count()
    events: list[tuple[float, int, Any]] = [(0.0, next(order), None) for _ in range(workers)]
    curves: dict[Any, list[tuple[float, float]]] = {}
    reached_epoch: dict[Any, int] = {}
    idle, busy_until, asks = 0, 0.0, []
    trace: list[tuple[float, float]] = []
    while events:
        now, _, identity = heapq.heappop(events)
        if now > limit:
            break
        began, looked_up = time.thread_time(), 0.0
        going = []
        if identity is not None:
            epoch = reached_epoch[identity] = reached_epoch[identity] + 1
            loss = curves[identity][epoch - 1][1]
            if math.isfinite(loss):
                trace.append((now, loss))
            if not math.isfinite(loss):
                search.done(identity, True)
            elif search.report(identity, epoch, loss):
                if epoch == len(curves[identity]):
                    search.done(identity, False)
                else:
                    going = [identity]
        idle += not going
        while idle:
            asked = time.thread_time()
            given = search.ask()
            asks.append(time.thread_time() - asked)
            if given is None:
                break
            idle -= 1
            going.append(given[0])
            if given[0] not in curves:  # looking it up is not the search's work
                asked = time.thread_time()
                curves[given[0]], reached_epoch[given[0]] = task.curve(_whole(task, given[1])), 0
                looked_up += time.thread_time() - asked
        busy_until = max(now, busy_until) + time.thread_time() - began - looked_up
        for one in going:
            heapq.heappush(events, (busy_until + curves[one][reached_epoch[one]][0], next(order), one))
    if isinstance(search, Ours):
        search.close()
    times = [t for t, loss in trace if loss <= task.target]
    return Run(
        name, task.name.partition("/")[0], task.name, workers, seed,
        min(times) / task.full if times else None,
        tuple(_regret(trace, task, share * limit) for share in SHARES),
        len(curves), statistics.median(asks) * 1e3,
    )  # fmt: skip


def _whole(task: Task, point: dict[str, Any]) -> dict[str, Any]:
    return {**{n: p.values()[0] for n, p in task.space.items() if n not in task.space.free}, **point}


def _regret(trace: list[tuple[float, float]], task: Task, until: float) -> float:
    best = min((loss for t, loss in trace if t <= until), default=task.middle)
    return (best - task.best) / (task.middle - task.best)


@cache
def _tasks(table: str, folder: str) -> list[Task]:
    return TABLES[table](Path(folder))


def _one(job: tuple[str, str, int, int, str]) -> Run:
    name, table, workers, seed, folder = job
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    tasks = _tasks(table, folder)
    return simulate(name, tasks[seed % len(tasks)], workers, seed)


# --- what it comes to --------------------------------------------------------------------------------------


def summary(runs: list[Run]) -> str:
    """A table for every table and number of workers, then the mean ranks over all of them."""
    lines = []
    ranks: dict[str, list[float]] = {}
    curves: dict[str, list[float]] = {}
    for table, workers in sorted({(r.table, r.workers) for r in runs}):
        here = [r for r in runs if (r.table, r.workers) == (table, workers)]
        names = list(dict.fromkeys(r.contestant for r in here))
        rank = _mean_ranks(here)
        for name, value in rank.items():
            ranks.setdefault(name, []).append(value)
            if table != "hpobench":
                curves.setdefault(name, []).append(value)
        seeds = len({r.seed for r in here})
        lines += ["", f"{table}, {workers} workers, {BUDGETS[workers]:g} whole trainings each, {seeds} seeds"]
        columns = [f"regret at {share:g}" for share in SHARES]
        lines.append(
            f"  {'':30} {'time to top 1 %':>22} {'reached':>8}"
            + "".join(f"{c:>24}" for c in columns)
            + f"{'rank':>7}{'trials':>8}{'ask ms':>8}"
        )
        for name in sorted(names, key=lambda n: rank[n]):
            mine = [r for r in here if r.contestant == name]
            times = [math.inf if r.reached is None else r.reached for r in mine]
            share = sum(math.isfinite(t) for t in times) / len(times)
            row = f"  {name:30} {_quartiles(times):>22} {share:>8.0%}"
            row += "".join(f"{_quartiles([r.regrets[i] for r in mine]):>24}" for i in range(len(SHARES)))
            trials = statistics.median(r.trials for r in mine)
            asks = statistics.median(r.ask for r in mine)
            lines.append(row + f"{rank[name]:>7.1f}{trials:>8.0f}{asks:>8.1f}")
    everywhere = max(map(len, ranks.values()))
    for what, count in (("all of these", everywhere), ("those with curves", None)):
        chosen = {n: v for n, v in ranks.items() if len(v) == count} if count else curves
        lines += ["", f"mean rank over {what}"]
        lines += [
            f"  {n:30} {statistics.fmean(v):.2f}" for n, v in sorted(chosen.items(), key=lambda i: sum(i[1]))
        ]
    return "\n".join(lines)


def _quartiles(values: Iterable[float]) -> str:
    low, middle, high = statistics.quantiles([min(v, 1e9) for v in values], n=4)
    shown = ["never" if v > 1e8 else f"{v:.3g}" for v in (middle, low, high)]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def _mean_ranks(runs: list[Run]) -> dict[str, float]:
    """The mean rank of each contestant: by regret at each budget and by time to the target, seed by seed."""
    ranks: dict[str, list[float]] = {}
    for seed in {r.seed for r in runs}:
        mine = [r for r in runs if r.seed == seed]
        scores: list[dict[str, float]] = [
            {r.contestant: r.regrets[i] for r in mine} for i in range(len(SHARES))
        ]
        scores.append({r.contestant: math.inf if r.reached is None else r.reached for r in mine})
        for score in scores:
            for name, value in score.items():
                below = sum(v < value for v in score.values())
                same = sum(v == value for v in score.values())
                ranks.setdefault(name, []).append(below + (same + 1) / 2)
    return {n: statistics.fmean(v) for n, v in ranks.items()}


def picture(runs: list[Run], path: Path) -> None:
    """Mean ranks by table and workers, peers grey, ours coloured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = sorted({(r.table, r.workers) for r in runs})
    columns = min(4, len(groups))
    rows = math.ceil(len(groups) / columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(3.6 * columns, 4.2 * rows), squeeze=False)
    for axis in axes.flat[len(groups) :]:
        axis.axis("off")
    for axis, (table, workers) in zip(axes.flat, groups, strict=False):
        rank = _mean_ranks([r for r in runs if (r.table, r.workers) == (table, workers)])
        names = sorted(rank, key=lambda n: -rank[n])
        colours = ["tab:blue" if n.startswith("raysweep") else "lightgrey" for n in names]
        axis.barh(names, [rank[n] for n in names], color=colours)
        axis.set_title(f"{table}, {workers} worker{'s' * (workers > 1)}", fontsize=10)
        axis.set_xlabel("mean rank, less is better")
        axis.tick_params(axis="y", labelsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def _read(path: Path | None) -> list[Run]:
    """The runs of an earlier call, which are not done again."""
    if path is None or not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [Run(**{**row, "regrets": tuple(row["regrets"])}) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=Path, default=Path(), help="the folder of the tuning tables")
    parser.add_argument("--table", nargs="*", choices=list(TABLES), default=[t for t in TABLES if t != "toy"])
    parser.add_argument("--workers", nargs="*", type=int, choices=list(BUDGETS), default=list(BUDGETS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=list(CONTESTANTS), help="contestants by name")
    parser.add_argument("--quick", action="store_true", help="TaskSet, 4 workers, 6 seeds: under two minutes")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--runs", type=Path, help="keep every run there, as JSON lines, and go on from it")
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    tables, workers, seeds = given.table, given.workers, given.seeds
    if given.quick:
        tables, workers, seeds = ["taskset"], [4], 6
    runs = _read(given.runs)
    known = {(r.contestant, r.table, r.workers, r.seed) for r in runs}
    jobs = [
        (name, table, count, seed, str(given.tables))
        for count in workers
        for table in tables
        for seed in range(seeds)
        for name in (WITHOUT_CURVES if table == "hpobench" else CONTESTANTS)
        if name in given.only and (name, table, count, seed) not in known
    ]
    with ProcessPoolExecutor(given.processes) as pool:
        for done, run in enumerate(pool.map(_one, jobs), 1):
            runs.append(run)
            if given.runs:
                with given.runs.open("a") as file:
                    file.write(json.dumps(asdict(run)) + "\n")
            if done % 50 == 0:
                print(f"{done} of {len(jobs)} searches", file=sys.stderr)
    print(summary(runs))
    if given.picture:
        picture(runs, given.picture)


if __name__ == "__main__":
    main()

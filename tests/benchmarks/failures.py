"""A space of which half fails: how many of the last 30 of 100 points fail, stock against ours.

The loss is lowest at the border beyond which every point fails (as with memory, or a learning rate too high).
Stock is what a user of the library alone writes: HyperOpt is told STATUS_FAIL, Optuna's study.optimize catches
the exception. Ours is the same algorithm through raysweep's sampler. No Ray, one core, a few minutes.

    python tests/benchmarks/failures.py [--seeds 20]
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from typing import Any

import hyperopt
import numpy as np
import optuna

from raysweep import Float, Space
from raysweep.search.samplers import SAMPLERS
from raysweep.study.objective import Objective
from raysweep.trial import Report, Trial

TRIALS, LATE = 100, 30
SPACE = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})


def fails(x: float, y: float) -> bool:
    return x < 0.5


def loss(x: float, y: float) -> float:
    return x + (y - 0.3) ** 2


def stock_hyperopt(seed: int) -> list[bool]:
    failed: list[bool] = []

    def objective(point: dict[str, float]) -> dict[str, Any]:
        failed.append(fails(**point))
        if failed[-1]:
            return {"status": hyperopt.STATUS_FAIL}
        return {"status": hyperopt.STATUS_OK, "loss": loss(**point)}

    space = {k: hyperopt.hp.uniform(k, 0.0, 1.0) for k in ("x", "y")}
    rng = np.random.default_rng(seed)
    hyperopt.fmin(
        objective, space, hyperopt.tpe.suggest, TRIALS, rstate=rng, show_progressbar=False, verbose=False
    )
    return failed


def stock_optuna(seed: int) -> list[bool]:
    failed: list[bool] = []

    def objective(trial: optuna.Trial) -> float:
        point = {k: trial.suggest_float(k, 0.0, 1.0) for k in ("x", "y")}
        failed.append(fails(**point))
        if failed[-1]:
            raise ValueError("out of memory")
        return loss(**point)

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, TRIALS, catch=(ValueError,))
    return failed


def ours(name: str) -> Callable[[int], list[bool]]:
    def run(seed: int) -> list[bool]:
        sampler = SAMPLERS[name](SPACE, Objective("loss", False), seed)
        failed = []
        for number in range(TRIALS):
            point = sampler.ask(number)
            assert point is not None
            failed.append(fails(**point))
            sampler.tell(Trial(number, point))
            ended = Trial(number, point, "completed", (Report(1, {"loss": loss(**point)}, 0.0),))
            sampler.tell(Trial(number, point, "out of memory") if failed[-1] else ended)
        return failed

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    seeds = range(parser.parse_args().seeds)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    print(
        f"share of failing points among the last {LATE} of {TRIALS}, {len(seeds)} seeds: median (quartiles)"
    )
    for label, stock, name in [("HyperOpt", stock_hyperopt, "hyperopt"), ("Optuna", stock_optuna, "optuna")]:
        medians = []
        for who, run in [("stock", stock), ("raysweep", ours(name))]:
            shares = [sum(run(seed)[-LATE:]) / LATE for seed in seeds]
            low, middle, high = statistics.quantiles(shares, n=4)
            medians.append(middle)
            print(f"  {label:9} {who:9} {middle:5.2f} ({low:.2f} to {high:.2f})")
        print(
            f"  {label:9} ours / stock: {medians[1] / medians[0]:.2f}"
            if medians[0]
            else f"  {label}: stock never fails"
        )


if __name__ == "__main__":
    main()

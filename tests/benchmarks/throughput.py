"""How many reports a second a search takes in, with every one of them going to MLflow.

A trainable that does nothing but report three metrics, four trials at once on as many slots as there are cores,
MLflow on one SQLite file: raysweep against Ray Tune with its own MLflowLoggerCallback, in one run.

    python tests/benchmarks/throughput.py [--reports 500]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import raysweep
from raysweep import Float, Study
from raysweep.execution.ray_session import connected

TRIALS = 4


def nothing(x: float, reports: int) -> Iterator[tuple[dict[str, float], Any]]:
    for step in range(reports):
        yield {"loss": x / (step + 1), "accuracy": x, "seconds_left": 0.0}, None


def nothing_by_hand(config: dict[str, Any]) -> None:
    from ray import tune

    for step in range(config["reports"]):
        tune.report({"loss": config["x"] / (step + 1), "accuracy": config["x"], "seconds_left": 0.0})


def ray_tune(reports: int) -> float:
    """Reports a second by Ray Tune with its MLflowLoggerCallback, from the first report to the end of `fit`."""
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    for name in [n for n in os.environ if n.startswith("TUNE_")]:
        del os.environ[name]

    class First(tune.Callback):
        at = 0.0

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            First.at = First.at or time.perf_counter()

    uri = f"sqlite:///{Path('peer.db').resolve()}"
    tune.Tuner(
        tune.with_resources(nothing_by_hand, {"cpu": 1}),
        param_space={"x": tune.uniform(0.1, 1.0), "reports": reports},
        tune_config=tune.TuneConfig(num_samples=TRIALS, reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=tempfile.mkdtemp(),
            verbose=0,
            callbacks=[First(), MLflowLoggerCallback(tracking_uri=uri, experiment_name="peer")],
        ),
    ).fit()
    return TRIALS * reports / (time.perf_counter() - First.at)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reports", type=int, default=500, help="a trial of raysweep; the peer gets a tenth")
    reports = parser.parse_args().reports
    os.chdir(tempfile.mkdtemp())
    space = {"x": Float(0.1, 1.0), "reports": reports}
    study = Study(name="throughput", trainable=nothing, minimize="loss", trials=TRIALS, space=space)
    with connected(None, Path("ray.log")):
        peer = ray_tune(max(reports // 10, 10))
        result = raysweep.run(study)
        end = time.time()
    assert all(len(t.reports) == reports for t in result.trials) and result.tracking.pending == 0
    first = min(t.reports[0].time for t in result.trials)
    search = TRIALS * reports / (max(t.finished for t in result.trials) - first)
    held = TRIALS * reports / (end - first)
    print(f"reports a second, {TRIALS} trials, {os.cpu_count()} cores, MLflow on SQLite:")
    print(f"  Ray Tune with MLflowLoggerCallback         {peer:8.1f}")
    print(f"  raysweep, as the search sees it            {search:8.1f}   {search / peer:6.1f}x")
    print(f"  raysweep, until MLflow holds all of them   {held:8.1f}   {held / peer:6.1f}x")


if __name__ == "__main__":
    main()

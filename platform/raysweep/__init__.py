"""raysweep: one small file in, a searched study out, every trial in MLflow.

    import raysweep
    from raysweep import Float, Study

    study = Study(trainable="mlp", maximize="val_accuracy", trials=20, space={"lr": Float(1e-4, 1e-1, log=True)})
    result = raysweep.run(study)
    print(result.best.params, result.best.value)

Importing this package is cheap: torch, ray and mlflow are imported when a study runs, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raysweep.errors import (
    ClusterError,
    DataError,
    Infeasible,
    JournalError,
    RaysweepError,
    StudyError,
    TrackingError,
)
from raysweep.study.params import Choice, Float, Int
from raysweep.study.space import Space
from raysweep.trial import Trial

if TYPE_CHECKING:
    from raysweep.execution.run import Interrupted, run
    from raysweep.report.result import Result, load
    from raysweep.search.loop import Loop
    from raysweep.study.study import Study

__version__ = "0.1.0"

__all__ = [
    "Choice",
    "ClusterError",
    "DataError",
    "Float",
    "Infeasible",
    "Int",
    "Interrupted",
    "JournalError",
    "Loop",
    "RaysweepError",
    "Result",
    "Space",
    "Study",
    "StudyError",
    "TrackingError",
    "Trial",
    "load",
    "run",
]

_LATER = {
    "Interrupted": "raysweep.execution.run",
    "Loop": "raysweep.search.loop",
    "Result": "raysweep.report.result",
    "Study": "raysweep.study.study",
    "load": "raysweep.report.result",
    "run": "raysweep.execution.run",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        import importlib

        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'raysweep' has no attribute '{name}'")

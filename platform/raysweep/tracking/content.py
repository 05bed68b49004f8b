"""The values that MLflow gets for a study and its trials: tags, parameters, metrics."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from raysweep.errors import scrubbed
from raysweep.journal.history import History
from raysweep.study.objective import Objective
from raysweep.study.space import encode, flat
from raysweep.trial import Trial

TAG = 5000  # length of a tag, in characters, that every MLflow store accepts

RUN_STATUS = {
    "waiting": "SCHEDULED",
    "running": "RUNNING",
    "paused": "SCHEDULED",
    "completed": "FINISHED",
    "stopped": "FINISHED",
    "diverged": "FAILED",
    "out of memory": "FAILED",
    "infeasible": "FAILED",
    "timeout": "FAILED",
    "failed": "FAILED",
}


Metric = tuple[str, float, int, int]
"""Name, value, time in milliseconds, step."""


def text(value: Any) -> str:
    """A value as MLflow's parameters and tags hold it."""
    return value if isinstance(value, str) else json.dumps(value)


def key(name: str) -> str:
    """A name as MLflow takes it."""
    return re.sub(r"[^\w\-. /]", "_", name)[:250]


def ms(seconds: float) -> int:
    """A time as MLflow has it, in milliseconds."""
    return round(seconds * 1000)


# --- the study: the parent run ------------------------------------------------------------------------------------


def study_tags(history: History, objective: Objective) -> dict[str, str]:
    """The tags of the parent run when it begins."""
    record, study = history.study, history.study["study"]
    git = record.get("git", {})
    return {
        "role": "study",
        "study": study["name"],
        "study_id": record["id"],
        "objective": str(objective),
        "algorithm": text(study.get("algorithm", "random")),
        "code_sha256": record["code"]["sha256"],
        "command": " ".join(map(scrubbed, history.session.get("argv", []))),
        **{f"version_{k.replace('-', '_')}": v for k, v in record["versions"].items()},
        "mlflow.source.name": record["code"]["file"],
        "mlflow.source.type": "LOCAL",
        **({"mlflow.source.git.commit": git["commit"], "git_dirty": str(git["dirty"])} if git else {}),
    }


def study_params(history: History) -> dict[str, str]:
    """The study as it was at first: MLflow's parameters cannot change. The file beside them is current."""
    first = history.begun["study"]
    space = {f"space_{k}": text(v) for k, v in first["space"].items()}
    return {**{k: text(v) for k, v in first.items() if k not in {"space", "name"}}, **space}


def feature_metrics(history: History) -> dict[str, float]:
    """The cost of the features that all trials share, and whether this session found them already made."""
    made = history.features
    if not made:
        return {}
    sizes = {f["key"]: f["bytes"] / 1e6 for f in made}
    return {
        "features_seconds": sum(f["took"] for f in made),
        "features_mb": sum(sizes.values()),
        "features_warm": float(made[-1]["warm"]),
    }


# --- its trials: the child runs -----------------------------------------------------------------------------------


def trial_tags(history: History, trial: Trial, parent: str) -> dict[str, str]:
    """The tags of a trial's run when it begins, under the run `parent`."""
    tags = {
        "role": "trial",
        "study": history.study["study"]["name"],
        "study_id": history.study["id"],
        "trial": str(trial.number),
        "seeds": ", ".join(map(str, trial.seeds)),
        "mlflow.parentRunId": parent,
    }
    if trial.parent is not None:
        tags |= {"parent_trial": str(trial.parent[0]), "parent_epoch": str(trial.parent[1])}
    if trial.of is not None:
        tags["finalist_of"] = str(trial.of)
    if trial.baseline:
        tags["baseline"] = "true"
    point = encode(trial.point)
    if len(point) <= TAG:
        tags["point"] = point  # exact, with its types: what `warm_start: [mlflow:NAME]` reads
    return tags


def trial_params(history: History, trial: Trial) -> dict[str, str]:
    """The point, flattened, with `log10_lr` beside a log-scaled `lr`, because MLflow's axes are linear. A
    parameter that already has that name is kept, as are metrics with the same names as ours."""
    logs = {
        f"log10_{name}": round(math.log10(trial.point[name]), 6)
        for name, form in history.study["study"]["space"].items()
        if isinstance(form, dict) and form.get("log") and "each" not in form and name in trial.point
    }
    return {k: text(v) for k, v in {**logs, **flat(trial.point)}.items()}


def status_tags(trial: Trial, stopped: bool) -> dict[str, str]:
    """The status of a trial. `stopped`: the search ended before the trial did."""
    return {
        "stop_reason": "interrupted" if stopped and trial.status != "paused" else trial.status,
        "attempts": str(trial.attempts),
        "worker": trial.worker,
        **({"error": trial.error[:TAG]} if trial.error else {}),
    }


def best_metrics(trial: Trial, objective: Objective) -> list[Metric]:
    """The best epoch of a trial that has ended or paused, in addition to its last one. MLflow sorts by it."""
    report = trial.best(objective)
    if report is None or trial.status == "running":
        return []
    at = ms(trial.finished or report.time)
    names = [n for n in sorted(objective.names) if n in report.metrics]
    ours = {f"best_{name}": report.metrics[name] for name in names}
    ours |= {"best_epoch": float(report.epoch), "seconds": trial.seconds}
    used = {
        "system/process_cpu_seconds": trial.cpu_seconds,
        "system/process_memory_peak_megabytes": trial.memory,
        "system/gpu_memory_peak_megabytes": trial.gpu_memory,
    }  # beside MLflow's own, which are of whole machines
    ours |= {name: value for name, value in used.items() if value}
    return [(name, value, at, 0) for name, value in ours.items() if name not in report.metrics]

"""What raysweep uses of other packages beyond their public interfaces is still there: after an upgrade these tests say
in a sentence what is not."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import ROOT
from raysweep.cluster import ray_internals

PACKAGE = ROOT / "platform" / "raysweep"
PRIVATE = re.compile(
    r"^(ray|optuna|hyperopt|mlflow|torch|torchvision)(\.\w+)*\._|^ray\.(tune\.result|air\.execution)"
)
TUNE = {
    "temporary_state",
    "pickled_error_file",
    "_resetting_trials",
    "init_local_path",
    "_actor_id",
    "_raylet",
}
"""Attributes of Ray's objects that are not public."""


@pytest.fixture(scope="module")
def seen(ray: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What our functions say of a trial of Ray Tune that runs, of one that waits and of one that has failed."""
    from ray import tune
    from ray.tune.schedulers import FIFOScheduler

    found: dict[str, Any] = {"files": []}

    class Scheduler(FIFOScheduler):  # type: ignore[misc]
        def on_trial_add(self, controller: Any, trial: Any) -> None:
            ray_internals.prepare_for_the_end(trial)

        def choose_trial_to_run(self, controller: Any) -> Any:
            waiting = ray_internals.waiting_trials(controller)
            found.setdefault("waiting", len(waiting))
            found.setdefault("resetting", [ray_internals.is_resetting(controller, t) for t in waiting])
            for trial in [t for t in waiting if t.config["x"] == 2]:
                ray_internals.take_back(controller, trial)
                found["taken back"] = trial.status
            return super().choose_trial_to_run(controller)

        def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
            actor = ray_internals.actor_of(trial)
            found["actor"] = ray_internals.actor_id(actor)
            found["node"] = ray_internals.node_of(actor)
            found["session"] = result.get("through"), result.get("checkpoint")
            return str(super().on_trial_result(controller, trial, result))

    class Callback(tune.Callback):  # type: ignore[misc]
        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            found["files"].append(ray_internals.error_file_of(trial))

    def train(config: dict[str, Any]) -> None:
        with ray_internals.tune_session(
            lambda metrics, checkpoint: {**metrics, "through": True}, lambda: "ours"
        ):
            tune.report({"loss": 1.0, "checkpoint": tune.get_checkpoint()})
        if config["x"]:
            raise ValueError("wrong")

    tune.Tuner(
        train,
        param_space={"x": tune.grid_search([0, 1, 2])},
        tune_config=tune.TuneConfig(scheduler=Scheduler()),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path_factory.mktemp("tune")), verbose=0, callbacks=[Callback()]
        ),
    ).fit()
    return found


ROWS: dict[str, Callable[[dict[str, Any], Any], bool]] = {
    "waiting_trials": lambda seen, ray: seen["waiting"] == 3,
    "is_resetting": lambda seen, ray: seen["resetting"] == [False] * 3,
    "take_back": lambda seen, ray: seen["taken back"] == "TERMINATED",
    "actor_of, actor_id": lambda seen, ray: re.fullmatch("[0-9a-f]{32}", seen["actor"]) is not None,
    "node_of": lambda seen, ray: seen["node"] == ray.nodes()[0]["NodeID"],
    "tune_session": lambda seen, ray: seen["session"] == (True, "ours"),
    "error_file_of": lambda seen, ray: [f is not None and f.exists() for f in seen["files"]] == [True],
    "draining_nodes": lambda seen, ray: not ray_internals.draining_nodes(),
    "free_resources": lambda seen, ray: "CPU" in ray_internals.free_resources()[ray.nodes()[0]["NodeID"]],
    "is_head": lambda seen, ray: ray_internals.is_head(ray.nodes()[0]),
}


@pytest.mark.xdist_group("internals")
@pytest.mark.parametrize("name", ROWS)
def test_ray_still_has(name: str, seen: dict[str, Any], ray: Any) -> None:
    assert ROWS[name](seen, ray), f"ray_internals.{name} does not work with ray {ray.__version__}"


def test_ray_s_token_can_be_forgotten() -> None:
    from ray import _raylet

    assert callable(_raylet.AuthenticationTokenLoader.instance().reset_cache) and callable(
        _raylet.Config.initialize
    )


def test_ray_tune_s_actors_can_run_in_processes_that_wait() -> None:
    from ray import tune
    from ray.tune.execution.class_cache import _ActorClassCache

    class Mine(tune.Trainable):  # type: ignore[misc]
        pass

    with ray_internals.waiting_processes():
        waiting = _ActorClassCache().get(Mine)
    started = _ActorClassCache().get(Mine)
    assert not waiting._default_options.get("runtime_env")
    assert started._default_options["runtime_env"]["env_vars"].keys() <= {
        *ray_internals.PRELOAD,
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SECURITY_TOKEN",
        "AWS_SESSION_TOKEN",
    }, "what it would set is in PRELOAD, or the processes inherit it"


def test_a_trial_that_ray_ends_for_memory_can_be_told_apart() -> None:
    import ray
    from ray.air.execution._internal.actor_manager import RayActorManager

    class Mine(ray.exceptions.RayActorError):  # type: ignore[misc]
        pass

    told: list[Exception] = []
    before, manager = RayActorManager._actor_task_failed, SimpleNamespace()
    assert list(inspect.signature(before).parameters) == ["self", "tracked_actor_task", "exception"]
    RayActorManager._actor_task_failed = lambda self, task, exception: told.append(exception)
    try:
        with ray_internals.out_of_memory_as(lambda text: Mine(error_msg=text)):
            RayActorManager._actor_task_failed(manager, None, ray.exceptions.OutOfMemoryError("full"))
            RayActorManager._actor_task_failed(manager, None, ValueError("wrong"))
    finally:
        RayActorManager._actor_task_failed = before
    assert isinstance(told[0], Mine) and "full" in str(told[0]) and isinstance(told[1], ValueError)


def test_ray_still_reads_our_settings_and_says_our_words() -> None:
    import ray

    root = Path(ray.__file__).parent
    folders = [root / "tune", root / "train", root / "air", root / "_common" / "usage", root / "_private"]
    code = "\n".join(f.read_text() for d in folders for f in d.rglob("*.py"))
    names = {
        *ray_internals.SETTINGS,
        "RAY_CHDIR_TO_TRIAL_DIR",
        ray_internals.AUTHENTICATION_LOGGER.split(".")[-1],
    }
    of_raylet = {"RAY_preload_python_modules", "RAY_idle_worker_killing_time_threshold_ms"}
    names |= ray_internals.PRELOAD.keys() - of_raylet
    assert {n for n in names if n not in code} == set()
    programs = [root / "core" / "src" / "ray" / n for n in ("gcs/gcs_server", "raylet/raylet")]
    binary = b"".join(p.read_bytes() for p in programs)
    assert {w for w in ray_internals.GONE if w.encode() not in binary} == set()
    assert {n for n in of_raylet if n.encode() not in binary} == set()
    launcher = (root / "autoscaler" / "_private" / "commands.py").read_text()
    assert Path(ray_internals.LAUNCHED).name in launcher


def test_ray_s_launcher_checks_a_cluster_file() -> None:
    from ray.autoscaler._private.commands import _bootstrap_config

    with pytest.raises(Exception, match="provider"):
        ray_internals.check_cluster_config({"cluster_name": "x"})
    assert "no_config_cache" in inspect.signature(_bootstrap_config).parameters


def test_optuna_takes_a_finished_trial_again() -> None:
    from raysweep import Space, Trial
    from raysweep.search.samplers.optuna import Optuna
    from raysweep.study.objective import Objective
    from raysweep.trial import Report

    told = Optuna(Space({"x": {"float": [0.0, 1.0]}}), Objective("loss", False), 0)
    for epoch, loss in enumerate([3.0, 2.0], 1):
        told.tell(Trial(0, {"x": 0.5}, "paused", (Report(epoch, {"loss": loss}, 0.0),)))
        assert told._study.trials[0].values == [loss]


def test_hyperopt_has_what_is_replaced_for_an_ask() -> None:
    from hyperopt import base, tpe

    assert list(inspect.signature(tpe.build_posterior_wrapper).parameters) == [
        "domain",
        "prior_weight",
        "gamma",
    ]
    assert base.Trials(refresh=False)._dynamic_trials == []


def test_mlflow_reads_the_tags_of_nested_runs_and_sources() -> None:
    from mlflow.utils import mlflow_tags

    assert mlflow_tags.MLFLOW_PARENT_RUN_ID == "mlflow.parentRunId"
    names = (mlflow_tags.MLFLOW_SOURCE_NAME, mlflow_tags.MLFLOW_SOURCE_TYPE, mlflow_tags.MLFLOW_GIT_COMMIT)
    assert names == ("mlflow.source.name", "mlflow.source.type", "mlflow.source.git.commit")


def test_nothing_private_of_ray_is_used_elsewhere() -> None:
    for file in PACKAGE.rglob("*.py"):
        if file.name == "ray_internals.py":
            continue
        tree = ast.parse(file.read_text())
        modules = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        modules += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
        names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        assert [m for m in modules if PRIVATE.match(m)] == [], file
        assert names & TUNE == set(), file

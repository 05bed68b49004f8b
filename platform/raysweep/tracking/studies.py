"""Whole studies in MLflow: renamed, deleted."""

from __future__ import annotations

from typing import Any

from raysweep.errors import TrackingError
from raysweep.journal.records import Record
from raysweep.study.study import Study
from raysweep.tracking import views
from raysweep.tracking.store import runs


def rename(uri: str, record: Record, study: Study, name: str) -> None:
    """Give a study's runs, its registered model and its view another name. `record` is the first of its journal. May
    be done again. Raises TrackingError when MLflow does not do it, or has a model of that name."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    try:
        if _is_ours(client, study.name, record["id"]):
            if _versions(client, name):
                raise TrackingError(f"MLflow has a model '{name}' already. Choose another name")
            client.rename_registered_model(study.name, name)
        for run in _runs(client, record["id"]):
            client.set_tag(run.info.run_id, "study", name)
            if run.data.tags.get("role") == "study":
                client.set_tag(run.info.run_id, "mlflow.runName", name)
                described = {**record, "study": {**record["study"], "name": name}}
                views.write(client, run.info.experiment_id, described, study.space, study.objective)
    except mlflow.exceptions.MlflowException as error:
        raise TrackingError(f"MLflow does not rename {study.name}: {error}. Try again") from None


def delete(uri: str, identity: str, name: str) -> None:
    """Move a study's runs to MLflow's trash, and delete its registered model. May be done again. Raises TrackingError
    when MLflow does not do it."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    try:
        if _is_ours(client, name, identity):
            client.delete_registered_model(name)
        for run in _runs(client, identity):
            client.delete_run(run.info.run_id)
    except mlflow.exceptions.MlflowException as error:
        raise TrackingError(f"MLflow does not delete {name}: {error}. Try again") from None


def _runs(client: Any, identity: str) -> list[Any]:
    experiments = [e.experiment_id for e in client.search_experiments()]
    return list(runs(client, experiments, f"tags.study_id = '{identity}'"))


def _versions(client: Any, name: str) -> list[Any]:
    """The versions of a registered model; none if there is none."""
    return list(client.search_model_versions(f"name = '{name}'"))


def _is_ours(client: Any, name: str, identity: str) -> bool:
    """Whether a registered model has versions of this study, and of no other one of the same name."""
    ours, versions = {run.info.run_id for run in _runs(client, identity)}, _versions(client, name)
    return bool(versions) and all(v.tags.get("run_id", v.run_id) in ours for v in versions)

"""Commands around a study: enqueue, sync, doctor, ui, schema."""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

import click

from raysweep.cli.base import cli, mlflow_for, open_study, store_for
from raysweep.cli.options import cluster_option, folder_option, point_of, say, study_argument, tracking_option
from raysweep.cli.remote import StudyCommand
from raysweep.errors import RaysweepError


@cli.command(cls=StudyCommand)
@study_argument
@click.argument("values", nargs=-1, required=True, metavar="NAME=VALUE...")
@folder_option
def enqueue(study: str, values: tuple[str, ...], folder: Path) -> None:
    """Queue a point for a study: it is tried next.

    The study may be running or not. Fixed values may be left out.

    \b
    raysweep enqueue digits_mlp layers=2 units=[64,32] activation=relu dropout=0.1 optimizer=adam lr=1e-3 batch_size=64
    """
    from raysweep.journal import queue
    from raysweep.trial import asked

    place, history, what = open_study(folder, study)
    point = point_of(values, what)
    queue.put(place, point)
    if asked(history.trials) >= what.target:
        say(f"{what.name} has its {what.target} trials. Raise trials in its file, and run it again")
    click.echo(f"queued for {what.name}: {point}")


@cli.command(cls=StudyCommand)
@study_argument
@folder_option
@tracking_option
def sync(study: str, folder: Path, tracking: str | None) -> None:
    """Publish to MLflow everything that it does not have yet."""
    from raysweep.tracking.process import start_publisher, wait_for_publisher
    from raysweep.tracking.store import check_store

    place, history, _ = open_study(folder, study)
    uri = mlflow_for(place, history, tracking)
    check_store(uri)
    start_publisher(place, uri)
    if not wait_for_publisher(place, say).over:
        sys.exit(1)
    click.echo(f"MLflow holds all of {place.name}")


@cli.command(cls=StudyCommand)
@study_argument
@folder_option
@tracking_option
@click.option("--mend", is_flag=True, help="Repair everything that needs no decision from you.")
def doctor(study: str, folder: Path, tracking: str | None, mend: bool) -> None:
    """Look for what crashes have left behind.

    It looks in a study's folder and in MLflow.

    \b
    raysweep doctor digits_mlp --mend
    """
    from raysweep.tracking.doctor import examine

    place, history, _ = open_study(folder, study)
    found = list(examine(place, store_for(place, history, tracking), mend))
    for finding in found:
        click.echo(str(finding))
    if not all(f.mended for f in found):
        sys.exit(1)
    if not found:
        click.echo(f"nothing is wrong with {place.name}")


@cli.command()
@click.argument("study", required=False)
@folder_option
@tracking_option
@click.option("--port", default=5000, show_default=True)
@cluster_option
def ui(study: str | None, folder: Path, tracking: str | None, port: int, cluster: Path | None) -> None:
    """Open MLflow's UI, with STUDY on its trials.

    With --cluster, forward MLflow and Ray's dashboard from the cluster's head to this machine.
    """
    if cluster is not None:
        from raysweep.cli.remote import ui as ui_there

        ui_there(cluster, study)
        return
    from raysweep.tracking import views
    from raysweep.tracking.process import publisher_status
    from raysweep.tracking.store import store_of

    uri = store_of(folder / "any", tracking)
    if not uri.startswith("http"):
        _see_that_it_is_free(port)
    if study is not None:
        place, history, what = open_study(folder, study)
        uri = mlflow_for(place, history, tracking)
    base = uri if uri.startswith("http") else f"http://127.0.0.1:{port}"
    if study is not None:
        experiment = publisher_status(place).experiment
        if not experiment:
            raise RaysweepError(f"MLflow does not have '{study}' yet: raysweep sync {study}")
        click.echo(views.link(base, experiment, history.study["id"], what.name, what.objective))
    else:
        click.echo(base)
    if not uri.startswith("http"):
        _serve(uri, port)


def _see_that_it_is_free(port: int) -> None:
    """Raise RaysweepError when something else listens on a port of this machine."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError as error:
            raise RaysweepError(
                f"port {port} cannot be used: {error.strerror}. Choose one: --port 5001"
            ) from None


def _serve(uri: str, port: int) -> None:
    """Run MLflow's server until this process ends: on loopback only, and without its job runner, which costs
    a gigabyte. The server consists of several processes; none of them may outlive this one."""
    import signal
    import subprocess

    from raysweep.tracking.process import QUIET

    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # before there is a server to outlive us
    server = subprocess.Popen(  # noqa: S603
        [*command, "--port", str(port), "--workers", "1"],
        env={**os.environ, **QUIET, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        start_new_session=True,
    )
    try:
        code = server.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    sys.exit(code)


@cli.command()
def schema() -> None:
    """Print the JSON Schema of study files, for completion in editors.

    \b
    raysweep schema > raysweep.schema.json
    """
    from raysweep.study.schema import schema as study_schema

    click.echo(json.dumps(study_schema(), indent=2))

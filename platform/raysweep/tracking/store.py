"""Where MLflow is: the store of a study, and whether it answers."""

from __future__ import annotations

import base64
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raysweep.errors import TrackingError, scrubbed

OFF = "off"
"""The store of a study that is not tracked: the journal has it all, and `raysweep sync --tracking URI` publishes it
later."""


def store_of(place: Path, store: str | None = None) -> str:
    """The MLflow store: what is given, or MLFLOW_TRACKING_URI, or one SQLite file for all studies of the folder."""
    return (
        store or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{place.parent.resolve() / 'mlflow.db'}"
    )


def check_store(uri: str) -> None:
    """Check that the store's URI is valid and its server answers, before a start. Raises TrackingError."""
    if uri == OFF:
        return
    try:
        scheme = urllib.parse.urlsplit(uri).scheme
    except ValueError as error:
        raise TrackingError(f"tracking: '{scrubbed(uri)}' is no URI: {error}") from None
    if scheme not in {"http", "https", "sqlite", "postgresql", "mysql", "mssql"} and "+" not in scheme:
        raise TrackingError(
            f"tracking: '{scrubbed(uri)}' is no MLflow store. Use http://HOST:PORT, or sqlite:///FILE"
        )
    if scheme in {"http", "https"}:
        _ask(uri)


def _ask(uri: str) -> None:
    """Check that the server answers, and accepts us."""
    name, at, _ = urllib.parse.urlsplit(uri).netloc.rpartition("@")
    request = urllib.request.Request(f"{uri.replace(name + at, '', 1).rstrip('/')}/health")  # noqa: S310 - http(s) only
    if name:
        key = base64.b64encode(urllib.parse.unquote(name).encode()).decode()
        request.add_header("Authorization", f"Basic {key}")
    try:
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code in {401, 403}:
            raise TrackingError(
                f"tracking: {scrubbed(uri)} answers {error.code}. Set MLFLOW_TRACKING_TOKEN, or"
                " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            ) from None
        if error.code != 404:  # an older server has no such page
            raise TrackingError(f"tracking: {scrubbed(uri)} answers {error.code} {error.reason}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise TrackingError(
            f"tracking: {scrubbed(uri)} does not answer ({getattr(error, 'reason', error)})."
            " Start it, or leave --tracking out: then a local file is used"
        ) from None


def runs(client: Any, experiments: list[str], filters: str) -> Iterator[Any]:
    """Every MLflow run in `experiments` that matches `filters`, fetched page by page."""
    token = None
    while True:
        page = client.search_runs(experiments, filters, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return

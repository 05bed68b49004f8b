"""MLflow as a projection of the journal: where it is, and the process that writes to it.

That process (publisher.py) reads the journal and writes to MLflow in batches, so the search neither waits for
MLflow nor falls with it. It can be killed and started again; when the search that it serves is gone, it publishes
what the journal holds and ends.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raysweep import disk
from raysweep.errors import TrackingError, scrubbed

DRAIN = 60.0  # seconds that the end of a search waits for MLflow
STATUS = "tracking.json"


@dataclass(frozen=True)
class Status:
    """How far MLflow is behind the journal; the publisher keeps it in the study's folder."""

    pending: int = 0
    """How many trials MLflow does not hold as the journal does."""
    error: str = ""
    experiment: str = ""
    model: str = ""
    over: bool = False


OFF = "off"
"""The store of who wants none: the journal has it all, and `raysweep sync --tracking URI` publishes it later."""


def store_of(place: Path, store: str | None = None) -> str:
    """The MLflow store: what is given, or MLFLOW_TRACKING_URI, or one SQLite file for all studies of the folder."""
    return (
        store or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{place.parent.resolve() / 'mlflow.db'}"
    )


def check(uri: str) -> None:
    """See that the store can be what it says, before anything is started. Raises TrackingError."""
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
    """See that the server answers, and to us."""
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


def status(place: Path) -> Status:
    """The publisher's last word."""
    try:
        return Status(**json.loads((place / STATUS).read_text()))
    except (OSError, ValueError, TypeError):
        return Status()


def start(place: Path, uri: str, watch: bool = False) -> None:
    """Start a publisher. It ends by itself when the study is no longer written to and all of it is published.

    With `watch` it also says on our standard error how to go on, should this process die without a word: Ray ends
    a driver that loses its head node so.
    """
    (place / STATUS).unlink(missing_ok=True)
    if uri == OFF:
        disk.write(place / STATUS, json.dumps(asdict(Status(over=True))), sync=False)
        return
    terminal = (os.dup(2),) if watch else ()
    with (place / "tracking.log").open("ab") as log:
        subprocess.Popen(  # noqa: S603
            (sys.executable, "-m", "raysweep.publisher", str(place), *map(str, terminal)),
            # The URI may hold a password: the environment is not shown to other users, arguments are.
            env={**os.environ, **QUIET, "MLFLOW_TRACKING_URI": uri},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=terminal,
            start_new_session=True,  # Ctrl-C ends the search; the publisher then publishes how it ended
        )
    for file in terminal:
        os.close(file)


QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the publisher has its own patience
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "GIT_PYTHON_REFRESH": "quiet",
}


def runs(client: Any, experiments: list[str], filters: str) -> Iterator[Any]:
    """Every run that MLflow has in `experiments` and that its `filters` let through, page by page."""
    token = None
    while True:
        page = client.search_runs(experiments, filters, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def drain(place: Path, say: Callable[[str], None], patience: float = DRAIN) -> Status:
    """Wait until MLflow holds what the journal holds, and say what is left if it takes too long."""
    deadline = time.monotonic() + patience
    shown = status(place)
    told = False
    while not shown.over and time.monotonic() < deadline:
        if not told and time.monotonic() > deadline - patience + 2:
            say("Bringing MLflow up to date ...")
            told = True
        time.sleep(0.1)
        shown = status(place)
    if not shown.over:
        trouble = f" ({shown.error})" if shown.error else ""
        say(
            f"MLflow is behind by {shown.pending} trials{trouble}. Nothing is lost: raysweep sync {place.name}"
        )
    return shown

"""The publisher's process: start it, see how far it is, wait for it.

The publisher (publisher.py) reads the journal and writes to MLflow in batches, so a search neither waits for MLflow nor
fails with it. It can be killed and started again; when the search that it serves is gone, it publishes what the journal
holds and exits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from raysweep.storage import disk
from raysweep.tracking.store import OFF

DRAIN = 60.0  # seconds that the end of a search waits for MLflow
STATUS = "tracking.json"
REPORT = "report.html"  # the report in the study's folder, which goes to its run as well

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the publisher itself waits and retries
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "GIT_PYTHON_REFRESH": "quiet",
}


@dataclass(frozen=True)
class PublisherStatus:
    """How far MLflow is behind the journal; the publisher keeps it in the study's folder."""

    pending: int = 0
    """How many trials are not yet in MLflow as they are in the journal."""
    error: str = ""
    experiment: str = ""
    model: str = ""
    over: bool = False


def publisher_status(place: Path) -> PublisherStatus:
    """The last status that the publisher wrote."""
    try:
        return PublisherStatus(**json.loads((place / STATUS).read_text()))
    except (OSError, ValueError, TypeError):
        return PublisherStatus()


def start_publisher(place: Path, uri: str, watch: bool = False) -> None:
    """Start a publisher. It ends by itself when the study is no longer written to and all of it is published.

    With `watch` it also says on our standard error how to resume, if this process dies without a message.
    That is how Ray ends a driver that loses its head node.
    """
    (place / STATUS).unlink(missing_ok=True)
    if uri == OFF:
        disk.write(place / STATUS, json.dumps(asdict(PublisherStatus(over=True))), sync=False)
        return
    terminal = (os.dup(2),) if watch else ()
    with (place / "tracking.log").open("ab") as log:
        subprocess.Popen(  # noqa: S603
            # Not from the current folder, where a module of the user may be called as one that this needs.
            (sys.executable, "-P", "-m", "raysweep.tracking.publisher", str(place), *map(str, terminal)),
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


def wait_for_publisher(place: Path, say: Callable[[str], None], patience: float = DRAIN) -> PublisherStatus:
    """Wait until MLflow holds what the journal holds, and say what is left if it takes too long."""
    deadline = time.monotonic() + patience
    shown = publisher_status(place)
    told = False
    while not shown.over and time.monotonic() < deadline:
        if not told and time.monotonic() > deadline - patience + 2:
            say("Bringing MLflow up to date ...")
            told = True
        time.sleep(0.1)
        shown = publisher_status(place)
    if not shown.over:
        trouble = f" ({shown.error})" if shown.error else ""
        say(
            f"MLflow is behind by {shown.pending} trials{trouble}. Nothing is lost: raysweep sync {place.name}"
        )
    return shown

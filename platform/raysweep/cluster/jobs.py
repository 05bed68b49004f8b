"""A study as a job of the Ray cluster: it runs on the cluster's head, whatever happens to its submitter."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from raysweep.errors import ClusterError, JournalError, Problem, StudyError, scrubbed
from raysweep.journal.history import Reader
from raysweep.journal.journal import running
from raysweep.journal.records import FILE

CODE = "code"  # in the study's folder: the shipped copy of the folder that holds its file
LARGEST = 100 << 20  # bytes that may be shipped
LEFT_OUT = {"__pycache__", "studies", "node_modules"}
MEANT = ("RAYSWEEP_FOLDER", "RAYSWEEP_MIRROR", "MLFLOW_TRACKING_URI")
BEGINS = 120.0  # seconds that a job may take to begin its session
POLL = 0.5


# --- the code -----------------------------------------------------------------------------------------------------


def bundle(folder: Path) -> bytes:
    """Pack what a study's file may need from its folder: everything except hidden files, links, environments
    and studies. Raises StudyError when that is too much: data should be stored where every node sees it."""
    found, size = list(_shipped(folder)), 0
    for path in found:
        size += path.stat().st_size
        if size > LARGEST:
            what = f"holds more than {LARGEST >> 20} MB. Give the study a folder of its own, and its data as a path"
            raise StudyError([Problem(str(folder), f"{what} that every node sees")])
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path in found:
            archive.add(path, path.relative_to(folder), recursive=False)
    return packed.getvalue()


def _shipped(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in LEFT_OUT or path.is_symlink():
            continue
        if path.is_dir():
            if not (path / "pyvenv.cfg").exists():
                yield from _shipped(path)
        elif path.is_file():
            yield path


def receive(place: Path, packed: IO[bytes]) -> Path:
    """Unpack a bundle into the study's folder, where the nodes see it, replacing an earlier one. Raises
    JournalError while the study runs."""
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    if who := running(place):
        raise JournalError(
            f"study '{place.name}' is being run by {who}. Wait for it, or raysweep stop {place.name}"
        )
    fresh = place / f"{CODE}.part"
    shutil.rmtree(fresh, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(packed.read()), mode="r:gz") as archive:
        archive.extractall(fresh, filter="data")
    shutil.rmtree(place / CODE, ignore_errors=True)
    fresh.replace(place / CODE)
    return place / CODE


# --- the job ------------------------------------------------------------------------------------------------------


def submit(place: Path, arguments: Sequence[str], address: str) -> str:
    """Have the cluster at `address` run `raysweep ARGUMENTS`, which searches the study in `place`.

    Returns the job's id once the search has begun. Raises ClusterError with the job's output when it does not
    begin.
    """
    began, client = time.time(), _client(address)
    command = shlex.join([sys.executable, "-m", "raysweep", *arguments])
    given = {name: os.environ[name] for name in MEANT if name in os.environ}
    for name, value in given.items():
        if scrubbed(value) != value:
            raise ClusterError(
                f"{name} holds a password, which Ray's dashboard would show. Set MLFLOW_TRACKING_USERNAME and"
                " MLFLOW_TRACKING_PASSWORD on the cluster's nodes (cluster/env.sh), and take it out of the URI"
            )
    job: str = client.submit_job(
        entrypoint=f"cd {shlex.quote(os.getcwd())} && exec {command}",
        submission_id=f"{place.name}-{int(began)}",
        metadata={"study": place.name, "folder": str(place)},
        # A job gets its node's environment; pass on the variables that are set here.
        runtime_env={"env_vars": given},
    )
    while time.time() < began + BEGINS:
        if (place / FILE).exists():
            reader = Reader(place)
            reader.update()
            if reader.history.session.get("time", 0.0) >= began:
                return job
        if str(client.get_job_status(job)) in {"FAILED", "STOPPED", "SUCCEEDED"}:
            raise ClusterError(f"the job {job} did not begin:\n{client.get_job_logs(job)[-2000:].strip()}")
        time.sleep(POLL)
    raise ClusterError(f"the job {job} has not begun within {BEGINS:.0f} s. See: ray job logs {job}")


def kill(place: Path, address: str) -> bool:
    """Kill the jobs that run a study, without asking the study. Returns whether there was one."""
    client = _client(address)
    jobs = _jobs_of(place, client)
    return any([client.stop_job(j.submission_id) for j in jobs if str(j.status) in {"PENDING", "RUNNING"}])


def output(place: Path, address: str) -> str:
    """Everything that the last job of a study printed, including tracebacks."""
    client = _client(address)
    jobs = _jobs_of(place, client)
    if not jobs:
        raise ClusterError(f"no job of the cluster has run {place.name}")
    text: str = client.get_job_logs(max(jobs, key=lambda j: j.start_time or 0).submission_id)
    return text


def _jobs_of(place: Path, client: Any) -> list[Any]:
    return [j for j in client.list_jobs() if (j.metadata or {}).get("folder") == str(place)]


def _client(address: str) -> Any:
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"no Ray cluster accepts jobs at {address}: {' '.join(str(error).split())}"
        ) from None

"""A machine that is lost with its disk costs a study no more than the last seconds."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.conftest import assert_invariants, history, until
from faults.test_studies import Start, finished, reports
from raysweep.errors import StorageError
from raysweep.journal import mirror
from raysweep.journal.journal import Journal
from raysweep.journal.records import FILE

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def s3(port: int) -> str:
    return f"s3://bucket/studies?endpoint_override=127.0.0.1:{port}&scheme=http"


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of an S3 server with one bucket."""
    import urllib.request

    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    server = subprocess.Popen(
        (sys.executable, "-m", "moto.server", "-p", str(number)), stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        request = urllib.request.Request(f"http://127.0.0.1:{number}/bucket", method="PUT")
        try:
            urllib.request.urlopen(request).close()
        except OSError:
            return False
        return True

    until(answers, 60)
    yield number
    server.kill()
    server.wait()


@pytest.fixture(params=["a folder", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return s3(request.getfixturevalue("port")) if request.param == "s3" else f"file://{tmp_path}/copies"


def filled(place: Path, trials: int) -> Journal:
    journal = Journal(place)
    for number in range(len(journal.trials), trials):
        journal.append("asked", trial=number, point={"x": number, "why": "x" * 50_000}, seeds=[0])
        (place / "trials" / f"{number:06d}").mkdir(parents=True)
        for suffix in ("pt", "json"):
            (place / "trials" / f"{number:06d}" / f"epoch-000001.{suffix}").write_text(f"{number} {suffix}")
    return journal


def files(place: Path) -> dict[str, bytes]:
    kept = [place / FILE, *place.glob("trials/*/*"), *place.glob("best/*/*")]
    return {str(p.relative_to(place)): p.read_bytes() for p in kept}


def kept_up(place: Path, uri: str, said: list[str]) -> None:
    copy = mirror.Mirror(place, uri, said.append)
    copy.start()
    copy.close()


def test_what_is_fetched_is_what_was_there(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "EVERY", 0.5)
    here, there, said = tmp_path / "here" / "study", tmp_path / "there" / "study", []
    journal = filled(here, 30)  # more than one part
    copy = mirror.Mirror(here, uri, said.append)
    copy.start()
    until(lambda: mirror._journal(*mirror._opened(uri, "study")) == (here / FILE).read_bytes())
    journal.append("over")
    (here / "best" / "tables").mkdir(parents=True)
    (here / "best" / "tables" / "confusion.csv").write_text("class")
    shutil.rmtree(here / "trials" / "000007")  # beaten
    journal.close()
    copy.close()
    assert not any("of the journal" in line for line in said)
    assert mirror.fetch(there, uri) and files(there) == files(here)
    assert not mirror.fetch(there, uri), "there is nothing more to fetch"
    # Whoever goes on from there may, and what was here is then brought up to it ...
    journal = filled(there, 31)
    kept_up(there, uri, said)
    journal.close()
    assert mirror.fetch(here, uri) and files(here) == files(there)
    # ... but not when both went on.
    filled(here, 32).close()
    filled(there, 33).close()
    kept_up(here, uri, said)
    assert not mirror.fetch(there, uri)
    with pytest.raises(StorageError, match="or it went on elsewhere"):
        mirror.Mirror(there, uri, said.append)


def test_a_mirror_has_one_writer(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "EVERY", 0.5)
    filled(tmp_path / "study", 1).close()
    first = mirror.Mirror(tmp_path / "study", uri, print)
    first.start()
    with (
        monkeypatch.context() as elsewhere,
        pytest.raises(StorageError, match=r"heard of \d+ s ago. If that"),
    ):
        elsewhere.setattr("platform.node", lambda: "elsewhere")
        mirror.Mirror(tmp_path / "study", uri, print)
    first.close()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("platform.node", lambda: "elsewhere")
        mirror.Mirror(tmp_path / "study", uri, print).close()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("nowhere", "is no place for a mirror, as s3://bucket/folder"),
        ("file:///proc/studies", "cannot be written to"),
        pytest.param(s3(9), "cannot be written to", marks=pytest.mark.slow),  # it is tried for ten seconds
    ],
    ids=["no URI", "a folder that cannot be", "nobody answers"],
)
def test_a_place_that_cannot_be_used_is_refused(
    uri: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    filled(tmp_path / "study", 1).close()
    with pytest.raises(StorageError, match=said):
        mirror.Mirror(tmp_path / "study", uri, print)


@pytest.mark.slow
def test_a_head_that_is_lost_with_its_disk_costs_the_last_seconds(
    port: int, here: Path, study: Callable[..., Path], raysweep: Start
) -> None:
    study("steady", trials=6, epochs=30, concurrency=1, more="scheduler: none\ncheckpoint_every: 1e-6")
    place = here / "studies" / "faulty_study"
    process = raysweep("run", "faulty_study.yaml", "-q", "--mirror", s3(port))
    until(lambda: reports(place) > 60)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=600)
    lost, killed = history(place), time.time()
    shutil.rmtree(here / "studies")
    said = finished(raysweep("resume", "faulty_study", "--mirror", s3(port)), seconds=200)
    assert "trial" in said
    told = assert_invariants(place, interval=5)  # a checkpoint is copied a moment before the journal
    began = told.session["time"]
    known = [t for t in told.trials if t.asked and t.asked < began]
    reported = {(t.number, r.epoch) for t in lost.trials for r in t.reports if r.time < killed - 10}
    assert reported <= {(t.number, r.epoch) for t in known for r in t.reports if r.time < began}
    assert {t.status for t in told.trials} == {"completed"}

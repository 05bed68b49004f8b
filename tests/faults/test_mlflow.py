"""MLflow away, slow or wrong, for as long as it likes: the search does not wait, and in the end all of it is there."""

from __future__ import annotations

import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.conftest import assert_invariants, until

Start = Callable[..., subprocess.Popen[str]]


class Proxy(http.server.ThreadingHTTPServer):
    """Stands before a real MLflow server, and misbehaves as told: `fault` is refuse, hang, 500 or nothing."""

    def __init__(self, behind: int):
        self.behind, self.fault = behind, ""
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Proxy

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.fault
        if fault == "refuse":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault == "hang":
            until(lambda: self.server.fault != "hang", 300)
        url = f"http://127.0.0.1:{self.server.behind}{self.path}"
        headers = {"Content-Type": self.headers.get("Content-Type", "application/json")}
        request = urllib.request.Request(url, body or None, headers, method=self.command)
        try:
            with urllib.request.urlopen(request) as response:
                code, told = response.status, response.read()
        except urllib.error.HTTPError as error:
            code, told = error.code, error.read()
        if fault == "500":  # after it was carried out
            code, told = 500, b"{}"
        self.send_response(code)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Proxy]:
    """A real MLflow server behind a proxy."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = (sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path}/all.db",
               "--artifacts-destination", str(tmp_path / "artifacts"), "--port", str(port), "--workers", "1")  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )  # fmt: skip

    def up() -> bool:
        try:
            return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).status == 200)
        except OSError:
            return False

    until(up, 120)
    proxy = Proxy(port)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    yield proxy
    proxy.fault = ""
    proxy.shutdown()
    os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_mlflow_refusing_hanging_and_failing_changes_nothing_in_the_end(
    server: Proxy, here: Path, study: Callable[..., Path], raysweep: Start
) -> None:
    from mlflow import MlflowClient

    uri = f"http://127.0.0.1:{server.server_port}"
    study("steady", trials=6, epochs=20)
    place = here / "studies" / "faulty_study"
    process = raysweep("run", "faulty_study.yaml", "-q", "--tracking", uri)
    until(
        lambda: (place / "tracking.json").exists() and "experiment" in (place / "tracking.json").read_text()
    )
    for fault in ("500", "", "refuse", "hang"):
        server.fault = fault
        time.sleep(5)
    began = time.monotonic()
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    took = max(t.finished for t in assert_invariants(place).trials)
    assert took < time.time() and time.monotonic() - began < 100
    server.fault = ""
    done = raysweep("sync", "faulty_study", "--tracking", uri)
    assert "MLflow holds all of faulty_study" in done.communicate(timeout=600)[0]

    client = MlflowClient(f"http://127.0.0.1:{server.behind}")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    by_trial = {r.data.tags["trial"]: r for r in runs if r.data.tags["role"] == "trial"}
    assert len(runs) == 7 and len(by_trial) == 6, "one run a trial, one for the study, none astray"
    assert {r.info.status for r in runs} == {"FINISHED"}
    for trial in assert_invariants(place).trials:
        run = by_trial[str(trial.number)]
        held = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss")]
        assert held == [(r.epoch, r.metrics["loss"]) for r in trial.reports]

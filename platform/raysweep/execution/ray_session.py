"""Ray as a search needs it: connected, with our settings and fixes; afterwards all is as it was before."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from raysweep.cluster import ray_internals
from raysweep.errors import ClusterError

RAY = (2, 60)
ANSWERS = 10.0  # seconds that a cluster has to answer
TOKEN = Path(".ray") / "auth_token"  # in a home


@contextmanager
def connected(address: str | None, log: Path, open_cluster: bool = True) -> Iterator[Any]:
    """Connect to Ray, with its messages in `log`. Afterwards stop what we started and restore what we set."""
    with ExitStack() as undo:
        undo.callback(ray_internals.forget_token)
        undo.enter_context(environment(ray_internals.SETTINGS))
        import ray

        if address is None and not ray.is_initialized():
            os.environ |= _local_token()
        if tuple(map(int, ray.__version__.split(".")[:2])) < RAY:
            raise ClusterError(f"ray {ray.__version__} found, {'.'.join(map(str, RAY))} or newer needed")
        undo.enter_context(_logging_to(log))
        undo.enter_context(_signals_kept())
        from raysweep.execution.recorder import KilledForMemory

        undo.enter_context(ray_internals.out_of_memory_as(lambda text: KilledForMemory(error_msg=text)))
        if not ray.is_initialized():
            if address is not None:
                _see_that_it_answers(address)
            else:
                undo.enter_context(environment(ray_internals.PRELOAD))
            try:
                context = ray.init(
                    address=address or "local",
                    log_to_driver=False,
                    configure_logging=False,
                    **({} if address else {"include_dashboard": False}),
                )
            except ConnectionError as error:
                raise ClusterError(f"no Ray cluster answers at {address}: {error}") from error
            undo.callback(ray.shutdown)
            if address and not open_cluster:
                _refuse_open(address, context.address_info["webui_url"])
        yield ray


def _see_that_it_answers(address: str) -> None:
    """Raise ClusterError if nothing at HOST:PORT speaks Ray's protocol (gRPC): Ray itself would try for over a
    minute. The dashboard's port, for one, does not."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or os.environ.get("RAY_USE_TLS", "0") != "0":
        return  # `auto`, or a connection that needs certificates
    import grpc

    place = f"{host.rpartition('/')[2]}:{port}"
    with grpc.insecure_channel(place) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWERS)
        except grpc.FutureTimeoutError:
            what = "Is it the address that `ray start` printed, with port 6379?"
            raise ClusterError(
                f"no Ray cluster answers at {address} within {ANSWERS:.0f} s. {what}"
            ) from None


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set these environment variables. Afterwards undo all changes, including those that Ray made."""
    before = dict(os.environ)
    os.environ |= settings
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ |= before


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Restore our signal handlers afterwards: Ray takes over SIGTERM when it starts, and Ray Tune Ctrl-C."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # handlers can be set only there
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _logging_to(log: Path) -> Iterator[None]:
    handler = logging.FileHandler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger("ray"), logging.getLogger("ray.tune")]
    quiet = logging.getLogger(ray_internals.AUTHENTICATION_LOGGER)
    before, level = [(logger, logger.handlers, logger.propagate) for logger in loggers], quiet.level
    quiet.setLevel(logging.ERROR)
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        quiet.setLevel(level)
        for logger, handlers, propagates in before:
            logger.handlers, logger.propagate = handlers, propagates
        handler.close()


def _local_token() -> dict[str, str]:
    """A token for a Ray that we start, for as long as it runs, unless the user has one or wants none. (Ray
    would create a permanent one that others can read, and every later Ray of this user would require it.)"""
    known = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys() or (Path.home() / TOKEN).exists()
    off = os.environ.get("RAY_AUTH_MODE", "token") != "token"
    return {} if known or off else {"RAY_AUTH_TOKEN": secrets.token_hex(32)}


def token() -> None:
    """The key to this user's clusters, readable by its owner alone. (Ray would write one that others can read.)
    Raises ClusterError when it cannot be written."""
    path = Path.home() / TOKEN
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
        path.chmod(0o600)
    except OSError as error:
        raise ClusterError(f"{path}, the key to the cluster, cannot be written: {error.strerror}") from None


def _refuse_open(address: str, dashboard: str) -> None:
    """Raise ClusterError if anyone who can reach the cluster can run code on it."""
    try:
        with urllib.request.urlopen(f"http://{dashboard}/api/version", timeout=3):
            pass
    except OSError:
        return  # it requires a token, or has no dashboard that can be reached
    raise ClusterError(
        f"the cluster at {address} requires no token: http://{dashboard} runs what anyone sends it. Start it"
        " with RAY_AUTH_MODE=token, or use it anyway with --open-cluster"
    )

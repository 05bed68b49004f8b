"""Every part of Ray that raysweep uses although it is not public, each with its reason.

tests/test_internals.py uses each part once: after an upgrade of Ray it shows what is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LAUNCHED = "~/ray_bootstrap_config.yaml"
"""Where `ray up` leaves the cluster's file on its head: Ray never says which nodes its autoscaler may add."""
SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the journal has it all; halves the time of a report
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # the end of a trial is a result without metrics
    # Else Ray Tune itself restarts the trials of a node that was taken away, with their original config.
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",  # else one at a time; our ConcurrencyLimiter says how many
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # snapshots, of which we use none
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Environment variables. If Ray renames one, it silently ignores the old name."""
PRELOAD = {
    # Ray has processes wait for work from its start on. They import this meanwhile, which takes seconds.
    "RAY_preload_python_modules": "torch,ray.tune",
    # Ray Tune reserves CPUs before it starts its actors. Meanwhile, Ray would see processes without a CPU, and end
    # those that have waited for a second.
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    # What Ray Tune would set for its actors: a process that waits has it already, see `waiting_processes`.
    "PL_DISABLE_FORK": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
"""Environment variables for a Ray that we start ourselves: its processes inherit them."""
AUTHENTICATION_LOGGER = "ray._private.authentication"
"""The logger that would report each time that a token is required."""
HEAD_RESOURCE = "node:__internal_head__"
"""The resource that the head of a cluster has one of: nothing else in Ray marks the head."""
GONE = ("node has died", "node is dead", "node died")
"""Phrases in an actor's error that mean that its node was lost: there is no error type for this."""


def is_head(node: Mapping[str, Any]) -> bool:
    """Whether a node, as `ray.nodes` describes it, is the cluster's head."""
    return HEAD_RESOURCE in node["Resources"]


def draining_nodes() -> Collection[str]:
    """The ids of the nodes that are about to be taken away. The public state API takes
    seconds, and asks the dashboard, which may not be running."""
    from ray._private.state import state

    found: Collection[str] = state.get_draining_nodes().keys()
    return found


def node_of(actor: Any) -> str:
    """The id of the node that an actor runs on; empty while unknown. Private, as in `draining_nodes`."""
    from ray._private.state import state

    node: str = state.actor_table(actor_id(actor)).get("Address", {}).get("NodeID", "")
    return node


def free_resources() -> Mapping[str, Mapping[str, float]]:
    """The free resources of each node, by its id: `ray.available_resources` gives only their sum."""
    from ray._private.state import available_resources_per_node

    found: Mapping[str, Mapping[str, float]] = available_resources_per_node()
    return found


def actor_id(actor: Any) -> str:
    """The id of an actor: its handle shows it nowhere else."""
    identity: str = actor._actor_id.hex()
    return identity


def actor_of(trial: Any) -> Any:
    """The actor that runs one of Ray Tune's trials, or None: to kill one that hangs, or to warn one of a drain."""
    return trial.temporary_state.ray_actor


def error_file_of(trial: Any) -> Path | None:
    """The file in which Ray Tune has pickled a trial's error: callbacks are only given its text."""
    return Path(trial.pickled_error_file) if trial.pickled_error_file else None


def waiting_trials(controller: Any) -> list[Any]:
    """Ray Tune's trials that wait for a worker. Its own scheduler uses the same test."""
    return [t for t in controller.get_live_trials() if t.status == t.PENDING]


def is_resetting(controller: Any, trial: Any) -> bool:
    """Whether a worker is being reset for this trial. If so, the trial must not be taken back."""
    return trial in controller._resetting_trials


def take_back(controller: Any, trial: Any) -> None:
    """End one of Ray Tune's trials that has not begun."""
    controller.stop_trial(trial)


def prepare_for_the_end(trial: Any) -> None:
    """Create a trial's folder: else Ray Tune cannot summarize a search with a trial that never began."""
    trial.init_local_path()


class TrialStopped(SystemExit):
    """Raised by `tune.report` in a Ray Tune function whose trial Ray Tune has stopped. (Ray Tune itself raises a
    plain SystemExit, as the function's own code may.)"""


@contextmanager
def tune_session(report: Callable[..., dict[str, Any]], checkpoint: Callable[[], Any]) -> Iterator[None]:
    """In a Ray Tune function: what it gives to `tune.report` goes through `report(metrics, checkpoint=None)`,
    which returns what Ray Tune gets, and `tune.get_checkpoint()` returns `checkpoint()`."""
    from ray.train._internal.session import get_session

    session = get_session()
    kind = type(session)

    class Session(kind):  # type: ignore[misc, valid-type]
        loaded_checkpoint = property(lambda self: checkpoint(), lambda self, value: None)

        def report(self, *arguments: Any, **options: Any) -> None:
            given = report(*arguments, **options)
            try:
                kind.report(self, given)
            except SystemExit as stopped:
                raise TrialStopped(stopped.code) from None

    session.__class__ = Session
    try:
        yield
    finally:
        session.__class__ = kind


@contextmanager
def waiting_processes() -> Iterator[None]:
    """Let Ray Tune's actors run in the processes that wait for work (see PRELOAD). It asks for environment
    variables, and Ray starts another process for these. Not for functions, which change their folder."""
    from ray.tune.execution import class_cache
    from ray.tune.trainable.function_trainable import FunctionTrainable

    kind = class_cache._ActorClassCache
    known = kind.get

    def get(self: Any, trainable: Any) -> Any:
        if issubclass(trainable, FunctionTrainable):
            return known(self, trainable)
        import ray

        if trainable not in self._cache:
            self._cache[trainable] = ray.remote(trainable)
        return self._cache[trainable]

    kind.get = get
    try:
        yield
    finally:
        kind.get = known


def forget_token() -> None:
    """Make Ray read again its token and whether one is required: it caches both for the whole process."""
    import ray

    if not ray.is_initialized():
        ray._raylet.AuthenticationTokenLoader.instance().reset_cache()
        ray._raylet.Config.initialize("")


@contextmanager
def out_of_memory_as(error_of: Callable[[str], Exception]) -> Iterator[None]:
    """Make a trial that Ray kills for lack of memory on its node end with `error_of(message)`, a
    RayActorError.

    Ray 2.60's actor manager does not handle Ray's own error for this, and ends the whole experiment, although
    only the actor is dead.
    """
    import ray
    from ray.air.execution._internal.actor_manager import RayActorManager

    known = RayActorManager._actor_task_failed

    def failed(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, ray.exceptions.OutOfMemoryError):
            exception = error_of(str(exception))
        known(self, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = failed
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = known


def check_cluster_config(config: dict[str, Any]) -> None:
    """Raise whatever Ray raises for a cluster's file that `ray up` would refuse: no command does this."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))


def bootstrapped_config(config: dict[str, Any]) -> dict[str, Any]:
    """A cluster's file with what its cloud adds, such as the ssh key that Ray has made there."""
    from ray.autoscaler._private.commands import _bootstrap_config

    whole: dict[str, Any] = _bootstrap_config(config, no_config_cache=False)
    return whole

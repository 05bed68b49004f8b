"""A person's own training: what it may be, where it runs, what is left of it: output, errors, weights, a model."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import yaml

import raysweep
from conftest import quick
from raysweep import RaysweepError, Study, StudyError
from raysweep.execution.lockstep import TrialEnds
from raysweep.storage import output
from raysweep.study.objective import Objective
from raysweep.tracking.doctor import examine
from raysweep.tracking.models import register
from raysweep.trainables.trainable import EXAMPLE, find

SPACE: dict[str, Any] = {"x": {"float": [-1.0, 1.0]}}


@pytest.fixture
def own(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """`own(**files)` writes a person's files (`pkg__train` is pkg/train.py) into the current folder."""
    before = set(sys.modules), list(sys.path)

    def write(**files: str) -> Path:
        for name, text in files.items():
            path = here.joinpath(*name.split("__")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return here

    yield write
    for name in sys.modules.keys() - before[0]:
        if getattr(sys.modules[name], "__file__", None) and str(here) in str(sys.modules[name].__file__):
            del sys.modules[name]
    sys.path[:] = before[1]
    torch.set_default_dtype(torch.float32)  # one of the modules changes it


@pytest.fixture
def cli(ray: Any) -> Callable[..., Any]:
    """`raysweep ARGUMENTS` in this process, on the Ray that is there."""
    from click.testing import CliRunner

    from raysweep.cli import cli as command

    return lambda *arguments: CliRunner().invoke(command, arguments)


def study(folder: Path, name: str = "mine", trainable: str = "train:train", **more: Any) -> Study:
    """The study of a file beside the person's code."""
    given = {"trainable": trainable, "minimize": "loss", "trials": 3, "space": SPACE, **more}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(given))
    return Study.load(path)


# --- the contract: what may be yielded or returned --------------------------------------------------------------


def advanced(yields: Any, tmp_path: Path) -> dict[str, float] | None:
    """What a worker makes of something that a trainable yields."""
    from concurrent.futures import ThreadPoolExecutor

    from raysweep.execution.executions import Code, Job
    from raysweep.execution.lockstep import Lockstep

    job = Job(
        code=Code("mlp"), gpus=0, objective=Objective("loss", False), folder=str(tmp_path), threads=1, data={},
        checkpoint_every=1e9,
    )  # fmt: skip
    with ThreadPoolExecutor(1) as settling:
        return Lockstep([iter([yields])], tmp_path, job, None, settling, 0, attempt=1).advance()


@pytest.mark.parametrize(
    "yields",
    [
        {"loss": 0.5},
        ({"loss": 0.5}, None),
        ({"loss": 0.5}, {"epoch": 1}),
        {"loss": numpy.float32(0.5)},
        ({"loss": torch.tensor([0.5])}, None),
    ],
)
def test_metrics_alone_or_with_a_state_are_taken(yields: Any, tmp_path: Path) -> None:
    assert advanced(yields, tmp_path) == {"loss": 0.5}


@pytest.mark.parametrize(
    ("yields", "sentence"),
    [
        (0.5, "but this one gave a float"),
        (None, "but this one gave None"),
        (({"loss": 0.5}, None, None), "but this one gave a tuple of 3"),
        ((0.5, {"epoch": 1}), "but this one gave a tuple of 2"),
        ({"loss": "0.5"}, "metric 'loss' must be a number, got a str"),
        ({"loss": torch.ones(2)}, "metric 'loss' must be a number, got a Tensor"),
        ({"los": 0.5}, "epoch 1 did not report 'loss'. Reported: los"),
    ],
)
def test_anything_else_is_a_sentence_and_ends_every_trial(yields: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(TrialEnds, match=sentence.replace("(", r"\(")) as end:
        advanced(yields, tmp_path)
    assert end.value.status == "failed" and end.value.always


def plain(x: float) -> dict[str, Any]:
    """A function of hyperparameters, as one writes it for scikit-learn."""
    return {"loss": numpy.float32(x * x)}


def decorator(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def decorated(*arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options)

    return decorated


def generator(x: float, more: float = 0.0) -> Iterator[Any]:
    yield {"loss": x + more}


class Holder:
    """A function in a class, and an object that can be called."""

    @staticmethod
    def train(x: float) -> Iterator[Any]:
        yield {"loss": x}

    def __call__(self, x: float) -> Iterator[Any]:
        yield {"loss": x}


decorated = decorator(generator)
CALLABLES = {
    "a function that returns": plain,
    "a generator": generator,
    "a decorated generator": decorated,
    "a partial": functools.partial(generator, more=1.0),
    "a static method": Holder.train,
    "a callable object": Holder(),
    "a lambda": lambda x: {"loss": x},
}


@pytest.mark.parametrize("kind", CALLABLES)
def test_whatever_can_be_called_is_a_trainable(kind: str) -> None:
    found = find(CALLABLES[kind])
    assert "x" in found.arguments and found.code.digest and not found.of_ray_tune
    assert [list(m if isinstance(m, dict) else m[0]) for m in found.execution({"x": 0.5})] == [["loss"]]


def test_every_callable_reaches_the_workers(ray: Any, here: Path) -> None:
    from raysweep.execution.executions import Code

    def works(code: Code) -> str:
        found = code.load()
        return f"{found.name} {list(found.execution({'x': 0.25}))}"

    remote = ray.remote(num_cpus=0)(works)
    for kind, function in CALLABLES.items():
        found = find(function)
        assert (
            ray.get(remote.remote(Code.of(found))) == f"{found.name} {list(found.execution({'x': 0.25}))}"
        ), kind


def test_a_function_that_returns_metrics_is_a_trial_of_one_epoch(ray: Any, here: Path) -> None:
    result = raysweep.run(quick(trainable=plain, space=SPACE))
    assert [[r.epoch for r in t.reports] for t in result.trials] == [[1]] * 4
    assert result.best is not None and result.best.value == pytest.approx(
        result.best.params["x"] ** 2, rel=1e-6
    )
    with pytest.raises(RaysweepError, match=r"has no state: its trainable yields none"):
        result.best_state()


# --- how workers get it ------------------------------------------------------------------------------------------

IMPORTED = """
import pickle, pathlib
import torch
from . import helpers
torch.set_default_dtype(torch.float64)          # what a module does when it is imported is in force
class Net(torch.nn.Linear): pass                # a class of one's own can be pickled
def train(x: float, epochs: int = 2, state=None):
    net = Net(1, 1)
    assert net.weight.dtype == torch.float64 and pickle.loads(pickle.dumps(net)).weight.equal(net.weight)
    (pathlib.Path(__file__).parent / "helpers.py").write_text("def loss(x): raise RuntimeError('edited')")
    for epoch in range(1, epochs + 1):
        from pkg.late import factor             # imported only now, from the file as it was
        yield {"loss": helpers.loss(x) * factor}, {"epoch": epoch, "net": net.state_dict()}
"""


def test_workers_import_a_package_by_name_as_it_was_when_the_session_began(
    ray: Any, own: Any, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """From another folder than the study's, and resumed by name: the package is found from where it was."""
    from raysweep.execution.run import run
    from raysweep.journal.history import History
    from raysweep.journal.records import FILE, read
    from raysweep.search.sessions import restored

    helpers, late = "def loss(x): return x * x", "factor = 2.0"
    place = own(pkg____init__="", pkg__train=IMPORTED, pkg__helpers=helpers, pkg__late=late)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    first = raysweep.run(study(place, trainable="pkg.train:train", scheduler="none"))
    assert {t.status for t in first.trials} == {"completed"}, first.trials
    assert first.trials[0].value == 2 * first.trials[0].params["x"] ** 2
    (place / "pkg" / "helpers.py").write_text(helpers)
    history = History(read(first.folder / FILE)[0])
    assert history.study["code"]["root"] == str(place)
    again = restored(first.folder, history).model_copy(update={"trials": 5})
    assert len(run(again).trials) == 5


LAYOUTS = {
    "a module": ("one:train", {"one": "from two import loss\n", "two": ""}),
    "a package": (
        "pack.one:train",
        {"pack____init__": "", "pack__one": "from .two import loss\n", "pack__two": ""},
    ),
    "a folder that is a package": (
        "space.one:train",
        {"space__one": "from space.two import loss\n", "space__two": ""},
    ),
    "a package in it": (
        "outer.pack.one:train",
        {"outer__pack____init__": "", "outer__pack__one": "from ..two import loss\n", "outer__two": ""},
    ),
}
TRAIN = "def train(x: float):\n    from late import factor\n    yield {'loss': loss(x) * factor}\n"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_code_reaches_a_process_that_has_no_such_files(layout: str, ray: Any, own: Any) -> None:
    from raysweep.execution.executions import Code

    name, files = LAYOUTS[layout]
    bodies = {
        file: text + (TRAIN if "import" in text else "def loss(x): return x\n")
        for file, text in files.items()
    }
    bodies = {file: "" if file.endswith("__init__") else text for file, text in bodies.items()}
    place = own(**bodies, late="factor = 2\n")
    code = Code.of(find(name, place))
    for path in place.rglob("*.py"):
        path.unlink()

    def works(code: Code) -> list[Any]:
        return list(code.load().execution({"x": 0.25}))

    assert ray.get(ray.remote(num_cpus=0)(works).remote(code)) == [{"loss": 0.5}]


def test_a_folder_that_is_a_package_may_lie_in_two_places(ray: Any, tmp_path: Path) -> None:
    from raysweep.trainables.importing import install

    (tmp_path / "elsewhere" / "shared_space").mkdir(parents=True)
    (tmp_path / "elsewhere" / "shared_space" / "two.py").write_text("B = 2\n")

    def works() -> list[int]:
        import importlib

        sys.path.append(str(tmp_path / "elsewhere"))
        install(str(tmp_path / "root"), {"shared_space/one.py": b"A = 1\n"})
        one, two = (importlib.import_module(f"shared_space.{name}") for name in ("one", "two"))
        return [one.A, two.B]

    assert ray.get(ray.remote(num_cpus=0, max_calls=1)(works).remote()) == [1, 2]


SLOWLY = """
import sys, time
if sys.argv[0].endswith("default_worker.py"):
    time.sleep(8)
"""
FUNCTIONS = {
    "a generator": "def train(x: float):\n    yield {'loss': x}\n",
    "a Ray Tune function": "from ray import tune\ndef train(config):\n    tune.report({'loss': config['x']})\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("function", FUNCTIONS)
def test_importing_the_code_takes_none_of_a_trial_s_time(function: str, ray: Any, own: Any) -> None:
    place = own(train=SLOWLY + FUNCTIONS[function])
    limits = {"no_progress_timeout": "5 s", "trial_timeout": "5 s", "scheduler": "none"}
    result = raysweep.run(study(place, trials=2, concurrency=2, **limits))
    assert [t.status for t in result.trials] == ["completed"] * 2
    assert all(t.seconds < 5 for t in result.trials)


# --- output, tracebacks ------------------------------------------------------------------------------------------

NOISY = """
import os, subprocess, sys, warnings
import torch
def train(x: float, epochs: int = 2, state=None):
    print("begun with", x)
    warnings.warn(f"careful with {x}")
    subprocess.run(["echo", "from a child"])
    if x > 0.9:
        sys.exit("the config is wrong")
    for epoch in range(1, epochs + 1):
        yield {"loss": x}, {"epoch": epoch}
        if x < -0.9:
            deep(x)
def deep(x):
    torch.nn.Linear(2, 1)(torch.zeros(3))       # the error is raised inside torch
"""


def test_a_trial_s_output_and_traceback_are_kept_shown_and_in_mlflow(
    own: Any, mlflow_store: None, cli: Any
) -> None:
    from mlflow import MlflowClient

    place = own(train=NOISY)
    points = [{"x": 0.0}, {"x": -1.0}, {"x": 1.0}]
    result = raysweep.run(study(place, points=points, keep=1, scheduler="none"))
    assert [t.status for t in result.trials] == ["completed", "failed", "failed"]
    line = NOISY.splitlines().index(
        "    torch.nn.Linear(2, 1)(torch.zeros(3))       # the error is raised inside torch"
    )
    assert result.trials[1].error.endswith(f"(train.py, line {line + 1})"), "the user's own line"
    assert result.trials[2].error.startswith("SystemExit: the config is wrong (train.py, line ")
    printed = [output.read(result.folder / "trials" / f"{n:06d}")[0] for n in range(3)]
    for text, point in zip(printed, points, strict=True):
        assert f"begun with {point['x']}\n" in text and f"careful with {point['x']}" in text
        assert "from a child\n" in text
    assert "Traceback" not in printed[0]
    assert printed[1].count("Traceback") == 2, "it was tried again, since it had reported something"
    assert "in deep\n" in printed[1] and "linear.py" in printed[1]

    logs = cli("logs", "mine", "1")
    assert logs.exit_code == 0 and "trial 1 epoch 1: loss" in logs.stdout and logs.stdout.endswith(printed[1])
    shown = cli("show", "mine", "1").stdout
    assert f"  {printed[1].splitlines()[-1]}\n" in shown
    assert json.loads(cli("show", "mine", "1", "--json").stdout)["output"] == printed[1].splitlines()[-10:]
    client = MlflowClient(f"sqlite:///{place / 'studies' / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "mine"]
    runs = client.search_runs([experiment.experiment_id], "tags.role = 'trial'")
    for run in runs:
        local = client.download_artifacts(run.info.run_id, output.FILE)
        assert Path(local).read_text() == printed[int(run.data.tags["trial"])]


LOUD = """
import subprocess, sys, time
from pathlib import Path
from raysweep.storage.output import Output
kept = Output()
kept.open(Path(sys.argv[1]) / "000001")
print("first")
subprocess.run(["sh", "-c", "yes 'from a child' | head -n 400000"])
print("last")
kept.close()
print("outside")
kept.open(Path(sys.argv[1]) / "000002")
kept.close()
kept.open(Path(sys.argv[1]) / "000001")
print("again", file=sys.stderr)
sys.stdout.close()                              # as some libraries do
kept.close()
kept.open(Path(sys.argv[1]) / "000003")
for step in range(200000):
    print(step, end="\\r")                      # as a bar of progress does
kept.end()
"""


def test_of_much_output_the_end_is_kept_and_of_none_no_file(tmp_path: Path) -> None:
    done = subprocess.run(
        (sys.executable, "-c", LOUD, str(tmp_path)), capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "outside\n", done.stderr
    text, end = output.read(tmp_path / "000001")
    assert end <= output.LIMIT + 200 and text.startswith("[earlier output was left out]\nfrom a child\n")
    assert "first" not in text
    assert "from a child\nlast\n--- " in text and text.endswith("again\n")
    assert not (tmp_path / "000002" / output.FILE).exists()
    bar, _ = output.read(tmp_path / "000003")
    assert bar.startswith("[earlier output was left out]") and bar.endswith("\r199999\r")


def test_a_log_is_followed_in_whole_characters(tmp_path: Path) -> None:
    whole = "aé".encode()
    (tmp_path / output.FILE).write_bytes(whole[:2])
    text, end = output.read(tmp_path)
    (tmp_path / output.FILE).write_bytes(whole)
    assert text + output.read(tmp_path, end)[0] == "aé"


# --- weights and a model -----------------------------------------------------------------------------------------

EXPORTS = """
import os
import torch
class Net(torch.nn.Sequential): pass            # which `predict` must be able to import
def net():
    return Net(torch.nn.Linear(1, 1, bias=False))
def train(x: float, epochs: int = 2, state=None):
    for epoch in range(1, epochs + 1):
        yield {"loss": x * x}, {"epoch": epoch, "model": {"0.weight": torch.full((1, 1), x)}}
"""
EXPORT = f"""
def export(point, state, folder):
    import mlflow
    model = net()
    model.load_state_dict(state["model"])
    print("exported in", os.getcwd())
    {EXAMPLE}
    return {{"test_loss": point["x"]}}
"""


@pytest.mark.long
def test_the_best_state_is_a_file_and_an_artifact_and_with_export_a_model(
    own: Any, mlflow_store: None, cli: Any
) -> None:
    from mlflow import MlflowClient

    place = own(train=EXPORTS)
    result = raysweep.run(study(place), store="off")
    best = result.best
    assert best is not None and best.value is not None
    assert float(result.best_state()["model"]["0.weight"]) == pytest.approx(best.params["x"])
    assert cli("best", "mine", "--state", "best.pt").exit_code == 0
    assert torch.load(place / "best.pt", weights_only=True)["epoch"] == result.best_state()["epoch"]
    refused = cli("best", "mine", "--state", "best.pt")
    assert (refused.exit_code, refused.stderr) == (1, "best.pt is there already. Name another file\n")
    (place / "new.csv").write_text("a\n2.0\n")
    without = cli("predict", "mine", "new.csv")
    assert without.exit_code == 1
    assert without.stderr.startswith(
        "mine has no model: beside its trainable, train:train, there is no function export(point, state, folder)"
    )

    own(train=EXPORTS + EXPORT)
    del sys.modules["train"]
    again = raysweep.run(study(place), code_changed=True)
    assert again.tracking.model == "models:/mine@best" and again.test == {"test_loss": best.params["x"]}
    assert len(again.trials) == 3
    del sys.modules["train"]
    sys.path.remove(str(place))
    predicted = cli("predict", "mine", "new.csv")
    assert predicted.exit_code == 0, predicted.stderr
    assert float(predicted.stdout.splitlines()[1]) == pytest.approx(2 * best.params["x"], rel=1e-5)
    (place / "text.csv").write_text("a\nx\n")
    wrong = cli("predict", "mine", "text.csv")
    assert wrong.exit_code == 2 and wrong.stderr.startswith("predict: the model cannot predict from this: ")
    assert f"exported in {place}\n" in cli("logs", "mine", str(best.number)).stdout
    client = MlflowClient(f"sqlite:///{place / 'studies' / 'mlflow.db'}")
    version = client.get_model_version_by_alias("mine", "best")
    (run,) = client.search_runs([again.tracking.experiment], f"tags.trial = '{best.number}'")
    assert version.run_id == run.info.run_id
    tags = {k: version.tags[k] for k in ("raysweep", "trial", "run_id")}
    model = place / "studies" / "mine" / "best" / "model"
    assert register(client, model, run.info.run_id, "mine", tags) == str(version.version)
    folder = Path(client.download_artifacts(run.info.run_id, "checkpoint"))
    (state,) = torch.load(next(folder.glob("*.pt")), weights_only=True)["states"]
    assert float(state["model"]["0.weight"]) == pytest.approx(best.params["x"])


def test_a_failed_export_hides_no_result_and_is_tried_again(own: Any, cli: Any) -> None:
    fails = "def export(point, state, folder):\n    raise KeyError(state['epoch'])\n"
    place = own(train=EXPORTS + fails)
    study(place)
    for exports in (1, 2):
        done = cli("run", "mine.yaml", "-q")
        assert done.exit_code == 1 and "3 trials: 3 completed" in done.stdout, done.stderr
        best = raysweep.load("mine").best
        assert best is not None
        told = f"model: not exported: KeyError: 1 (raysweep logs mine {best.number})"
        assert any(line.startswith(told) for line in done.stdout.splitlines())
        assert cli("logs", "mine", str(best.number)).stdout.count("Traceback") == exports
    refused = cli("predict", "mine", "mine.yaml")
    assert refused.stderr == "mine has no model: it could not be exported: KeyError: 1\n"
    for path in (place / "studies" / "mine" / "trials" / f"{best.number:06d}").glob("*.pt"):
        path.write_bytes(b"torn")
    damaged = cli("run", "mine.yaml", "-q")
    assert "model: not exported: StorageError: the checkpoint of epoch 1 in " in damaged.stdout


def test_the_documents_show_an_export_that_works() -> None:
    assert f"`{EXAMPLE}`" in (Path(__file__).parents[1] / "search_spaces" / "README.md").read_text()


def test_an_export_in_a_notebook_is_sent_along(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from raysweep.execution.executions import Code

    cell: dict[str, Any] = {"__name__": "__main__"}
    exec("def train(x):\n    yield {'loss': x}\ndef export(point, state, folder):\n    return {'a': 1}", cell)
    monkeypatch.setattr(sys.modules["__main__"], "export", cell["export"], raising=False)

    def exported(code: Code) -> Any:
        return (code.load().export or pytest.fail())({}, None, None)

    assert ray.get(ray.remote(num_cpus=0)(exported).remote(Code.of(find(cell["train"])))) == {"a": 1}


# --- Ray Tune functions ------------------------------------------------------------------------------------------

TUNED = """
import json, os, pathlib, tempfile
from ray import tune
def train(config):
    start = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            start = json.loads((pathlib.Path(folder) / "inner" / "state.json").read_text())["epoch"]
    for epoch in range(start + 1, 10):
        killed = pathlib.Path(config["flag"])
        if epoch == 4 and not killed.exists():
            killed.touch()
            os._exit(1)                         # the process is lost, after three epochs
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "inner").mkdir()
            (pathlib.Path(folder) / "inner" / "state.json").write_text(json.dumps({"epoch": epoch, "x": config["x"]}))
            tune.report(
                {"loss": config["x"] ** 2 + abs(epoch - 6), "note": "text", "began": start},
                checkpoint=tune.Checkpoint.from_directory(folder),
            )
"""


def test_a_ray_tune_function_s_checkpoints_are_kept_and_resumed_from(ray: Any, own: Any) -> None:
    place = own(train=TUNED)
    space = {"x": {"float": [0.0, 1.0]}, "flag": str(place / "killed")}
    (trial,) = raysweep.run(study(place, trials=1, space=space)).trials
    assert trial.status == "completed" and [r.epoch for r in trial.reports] == list(range(1, 10))
    assert [loss.cause for loss in trial.losses] == ["worker"]
    assert [r.metrics["began"] for r in trial.reports] == [0] * 3 + [3] * 6, (
        "it resumed, and did not start over"
    )
    kept = raysweep.load("mine").best_state()
    assert json.loads(kept["inner/state.json"])["epoch"] == 6, "the best epoch's"


def test_a_ray_tune_function_that_exits_has_failed(ray: Any, own: Any) -> None:
    place = own(train="import sys\ndef train(config):\n    sys.exit(0)\n")
    (trial,) = raysweep.run(study(place, trials=1)).trials
    assert trial.status == "failed" and trial.error == "SystemExit: 0 (train.py, line 3)"


def test_ray_tune_functions_are_stopped_by_asha(ray: Any, here: Path) -> None:
    from ray import tune

    def slow(config: dict[str, Any]) -> None:
        for epoch in range(1, 10):
            time.sleep(0.05)
            tune.report({"loss": config["x"] + 1 / epoch})

    found = quick(trainable=slow, trials=8, concurrency=1, space={"x": {"float": [0.0, 1.0]}})
    assert str(found.scheduler) == "asha by stopping (grace 2, reduction 3)"
    result = raysweep.run(found)
    trials = result.trials
    assert {t.status for t in trials} == {"completed", "stopped"}
    assert all(t.seconds < 1.5 * (t.finished - t.started) for t in trials), "no second counts twice"
    found_there = [f.what for f in examine(result.folder, "off", mend=False) if "auth_token" not in f.what]
    assert found_there == [], "without checkpoints nothing is damaged"
    assert all(t.last is not None and t.last.epoch in {2, 6} for t in trials if t.status == "stopped")


# --- mistakes in the code ----------------------------------------------------------------------------------------


def test_a_metric_that_is_not_reported_ends_the_study_at_once_and_the_mended_file_goes_on(
    ray: Any, own: Any
) -> None:
    place = own(train="def train(x, epochs=3, state=None):\n    yield {'loss': x}, {'epoch': 1}\n")
    wrong = raysweep.run(study(place, minimize="los", trials=20, concurrency=1))
    assert wrong.failing == "trial 0 failed: epoch 1 did not report 'los'. Reported: loss"
    assert len(wrong.trials) <= 2
    assert len(raysweep.run(study(place, trials=2)).trials) == 2, "no trial had a result"


def test_an_error_in_the_code_runs_no_trial_twice_and_mended_code_goes_on(ray: Any, own: Any) -> None:
    body = "def train(x):\n    {}\n    yield {{'loss': x}}\n"
    place = own(train=body.format("raise KeyError('missing')"))
    wrong = raysweep.run(study(place, trials=20))
    told = r"the first 5 trials all failed; trial \d: KeyError: 'missing' \(train.py, line 2\)"
    assert re.fullmatch(told, wrong.failing)
    assert {t.attempts for t in wrong.trials if t.ended} == {1}
    own(train=body.format("pass"))
    del sys.modules["train"]
    mended = raysweep.run(study(place, trials=4))
    assert [t.status for t in mended.trials] == ["completed"] * 4


def test_a_metric_that_the_data_does_not_have_is_refused(ray: Any, here: Path) -> None:
    (here / "prices.csv").write_text("\n".join(["a,price", *(f"{i},{i * 1.5}" for i in range(200))]))
    given = {
        "trainable": "mlp",
        "minimize": None,
        "maximize": "val_accuracy",
        "space": {"data": "prices.csv"},
    }
    with pytest.raises(
        StudyError, match=r"'val_accuracy' is not reported for this data. One of: train_loss, .*val_r2"
    ):
        raysweep.run(quick(**given, trials=None))


# --- results as data ---------------------------------------------------------------------------------------------


def test_a_study_is_opened_as_data(ray: Any, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = here / "quick.yaml"
    path.write_text(quick(trials=3).to_yaml())
    result = raysweep.run(path)
    assert capsys.readouterr().out == "", "it prints nothing where nobody looks"
    opened = raysweep.load("quick")
    assert opened.trials == result.trials and not opened.interrupted and not opened.running
    best = opened.best
    assert best is not None and best.value == min(r.metrics["loss"] for t in opened.trials for r in t.reports)
    assert best.params == best.point
    frame, curves = opened.frame(), opened.curves()
    assert frame["trial"].iloc[0] == best.number and len(frame) == 3
    assert list(curves.columns) == ["trial", "epoch", "loss"] and len(curves) == 9
    first, second, third = repr(opened).splitlines()
    assert first == "quick: minimize loss (complete)"
    assert second == "3 trials: 3 completed"
    assert third.startswith(f"best: trial {best.number}, loss ")
    with pytest.raises(RaysweepError, match=r"there is no study 'none' in studies\. It has: quick"):
        raysweep.load("none")


# --- what is said ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "method"),
    [
        ({"space": {**SPACE, "epochs": 9}}, "auto search under asha by promotion (grace 2, reduction 3)"),
        ({}, "auto search; no trial is stopped early: 3 epochs are few"),
        ({"trainable": "trainables:endless"}, "auto search; no trial is stopped early: how many epochs there are is not known"),
        ({"trainable": "trainables:forgetful"}, "auto search under asha by promotion (grace 2, reduction 3)"),
        ({"minimize": ["loss", "seconds"]}, "optuna search; no trial is stopped early: there are several objectives"),
        ({"scheduler": "none"}, "auto search, no scheduler"),
        ({"trainable": "trainables:tuned"}, "auto search under asha by stopping (grace 2, reduction 3)"),
        ({"trainable": "trainables:tuned", "space": {**SPACE, "epochs": 2}}, "auto search; no trial is stopped early: 2 epochs are few"),
        ({"scheduler": "median"}, "auto search under median (grace 2, samples 3)"),
    ],
)  # fmt: skip
def test_how_a_study_searches_is_said_and_why_nothing_is_stopped(more: dict[str, Any], method: str) -> None:
    assert quick(**{"space": SPACE, **more}).method.startswith(method)


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ([1e-4, 1e-1], "x takes one of two values, 0.0001 or 0.1; for a range write {float: [0.0001, 0.1]}"),
        ((1e-4, 1e-1), "x takes one of two values, 0.0001 or 0.1; for a range write {float: [0.0001, 0.1]}"),
        ([16, 512], "x takes one of two values, 16 or 512; for a range write {int: [16, 512]}"),
        ([32, 64], ""),
        ([0, 1], ""),
        ([0.5, 0.1], ""),
    ],
)
def test_a_choice_of_two_numbers_that_looks_like_a_range_is_noted(options: Any, note: str) -> None:
    from raysweep.study.checks import notes

    found = [n for n in notes(quick(trials=2, space={"x": options, "epochs": 3})) if n.startswith("x ")]
    assert found == ([note] if note else [])


def test_an_export_with_other_arguments_is_noted(own: Any, cli: Any) -> None:
    place = own(train="def train(x: float):\n    yield {'loss': x}\ndef export(model, path):\n    pass\n")
    study(place)
    checked = cli("check", "mine.yaml")
    assert (
        "note: export(model, path) is not used: only export(point, state, folder) makes a model"
        in checked.stdout
    )


def test_the_end_says_how_trials_ended_and_fails_when_one_failed(own: Any, cli: Any) -> None:
    body = "def train(x, epochs=2):\n    yield {'loss': x}\n    if x == 1:\n        raise ValueError('no')\n    yield {'loss': x}\n"
    place = own(train=body)
    study(place, algorithm="grid", trials=None, space={"x": [0, 1, 2]}, name="ends")
    done = cli("run", "ends.yaml", "-q")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert "3 trials: 2 completed, 1 failed (raysweep logs ends 1); 1 retried after an error: 1" in lines
    assert any(line.startswith("best: trial 0") for line in lines)


def test_values_on_the_command_line_replace_those_of_the_file(own: Any, cli: Any) -> None:
    place = own(train="def train(x, epochs=2):\n    for e in range(epochs):\n        yield {'loss': x}\n")
    study(place, trials=9)
    done = cli("run", "mine.yaml", "--trials", "2", "--set", "space.epochs=3", "--set", "name=other", "-q")
    assert done.exit_code == 0, done.stderr
    ran = raysweep.load("other")
    assert len(ran.trials) == 2 and {t.params["epochs"] for t in ran.trials} == {3}
    assert ran.study.trials == 2 and not (place / "studies" / "mine").exists()
    wrong = cli("check", "mine.yaml", "--set", "space.x.float.low=1")
    assert (wrong.exit_code, wrong.stderr) == (
        2,
        "mine.yaml: space.x.float.low: float is [-1.0, 1.0], which has no parts to set\n",
    )


TRIES = {
    "good": ("yield {'loss': x}, {'epoch': 1}", 0, "loss 0."),
    "no such metric": ("yield {'los': x}", 2, "epoch 1 did not report 'loss'. Reported: los"),
    "no metrics": ("yield 0.5", 2, "but this one gave a float"),
    "nothing": ("return None", 2, "but this one gave None"),
    "a state that cannot be stored": ("yield {'loss': x}, {'f': print}", 1, "the state must hold tensors and plain types only"),
    "an error": ("raise KeyError('missing')", 1, "train:train raised KeyError: 'missing'"),
    "an exit": ("raise SystemExit(0)", 1, "train:train raised SystemExit: 0"),
    "a point that diverges": ("yield {'loss': float('nan')}", 0, ": diverged: loss = nan at epoch 1"),
    "a point that is infeasible": ("raise __import__('raysweep').Infeasible('too wide')", 0, ": infeasible: too wide"),
}  # fmt: skip


def test_check_can_try_one_epoch(own: Any, cli: Any) -> None:
    for i, (body, code, sentence) in enumerate(TRIES.values()):
        place = own(**{f"train{i}": f"def train(x: float, state=None):\n    {body}\n"})
        study(place, name=f"try{i}", trainable=f"train{i}:train", space={"x": {"float": [0.1, 0.9]}})
        done = cli("check", f"try{i}.yaml", "--try")
        assert done.exit_code == code, (body, done.stderr)
        assert sentence.replace("'train:", f"'train{i}:").replace(
            "train:train raised", f"train{i}:train raised"
        ) in (done.stdout + done.stderr)
        assert ("Traceback" in done.stderr) == (code == 1)
    own(train0="def train(x: float):\n    print('noise')\n    yield {'loss': x}\n")
    del sys.modules["train0"]
    done = cli("check", "try0.yaml", "--try", "--json")
    assert set(json.loads(done.stdout)["tried"]["metrics"]) == {"loss"} and "noise" in done.stderr

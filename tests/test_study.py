"""The language: what a file may say, and the one sentence for everything that it may not."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from conftest import ROOT, quick
from raysweep import Float, Int, Study, StudyError
from raysweep.study.options import AshaScheduler
from raysweep.study.schema import schema
from raysweep.study.yaml import read_yaml

FILES = sorted((ROOT / "search_spaces").glob("*.yaml"))

HEAD = "trainable: mlp\nmaximize: val_accuracy\ntrials: 3\n"


def space(line: str) -> str:
    return f"{HEAD}space:\n  {line}\n  dropout: {{float: [0.0, 0.5]}}\n"


# Each file, and a sentence that must be among those it gets.
REFUSED = {
    "no parameters": (f"{HEAD}space: {{}}", "space: is empty"),
    "no space": (HEAD, "space: must map names to values, got null"),
    "low above high": (space("lr: {float: [0.1, 0.001]}"), "space.lr: low (0.1) is greater than high (0.001). Swap them"),
    "low equals high": (space("lr: {float: [0.1, 0.1]}"), "space.lr: low and high are both 0.1. Write the plain value"),
    "infinite bound": (space("lr: {float: [0.1, .inf]}"), "space.lr.high: must be a finite number, got inf"),
    "text bound": (space("lr: {float: ['1e-3', 0.1]}"), 'space.lr.low: must be a number, got "1e-3"'),
    "bool bound": (space("layers: {int: [true, 3]}"), "space.layers.low: must be a number, got true"),
    "float bound of an int": (space("layers: {int: [1.5, 3]}"), "space.layers.low: 1.5 is not an integer"),
    "log from zero": (
        space("weight_decay: {float: [0, 0.1], log: true}"),
        "space.weight_decay.low: must be above 0 on a log scale, got 0.0",
    ),
    "log with step": (space("lr: {float: [0.1, 0.2], log: true, step: 0.1}"), "space.lr: log and step cannot be combined"),
    "step of zero": (space("units: {int: [1, 9], step: 0}"), "space.units.step: must be above 0, got 0"),
    "step does not divide": (
        space("l1: {float: [0, 0.9], step: 0.4}"),
        "space.l1: 0.9 - 0.0 is not a multiple of step 0.4; the last value would be 0.8. Use high 0.8 or 1.2",
    ),
    "step too large": (space("units: {int: [1, 2], step: 5}"), "space.units: step 5 is larger than the range 1"),
    "empty choice": (space("optimizer: []"), "space.optimizer: the list is empty"),
    "choice of text": (space("optimizer: {choice: adam}"), "space.optimizer: got the text 'adam'. Write a list: ['adam']"),
    "twice the same": (space("batch_size: [32, 64, 32]"), "space.batch_size: 32 appears twice (options 1 and 3)"),
    "1 and true": (space("epochs: [1, true]"), "space.epochs: true appears twice (options 1 and 2)"),
    "a mapping as an option": (space("optimizer: [{a: 1}]"), "space.optimizer[0]: dict is not allowed here"),
    "not a number": (space("lr: [.nan]"), "space.lr[0]: must be a finite number, got nan"),
    "key twice": (space("lr: 0.1\n  lr: 0.2"), "line 6: duplicate key 'lr' (first on line 5)"),
    "bad name": (space("a/b: 1"), "space.a/b: names use letters, digits and _"),
    "reserved name": (space("trial_id: 1"), "space.trial_id: the name is reserved"),
    "unknown key of a range": (space("lr: {float: [0.1, 0.2], lgo: true}"), "space.lr: unknown key 'lgo'. Did you mean 'log'?"),
    "unknown kind": (space("lr: {loguniform: [0.1, 0.2]}"), "space.lr: 'loguniform' is no kind of parameter. One of: choice"),
    "two kinds": (space("lr: {float: [0.1, 0.2], int: [1, 2]}"), "space.lr: is both float and int. Keep one"),
    "no kind": (space("lr: {log: true}"), "space.lr: says no kind. One of: float, int, choice"),
    "one bound": (space("lr: {float: [0.1]}"), "space.lr.float: must be [low, high], got [0.1]"),
    "grid of one": (space("lr: {float: [0.1, 0.2], grid: 1}"), "space.lr.grid: must be a number of points, 2 or more, got 1"),
    "when of an unknown": (space("lr: {float: [0.1, 0.2], when: {optimiser: sgd}}"), "space.lr: when: 'optimiser' is not a name above"),
    "when of a name below": (space("lr: {float: [0.1, 0.2], when: {dropout: 0.1}}"), "space.lr: when: 'dropout' is not a name above"),
    "when that never holds": (
        space("optimizer: [adam, sgd]\n  momentum: {float: [0.1, 0.2], when: {optimizer: lion}}"),
        "space.momentum: when: 'optimizer' is never \"lion\"",
    ),
    "each of no integer": (
        space("optimizer: [adam, sgd]\n  units: {int: [1, 2], each: optimizer}"),
        "space.units: each: 'optimizer' is not a whole number",
    ),
    "grid of a continuous range": (
        f"{HEAD}algorithm: grid\nspace:\n  lr: {{float: [0.1, 0.2]}}",
        "space.lr: a grid cannot count a continuous range. Give step, or grid",
    ),
    "grid explosion": (
        "trainable: mlp\nmaximize: a\nalgorithm: grid\nspace:\n  layers: {int: [1, 200]}\n  units: {int: [1, 1000]}",
        "algorithm: the grid has 200,000 combinations (layers 200 x units 1,000); the limit is 10,000. Use random",
    ),
    "trials that cut the grid": (
        f"{HEAD}algorithm: grid\nspace:\n  layers: {{int: [1, 2]}}",
        "trials: the grid has 2 combinations but trials is 3. Remove trials",
    ),
    "no trials": (space("lr: 0.1").replace("trials: 3", "trials: 0"), "trials: must be greater than or equal to 1, got 0"),
    "trials not said": (space("lr: 0.1").replace("trials: 3\n", ""), "trials: say how many points to try"),
    "a size that is none": ("trainable: mlp\nmaximize: val_accuracy\ntrials: 1\nspace: {lr: [0.1, 0.2], image_size: null}", "space.image_size: "),
    "trials without freedom": (f"{HEAD}space: {{lr: 0.1}}", "trials: 3 trials, but nothing in the space varies"),
    "unknown algorithm": (f"algorithm: bayes\n{space('lr: 0.1')}", "algorithm: 'bayes' is unknown. Write auto, hyperopt or optuna"),
    "unknown option": (f"algorithm: {{name: hyperopt, gama: 0.1}}\n{space('lr: 0.1')}", "algorithm: unknown key 'gama'. Did you mean 'gamma'?"),
    "illegal option": (f"algorithm: {{name: optuna, sampler: bo}}\n{space('lr: 0.1')}", "algorithm: sampler must be 'tpe', 'gp', 'cmaes', 'nsga2' or 'qmc', got \"bo\""),
    "option of another": (f"algorithm: {{name: random, gamma: 0.1}}\n{space('lr: 0.1')}", "algorithm: unknown key 'gamma'. One of: name."),
    "unknown scheduler": (f"scheduler: hyperbnad\n{space('lr: 0.1')}", "scheduler: 'hyperbnad' is unknown. Did you mean 'hyperband'?"),
    "grace beyond the epochs": (f"scheduler: {{name: asha, grace: 5}}\n{space('epochs: 5')}", "scheduler: grace 5 of 5 epochs: no trial would ever be stopped"),
    "reduction of one": (f"scheduler: {{name: asha, reduction: 1}}\n{space('epochs: 5')}", "scheduler: reduction must be greater than or equal to 2, got 1"),
    "point outside": (f"points: [{{dropout: 0.9}}]\n{space('lr: 0.1')}", "points[0].dropout: 0.9 is outside"),
    "point of another name": (f"points: [{{dropout: 0.1}}, {{dropuot: 0.1}}]\n{space('lr: 0.1')}", "points[1].dropuot: is not in the space. Did you mean 'dropout'?"),
    "more points than trials": (f"points: [{{dropout: 0.1}}, {{dropout: 0.2}}, {{dropout: 0.3}}, {{dropout: 0.4}}]\n{space('lr: 0.1')}", "points: 4 points but only 3 trials"),
    "nothing but startup": (f"algorithm: {{name: optuna, startup: 10}}\n{space('lr: 0.1')}", "algorithm: startup 10 of 3 trials: the search would be purely random"),
    "no objective": (space("lr: 0.1").replace("maximize: val_accuracy\n", ""), "maximize: say what is best: maximize or minimize, with the metric's name"),
    "an objective twice": (f"minimize: [val_accuracy]\n{space('lr: 0.1')}", "maximize: 'val_accuracy' is named twice"),
    "empty metric": (space("lr: 0.1").replace("val_accuracy", "''"), "maximize: must be the name of a metric, or a list of names, got \"\""),
    "several with hyperopt": (f"minimize: val_loss\nalgorithm: hyperopt\n{space('lr: 0.1')}", "algorithm: hyperopt has one objective only. Use optuna for several"),
    "several with asha": (f"minimize: val_loss\nscheduler: asha\n{space('epochs: 9')}", "scheduler: asha ranks by one objective. With several, use {name: asha, kind: promotion}, hyperband or none"),
    "several and a target": (f"minimize: val_loss\nstop: {{value: 0.9}}\n{space('epochs: 9')}", "stop.value: is a rule for one objective"),
    "no requirement": (f"require: {{params: small}}\n{space('epochs: 9')}", "require.params: must be <, <=, > or >= and a number, as '< 1e6', got \"small\""),
    "unknown rule": (f"stop: {{tiem: 5}}\n{space('epochs: 9')}", "stop: unknown key 'tiem'. Did you mean 'time'?"),
    "no duration": (f"stop: {{time: soon}}\n{space('epochs: 9')}", "stop.time: must be a valid number, got \"soon\""),
    "no timeout": (f"trial_timeout: 0\n{space('epochs: 9')}", "trial_timeout: must be greater than 0, got 0"),
    "hyperband without epochs": ("trainable: trainables:endless\nminimize: loss\nscheduler: hyperband\ntrials: 9\nspace: {x: {float: [0, 1]}}", "scheduler: hyperband must know how many epochs there are. Put epochs in the space"),
    "a small population": (f"scheduler: pbt\n{space('epochs: 9')}", "trials: a population of 3 is too small. Use 4 or more"),
    "a population's long interval": (f"scheduler: {{name: pbt, interval: 9}}\n{space('epochs: 9').replace('trials: 3', 'trials: 8')}", "scheduler: interval 9 of 9 epochs: no trial would ever be replaced"),
    "varying what is fixed": ("scheduler: {name: pbt, vary: [lr]}\n" + space("epochs: 9\n  lr: 0.1").replace("trials: 3", "trials: 8"), "scheduler: vary: 'lr' must vary, be one value, and be no condition of others"),
    "varying what is not there": (f"scheduler: {{name: pbt, vary: [dropuot]}}\n{space('epochs: 9').replace('trials: 3', 'trials: 8')}", "scheduler: vary: 'dropuot' is not in the space. Did you mean 'dropout'?"),
    "nothing to vary": ("trainable: trainables:parabola\nminimize: loss\nscheduler: pbt\ntrials: 9\nspace: {x: {float: [0, 1]}, epochs: 9}", "scheduler: vary: say which hyperparameters may change during training"),
    "negative resources": (f"per_trial: {{cpu: -1}}\n{space('lr: 0.1')}", "per_trial.cpu: must be greater than 0, got -1"),
    "resources of NaN": (f"per_trial: {{gpu: .nan}}\n{space('lr: 0.1')}", "per_trial.gpu: must be a finite number, got"),
    "unknown resource": (f"per_trial: {{gpus: 1}}\n{space('lr: 0.1')}", "per_trial: unknown key 'gpus'. Did you mean 'gpu'?"),
    "a GPU and a half": (f"per_trial: {{gpu: 1.5}}\n{space('lr: 0.1')}", "per_trial.gpu: 1.5 is not possible"),
    "name with a path": (f"name: ../x\n{space('lr: 0.1')}", 'name: "../x" is not allowed'),
    "trainable without function": (f"trainable: nowhere.train\n{space('lr: 0.1')[15:]}", "trainable: 'nowhere.train' is not built in"),
    "trainable not importable": (f"trainable: nowhere:train\n{space('lr: 0.1')[15:]}", "trainable: there is no module 'nowhere' in /"),
    "trainable not there": (f"trainable: trainables:parabole\n{space('lr: 0.1')[15:]}", "trainable: trainables has no function 'parabole'. Did you mean 'parabola'?"),
    "a file in place of a module": (f"trainable: ./train.py:train\n{space('lr: 0.1')[15:]}", "trainable: name the module, not its file: write train:train"),
    "a class": (f"trainable: trainables:Nothing\n{space('lr: 0.1')[15:]}", "trainable: 'trainables:Nothing' is a class. Give a function"),
    "a coroutine": (f"trainable: trainables:later\n{space('lr: 0.1')[15:]}", "trainable: 'trainables:later' is asynchronous. Give an ordinary function"),
    "no function": (f"trainable: trainables:Step\n{space('lr: 0.1')[15:]}", "trainable: the arguments of 'trainables:Step' cannot be told"),
    "a wrong range": ("trainable: trainables:parabola\nminimize: loss\ntrials: 2\nspace: {x: {float: [1, 0]}}", "space.x: low (1.0) is greater than high (0.0). Swap them"),
    "another tool's metric": (f"metric: loss\n{space('lr: 0.1')}", "unknown key 'metric'. The metric and its direction are one: maximize: NAME or minimize: NAME"),
    "another tool's trials": (f"num_samples: 4\n{space('lr: 0.1')}", "unknown key 'num_samples'. The number of points to try is called trials"),
    "another tool's algorithm": (f"algorithm: tpe\n{space('lr: 0.1')}", "algorithm: 'tpe' is unknown. Write hyperopt, or {name: optuna, sampler: tpe}"),
    "no hint is better than a silly one": (f"lst: 4\n{space('lr: 0.1')}", "unknown key 'lst'. One of: algorithm, baseline, checkpoint_every"),
    "an empty file": ("", "is empty. A study says trainable, maximize or minimize, trials and space"),
    "wrong indentation": ("trainable: mlp\n  maximize: a\n", "line 2: a ':' that is not expected here. Is this line, or the one above, indented"),
    "argument that is not there": (space("learning_rate: 0.1"), "space.learning_rate: 'mlp' has no such argument"),
    "argument that is missing": ("trainable: trainables:parabola\nminimize: loss\nspace: {epochs: 1}", "space.x: 'trainables:parabola' needs it"),
    "data from a range": (space("validation: {float: [0.1, 0.2]}"), "space.validation: says which data is used"),
    "repeats without a seed": ("trainable: trainables:moody\nminimize: loss\ntrials: 2\nrepeats: 2\nspace: {x: [1, 2]}", "repeats: 'trainables:moody' takes no seed"),
    "hidden key": (f"_beside: 1\n{space('lr: 0.1')}", "unknown key '_beside'"),
    "illegal argument": (space("activation: [relu, rleu]"), "space.activation: must be 'relu', 'tanh'"),
    "batch of none": (space("batch_size: [0, 32]"), "space.batch_size: must be greater than or equal to 1, got 0"),
    "seed too large": (f"seed: 4294967296\n{space('lr: 0.1')}", "seed: must be less than or equal to 4294967295"),
    "seed of text": (f"seed: lucky\n{space('lr: 0.1')}", 'seed: must be a valid integer, got "lucky"'),
    "secret": (space("api_key: hunter2"), "space.api_key: looks like a secret and would be recorded. Use 'env:API_KEY'"),
    "unknown key": (f"trails: 5\n{space('lr: 0.1')}", "unknown key 'trails'. Did you mean 'trials'?"),
    "tabs": (f"{HEAD}space:\n\tlr: 0.1", "line 5: tabs cannot indent. Use spaces"),
    "python tag": (space("lr: !!python/object:os.system {}"), "line 5: unsafe YAML tag !!python/object:os.system"),
    "aliases": (f"{HEAD}space: {{a: &x 1, b: *x}}", "line 4: aliases (*name) are not used in studies"),
    "a list": ("- trainable: mlp", 'must map keys to values, got [{"trainable": "mlp"}]'),
    "too large": ("#" * (1 << 20) + "\n", "is larger than 1,048,576 bytes"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "sentence"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_file_gets_one_clear_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(StudyError) as error:
        Study.load(file)
    found = str(error.value).splitlines()
    assert any(line.startswith(f"wrong.yaml: {sentence}") for line in found), found
    assert error.value.code == 2


def test_a_wrong_range_is_one_mistake(tmp_path: Path) -> None:
    """It does not make the argument one that is missing."""
    text, _ = REFUSED["a wrong range"]
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(StudyError) as error:
        Study.load(tmp_path / "wrong.yaml")
    assert len(error.value.problems) == 1


def test_all_errors_of_a_file_come_at_once(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(
        "trainable: mlp\ntrials: 0\nseed: -1\nspace:\n  lr: {float: [1, 0]}\n  foo: 1\n  units: [0]\n"
    )
    with pytest.raises(StudyError) as error:
        Study.load(file)
    wheres = {p.where for p in error.value.problems}
    assert wheres == {"trials", "seed", "maximize", "space.lr", "space.foo", "space.units"}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_study_that_ships_loads_and_is_its_own_output(file: Path, tmp_path: Path) -> None:
    study = Study.load(file)
    again = tmp_path / "again.yaml"
    again.write_text(study.to_yaml())
    assert Study.load(again).to_dict() == study.to_dict()
    first, second = file.read_text().splitlines()[:2]
    assert first.startswith("# ") and second.startswith("# "), "says what it shows and what it takes"


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_the_schema_admits_every_study_that_ships(file: Path) -> None:
    jsonschema.validate(read_yaml(file), schema(), cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    "key", ["trails: 1", "per_trial: {gpus: 1}", "algorithm: bayes", "space: {lr: {flaot: [0, 1]}}"]
)
def test_the_schema_marks_what_the_reader_refuses(key: str) -> None:
    wrong = {**yaml.safe_load(space("lr: 0.1")), **yaml.safe_load(key)}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema(), cls=jsonschema.Draft202012Validator)


def test_numbers_and_words_are_read_as_people_write_them(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "a: 1e-4\nb: 1E5\nc: -2.5e+3\nd: on\ne: no\nf: true\ng: 12\nh: 1.\ni: '1e-4'\nj: 0x1f\nk: .5"
    )
    assert read_yaml(file) == {
        "a": 1e-4, "b": 1e5, "c": -2500.0, "d": "on", "e": "no", "f": True, "g": 12, "h": 1.0, "i": "1e-4",
        "j": 31, "k": 0.5,
    }  # fmt: skip


def test_python_says_the_same_as_a_file(tmp_path: Path) -> None:
    file = tmp_path / "same.yaml"
    file.write_text(
        "trainable: mlp\nmaximize: val_accuracy\ntrials: 5\nspace:\n  layers: {int: [1, 3]}\n"
        "  units: {int: [8, 64], each: layers}\n  lr: {float: [1e-4, 1e-1], log: true}\n"
    )
    spaced = {"layers": Int(1, 3), "units": Int(8, 64, each="layers"), "lr": Float(1e-4, 1e-1, log=True)}
    python = Study(name="same", trainable="mlp", maximize="val_accuracy", trials=5, space=spaced)
    assert Study.load(file).to_dict() == python.to_dict()


def test_a_study_of_one_point_prints_as_a_file_that_loads(tmp_path: Path) -> None:
    study = quick()
    point = {"x": 0.1 + 0.2, "epochs": 3}
    file = tmp_path / "best.yaml"
    file.write_text(study.fixed(point).to_yaml())
    again = Study.load(file)
    assert list(again.space.grid()) == [point]
    assert again.target == 1


def test_the_schema_is_json() -> None:
    assert json.loads(json.dumps(schema()))["properties"]["space"]["properties"]["lr"]


def test_a_study_that_does_not_say_how_searches_as_the_tables_say() -> None:
    space = {"x": {"float": [-1.0, 1.0]}, "epochs": 9}
    study = quick(trials=9, space=space)
    assert study.algorithm.name == "auto" and study.scheduler == AshaScheduler(kind="promotion")
    assert quick(trials=9).scheduler.name == "none", "three epochs are too few to decide on"
    stateless = quick(trials=9, trainable="trainables:moody", space={"x": {"int": [0, 9]}, "epochs": 9})
    assert stateless.scheduler == AshaScheduler(kind="stopping"), "its trials cannot pause"
    by_default = {"trainable": "trainables:forgetful", "space": {"x": {"float": [-1.0, 1.0]}}}
    assert quick(trials=9, **by_default).scheduler.name == "asha", "the trainable's own nine epochs count"
    several = quick(trials=9, space=space, minimize=["loss", "size"])
    assert (several.searched_by, several.scheduler.name) == ("optuna", "none")
    assert Study(**study.to_dict()).to_dict() == study.to_dict()
    assert (
        quick(trials=9, space=space, scheduler="none", algorithm="random").to_dict()["algorithm"] == "random"
    )


def test_whole_numbers_stand_for_floats_in_points() -> None:
    space = {"x": {"float": [0.0, 1.0]}, "epochs": 3}
    study = quick(space=space, points=[{"x": 1}, {"x": 0}])
    assert study.first() == [{"x": 1.0, "epochs": 3}, {"x": 0.0, "epochs": 3}]
    assert [type(p["x"]) for p in study.first()] == [float, float]
    assert quick(space=space).space.completed({"x": True})["x"] is True, "which is no number"


def test_a_list_that_could_be_endless_is_refused_at_once() -> None:
    with pytest.raises(StudyError, match=r"units: each: 'layers' may be 3,000,000; a list has at most 1,000"):
        quick(
            trainable="mlp",
            space={"layers": {"int": [1, 3_000_000]}, "units": {"int": [1, 9], "each": "layers"}},
        )


def test_a_built_in_is_known_by_its_own_file() -> None:
    from raysweep.trainables.trainable import BUILTIN, find

    assert {name: Path(find(name).file).name for name in BUILTIN} == {n: f"{n}.py" for n in BUILTIN}
    assert len({find(name).sha256 for name in BUILTIN}) == len(BUILTIN)

"""The race of backbones: who is clearly worse goes early, who cannot be told apart stays, and the study remembers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from raysweep import Study, load, run
from raysweep.errors import DataError, StudyError
from raysweep.execution.race import Array, Ran, compete, sample_order, survivors
from raysweep.journal.journal import Journal
from raysweep.search.sessions import open_session
from raysweep.study.shared import race_arguments
from raysweep.trainables import exact

RNG = np.random.default_rng(0)
ORDER = RNG.permutation(2000)


def race(
    rates: dict[str, float], seconds: dict[str, float] | None = None
) -> tuple[list[str], list[Any], int]:
    """Candidates that are right about so many images in a hundred; the kept ones, the samples, the images seen."""
    right = {n: RNG.random(len(ORDER)) < rate for n, rate in rates.items()}
    asked: list[Any] = []

    def ran(names: Sequence[str], rows: Array) -> dict[str, Ran]:
        asked.append((list(names), rows))
        return {n: Ran(right[n][rows].astype(float), (seconds or {}).get(n, 1.0)) for n in names}

    kept, known, images = compete(list(rates), ORDER, 2, ran, lambda line: None)
    assert set(known) == set(rates)
    return kept, asked, images


def test_who_is_clearly_worse_goes_before_the_others_see_more() -> None:
    kept, asked, images = race({"bad": 0.5, "good": 0.95, "worse": 0.6, "as good": 0.95})
    assert kept == ["good", "as good"] and len(asked) == 1 and images == 400


def test_who_cannot_be_told_apart_sees_twice_as_much_and_the_best_two_stay() -> None:
    kept, asked, images = race({"a": 0.9, "b": 0.9, "c": 0.9, "bad": 0.4})
    assert len(kept) == 2 and "bad" not in kept
    assert [len(rows) for _, rows in asked] == [100, 200, 400, 800, 1600]
    for (_, small), (_, large) in itertools.pairwise(asked):
        assert np.isin(small, large).all(), "a sample holds the one before: what was computed is used"
    assert images == 400 + 3 * (100 + 200 + 400 + 800)


def test_one_alone_is_kept_if_all_others_are_clearly_worse() -> None:
    assert race({"a": 0.4, "b": 0.95, "c": 0.5})[0] == ["b"]


def test_a_slow_one_must_not_be_behind_at_all() -> None:
    leader = np.array([1.0] * 90 + [0.0] * 10)
    behind = leader.copy()
    behind[:3], behind[95] = 0.0, 1.0  # by one and a half standard errors or less
    assert 1 < (leader - behind).mean() / ((leader - behind).std() / 10) < 2
    found = {"a": Ran(leader, 1.0), "b": Ran(behind, 1.0)}
    assert survivors(found) == ["a", "b"]
    assert survivors({**found, "b": Ran(behind, 3.0)}) == ["a"]


def test_none_to_be_had_is_said() -> None:
    with pytest.raises(DataError, match="none of the candidates can be had here"):
        compete(["a"], ORDER, 2, lambda names, rows: {}, lambda line: None)


@pytest.mark.parametrize("classes", [0, 3])
def test_every_beginning_of_the_order_has_each_class_in_its_share(classes: int) -> None:
    y = np.sort(RNG.choice(max(1, classes), size=1000, p=[0.7, 0.2, 0.1] if classes else [1.0]))
    order = sample_order(y, classes)
    assert sorted(order) == list(range(1000))
    for size in (50, 100, 500):
        shares = np.bincount(y[order[:size]], minlength=max(1, classes)) / size
        assert shares == pytest.approx([0.7, 0.2, 0.1] if classes else [1.0], abs=0.05)


@pytest.mark.parametrize(("n", "width"), [(40, 10), (30, 80)])
@pytest.mark.parametrize("classes", [0, 3])
def test_leaving_one_out_is_leaving_one_out(n: int, width: int, classes: int, monkeypatch: Any) -> None:
    """The formula against fits on all other examples."""
    decay = 0.1
    monkeypatch.setattr(exact, "DECAYS", (decay,))
    x = RNG.normal(size=(n, width)) * 7
    y = RNG.integers(classes, size=n) if classes else RNG.normal(size=n)
    scores = exact.leave_one_out(torch.tensor(x), torch.tensor(y), classes).numpy()
    centred = x - x.mean(0)
    scale = np.sqrt((centred**2).mean())
    target = np.eye(classes)[y] if classes else y[:, None]
    for i in range(n):
        others = np.arange(n) != i
        model = Ridge(alpha=n * decay / 2).fit(centred[others] / scale, target[others])
        said = model.predict(centred[i : i + 1] / scale).reshape(-1)
        assert scores[i] == pytest.approx(
            float(said.argmax() == y[i]) if classes else -((said[0] - y[i]) ** 2), abs=1e-9
        )


# --- studies ------------------------------------------------------------------------------------------------------


def study(**more: Any) -> Study:
    space = {"data": "digits", "classes": "7, 8", "size": 16, "epochs": 1, "lr": {"float": [1e-3, 1e-2]}}
    given = more.pop("space", {})
    space |= {**({} if "backbone" in given else {"backbone": ["cnn", "resnet18", "vgg11"]}), **given}
    return Study(
        **{
            "name": "s",
            "trainable": "transfer",
            "maximize": "val_accuracy",
            "trials": 2,
            "race": True,
            "space": space,
            **more,
        }
    )


def test_auto_stands_for_some_of_torchvision_s() -> None:
    from torchvision import models

    what = study(space={"backbone": "auto"}, race=False)
    assert set(what.candidates) <= set(models.list_models(module=models)) and len(what.candidates) >= 3
    assert study(race=False).candidates == []


def test_a_race_that_was_killed_before_the_first_report_is_remembered(tmp_path: Path) -> None:
    """Session after session with the same file."""
    what = study()
    for session in range(3):
        journal = Journal(tmp_path / "s")
        mine = what.narrowed(journal.history.raced.get("kept", []))
        open_session(mine, journal)
        if session == 0:
            after = what.narrowed(["cnn", "vgg11"])
            each = {n: {"mean": 0.5, "images": 100, "seconds": 1.0} for n in what.candidates}
            journal.append("raced", kept=["cnn", "vgg11"], images=300, each=each)
            journal.append("changed", study=after.to_dict(), added={})
        assert journal.history.raced["kept"] == ["cnn", "vgg11"]
        assert journal.history.study["study"]["space"]["backbone"] == ["cnn", "vgg11"]
        journal.close()


def test_conditions_and_priors_of_the_backbone_stay() -> None:
    space = {
        "transfer": ["feature", "model"],
        "backbone": {
            "choice": ["cnn", "resnet18", "vgg11"],
            "when": {"transfer": "feature"},
            "prior": "vgg11",
        },
        "weights": {"choice": ["w.pt"], "when": {"backbone": "resnet18"}},
    }
    what = study(space=space)
    assert {n: a["weights"] for n, a in race_arguments(what, {}).items()} == {
        "cnn": "default", "resnet18": "w.pt", "vgg11": "default",
    }  # fmt: skip
    kept = what.narrowed(["cnn", "vgg11"]).space["backbone"]
    assert (kept.values(), kept.when, kept.prior) == (["cnn", "vgg11"], {"transfer": "feature"}, "vgg11")
    assert what.narrowed(["cnn", "resnet18"]).space["backbone"].prior is None


def test_each_candidate_has_its_own_weights() -> None:
    what = study(space={"weights": {"cnn": "w.pt", "vgg11": "models:/a@best"}})
    found = race_arguments(what, {"models:/a@best": "/a"})
    assert {n: a["weights"] for n, a in found.items()} == {
        "cnn": "w.pt",
        "resnet18": "default",
        "vgg11": "/a",
    }
    assert Study(**what.to_dict()).to_dict() == what.to_dict(), "and what is written is read"


def test_a_study_after_its_race_is_a_study() -> None:
    """Without those that were dropped, and without what was only for them."""
    space = {
        "unfreeze": {"choice": [1, 2], "when": {"backbone": "vgg11"}},
        "norm": {"choice": ["batch", "frozen"], "when": {"unfreeze": 1}},
        "views": {"choice": ["plain", "flip"], "when": {"backbone": ["cnn", "vgg11"]}},
    }
    after = study(space=space).narrowed(["cnn", "resnet18"])
    assert after.space["backbone"].form() == ["cnn", "resnet18"] and not after.race and not after.candidates
    assert after.space["views"].when == {"backbone": "cnn"} and not {"unfreeze", "norm"} & after.space.keys()
    assert Study(**after.to_dict()).to_dict() == after.to_dict()
    assert after.narrowed(["cnn"]) is after and study().narrowed(["other"]).candidates


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"space": {"backbone": ["cnn", "vgg11"]}}, "race: is for three backbones or more"),
        ({"space": {"validation": [0.1, 0.2]}}, "race: needs one data set, and validation varies"),
        ({"points": [{"backbone": "cnn", "lr": 0.005}]}, "race: points name backbones that may not be kept"),
    ],
)
def test_what_cannot_be_raced_is_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        study(**more)


def test_a_perceptron_has_no_backbones() -> None:
    with pytest.raises(StudyError, match="race: is for three backbones or more"):
        Study(name="s", trainable="mlp", maximize="val_accuracy", race=True, space={"data": "digits"})


@pytest.mark.slow
def test_a_race_is_run_once_and_remembered(ray: Any, here: Path) -> None:
    from torchvision import models

    torch.manual_seed(0)
    weights = {}
    for name in ("squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v3_small"):
        torch.save(models.get_model(name, weights=None).state_dict(), here / f"{name}.pt")
        weights[name] = f"{name}.pt"
    what = study(
        name="race",
        space={"backbone": list(weights), "weights": weights, "size": 32, "cache_dir": "cache"},
        scheduler="none",
    )
    said: list[str] = []
    result = run(what, store="off", say=said.append)
    kept = result.study.space["backbone"].values()
    assert 1 <= len(kept) <= 2 and {t.point["backbone"] for t in result.trials} <= set(kept)
    assert sum(t.baseline for t in result.trials) == len(kept)
    assert any(line.startswith("Racing: kept") for line in said)
    assert load("race").study.space["backbone"].values() == kept
    assert "backbones raced on samples" in (here / "studies" / "race" / "report.html").read_text()
    said.clear()
    again = run(what, store="off", say=said.append, extend=False)
    assert not any("Racing" in line for line in said) and len(again.trials) == len(result.trials)
    more = run(study(**{**what.to_dict(), "trials": 3}), store="off", extend=True)
    assert len(more.trials) == len(result.trials) + 1

"""Transfer: blocks are the model they are of, what is cached is what would be computed, each kind resumes exactly."""

from __future__ import annotations

import dataclasses
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from conftest import saved
from raysweep import Study, run
from raysweep.errors import DataError, Infeasible
from raysweep.trainables import backbones, images, relations
from raysweep.trainables.backbones import Source
from raysweep.trainables.data import Data, View, load_images
from raysweep.trainables.features import Features, TooLargeError
from raysweep.trainables.network import pooled
from raysweep.trainables.predict import Predictor
from raysweep.trainables.transfer import export, transfer

Made = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_images("digits", classes="7, 8", validation=0.3, test=0.3)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has seen other digits."""
    folder = tmp_path_factory.mktemp("source")
    point = {
        "transfer": "scratch",
        "backbone": "cnn",
        "weights": "none",
        "size": 16,
        "cache_dir": str(folder),
    }
    seen = load_images("digits", classes="0, 1")
    *_, (_, state) = transfer(data=seen, epochs=2, **point)
    export(point, state, seen, folder / "model")
    return folder / "model"


@pytest.fixture
def given(digits: Data, source: Path, tmp_path: Path) -> Made:
    def arguments(**more: Any) -> dict[str, Any]:
        shared = {"backbone": "cnn", "weights": str(source), "size": 16, "cache_dir": str(tmp_path / "cache")}
        return {"data": digits, "epochs": 4, "lr": 3e-3, "seed": 5, **shared, **more}

    return arguments


# --- blocks and weights -------------------------------------------------------------------------------------------

FAMILIES = {
    "alexnet": "avgpool", "vgg11_bn": "avgpool", "squeezenet1_1": "classifier", "densenet121": "classifier",
    "resnet18": "fc", "regnet_y_400mf": "fc", "shufflenet_v2_x0_5": "fc", "googlenet": "fc", "inception_v3": "fc",
    "mobilenet_v2": "classifier", "mobilenet_v3_small": "avgpool", "mnasnet0_5": "classifier",
    "efficientnet_b0": "classifier", "convnext_tiny": "classifier.2", "swin_t": "head", "vit_b_32": "heads",
    "maxvit_t": "classifier",
}  # fmt: skip
"""Of each family of torchvision's one model, and the module before which its blocks end."""


@pytest.mark.parametrize(("name", "end"), FAMILIES.items(), ids=FAMILIES)
def test_the_blocks_of_a_model_are_the_model(name: str, end: str) -> None:
    torch.manual_seed(0)
    model = backbones._model(name).eval()
    if name in {"googlenet", "inception_v3"}:
        model.transform_input = True  # as the weights that they come with have it
    seen: list[torch.Tensor] = []
    model.get_submodule(end).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(1, 3, *[224 if name in {"vit_b_32", "maxvit_t"} else 96] * 2)
    with torch.inference_mode():
        model(x)
        blocks = backbones._blocks(model, name)
        assert len(blocks) >= 3
        torch.testing.assert_close(pooled(blocks(x), "average"), pooled(seen[0], "average"))


def test_every_family_of_torchvision_is_tried() -> None:
    def family(name: str) -> str:
        return type(models.get_model_builder(name)).__name__ and models.get_model_builder(name).__module__

    assert {family(n) for n in models.list_models(module=models)} == {family(n) for n in FAMILIES}


@pytest.mark.parametrize(
    ("backbone", "content", "said"),
    [
        ("cnn", {"0.0.weight": torch.zeros(3)}, r"does not fit cnn: of its 24 tensors \d+ are missing \(.*have another"),
        ("cnn", b"", "holds no tensors that can be read safely"),
        ("cnn", {"epoch": 3}, "holds no state dict"),
        ("cnn", None, "cnn has none of its own. Name a file, an MLflow model, or none"),
        ("resnet18", None, "'gone.pt' is no file, and resnet18 has no weights of that name. It has: default, IMAGENET1K_V1"),
        ("resnet81", None, "there is no 'resnet81'. Did you mean 'resnet18'"),
    ],
    ids=["keys", "empty", "no tensors", "none", "no file", "no backbone"],
)  # fmt: skip
def test_weights_that_cannot_be_had_are_told(
    backbone: str, content: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        if isinstance(content, bytes):
            Path("gone.pt").write_bytes(content)
        else:
            torch.save(content, "gone.pt")
    with pytest.raises(DataError, match=said):
        backbones.check(Source(backbone, "gone.pt"))


def test_weights_that_cannot_be_downloaded_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"could not be downloaded .* Put https://.*pth there"):
        backbones.check(Source("squeezenet1_1", "default"))


def test_a_file_s_weights_are_loaded_whatever_is_around_them(tmp_path: Path) -> None:
    model = backbones._model("squeezenet1_1")
    around = {"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}, "epoch": 3}
    torch.save(around, tmp_path / "trained.pt")
    network = Source("squeezenet1_1", str(tmp_path / "trained.pt")).network()
    torch.testing.assert_close(next(network.parameters()), next(model.parameters()))


# --- the kinds ----------------------------------------------------------------------------------------------------

KINDS: dict[str, dict[str, Any]] = {
    "feature": {"transfer": "feature", "views": "flip", "dropout": 0.3, "units": [16]},
    "exact": {"solver": "exact", "views": "flip"},
    "from the probe": {"start": "probe", "epochs": 3},
    "beside the probe": {"start": "probe", "units": [16], "dropout": 0.3, "class_weight": "balanced"},
    "model from the probe": {"transfer": "model", "start": "probe", "unfreeze": 2, "units": [8]},
    "model": {
        "transfer": "model",
        "backbone_lr": 0.5,
        "layer_decay": 0.5,
        "gradual": 1,
        "schedule": "cosine",
    },
    "last blocks": {
        "transfer": "model",
        "unfreeze": 2,
        "norm": "frozen",
        "optimizer": "sgd",
        "momentum": 0.9,
    },
    "augmented": {"transfer": "model", "unfreeze": 2, "augment": "crop", "dropout": 0.2},
    "relation": {"transfer": "relation", "augment": "flip", "pooling": "flatten"},
    "scratch": {"transfer": "scratch", "student": "cnn", "weight_decay": 1e-3, "optimizer": "adamw"},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_interrupted_at_any_epoch_it_goes_on_exactly(kind: dict[str, Any], given: Made) -> None:
    whole, states = [], []
    for metrics, state in transfer(**given(**kind)):
        whole.append(metrics)
        states.append(saved(state))
    for epoch, state in enumerate(states, 1):
        rest = [metrics for metrics, _ in transfer(**given(**kind), state=state)]
        assert whole[:epoch] + rest == whole


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_is_exported_predicts_raw_images_as_it_did_in_training(
    kind: dict[str, Any], given: Made, digits: Data, tmp_path: Path
) -> None:
    arguments = given(**kind)
    *_, (_, state) = transfer(**arguments)
    metrics = export(
        {k: v for k, v in arguments.items() if k != "seed"}, saved(state), digits, tmp_path / "model"
    )
    import pandas as pd

    def png(pixels: Any) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "png")
        return buffer.getvalue()

    said = Predictor(tmp_path / "model").predict(pd.DataFrame({"image": [png(x) for x in digits.x_test]}))
    right = np.mean([digits.classes.index(p) for p in said["prediction"]] == digits.y_test)
    assert right == pytest.approx(metrics["test_accuracy"])
    table = pd.read_csv(tmp_path / "model" / "tables" / "confusion.csv", index_col=0)
    assert np.trace(table.to_numpy()) == round(right * len(digits.y_test)) and table.to_numpy().sum() == len(
        digits.y_test
    )


def test_on_cached_features_a_trial_is_what_it_is_without(given: Made) -> None:
    for unfreeze in (0, 1, 3):
        plan = {"transfer": "model", "unfreeze": unfreeze}
        cached = [m for m, _ in transfer(**given(**plan))]
        # Pixels fit into so small a cache, features do not: the frozen blocks run with every batch.
        live = [
            m for m, _ in transfer(**given(**plan, cache_gb=3e-4, cache_dir=given()["cache_dir"] + "_small"))
        ]
        for a, b in zip(cached, live, strict=True):
            assert a == pytest.approx(b, abs=1e-4)


def test_what_is_frozen_stays_as_it_was(given: Made, source: Path) -> None:
    own = {k: v.clone() for k, v in Source("cnn", str(source)).network().state_dict().items()}
    *_, (_, state) = transfer(**given(transfer="model", unfreeze=2, augment="flip", norm="frozen"))
    for name, value in state["model"].items():
        if "running" in name or "tracked" in name:
            assert torch.equal(value, own[name.removeprefix("tuned.")]), "batch norm learned, told not to"
    *_, (_, state) = transfer(**given(transfer="model", unfreeze=2, augment="flip"))
    means = {n.removeprefix("tuned."): v for n, v in state["model"].items() if "running_mean" in n}
    assert not any(torch.equal(v, own[n]) for n, v in means.items()), "else the loop above could not fail"


def test_a_block_begins_to_learn_when_it_is_its_turn(given: Made, source: Path) -> None:
    own = {k: v.clone() for k, v in Source("cnn", str(source)).network().state_dict().items()}
    moved = []
    for _, state in transfer(**given(transfer="model", gradual=1)):
        blocks = [f"{i}.0.0.weight" for i in range(4)]
        moved.append([not torch.equal(state["model"][f"tuned.{b}"], own[b]) for b in blocks])
    assert moved == [[False] * (3 - i) + [True] * (i + 1) for i in range(4)]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"augment": "flip"}, "features are computed once and cannot change by chance. Use views: flip"),
        ({"weights": "none"}, "weights: none has nothing to transfer by feature"),
        ({"transfer": "model", "unfreeze": 9}, "unfreeze is 9 but cnn has 4 blocks"),
        ({"solver": "exact", "units": 8}, "solver: exact solves a linear head on features"),
        ({"solver": "exact", "transfer": "model"}, "solver: exact solves a linear head on features"),
        ({"start": "probe", "transfer": "scratch"}, "start: probe is a head on the backbone's features"),
        ({"batch_norm": True, "batch_size": 1}, "batch_norm needs a batch_size of 2 or more"),
    ],
)
def test_what_cannot_go_together_is_refused(more: dict[str, Any], said: str, given: Made) -> None:
    with pytest.raises(Infeasible, match=said):
        next(transfer(**given(**more)))


def test_trained_on_all_data_an_exact_head_has_the_decay_that_was_best_before(
    given: Made, digits: Data
) -> None:
    """The validation data are then among the training data, and would choose a decay that is too small."""
    rng = np.random.default_rng(0)
    noise = dataclasses.replace(digits, y_train=rng.integers(2, size=len(digits.y_train)))
    (_, state), *_ = transfer(**{**given(solver="exact"), "data": noise})
    whole = dataclasses.replace(noise, view=View("whole"))
    (_, refitted), *_ = transfer(**{**given(solver="exact"), "data": whole})
    size = [float(s["model"]["head.1.weight"].norm()) for s in (state, refitted)]
    assert size[1] < 2 * size[0]


def test_relations_are_the_same_up_to_scale_and_turning() -> None:
    torch.manual_seed(0)
    x = torch.randn(20, 6)
    turned = 3 * x @ torch.linalg.qr(torch.randn(6, 6))[0] + 1
    assert relations.loss(turned, x) < 1e-6
    assert relations.loss(torch.randn(20, 9), x) > 0.1
    same = torch.zeros(4, 6, requires_grad=True)  # a network that has collapsed
    relations.loss(same, x[:4]).backward()
    assert same.grad is not None and same.grad.isfinite().all()


# --- features on the disk -----------------------------------------------------------------------------------------


def entry(root: Path, name: str = "one", rows: int = 200, width: int = 3, limit: float = 1e9) -> Features:
    return Features({"name": name}, rows, lambda: ((width,), "float32"), root, limit)


def numbers(rows: Any) -> Any:
    return rows[:, None] + np.zeros(3)


def test_what_is_finished_is_kept_and_what_is_damaged_is_made_again(tmp_path: Path) -> None:
    first = entry(tmp_path)
    assert first.pending() == [0, 1, 2, 3]
    assert [first.fill(2, numbers), first.fill(2, numbers), first.fill(3, numbers)] == [64, 0, 8]
    second = entry(tmp_path)
    assert second.pending() == [0, 1]
    second.complete(numbers)
    assert (second.rows() == numbers(np.arange(200))).all()
    with (second.folder / "rows").open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff")
    second.verify()
    assert second.pending() == [1]


def test_a_sample_is_not_computed_again(tmp_path: Path) -> None:
    """Neither for a larger sample nor for the whole; unless it was damaged."""
    asked: list[int] = []

    def counted(rows: Any) -> Any:
        asked.extend(rows.tolist())
        return numbers(rows)

    small, large = np.arange(3, 200, 7), np.arange(3, 200, 3)
    first = entry(tmp_path)
    assert (first.sample(small, counted) == numbers(small)).all() and asked == small.tolist()
    assert first.pending() == [0, 1, 2, 3], "no shard is whole"
    assert (entry(tmp_path).sample(large, counted) == numbers(large)).all()
    assert sorted(asked) == np.union1d(small, large).tolist()
    with (first.folder / "rows").open("r+b") as file:  # row 3, of the small sample
        file.seek(3 * 12)
        file.write(b"\xff" * 12)
    second = entry(tmp_path)
    # With the first shard, that row is there again, and with it the rest of its sample.
    again = (small < 64).sum()
    assert second.complete(counted) == 200 - len(np.union1d(small, large)) + again
    assert (second.rows() == numbers(np.arange(200))).all()
    asked.clear()
    assert (second.sample(small, counted) == numbers(small)).all() and not asked
    third = entry(tmp_path, "third")
    third.sample(small, counted)
    for file in (third.folder / "done").glob("*.sample"):
        file.write_text("")  # as a power failure leaves it
    assert third.complete(counted) == 200 and (third.rows() == numbers(np.arange(200))).all()


def test_a_sample_changes_nothing_that_another_process_has_finished_meanwhile(tmp_path: Path) -> None:
    first, second, small = entry(tmp_path), entry(tmp_path), np.arange(3, 200, 7)

    def late(rows: Any) -> Any:
        second.complete(numbers)
        return numbers(rows) + 1e-3  # as another batch might round

    assert (first.sample(small, late) == numbers(small)).all()
    first.verify()
    assert first.pending() == []


@pytest.mark.parametrize("gone", ["about.json", "rows", "done"])
def test_an_entry_that_is_half_deleted_is_begun_anew(gone: str, tmp_path: Path) -> None:
    import shutil

    first = entry(tmp_path)
    first.complete(numbers)
    first.close()
    path = first.folder / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    second = entry(tmp_path)
    assert second.pending() == [0, 1, 2, 3]
    second.complete(numbers)
    assert (second.rows() == numbers(np.arange(200))).all()


def test_two_that_want_the_same_share_the_work(tmp_path: Path) -> None:
    import threading

    done: list[int] = []
    barrier = threading.Barrier(2)

    def slow(part: Any) -> Any:
        done.append(part[0])
        if len(done) <= 2:
            barrier.wait(20)  # each has one, or this breaks
        return numbers(part)

    both = [threading.Thread(target=entry(tmp_path).complete, args=(slow,)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(done) == [0, 64, 128, 192]


def test_the_least_recently_used_goes_but_never_what_is_in_use(tmp_path: Path) -> None:
    import os

    names = ["old", "mapped", "young"]
    entries = [entry(tmp_path, name) for name in names]
    for age, (name, e) in enumerate(zip(names, entries, strict=True)):
        os.utime(e.folder / "use", (age, age))
        if name != "mapped":
            e.close()
    entry(tmp_path, "new", limit=3 * 2400).close()
    assert [e.folder.exists() for e in entries] == [False, True, True]
    entry(tmp_path, "newer", limit=2 * 2400).close()
    assert [e.folder.exists() for e in entries] == [False, True, False]
    with pytest.raises(TooLargeError, match=r"take 0.0 GB, more than cache_gb allows"):
        entry(tmp_path, "huge", limit=10)


def test_numbers_that_cannot_be_kept_are_refused(tmp_path: Path) -> None:
    half = Features({}, 10, lambda: ((3,), "float16"), tmp_path)
    with pytest.raises(DataError, match=r"numbers came out that float16 cannot hold. Use float32"):
        half.complete(lambda part: numbers(part) + 1e6)
    assert half.pending() == [0]


def test_another_of_anything_is_another_entry(given: Made, source: Path, tmp_path: Path) -> None:
    """The name of an entry holds all that its numbers follow from."""
    import shutil

    def keys(**more: Any) -> set[str]:
        root = tmp_path / "keys"
        shutil.rmtree(root, ignore_errors=True)
        next(transfer(**given(**{"epochs": 1, **more, "cache_dir": str(root)})))
        return {p.name for p in root.iterdir() if p.is_dir()}

    usual = keys()
    assert keys(lr=0.5, units=8, seed=9) == usual
    other = tmp_path / "other"
    shutil.copytree(source, other)
    assert keys(weights=str(other)) == usual, "it is not the name that counts"
    weights = torch.load(other / "weights.pt", weights_only=True)
    weights["trunk.0.0.0.weight"][0] += 1
    torch.save(weights, other / "weights.pt")
    changes: list[dict[str, Any]] = [
        {"weights": str(other)}, {"size": 20}, {"pooling": "flatten"}, {"views": "flip"}, {"cache_dtype": "float16"},
        {"data": load_images("digits", classes="7, 8", validation=0.3, test=0.3, split_seed=1)},
        {"transfer": "model", "unfreeze": 1}, {"transfer": "model", "unfreeze": 2}, {"transfer": "scratch"},
    ]  # fmt: skip
    every = [usual, *(keys(**change) for change in changes)]
    assert all(not a & b for a, b in itertools.combinations(every, 2))


# --- images -------------------------------------------------------------------------------------------------------


def test_the_transform_is_torchvision_s() -> None:
    weights = models.get_model_weights("mobilenet_v2").DEFAULT
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8))
    own = torch.as_tensor(Source("mobilenet_v2", "default").transform()(image)).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (backbones.MEAN, backbones.STD))
    torch.testing.assert_close((own - mean) / std, weights.transforms()(image))


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "CMYK", "I;16", "I", "F", "LA"])
def test_images_of_every_mode_are_read(mode: str, tmp_path: Path) -> None:
    grey = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
    scale = {"I;16": (257, np.uint16), "I": (257, np.int32), "F": (1.0, np.float32)}.get(mode)
    if scale is None:
        image = Image.fromarray(grey).convert(mode)
    else:
        image = Image.fromarray((grey.astype(np.int64) * scale[0]).astype(scale[1]))
    image.save(tmp_path / "image.tiff")
    read = np.asarray(images.open_image(tmp_path / "image.tiff"))
    assert read.shape == (8, 8, 3) and read.dtype == np.uint8
    assert read[0, 0].max() < 8 and read[-1, -1].min() > 247, "not cut off, not inverted"


def folder(root: Path, *classes: str, count: int = 12) -> Path:
    rng = np.random.default_rng(1)
    for i, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for n in range(count):
            pixels = rng.integers(0, 100, (20 + n, 30, 3), dtype=np.uint8) + 100 * i
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{n}.png")
    return root


def test_a_folder_is_read_as_it_is_wherever_it_lies(tmp_path: Path) -> None:
    first = load_images(str(folder(tmp_path / "a", "cat", "dog")))
    assert first.x_train.dtype.kind == "U" and "images of any size, 2 classes" in str(first)
    (tmp_path / "b").mkdir()
    (tmp_path / "a").rename(tmp_path / "b" / "a")
    assert load_images(str(tmp_path / "b" / "a")).fingerprint == first.fingerprint
    with pytest.raises(DataError, match="every target is 'cat'; there is nothing to learn"):
        load_images(str(tmp_path / "b" / "a"), classes="cat")
    with pytest.raises(DataError, match=r"there is no class 'cow'. One of: cat, dog"):
        load_images(str(tmp_path / "b" / "a"), classes="cow, dog")


def test_images_that_cannot_be_decoded_are_counted_and_named_or_left_out(tmp_path: Path) -> None:
    root = folder(tmp_path / "a", "cat", "dog")
    whole = (root / "cat" / "3.png").read_bytes()
    (root / "cat" / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"1 of 24 images cannot be decoded; first: .*3.png.*skip_bad: true"):
        load_images(str(root))
    left = load_images(str(root), skip_bad=True)
    assert left.skipped == 1 and "1 files left out" in str(left)


def test_what_holds_no_images_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "table.npz", x=np.zeros((30, 4)), y=np.arange(30) % 3)
    with pytest.raises(DataError, match=r"holds no images.*got float32 \[20, 4\]|holds no images"):
        load_images(str(tmp_path / "table.npz"))


def test_an_image_too_large_to_be_true_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    Image.new("RGB", (10, 10)).save(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match="exceeds limit"):
        images.open_image(tmp_path / "bomb.png")


# --- as a study ---------------------------------------------------------------------------------------------------


def test_only_features_that_some_trial_can_ask_for_are_made() -> None:
    from raysweep.study.shared import feature_sets

    space = {
        "backbone": ["vgg16", "resnet50"],
        "weights": {"choice": ["IMAGENET1K_V2"], "when": {"backbone": "resnet50"}},
        "transfer": ["feature", "model", "scratch"],
        "pooling": {"choice": ["average", "flatten"], "when": {"transfer": "feature"}},
        "lr": {"float": [0.1, 1.0]},
    }
    study = Study(name="s", trainable="transfer", maximize="val_accuracy", trials=9, space=space)
    sets = [(s["backbone"], s["weights"], s["pooling"], s["frozen"]) for s in feature_sets(study, {})]
    assert sets == [
        ("vgg16", "default", "average", True), ("vgg16", "default", "flatten", True), ("vgg16", "default", "average", False),
        ("resnet50", "IMAGENET1K_V2", "average", True), ("resnet50", "IMAGENET1K_V2", "flatten", True),
        ("resnet50", "IMAGENET1K_V2", "average", False),
    ]  # fmt: skip


@pytest.mark.slow
def test_what_one_study_finds_is_where_the_next_begins(ray: Any, here: Path, mlflow_store: None) -> None:
    shared: dict[str, Any] = {
        "trainable": "transfer",
        "maximize": "val_accuracy",
        "scheduler": "none",
        "trials": 2,
    }
    space = {"data": "digits", "backbone": "cnn", "size": 16, "epochs": 1, "lr": {"float": [1e-3, 1e-2]}}
    space |= {"cache_dir": "cache", "validation": 0.3, "test": 0.3}
    first = {"classes": "0, 1", "transfer": "scratch", "weights": "none"}
    run(Study(name="first", **shared, space=space | first))
    second = {"classes": "7, 8", "transfer": ["feature", "model"], "weights": "models:/first@best"}
    said: list[str] = []
    result = run(Study(name="second", **shared, space=space | second), say=said.append)
    assert {t.status for t in result.trials} == {
        "completed"
    } and result.tracking.model == "models:/second@best"
    assert (
        len([f for f in (here / "cache").iterdir() if f.is_dir()]) == 3
    )  # pixels of both, features of the second
    assert any(s.startswith("Features: 353 images through cnn, once") for s in said), said
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{here}/studies/mlflow.db")
    (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name != "Default"]
    (parent,) = client.search_runs([experiment], "tags.role = 'study' and attributes.run_name = 'second'")
    assert parent.data.metrics["features_warm"] == 0 and parent.data.metrics["features_seconds"] > 0
    winner = parent.data.tags["best_run_id"]
    assert {f.path for f in client.list_artifacts(winner, "tables")} == {
        "tables/classes.csv",
        "tables/confusion.csv",
    }
    from raysweep.tracking.models import predict

    root = folder(here / "pictures", "a", count=2)
    predictions = predict("second", f"sqlite:///{here}/studies/mlflow.db", [root])
    assert list(predictions.columns) == ["file", "prediction", "p_7", "p_8"] and len(predictions) == 2


@pytest.mark.parametrize(
    ("name", "size", "mean"),
    [
        ("resnet18", 224, (0.485, 0.456, 0.406)),
        ("vit_base_patch16_224", 224, (0.5, 0.5, 0.5)),
        ("efficientnet_b3", 288, (0.485, 0.456, 0.406)),
        ("vit_tiny_patch16_384.augreg_in21k_ft_in1k", 384, (0.5, 0.5, 0.5)),
    ],
)
def test_a_model_of_timm_sees_images_as_its_weights_want_them(
    name: str, size: int, mean: tuple[float, ...]
) -> None:
    timm = pytest.importorskip("timm")
    transform = Source(f"timm:{name}", "none").transform()
    wanted = timm.data.resolve_model_data_config(timm.create_model(name))
    assert (
        (transform.size, transform.mean) == (size, mean) == (wanted["input_size"][-1], tuple(wanted["mean"]))
    )
    assert (transform.interpolation, transform.std) == (wanted["interpolation"], tuple(wanted["std"]))

"""Data: every kind is read, split and scaled the same way, and what does not fit is refused in a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raysweep.errors import DataError
from raysweep.trainables.data import Data, load
from raysweep.trainables.encoding import encode

RNG = np.random.default_rng(0)


def table(folder: Path, header: bool = True) -> str:
    n = 200
    frame = pd.DataFrame(
        {
            "age": RNG.integers(18, 80, n).astype(float),
            "job": RNG.choice(["cook", "smith", "miller"], n),
            "constant": 1.0,
            "label": RNG.choice(["<=50K", ">50K"], n),
        }
    )
    frame.loc[::10, "age"] = np.nan
    frame.loc[::7, "job"] = np.nan
    path = folder / "people.csv"
    frame.to_csv(path, index=False, header=header, na_rep="?")
    return str(path)


def arrays(folder: Path, **more: object) -> str:
    path = folder / "arrays.npz"
    given: dict[str, object] = {"x": RNG.normal(3, 9, (60, 4)), "y": np.arange(60) % 3}
    np.savez(path, **{**given, **more})  # type: ignore[arg-type]
    return str(path)


def images(folder: Path) -> str:
    root = folder / "pictures"
    for part in ("train", "val"):
        for label, colour in [("ants", (200, 0, 0)), ("bees", (0, 0, 200))]:
            (root / part / label).mkdir(parents=True)
            for i in range(8):
                Image.new("RGB", (20 + i, 30), colour).save(root / part / label / f"{i}.png")
    return str(root)


@pytest.mark.parametrize("numbers", ["standard", "robust", "quantile", "piecewise"])
def test_numbers_keep_their_order_and_outliers_do_not_outweigh_all_else(numbers: Any, tmp_path: Path) -> None:
    """Of a column that is skewed, one that is mostly zero, and a binary one."""
    n = 400
    skewed, mostly_zero = (
        RNG.lognormal(0, 2, n),
        RNG.choice([0.0, 5.0, 7.0, 9.0], n, p=[0.97, 0.01, 0.01, 0.01]),
    )
    frame = pd.DataFrame(
        {"skewed": skewed, "zero": mostly_zero, "binary": np.arange(n) % 2, "y": RNG.normal(size=n)}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = load(str(tmp_path / "t.csv"), numbers=numbers, bins=8)
    ends = {name: np.linspace(frame[name].min(), frame[name].max(), 50) for name in data_columns(data)}
    encoded = encode(data.inputs, pd.DataFrame(ends))
    assert encoded.dtype == np.float32 and np.isfinite(encoded).all()
    start = 0
    for column in data.inputs["columns"]:
        width = encode({**data.inputs, "columns": [column]}, frame).shape[1]
        values = encoded[:, start : start + width].sum(1)
        assert (np.diff(values) >= -1e-6).all() and values[-1] > values[0], column["name"]
        start += width
    assert start == encoded.shape[1] == data.x_train.shape[1]
    if numbers != "standard":
        far = pd.DataFrame({name: [1e9, -1e9] for name in data_columns(data)}).assign(binary=[0, 1])
        assert np.abs(encode(data.inputs, far)).max() <= 3.0 + 1e-6


def data_columns(data: Data) -> list[str]:
    return [column["name"] for column in data.inputs["columns"]]


def test_a_piecewise_encoding_is_a_linear_spline(tmp_path: Path) -> None:
    """As Gorishniy et al. (2022) define it: bins below a number are 1, bins above it 0, its own is its share."""
    pd.DataFrame({"x": np.arange(100.0), "y": np.arange(100) % 2}).to_csv(tmp_path / "t.csv", index=False)
    data = load(str(tmp_path / "t.csv"), numbers="piecewise", bins=4)
    edges = data.inputs["columns"][0]["edges"]
    middle = edges[2] + 0.25 * (edges[3] - edges[2])
    found = encode(data.inputs, pd.DataFrame({"x": [middle, edges[0] - (edges[1] - edges[0])]}))
    assert found[0].tolist() == pytest.approx([1.0, 1.0, 0.25, 0.0]) and found[1].tolist() == [
        -1.0,
        0.0,
        0.0,
        0.0,
    ]


def test_a_column_of_text_is_named_and_can_be_left_out(tmp_path: Path) -> None:
    n = 200
    frame = pd.DataFrame(
        {"name": [f"person {i}" for i in range(n)], "age": np.arange(n), "y": np.arange(n) % 2}
    )
    frame.to_csv(path := tmp_path / "t.csv", index=False)
    said = str(load(str(path)))
    assert "column 'name' is text with" in said and "leave it out (drop: name)" in said
    data = load(str(path), drop="name")
    assert data.x_train.shape[1] == 1 and "text" not in str(data)
    for drop, sentence in {
        "nme": "drop: there is no column 'nme' of inputs. Did you mean 'name'?",
        "name, age": "drop: no column of inputs is left",
    }.items():
        with pytest.raises(DataError, match=re.escape(sentence)):
            load(str(path), drop=drop)
    with pytest.raises(DataError, match="the target 'name' is text with 200 different values in 200 rows"):
        load(str(path), target="name")
    for arguments in ({"drop": "name"}, {"numbers": "robust"}):
        with pytest.raises(DataError, match=f"{next(iter(arguments))}: "):
            load("digits", **arguments)  # type: ignore[arg-type]


def test_digits_are_real_and_need_no_network() -> None:
    data = load("digits")
    assert (len(data.y_train), len(data.y_val), len(data.y_test)) == (1259, 269, 269)
    assert data.x_train.shape[1:] == (8, 8) and data.x_train.dtype == np.uint8
    assert data.classes == tuple(map(str, range(10)))
    shares = [np.bincount(y) / len(y) for y in (data.y_train, data.y_val, data.y_test)]
    assert np.abs(shares[0] - shares[1]).max() < 0.01 and np.abs(shares[0] - shares[2]).max() < 0.01


def test_the_same_seed_splits_the_same_and_the_fingerprint_says_so() -> None:
    assert load("digits").fingerprint == load("digits").fingerprint
    assert load("digits").fingerprint != load("digits", split_seed=1).fingerprint


def _no_overlap(data: Data) -> None:
    rows = [{r.tobytes() for r in x} for x in (data.x_train, data.x_val, data.x_test)]
    assert not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]


def test_arrays_are_standardised_from_the_training_split_only(tmp_path: Path) -> None:
    data = load(arrays(tmp_path))
    assert data.x_train.mean(0) == pytest.approx(np.zeros(4), abs=1e-6)
    assert data.x_train.std(0) == pytest.approx(np.ones(4), abs=1e-5)
    assert abs(data.x_val.mean()) > 1e-6
    assert data.classes == ("0", "1", "2")
    _no_overlap(data)


@pytest.mark.parametrize("header", [True, False])
def test_a_table_has_its_gaps_filled_and_its_words_encoded(header: bool, tmp_path: Path) -> None:
    data = load(table(tmp_path, header))
    assert data.classes == ("<=50K", ">50K")
    assert data.x_train.shape[1] == 1 + 3 + 1  # age, three jobs, a constant
    assert np.isfinite(data.x_train).all()
    assert (data.x_train[:, -1] == 0).all()
    names = [c["name"] for c in data.inputs["columns"]]
    assert names == (["age", "job", "constant"] if header else ["c0", "c1", "c2"])


@pytest.mark.parametrize(
    ("names", "header"), [(["0", "1", "label"], None), (["1", "2", "y"], None), (["2019", "7", "y"], True)]
)
def test_a_header_of_numbers_is_seen_or_can_be_said(
    names: list[str], header: bool | None, tmp_path: Path
) -> None:
    path = tmp_path / "numbered.csv"
    pd.DataFrame(np.c_[RNG.normal(size=(60, 2)), np.arange(60) % 2], columns=names).to_csv(path, index=False)
    data = load(str(path), header=header)
    assert len(data.y_train) + len(data.y_val) + len(data.y_test) == 60
    assert [c["name"] for c in data.inputs["columns"]] == names[:2]


def test_a_row_is_encoded_as_in_training_even_with_a_word_never_seen(tmp_path: Path) -> None:
    data = load(table(tmp_path))
    row = pd.DataFrame({"age": [np.nan], "job": ["astronaut"], "constant": [1.0]})
    median = (data.inputs["columns"][0]["median"] - data.inputs["columns"][0]["mean"]) / data.inputs[
        "columns"
    ][0]["std"]
    assert encode(data.inputs, row)[0].tolist() == pytest.approx([median, 0, 0, 0, 0])


def test_a_number_to_predict_is_a_regression(tmp_path: Path) -> None:
    path = arrays(tmp_path, y=RNG.normal(size=60))
    assert load(path).classes == ()
    assert load(arrays(tmp_path), task="regression").classes == ()


def test_a_folder_of_images_keeps_the_splits_it_has(tmp_path: Path) -> None:
    data = load(images(tmp_path), image_size=16, test=0.25)
    assert data.x_train.shape[1:] == (16, 16, 3)
    assert len(data.y_val) == 16  # all of val/; the test split is taken from train/
    assert len(data.y_train) + len(data.y_test) == 16
    assert data.classes == ("ants", "bees")


def test_arrays_of_bytes_are_images(tmp_path: Path) -> None:
    data = load(arrays(tmp_path, x=RNG.integers(0, 255, (60, 5, 5)).astype(np.uint8)))
    assert data.inputs == {"kind": "image", "shape": [5, 5]}
    assert data.x_train.dtype == np.uint8


def _corrupt_image(folder: Path) -> str:
    root = images(folder)
    (Path(root) / "train" / "ants" / "0.png").write_bytes(b"not a picture")
    return root


def _empty_class(folder: Path) -> str:
    root = images(folder)
    for file in (Path(root) / "train" / "bees").iterdir():
        file.unlink()
    return root


def _classes_differ(folder: Path) -> str:
    root = images(folder)
    (Path(root) / "val" / "wasps").mkdir()
    return root


def _empty_folder(folder: Path) -> str:
    (folder / "empty").mkdir()
    return str(folder / "empty")


def _garbage(folder: Path) -> str:
    (folder / "garbage.npz").write_bytes(b"PK\x03\x04 but no more")
    return str(folder / "garbage.npz")


def _pickled(folder: Path) -> str:
    return arrays(folder, y=np.array([{"a": 1}] * 60, dtype=object))


def _one_hot(folder: Path) -> str:
    return arrays(folder, y=np.eye(3)[np.arange(60) % 3])


def _missing_target(folder: Path) -> str:
    path = table(folder)
    pd.read_csv(path).assign(label=lambda f: f.label.where(f.index > 2)).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (lambda f: "digitz", {}, "'digitz' does not exist .* Did you mean 'digits'?"),
        (lambda f: str(f / "no.csv"), {}, r"no.csv' does not exist"),
        (lambda f: str(table(f)) + "", {"target": "labl"}, "has no column 'labl'. Did you mean 'label'?"),
        (
            lambda f: str(Path(table(f)).rename(f / "people.txt")),
            {},
            "is none of .csv, .parquet, .npz and a folder",
        ),
        (_missing_target, {}, "the target 'label' is missing in 3 rows"),
        (table, {"task": "regression"}, "a regression needs a target of numbers"),
        (table, {"validation": 0.8, "test": 0.3}, r"validation 0.8 \+ test 0.3 leave nothing to train on"),
        (table, {"validation": 0.001}, "nothing is left for the val split"),
        (lambda f: arrays(f, y=np.arange(59)), {}, "has 60 x but 59 y"),
        (lambda f: arrays(f, y=np.zeros(60, int)), {}, "every target is '0'; there is nothing to learn"),
        (lambda f: arrays(f, x=np.full((60, 2), np.nan)), {}, "x holds numbers that are not finite"),
        (
            lambda f: arrays(f, x_test=np.ones((5, 9)), y_test=np.zeros(5)),
            {},
            r"x_test has shape \[9\] but x \[4\]",
        ),
        (
            lambda f: arrays(f, x_test=np.ones((5, 4)), y_test=np.full(5, 7)),
            {},
            "class '7' is not among those of the training",
        ),
        (_one_hot, {}, r"y must hold one target for each sample, got shape \[60, 3\]"),
        (lambda f: arrays(f, x=np.array(["a"] * 60)), {}, "x must be an array of numbers"),
        (lambda f: arrays(f, y=np.array(3)), {}, r"y must hold one target for each sample, got shape \[\]"),
        (table, {"target": 20}, "target is column 20 but .* has 4, from 0"),
        (_garbage, {}, "garbage.npz' cannot be read"),
        (_pickled, {}, "cannot be read"),
        (_corrupt_image, {}, "1 of 16 images cannot be decoded; first: .*0.png"),
        (_empty_class, {}, "class 'bees' has 0 images"),
        (_classes_differ, {}, "the classes of val and train differ: wasps"),
        (_empty_folder, {}, "has no sub-folders; one for each class is needed"),
    ],
)
def test_data_that_does_not_fit_is_refused_in_a_sentence(
    make: Callable[[Path], str], options: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=sentence):
        load(make(tmp_path), **options)  # type: ignore[arg-type]


def test_without_network_a_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.request
    from urllib.error import URLError

    def refuse(*arguments: object, **more: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(
        DataError, match=r"mnist is not complete in .* Put a copy there, or say where one is with data_dir"
    ):
        load("mnist", data_dir=str(tmp_path))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_with_infinite_numbers_is_refused_by_the_name_of_its_column(
    suffix: str, tmp_path: Path
) -> None:
    frame = pd.DataFrame(
        {"age": [1.0, np.inf, 3.0, -np.inf], "size": [1.0, np.nan, 2.0, 3.0], "y": [0, 1, 0, 1]}
    )
    path = tmp_path / f"people{suffix}"
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    with pytest.raises(DataError, match=r"column 'age' of .* holds 2 infinite numbers"):
        load(str(path))


def test_a_table_of_text_alone_keeps_its_first_row(tmp_path: Path) -> None:
    rows = [f"{a},{b},{c}" for a, b, c in zip("xyz" * 40, "pq" * 60, "nnm" * 40, strict=True)]
    path = tmp_path / "words.csv"
    path.write_text("\n".join(rows) + "\n")
    data = load(str(path))
    assert sum(len(y) for y in (data.y_train, data.y_val, data.y_test)) == len(rows)
    path.write_text("\n".join(["colour,shape,kind", *rows]) + "\n")
    named = load(str(path))
    assert sum(len(y) for y in (named.y_train, named.y_val, named.y_test)) == len(rows)
    assert named.inputs["columns"][0]["name"] == "colour"


def test_a_class_too_rare_for_every_split_is_named(tmp_path: Path) -> None:
    x, y = RNG.normal(size=(100, 2)), np.array(["often"] * 60 + ["also"] * 38 + ["rare"] * 2)
    np.savez(tmp_path / "few.npz", x=x, y=y)
    data = load(str(tmp_path / "few.npz"))
    assert data.unsplit == ("rare",) and str(data).endswith("; too rare for every split: rare")
    assert load("digits").unsplit == ()

"""Whether a study goes on with the code it began with."""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import linecache
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import raysweep
from conftest import quick
from raysweep import JournalError, Study, StudyError
from raysweep.journal.history import History
from raysweep.journal.journal import Journal
from raysweep.journal.records import read
from raysweep.search.sessions import open_session, restored
from raysweep.trainables.trainable import find

MODULES: dict[str, str] = {
    "pkg/__init__.py": "",
    "pkg/train.py": (
        "import json\nfrom . import helpers\nfrom pkg.deep import net\ndef train(x):\n    yield {'loss': x}, None\n"
    ),
    "pkg/helpers.py": "from .inner import square\n",
    "pkg/inner.py": "def square(x): return x * x\n",
    "pkg/deep/__init__.py": "import other\n",
    "pkg/deep/net.py": "WIDTH = 3\n",
    "other.py": "A = 1\n",
    "unused.py": "A = 1\n",
    "pkg/unused.py": "A = 1\n",
}


def digest(function: Callable[..., Any]) -> str:
    """Of the function's code as it is now."""
    return find(function).code.digest


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in MODULES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [n for n in sys.modules if n.partition(".")[0] in {"pkg", "other"}]:
        del sys.modules[name]
    return tmp_path


@pytest.mark.parametrize("changed", MODULES)
def test_the_digest_is_of_all_that_is_imported_from_there(changed: str, package: Path) -> None:
    train = importlib.import_module("pkg.train").train
    before = digest(train)
    assert before == digest(train)
    (package / changed).write_text(MODULES[changed] + "\n# changed\n")
    assert (digest(train) != before) == ("unused" not in changed)


def test_the_digest_is_also_of_what_a_function_was_given(package: Path) -> None:
    train = importlib.import_module("pkg.train").train

    class Bound:
        def __init__(self, width: int):
            self.width, self.other = width, object()  # the text of which is another each time

        def train(self, x: float) -> Any:
            yield {"loss": x}

    given = [train, functools.partial(train, x=2), functools.partial(train, x=3), Bound(1).train]
    assert len({digest(f) for f in [*given, Bound(2).train]}) == 5
    assert digest(Bound(1).train) == digest(Bound(1).train)


def cell(text: str) -> dict[str, Any]:
    """A notebook's cell, whose file is none."""
    name = f"<cell {hash(text)}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), namespace)
    return namespace


def typed(text: str) -> dict[str, Any]:
    """At a prompt, which keeps no text."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(text, namespace)
    return namespace


SCRIPT = """\
import math
from raysweep.trainables.trainable import find
from helper import half
import helper
SCALE = {scale}
lr = {lr}
def train(x):
    yield {{"loss": SCALE * half(x) + helper.more(x) + x.lr + (x in {{"a", "b", "c"}})}}, None
print(find(train).code.digest)
"""


def test_the_digest_of_a_script_is_of_the_values_and_modules_that_it_uses(tmp_path: Path) -> None:
    def told(scale: int = 2, lr: float = 0.1, text: str = "", hashes: str = "0") -> str:
        helper = f"from deeper import more{text}\ndef half(x): return x / 2\n"
        (tmp_path / "helper.py").write_text(helper.replace(text, "") + text if text else helper)
        (tmp_path / "deeper.py").write_text("def more(x): return x\n")
        (tmp_path / "script.py").write_text(SCRIPT.format(scale=scale, lr=lr))
        done = subprocess.run(
            (sys.executable, "script.py"), cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "PYTHONHASHSEED": hashes},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = told()
    assert first == told(hashes="7"), "the same in every process"
    assert first == told(lr=0.2), "an attribute of that name is another thing"
    assert len({first, told(scale=3), told(text="\nA = 1\n")}) == 3


def test_of_an_installed_package_that_package_counts_and_not_all_that_it_imports() -> None:
    from raysweep.trainables.code import _imported

    path = Path(inspect.getsourcefile(yaml.safe_load) or "")
    root = path.parents[1]
    assert {p.relative_to(root).parts[0] for p in _imported(path, root)} == {"yaml"}


CELL = "def half(x):\n    return x / {by}\ndef train(x):\n    yield {{'loss': half(x) + {more}}}, None\n"


@pytest.mark.parametrize("made", [cell, typed])
def test_the_digest_of_a_cell_is_of_the_function_and_of_what_it_uses(
    made: Callable[[str], dict[str, Any]],
) -> None:
    first, same, other, helper = (
        digest(made(CELL.format(by=by, more=more))["train"]) for by, more in [(2, 0), (2, 0), (2, 1), (3, 0)]
    )
    assert first == same and len({first, other, helper}) == 3


def test_a_study_is_not_continued_with_other_code_without_a_word(tmp_path: Path) -> None:
    def study(more: int) -> Study:
        train = cell(CELL.format(by=2, more=more))["train"]
        return quick(
            trainable=train, space={"x": {"float": [0.0, 1.0]}}, algorithm="random", scheduler="none"
        )

    def one_trial(more: int) -> None:
        with raysweep.Loop.open(study(more), tmp_path, "off") as loop:
            loop.tell(loop.ask() or pytest.fail(), {"loss": 1.0})

    one_trial(0)
    one_trial(0)
    journal = Journal(tmp_path / "quick")
    for _ in range(2):  # nor the second time
        with pytest.raises(JournalError, match=r"the code of 'quick'.* has changed .*--code-changed"):
            open_session(study(1), journal)
    open_session(study(1), journal, new_code=True)
    open_session(study(1), journal)
    journal.close()
    with pytest.warns(UserWarning, match="has changed"):
        one_trial(2)


EVIL = "raise SystemExit('it ran')\n"


def recorded(place: Path, file: Path, trainable: str, **code: str) -> History:
    """The history of a study that anyone may have written."""
    journal = Journal(place)
    raw = {**quick(name="evil").to_dict(), "trainable": trainable, "space": {"x": {"float": [0.0, 1.0]}}}
    about = {"file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), **code}
    journal.append("study", format=1, id="a", study=raw, task="t", code=about, versions={})
    journal.append("session", pid=1, host="h", argv=[], code="0")
    journal.close()
    return History(read(journal.path)[0])


def test_code_among_the_results_of_studies_is_not_run(tmp_path: Path) -> None:
    """Neither among the study's own nor another's, wherever the journal says that the code is."""
    place, other = tmp_path / "studies" / "evil", tmp_path / "studies" / "other"
    for results in (place, other):
        (results / "best").mkdir(parents=True)
        (results / "best" / "evil_code.py").write_text(EVIL)
    recorded(other, other / "best" / "evil_code.py", "evil_code:train")
    harmless = tmp_path / "harmless.py"
    harmless.write_text("")
    for root in ({}, {"root": str(place / "best")}, {"root": str(other / "best")}):
        file = harmless if root else place / "best" / "evil_code.py"
        history = recorded(place, file, "evil_code:train", **root)
        with pytest.raises(StudyError, match="lies among the results"):
            restored(place, history)
        (place / "journal.jsonl").unlink()


@pytest.mark.parametrize("trainable", ["evil_code:train", "package.evil_code:train"])
def test_code_that_a_mirror_s_study_names_runs_only_if_it_is_the_same(trainable: str, tmp_path: Path) -> None:
    """All of it, found by its name: the file and the digest of a journal may be those of something else."""
    (tmp_path / "package").mkdir()
    for file in (tmp_path / "evil_code.py", tmp_path / "package" / "evil_code.py"):
        file.write_text(EVIL)
    harmless = tmp_path / "harmless.py"
    harmless.write_text("")
    history = recorded(tmp_path / "studies" / "evil", harmless, trainable, root=str(tmp_path))
    with pytest.raises(StudyError, match="is not here as the mirror's study has it"):
        restored(tmp_path / "studies" / "evil", history, fetched=True)


def test_what_a_mirror_s_study_has_run_with_runs_here(package: Path) -> None:
    place, train = package / "studies" / "evil", importlib.import_module("pkg.train").train
    history = recorded(place, package / "pkg" / "train.py", "pkg.train:train", root=str(package))
    history.session["code"] = digest(train)
    assert restored(place, history, fetched=True).found.function is train
    (package / "other.py").write_text("A = 2\n")
    with pytest.raises(StudyError, match="is not here as the mirror's study has it"):
        restored(place, history, fetched=True)


def test_a_module_is_not_confused_with_another_of_its_name(tmp_path: Path) -> None:
    text = "def train(x: float):\n    yield {{'loss': x + {more}}}\n"
    for folder in ("one", "two", "same"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "two_places.py").write_text(text.format(more=int(folder == "two")))
    assert find("two_places:train", tmp_path / "one").file == find("two_places:train", tmp_path / "same").file
    with pytest.raises(StudyError, match=r"there are two modules 'two_places', .*one.* and .*two.* Rename"):
        find("two_places:train", tmp_path / "two")
    sys.path[:] = [p for p in sys.path if Path(p).parent != tmp_path]
    del sys.modules["two_places"]

"""Documents run: what they and the commands' help say is there, is there."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

import raysweep
import reference
from conftest import ROOT
from raysweep import Study
from raysweep.cli import cli
from raysweep.trainables.trainable import find

DOCUMENTS = {
    name: (ROOT / name).read_text()
    for name in (
        "README.md",
        "search_spaces/README.md",
        "platform/raysweep/README.md",
        "cluster/README.md",
        "tests/README.md",
    )
}
BLOCKS = [
    (name, language, block)
    for name, text in DOCUMENTS.items()
    for language, block in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
]
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for _, language, block in BLOCKS
        if language == "sh"
        for line in block.splitlines()
        if line.startswith("raysweep ")
    }
)
SHOWN = {name for name, command in cli.commands.items() if not command.hidden}


def blocks(language: str, name: str = "") -> list[str]:
    return [b for n, lang, b in BLOCKS if lang == language and name in {"", n}]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_in_the_documents_is_one(line: str) -> None:
    _, name, *arguments = shlex.split(re.split(r"[>|]", line)[0])
    command = cli.commands[name]
    if isinstance(command, click.Group):
        command = command.commands[arguments.pop(0)]
    known = {o for p in command.params for o in p.opts}
    assert {a.split("=")[0] for a in arguments if a.startswith("-")} <= known
    for file in [a for a in arguments if a.endswith(".yaml") and "/" in a]:
        assert (ROOT / file).exists()


def test_every_command_is_in_the_documents() -> None:
    assert {line.split()[1] for line in COMMANDS} == SHOWN


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_study_in_the_documents_loads(text: str, tmp_path: Path) -> None:
    file = tmp_path / "documented.yaml"
    file.write_text(text)
    Study.load(file)


def test_the_first_study_of_the_readme_is_the_one_that_it_names() -> None:
    read = yaml.safe_load(blocks("yaml", "README.md")[0])
    assert read == yaml.safe_load((ROOT / "search_spaces" / "digits_mlp.yaml").read_text())


def test_the_readme_s_own_training_runs(ray: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, study = blocks("python", "README.md")
    (here / "train.py").write_text(train)
    monkeypatch.syspath_prepend(str(here))
    names: dict[str, Any] = {}
    exec(study, names)
    result = names["result"]
    assert len(result.trials) == 20 and not result.interrupted
    assert max(t.last.epoch for t in result.trials if t.last) == 10
    sys.modules.pop("train", None)


def test_the_loop_by_hand_runs(here: Path) -> None:
    (code,) = [b for b in blocks("python", "search_spaces/README.md") if "Loop" in b]
    names: dict[str, Any] = {}
    exec(code, names)
    assert len(names["loop"].journal.trials) == 10


@pytest.mark.parametrize("code", blocks("python"))
def test_every_program_compiles_and_what_it_imports_is_there(code: str) -> None:
    compile(code, "README", "exec")
    head = "\n".join(line for line in code.splitlines() if line.startswith(("import ", "from ")))
    exec(head, {})


def test_the_tables_of_the_language_are_those_of_the_code() -> None:
    text = DOCUMENTS["search_spaces/README.md"]
    found = dict(re.findall(r"<!-- ([\w ]+) -->\n(.*?)\n<!-- end -->", text, re.DOTALL))
    assert found == reference.tables(), "python tests/reference.py writes them anew"


def test_every_argument_of_a_built_in_is_in_the_tables() -> None:
    named = {
        n: set(re.findall(r"^\| `(\w+)` ", table, re.MULTILINE)) for n, table in reference.tables().items()
    }
    for trainable in ("mlp", "transfer"):
        known = set(find(trainable).arguments)
        assert known <= named["data"] | named["training"] | named[trainable]
        assert named["training"] | named[trainable] <= known


def test_every_example_is_in_the_list() -> None:
    told = set(re.findall(r"`(\w+\.yaml)`", DOCUMENTS["search_spaces/README.md"]))
    assert told == {p.name for p in (ROOT / "search_spaces").glob("*.yaml")}


def test_the_map_names_every_file_and_no_other() -> None:
    package = ROOT / "platform" / "raysweep"
    (block,) = blocks("text", "platform/raysweep/README.md")
    told: set[str] = set()
    above: list[str] = []
    for indent, name in re.findall(r"^( *)(\S+)", block, re.MULTILINE):
        above = [*above[: len(indent) // 2], name.rstrip("/")]
        if name.endswith(".py"):
            told.add("/".join(above))
    there = {str(p.relative_to(package)) for p in package.rglob("*.py")}
    assert told == {t for t in there if not t.endswith(("__init__.py", "__main__.py"))}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", DOCUMENTS[name])
    assert [x for x in links if "://" not in x and not ((ROOT / name).parent / x).exists()] == []


def test_every_test_that_is_named_is_there() -> None:
    code = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(?:\w+/)*(test_\w+)`", "\n".join(DOCUMENTS.values()))
    assert named and [n for n in named if f"def {n}(" not in code] == []


def test_the_help_names_every_command() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).stdout
    assert all(re.search(rf"^  {name} ", shown, re.MULTILINE) for name in SHOWN)


def test_the_makefile_has_every_target_that_is_named() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"`?make ([a-z-]+)", "\n".join(DOCUMENTS.values())))
    assert {"run", "test"} <= named
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)


def test_the_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == raysweep.__version__
    assert f"## {raysweep.__version__}" in (ROOT / "CHANGELOG.md").read_text()

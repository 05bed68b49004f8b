"""Documents run: what the README and the commands' help say is there, is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from conftest import ROOT
from raysweep import Study
from raysweep.cli import cli

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for language, block in BLOCKS
    if language == "sh"
    for line in block.splitlines()
    if line.startswith("raysweep ")
]
SHOWN = {name for name, command in cli.commands.items() if not command.hidden}


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_in_the_readme_is_one(line: str) -> None:
    _, name, *arguments = shlex.split(re.split(r"[>|]", line)[0])
    command = cli.commands[name]
    if isinstance(command, click.Group):
        command = command.commands[arguments.pop(0)]
    known = {o for p in command.params for o in p.opts}
    assert {a.split("=")[0] for a in arguments if a.startswith("-")} <= known
    for file in [a for a in arguments if a.endswith(".yaml") and "/" in a]:
        assert (ROOT / file).exists()


def test_every_command_is_in_the_readme() -> None:
    assert {line.split()[1] for line in COMMANDS} == SHOWN


@pytest.mark.parametrize("text", [b for language, b in BLOCKS if language == "yaml"])
def test_every_study_in_the_readme_loads(text: str, tmp_path: Path) -> None:
    file = tmp_path / "readme.yaml"
    file.write_text(text)
    Study.load(file)


@pytest.mark.parametrize("code", [b for language, b in BLOCKS if language == "python"])
def test_every_program_in_the_readme_compiles_and_its_names_are_there(code: str) -> None:
    compile(code, "README", "exec")
    head = "\n".join(line for line in code.splitlines() if line.startswith(("import ", "from ")))
    exec(head, {})


def test_the_map_in_the_readme_names_every_file_and_no_other() -> None:
    (block,) = [b for language, b in BLOCKS if language == "text" and "platform/raysweep/" in b]
    told = {name for line in block.splitlines() for name in re.findall(r"^ +(\S+\.py)\b", line)}
    there = {str(p.relative_to(ROOT / "platform" / "raysweep")) for p in (ROOT / "platform").rglob("*.py")}
    assert told == {t for t in there if not t.endswith(("__init__.py", "__main__.py"))}


def test_the_help_names_every_command() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).stdout
    assert all(re.search(rf"^  {name} ", shown, re.MULTILINE) for name in SHOWN)


def test_the_makefile_has_the_two_commands_of_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("run", "test"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_versions_agree() -> None:
    import tomllib

    import raysweep

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == raysweep.__version__
    assert f"## {raysweep.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_yaml_in_the_readme_is_yaml() -> None:
    assert all(yaml.safe_load(b) for language, b in BLOCKS if language == "yaml")

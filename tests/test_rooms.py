"""Tests about the package: imports go down from room to room, heavy packages stay in theirs, starting is cheap."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

PACKAGE = ROOT / "platform" / "raysweep"
ROOMS = {
    # each room may import what stands below it, and these heavy packages
    "cli": set(),
    "execution": {"ray", "torch"},
    "search": {"mlflow", "optuna", "hyperopt", "scipy", "sklearn"},
    "report": set(),
    "tracking": {"mlflow"},
    "cluster": {"ray"},
    "journal": set(),
    "trial": set(),
    "study": set(),
    "trainables": {"torch", "torchvision", "sklearn"},
    "storage": {"torch"},
    "errors": set(),
}
HEAVY = set().union(*ROOMS.values())
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path, typed: bool = False) -> set[str]:
    """Everything that a file imports at any depth; with `typed`, also what is only there for the type checker."""
    found: set[str] = set()
    tree = ast.parse(file.read_text())
    for node in [] if typed else list(ast.walk(tree)):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        if isinstance(node, ast.ImportFrom) and node.module == "raysweep":
            found |= {f"raysweep.{a.name}" for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def modules(file: Path) -> set[str]:
    """The modules of the package that a file imports: `study.space`."""
    found = set()
    for imported in imports(file, typed=True):
        if imported.startswith("raysweep."):
            parts = imported.removeprefix("raysweep.").split(".")
            while parts and not PACKAGE.joinpath(*parts).with_suffix(".py").is_file():
                if PACKAGE.joinpath(*parts, "__init__.py").is_file():
                    parts.append("__init__")
                    break
                parts.pop()
            if parts:
                found.add(".".join(parts))
    return found


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts)


def test_the_package_holds_its_rooms_and_nothing_else() -> None:
    there = {room_of(f) for f in FILES}
    assert there == {*ROOMS, "__init__", "__main__"}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_between_rooms_go_down(file: Path) -> None:
    room, order = room_of(file), list(ROOMS)
    if room.startswith("__"):
        return
    for module in modules(file):
        other = module.partition(".")[0]
        if other != room and not other.startswith("__"):
            assert order.index(other) > order.index(room), f"{name_of(file)} imports {module}"


def test_no_file_imports_in_a_circle() -> None:
    graph = {name_of(f): modules(f) - {name_of(f)} for f in FILES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        raise AssertionError(f"a circle of imports: {' -> '.join(error.args[1])}") from None


@pytest.mark.parametrize("room", ROOMS)
def test_heavy_packages_are_imported_where_they_belong(room: str) -> None:
    used = {i.split(".")[0] for f in FILES if room_of(f) == room for i in imports(f)}
    assert used & HEAVY <= ROOMS[room]


def test_platform_holds_one_package_and_nothing_that_shadows_the_standard_library() -> None:
    assert {p.name for p in (ROOT / "platform").iterdir() if not p.name.endswith(".egg-info")} == {"raysweep"}


@pytest.mark.parametrize(
    "code", ["import raysweep", "import raysweep.cli; raysweep.cli.cli(['--help'], standalone_mode=False)"]
)
def test_starting_imports_nothing_heavy(code: str) -> None:
    heavy = [*HEAVY, "pandas", "numpy", "pydantic"]
    check = f"import sys\n{code}\nprint([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run((sys.executable, "-c", check), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_reading_a_study_imports_neither_ray_nor_mlflow_nor_torch() -> None:
    code = (
        "import sys; from raysweep import Study\n"
        f"Study.load({str(ROOT / 'search_spaces' / 'digits_mlp.yaml')!r})\n"
        "print([m for m in ('ray', 'mlflow', 'torch', 'sklearn', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_public_name_is_there() -> None:
    import raysweep

    assert raysweep.__all__ == sorted(raysweep.__all__)
    assert all(getattr(raysweep, name) for name in raysweep.__all__)

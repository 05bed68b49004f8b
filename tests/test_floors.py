"""Tests about the package: imports go down, heavy ones are where they are said to be, starting is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

PACKAGE = ROOT / "platform" / "raysweep"
FLOORS = [
    {"errors", "disk", "background"},
    {"trial", "params", "lock", "launcher"},
    {"space", "journal", "trainables", "plans", "files"},
    {"checks"},
    {
        "study",
        "checkpoints",
        "mirror",
        "tracking",
        "views",
        "models",
        "queue",
        "nodes",
        "jobs",
    },
    {"samplers", "schedulers", "report", "schema", "sessions", "warm_start", "retention"},
    {"stopping"},
    {"memory"},
    {"loop", "executions"},
    {"crew"},
    {"worker", "search"},
    {"tune_scheduler", "ray_session"},
    {"preparation"},
    {"driver", "publisher", "doctor"},
    {"cli"},
    {"__main__"},
]
HEAVY = {
    "ray": {
        "search",
        "tune_scheduler",
        "ray_session",
        "worker",
        "executions",
        "crew",
        "driver",
        "nodes",
        "jobs",
        "launcher",
    },
    "mlflow": {"publisher", "models", "warm_start", "doctor"},
    "torch": {"trainables", "worker", "executions", "crew", "checkpoints"},
    "torchvision": {"trainables"},
    "sklearn": {"trainables", "schedulers"},
    "scipy": {"samplers"},
    "optuna": {"samplers"},
    "hyperopt": {"samplers"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def floor_of(module: str) -> int:
    return next(i for i, names in enumerate(FLOORS) if module in names)


def name_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path) -> set[str]:
    """Everything that a file imports at any depth, but for what is only there for the type checker."""
    found: set[str] = set()
    tree = ast.parse(file.read_text())
    for node in list(ast.walk(tree)):
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


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_go_down(file: Path) -> None:
    name = name_of(file)
    if name == "__init__":
        return
    for imported in imports(file):
        parts = imported.split(".")
        if parts[0] == "raysweep" and len(parts) > 1 and not parts[1].startswith("__"):
            same = name == parts[1]  # within a folder
            assert same or floor_of(parts[1]) < floor_of(name), f"{name} imports {imported}"


@pytest.mark.parametrize(("package", "allowed"), HEAVY.items(), ids=HEAVY)
def test_heavy_packages_are_imported_where_they_belong(package: str, allowed: set[str]) -> None:
    users = {name_of(f) for f in FILES if any(i.split(".")[0] == package for i in imports(f))}
    assert users <= allowed


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

"""A session of a study: its journal, opened for writing by this process, begun or seen to be this study's."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

from raysweep import __version__
from raysweep.errors import JournalError, scrubbed
from raysweep.journal import FORMAT, Journal
from raysweep.study import Study

MAY_CHANGE = (
    "trials", "concurrency", "per_trial", "stop", "trial_timeout", "no_progress_timeout", "retries"
)  # fmt: skip
"""What a study may say differently when it is continued; all else would make it another study."""


def admit(study: Study, journal: Journal, uri: str = "") -> None:
    """Begin the study's journal, or see that it is this study's. Raises JournalError when it is another's."""
    if not journal.trials:
        journal.begin_anew()  # it was refused before its first trial: what it said then binds nobody
    known = journal.history.study
    if not known:
        journal.append(
            "study",
            format=FORMAT,
            id=uuid.uuid4().hex,
            study=study.to_dict(),
            task=study.task,
            code={"file": study.found.file, "sha256": study.found.sha256},
            versions=_versions(),
            git=_git(),
        )
        (journal.path.parent / "study.yaml").write_text(study.to_yaml(), encoding="utf-8")
    else:
        if known["format"] > FORMAT:
            raise JournalError(f"{journal.path} was written by a newer raysweep. Update this one")
        changes = list(_changes(known["study"], study.to_dict()))
        if changes:
            raise JournalError(
                f"study '{study.name}' exists and is not this one: {'; '.join(changes)}."
                f" Only {', '.join(MAY_CHANGE)} may change. Give this one another name, or delete {journal.path.parent}"
            )
    journal.begin_session(sys.argv, scrubbed(uri))


def _changes(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    if list(old["space"]) != list(new["space"]) and old["space"] == new["space"]:
        yield "space has its names in another order"
    for key in sorted((old.keys() | new.keys()) - set(MAY_CHANGE)):
        a, b = old.get(key), new.get(key)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            for name in [n for n in {**a, **b} if a.get(n) != b.get(n)]:
                yield f"{key}.{name} was {a.get(name)}, is {b.get(name)}"
        else:
            yield f"{key} was {a}, is {b}"


def _versions() -> dict[str, str]:
    packages = ("ray", "torch", "torchvision", "mlflow", "numpy", "pandas", "scikit-learn")
    return {
        "raysweep": __version__,
        "python": platform.python_version(),
        **{p: importlib.metadata.version(p) for p in packages},
    }


def _git() -> dict[str, Any]:
    """The commit of the folder we run in, and whether it has changes; empty outside a repository."""

    def ask(*arguments: str) -> str:
        run = subprocess.run(("git", *arguments), capture_output=True, text=True, timeout=10)  # noqa: S603, S607
        return run.stdout.strip()

    try:
        commit = ask("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(ask("status", "--porcelain"))} if commit else {}
    except (OSError, subprocess.TimeoutExpired):
        return {}

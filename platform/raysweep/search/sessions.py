"""A session of a study: begin the open journal, or check that it belongs to this study."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import subprocess
import sys
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from raysweep import __version__
from raysweep.cluster.jobs import CODE
from raysweep.errors import JournalError, Problem, StudyError, scrubbed
from raysweep.journal.history import History
from raysweep.journal.journal import Journal
from raysweep.journal.records import FILE, FORMAT, Record
from raysweep.storage import disk
from raysweep.study.params import Choice
from raysweep.study.space import Space
from raysweep.study.study import Study
from raysweep.trainables.code import digest_of, found_file, root_of_file

MAY_CHANGE = (
    "trials", "concurrency", "per_trial", "stop", "trial_timeout", "no_progress_timeout", "retries",
    "checkpoint_every", "keep", "finalists", "refit", "ensemble",
)  # fmt: skip
"""The options that may change when a study is continued. Any other change would make it another study."""


EXTENDABLE = (*MAY_CHANGE, "algorithm", "scheduler", "space")
"""The options that may change when a study is extended on purpose; of the space, the bounds, what is fixed, and
names at its end."""


def open_session(
    study: Study,
    journal: Journal,
    uri: str = "",
    may_change: Collection[str] = MAY_CHANGE,
    mirror: str = "",
    new_code: bool = False,
) -> None:
    """Begin the study's journal, or check that it belongs to this study. Raises JournalError when it belongs
    to another study, or when the study's code has changed, unless `new_code` allows that.

    `uri` is the URI of MLflow and `mirror` that of the mirror; later sessions use them."""
    raced: Record = {}
    if not journal.trials or (not any(t.reports for t in journal.trials) and _differs(study, journal)):
        raced = journal.history.raced
        journal.reset()  # no trial has a result, so its records do not matter
    known = journal.history.study
    if not known:
        journal.append(
            "study",
            format=FORMAT,
            id=uuid.uuid4().hex,
            study=study.to_dict(),
            task=study.task,
            code={"file": study.found.file, "sha256": study.found.sha256, "root": study.found.root},
            versions=_versions(),
            git=_git(),
        )
        if raced and not study.candidates:  # it is the study after that race
            journal.append("raced", **{k: raced[k] for k in ("kept", "images", "each")})
    elif known["format"] > FORMAT:
        raise JournalError(f"{journal.path} was written by a newer raysweep. Update this one")
    elif known["study"] != study.to_dict() or list(known["study"]["space"]) != list(study.space):
        changes = [*_changes(known["study"], study.to_dict(), may_change), *_other_spaces(known, study)]
        if changes:
            raise JournalError(
                f"study '{study.name}' exists and is not this one: {'; '.join(changes)}."
                f" Only {', '.join(may_change)} may change{' (see raysweep extend)' * (may_change == MAY_CHANGE)}."
                f" Give this one another name, or delete {journal.path.parent}"
            )
        journal.append("changed", study=study.to_dict(), added=_added(known, study))
    if known and not new_code and code_changed(study, journal.history):
        raise JournalError(
            f"the code of '{study.name}', {study.found.place}, has changed since its trials were"
            " run: old and new results would stand side by side. Give it another name, or go on all the same with"
            " --code-changed (in Python: code_changed=True)"
        )
    disk.write(journal.path.parent / "study.yaml", study.to_yaml())
    argv = [scrubbed(argument) for argument in sys.argv]
    journal.begin_session(argv, scrubbed(uri), scrubbed(mirror), study.found.code.digest)


def _differs(study: Study, journal: Journal) -> bool:
    """Whether a study or its code is not what the journal has."""
    return study.to_dict() != journal.history.study["study"] or code_changed(study, journal.history)


def root_of(history: History) -> Path | None:
    """The folder that the user's code of a study is imported from; None for a built-in."""
    code, name = history.study["code"], str(history.study["study"].get("trainable"))
    if ":" not in name:
        return None
    if code.get("root"):
        return Path(code["root"])
    # Version 0.1 recorded the file alone, and none for a notebook.
    return root_of_file(Path(code["file"]), name.partition(":")[0]) if code["file"] else Path.cwd()


def restored(place: Path, history: History, fetched: bool = False) -> Study:
    """The study of a journal, with its code, which must still be where it was.

    Raises StudyError if the code is gone or must not be run: it lies among the results of studies, or the study
    was `fetched` from a mirror and the code here is not the same."""
    raw, root = history.study["study"], root_of(history)
    try:
        if root is not None:
            _see_that_it_may_run(place, history, root, fetched)
        return Study(**raw, _beside=root)
    except StudyError as error:
        raise StudyError(error.problems, source=place.name) from None


def _see_that_it_may_run(place: Path, history: History, root: Path, fetched: bool) -> None:
    """Raise StudyError if the journal, which others may have written, names code that its owner did not put
    there. Nothing is imported before that is clear."""
    code, module = history.study["code"], str(history.study["study"]["trainable"]).partition(":")[0]
    file = found_file(module, root)
    for path in {root, Path(code["file"]), *([file] if file else [])}:
        whole = path.resolve()
        among = any((parent / FILE).exists() for parent in (whole, *whole.parents))
        if among and not whole.is_relative_to(place.resolve() / CODE):
            raise StudyError(
                [Problem("trainable", f"its code, {path}, lies among the results. It is not run")]
            )
    if fetched and file is not None and not _is_same(file, module, history):
        what = (
            f"its code, {file}, is not here as the mirror's study has it. Copy it here, or use --code-changed"
        )
        raise StudyError([Problem("trainable", what)])


def _is_same(file: Path, module: str, history: History) -> bool:
    """Whether the code of `module` is what the last session ran, with all that it imports."""
    known = history.session.get("code")
    if known is None:  # version 0.1 recorded one file
        return hashlib.sha256(file.read_bytes()).hexdigest() == str(history.study["code"]["sha256"])
    return digest_of(file, root_of_file(file, module)) == str(known)


def code_changed(study: Study, history: History) -> bool:
    """Whether a person's code differs from that of the previous session."""
    if not history.study or study.found.builtin:
        return False
    known: str | None = history.session.get("code")
    if known is None:  # version 0.1 recorded one file, and none for a notebook
        return str(history.study["code"]["sha256"]) != study.found.sha256
    return known != study.found.code.digest


def _added(known: Record, study: Study) -> dict[str, Any]:
    """The names that a space has got, with the values that the trials so far had: the trainable's defaults."""
    names = [n for n in study.space if n not in known["study"]["space"]]
    return {n: study.found.arguments[n].default for n in names if n in study.found.arguments}


def _other_spaces(known: Record, study: Study) -> Iterator[str]:
    """The changes to a space that are more than new bounds, a parameter that becomes fixed, or names at its end."""
    old = Space(known["study"]["space"])
    if list(old) != list(study.space)[: len(old)]:
        yield (
            "space has its names in another order"
            if set(old) <= set(study.space)
            else "space has lost a name, which may become fixed but not go"
        )
        return
    for name in list(study.space)[len(old) :]:
        a = study.found.arguments.get(name)
        if a is None or a.default is a.empty:
            yield f"space.{name} is new, and the trainable has no default for it, so no trial had a value"
    for name in old:
        was, p = old[name], study.space[name]
        fixed = isinstance(p, Choice) and len(p.options) == 1 and p.when == was.when and p.each == was.each
        same_kind = type(was) is type(p) and was.when == p.when and was.each == p.each
        if not fixed and (not same_kind or getattr(was, "log", False) != getattr(p, "log", False)):
            yield f"space.{name} was {was.form()}, is {p.form()}, which is more than other bounds"


def _changes(old: dict[str, Any], new: dict[str, Any], may_change: Collection[str]) -> Iterator[str]:
    for key in sorted((old.keys() | new.keys()) - set(may_change)):
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

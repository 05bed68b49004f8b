"""What to try next: the edits of a study's health as a file that loads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raysweep.errors import StudyError
from raysweep.report.facts import Facts
from raysweep.report.health import Finding
from raysweep.study.study import Study


def next_study(facts: Facts, findings: Sequence[Finding]) -> Study:
    """The study with the edits that its findings ask for, warm-started from its trials. An edit with which the file
    would not load is left out."""
    study = facts.study
    raw = study.to_dict()
    raw |= {"name": _name(study.name), "warm_start": [*study.warm_start, study.name], "points": []}
    for finding in findings:
        if finding.check == "plateau":
            continue  # it asks for an end, not for another search
        edited = _edited(raw, finding)
        if _loads(edited):
            raw = edited
    return Study.recorded({k: v for k, v in raw.items() if v != []})


def _name(name: str) -> str:
    """Another name, of at most 64 characters."""
    found = f"{name[:59]}_next"
    return found if found != name else f"{name[:58]}_next2"


def _edited(raw: dict[str, Any], finding: Finding) -> dict[str, Any]:
    edited = dict(raw)
    for where, value in finding.changes.items():
        key, _, inner = where.partition(".")
        edited[key] = {**(edited.get(key) or {}), inner: value} if inner else value
    return edited


def _loads(raw: dict[str, Any]) -> bool:
    """Whether a study file says something that is allowed; a person's own code is not loaded for that."""
    own = ":" in str(raw["trainable"])
    try:
        Study(**raw, _recorded=own)
    except StudyError:
        return False
    return True

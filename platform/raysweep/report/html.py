"""Pieces of HTML. Whatever is given as text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from raysweep.report.tables import number, value_text


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]], caption: str, more: str = "") -> str:
    """A table. Numbers are aligned at the right."""
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in headings)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<div class="wide" tabindex="0" role="group" aria-label="{escape(caption)}"><table{more}>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "<td></td>"
    if isinstance(value, float):
        return f'<td class="n">{number(value) if abs(value) < 1 else f"{value:.5g}"}</td>'
    if isinstance(value, int) and not isinstance(value, bool):
        return f'<td class="n">{value}</td>'
    return f"<td>{escape(value_text(value))}</td>"


def folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def section(name: str, heading: str, content: str) -> str:
    """A section with its heading."""
    return f'<section class="part-{name}"><h3>{escape(heading)}</h3>{content}</section>' if content else ""


def paragraph(text: str, kind: str = "") -> str:
    return f"<p{f' class={kind}' if kind else ''}>{escape(text)}</p>"


def keys(names: Iterable[str]) -> str:
    """Which colour and dash is what."""
    spans = "".join(f'<span class="key s{i}">{escape(name)}</span> ' for i, name in enumerate(names))
    return f'<p class="keys">{spans}</p>'

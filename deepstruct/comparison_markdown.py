"""What `deepstruct diff --format markdown` prints: a comparison as the text of a comment on a pull request.

Whatever comes from a file is shown as code, so that no name makes a table, a link, a mention or HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from deepstruct.comparison import Difference, LayerChange, ParameterChange
from deepstruct.comparison_sides import Side
from deepstruct.printable import printable

MARKER = "<!-- deepstruct diff -->"
"""The first line, by which a program finds the comment that it wrote before."""

LONGEST = 65_536
"""Characters of a comment on GitHub; the text has fewer."""

_OPEN = 12
"""Rows of a table, and names, that are shown; more are folded."""

_LAYERS, _NODES, _PARAMETERS = 36_000, 8_000, 16_000
"""Characters of each part at most, which leaves 5,000 for the rest."""


def markdown(found: Difference, before: Side, after: Side) -> str:
    """The comment: GitHub Flavored Markdown of fewer than `LONGEST` characters, with a newline at the end."""
    names = (
        code(after.name)
        if before.name.rpartition("/")[2] == after.name.rpartition("/")[2]
        else f"{code(before.name)} → {code(after.name)}"
    )
    if found.equal:
        return f"{MARKER}\n**{names}**: the structure is the same\n"
    parts = [
        f"**{names}**: {_verdict(found)}",
        _figures(found, before, after),
        _layers(found, before, after),
        *_nodes(found),
    ]
    if found.graph:
        parts.append(f"Graph: {', '.join(found.graph)} changed")
    parts += [_parameters(found.parameters), *_notes(before, after)]
    return MARKER + "\n" + "\n\n".join(part for part in parts if part) + "\n"


def code(text: str, most: int = 100) -> str:
    """Text that may come from a file as code on one line, cut to `most` characters."""
    shown = _cut(printable(text), most)
    if re.fullmatch(r"[^\s`|\\](?:[^`|\\]*[^\s`|\\])?", shown):
        return f"`{shown}`"
    return "<code>" + "".join(c if c.isalnum() or c in " …" else f"&#{ord(c)};" for c in shown) + "</code>"


def _verdict(found: Difference) -> str:
    """What happened, in a sentence."""
    kinds = ("added", "removed", "resized", "rewired", "changed")
    counts = {kind: sum(layer.change == kind for layer in found.layers) for kind in kinds}
    layers = [f"{count:,} {kind}" for kind, count in counts.items() if count]
    connections = found.connections
    changed = f"{connections.lost:,} lost, {connections.new:,} new"
    if not connections.lost and not connections.new:
        changed = "none lost, none new"
    said = f"connections: **{changed}**, {connections.kept:,} kept"
    return f"{said}; layers: {', '.join(layers)}" if layers else said


def _table(headers: Sequence[str], left: int, rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table whose first `left` columns are aligned to the left."""
    rule = [":--" if column < left else "--:" for column in range(len(headers))]
    return [f"| {' | '.join(cells)} |" for cells in (headers, rule, *rows)]


def _figures(found: Difference, before: Side, after: Side) -> str:
    old, new = found.connections.kept + found.connections.lost, found.connections.kept + found.connections.new
    rows = [("connections", f"{old:,}", f"{new:,}", _signed(new - old))]
    rows.append(("density", *_shares(before.density, after.density)))
    if before.effective_density is not None or after.effective_density is not None:
        rows.append(("effective density", *_shares(before.effective_density, after.effective_density)))
    dead = before.dead_units, after.dead_units
    if dead[0] is not None and dead[1] is not None:
        rows.append(("dead units", f"{dead[0]:,}", f"{dead[1]:,}", _signed(dead[1] - dead[0])))
    rows.append(("file", *_bytes(before.file_bytes, after.file_bytes)))
    if before.weights_bytes is not None or after.weights_bytes is not None:
        rows.append(("weights beside it", *_bytes(before.weights_bytes, after.weights_bytes)))
        rows.append(("both", *_bytes(*(side.file_bytes + (side.weights_bytes or 0) for side in (before, after)))))
    return "\n".join(_table(["", "before", "after", "change"], 1, rows))


def _signed(number: int) -> str:
    return f"{number:+,}" if number else "0"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _shares(before: float | None, after: float | None) -> tuple[str, str, str]:
    change = "" if before is None or after is None else f"{100 * (after - before):+.2f} points"
    change = change if change[1:] != "0.00 points" else "0"
    return _percent(before), _percent(after), change


def _bytes(before: int | None, after: int | None) -> tuple[str, str, str]:
    change = ""
    if before and after is not None:
        percent = 100 * (after / before - 1)
        change = _signed(after - before) + (f" ({percent:+.1f} %)" if abs(percent) >= 0.05 else "")
    shown = ["-" if size is None else f"{size:,} bytes" for size in (before, after)]
    return shown[0], shown[1], change


def _both(before: str, after: str) -> str:
    """What was and is, once if it is the same."""
    before, after = (_cut(text, 60) for text in (before, after))
    return before if before == after else f"{before or '-'} → {after or '-'}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _layers(found: Difference, before: Side, after: Side) -> str:
    if not found.layers:
        return ""
    headers = ["layer", "change", "shape", "kept", "lost", "new", "density before", "density after"]
    counts = _counts(found.connections.kept, found.connections.lost, found.connections.new)
    total = ["**all layers**", "", "", *counts, _percent(before.density), _percent(after.density)]
    return _folded("Layers that differ", headers, 3, [_layer(layer) for layer in found.layers], total, _LAYERS)


def _layer(layer: LayerChange) -> list[str]:
    counts = _counts(layer.kept, layer.lost, layer.new)
    shares = [_percent(layer.density_before), _percent(layer.density_after)]
    return [code(layer.name), layer.change, _both(layer.before, layer.after), *counts, *shares]


def _counts(*counts: int | None) -> list[str]:
    return ["-" if count is None else f"{count:,}" for count in counts]


def _parameters(changes: Sequence[ParameterChange]) -> str:
    headers = ["parameter", "change", "type", "kept", "lost", "new"]
    rows = [[code(c.name), c.change, _both(c.before, c.after), *_counts(c.kept, c.lost, c.new)] for c in changes]
    return _folded("Parameters that differ", headers, 3, rows, [], _PARAMETERS, always=True)


def _folded(
    what: str,
    headers: Sequence[str],
    left: int,
    rows: Sequence[Sequence[str]],
    last: Sequence[str],
    budget: int,
    *,
    always: bool = False,
) -> str:
    """A table, folded if it is long or `always`; as many of its rows as the budget of characters allows."""
    if not rows:
        return ""
    lines = _table(headers, left, [])
    used = 0
    shown = 0
    for row in rows:
        line = f"| {' | '.join(row)} |"
        used += len(line) + 1
        if used > budget:
            break
        lines.append(line)
        shown += 1
    if last:
        lines.append(f"| {' | '.join(last)} |")
    if shown < len(rows):
        lines += ["", f"… and {len(rows) - shown:,} more; `deepstruct diff` without `--format markdown` lists all"]
    text = "\n".join(lines)
    return _details(f"{what}: {len(rows):,}", text) if always or len(rows) > _OPEN else text


def _details(summary: str, text: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def _nodes(found: Difference) -> list[str]:
    """Names of nodes, folded where there are many."""
    lists = []
    for kind, names in found.nodes.items():
        if not names:
            continue
        shown: list[str] = []
        used = 0
        for name in names:
            used += len(code(name)) + 2
            if used > _NODES // len(found.nodes):
                break
            shown.append(code(name))
        more = f", … and {len(names) - len(shown):,} more" if len(shown) < len(names) else ""
        lists.append((f"nodes {kind}", len(names), ", ".join(shown) + more))
    if sum(count for _, count, _ in lists) <= _OPEN:
        return [f"{kind.capitalize()}: {names}" for kind, _, names in lists]
    summary = ", ".join(f"{count:,} {kind}" for kind, count, _ in lists)
    return [_details(summary, "\n\n".join(f"{kind}: {names}" for kind, _, names in lists))]


def _notes(*sides: Side) -> list[str]:
    """Why figures are missing, each reason once."""
    reasons = dict.fromkeys(side.note for side in sides if side.note)
    return [f"Effective density is not known: {code(reason, 300)}" for reason in reasons]

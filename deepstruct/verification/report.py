"""What a person reads of a certificate: the verdict first, then where the difference is, then one line a tier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deepstruct.verification.certificate import Certificate, FirstDifference

TITLES = {"equivalent": "equivalent", "different": "different", "not certifiable": "cannot be certified"}
_SAYS = {
    "equivalent": "hold the same network",
    "different": "do not hold the same network",
    "not certifiable": "could not be shown to hold the same network",
}
_MOST_REASONS = 5


def text(certificate: Certificate) -> str:
    """The certificate in words."""
    return "\n".join(_lines(certificate))


def _lines(certificate: Certificate) -> Iterator[str]:
    a, b = certificate.a.name, certificate.b.name
    yield f"{TITLES[certificate.verdict]}: {a} and {b} {_SAYS[certificate.verdict]}"
    first = certificate.first_difference
    if first is not None:
        yield ""
        yield from _difference(first)
    reasons = certificate.reasons
    if reasons and (first is None or len(reasons) > 1 or certificate.verdict != "different"):
        yield ""
        yield from (f"- {reason}" for reason in reasons[:_MOST_REASONS])
        if len(reasons) > _MOST_REASONS:
            yield f"- and {len(reasons) - _MOST_REASONS} more"
    if certificate.tiers:
        yield ""
        yield from (f"{name:<9} {_tier(name, tier)}" for name, tier in certificate.tiers.items())


def _difference(first: FirstDifference) -> Iterator[str]:
    nodes = " and ".join(dict.fromkeys(repr(name) for name in (first.a, first.b) if name))
    where = f"in {nodes} ({first.operator})" if nodes else ""
    what = f"{first.parameter}: {first.message}" if first.parameter else first.message
    yield f"first difference {where}".rstrip() + f": {what}"
    for connection in first.connections:
        index = ", ".join(map(str, connection["index"]))
        before, after = (connection[side] or "absent" for side in ("a", "b"))
        yield f"  {first.parameter}[{index}]  {before} -> {after}"
    more = first.differing - len(first.connections)
    if first.connections and more > 0:
        yield f"  and {more:,} more"


def _tier(name: str, tier: Mapping[str, Any]) -> str:
    verdict = tier["verdict"]
    if verdict == "not run":
        return f"not run: {tier['reason']}" if tier.get("reason") else "not run"
    return f"{verdict}: {_DETAILS[name](tier)}"


def _identity(tier: Mapping[str, Any]) -> str:
    notes = "".join(f"; {note}" for note in tier["notes"])
    if tier["verdict"] == "passed":
        kept = f"{tier['kept']:,} of {tier['entries']:,} entries exist"
        what = "masks" if tier["masks_only"] else "masks and bits"
        return f"{_count(tier['tensors'], 'tensor')} with the same {what}, {kept}{notes}"
    parts = [] if tier["verdict"] == "failed" else [f"{_count(tier['tensors'], 'tensor')} the same"]
    if tier["differences"]:
        parts.append(f"{len(tier['differences'])} of {_count(tier['tensors'], 'tensor')} differ")
    if tier["graph"]:
        parts.append(f"{_count(len(tier['graph']), 'difference')} between the graphs")
    return ", ".join(parts) + notes


def _wiring(tier: Mapping[str, Any]) -> str:
    if tier["verdict"] == "failed":
        return f"{len(tier['failures'])} of {_count(tier['computed'], 'operation')} give other integers"
    first, second = (" and ".join(names) or "no runtime" for names in tier["runtimes"])
    done = f"{_count(tier['computed'], 'operation')} bitwise the same on integers in {first} and {second}"
    return done + (f", {tier['passed_on']} passed on" if tier["passed_on"] else "")


def _numerics(tier: Mapping[str, Any]) -> str:
    layers = tier["layers"]
    counts = {finding: sum(layer["finding"] == finding for layer in layers) for finding in _FINDINGS}
    found = ", ".join(f"{count} {_FINDINGS[finding]}" for finding, count in counts.items() if count)
    informative = [layer for layer in layers if layer["finding"] == "within"]
    ratios = [
        (max((r for side, r in layer["ratio"].items() if side != "reference"), default=0), layer["a"])
        for layer in informative
    ]
    worst = max(ratios, default=None)
    return found + (f"; largest error {worst[0]:.2g} of its bound, in {worst[1]!r}" if worst else "")


_FINDINGS = {
    "exact": "exact",
    "within": "within the rounding bound",
    "uninformative": "without a bound that says something",
    "outside": "outside of the bound",
}


def _outputs(tier: Mapping[str, Any]) -> str:
    return str("; ".join(tier["faults"]) if tier["verdict"] == "failed" else tier["summary"])


_DETAILS = {"identity": _identity, "wiring": _wiring, "numerics": _numerics, "outputs": _outputs}


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")

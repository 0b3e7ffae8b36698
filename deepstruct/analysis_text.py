"""What `deepstruct analyze` prints: an analysis as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tabulate import tabulate

from deepstruct.analysis import Analysis, LayerReport, Whole
from deepstruct.degrees import Assortativity, Degrees, Distribution
from deepstruct.distances import Distances, Lengths

Row = tuple[str, str]

_UNITS = {0: "units are single neurons", 1: "units are channels", None: "units are as given"}


def text(found: Analysis) -> str:
    """The whole report."""
    parts = [_layers(found), _whole(found)]
    parts += [table for table in (_measured_layers(found), _measures(found)) if table]
    parts += [f"{name} is missing: {reason}" for name, reason in found.omitted.items()]
    return "\n\n".join(parts)


def _table(rows: Iterable[Iterable[str]], headers: list[str], left: int = 1) -> str:
    align = ["left"] * left + ["right"] * (len(headers) - left)
    return tabulate(rows, headers, tablefmt="github", colalign=align, disable_numparse=True)


def _layers(found: Analysis) -> str:
    headers = ["layer", "operator", "units", "dead", "connections", "live", "density", "effective density"]
    rows = [[layer.name, layer.operator, *_counts(layer)] for layer in found.layers]
    return _table([*rows, ["total", "", *_counts(found.whole)]], headers, left=2)


def _counts(part: LayerReport | Whole) -> list[str]:
    density, effective = (
        (None, None) if part.density is None else (part.density.density, part.density.effective_density)
    )
    return [
        f"{part.units:,}",
        f"{part.dead:,}",
        f"{part.connections:,}",
        f"{part.live_connections:,}",
        _percent(density),
        _percent(effective),
    ]


def _whole(found: Analysis) -> str:
    whole = found.whole
    lines = [
        f"order {found.order}: {_UNITS[found.order]}" if found.order is not None else _UNITS[None],
        f"dead units: {whole.dead:,} ({whole.unreached:,} not reached from an input, {whole.unused:,} reach no output)",
        f"dead inputs: {whole.dead_inputs:,}; dead outputs: {whole.dead_outputs:,}",
        f"collapsed layers: {', '.join(whole.collapsed) or 'none'}",
    ]
    constant = [layer.name for layer in found.layers if layer.constant]
    if constant:
        lines.append(f"constant layers: {', '.join(constant)}")
    if whole.recurrent:
        lines.append(
            f"recurrent connections: {whole.recurrent:,}; paths, distances, motifs and spectra of layers leave them out"
        )
    return "\n".join(lines)


def _measured_layers(found: Analysis) -> str:
    """A table of what was measured layer by layer, empty if nothing was."""
    columns: dict[str, Mapping[str, str]] = {}
    measures = found.measures
    if "degrees" in measures:
        own = measures["degrees"].layers
        columns["in-degree"] = {layer.name: _range(layer.incoming) for layer in own}
        columns["out-degree"] = {layer.name: _range(layer.outgoing) for layer in own}
    if "butterflies" in measures:
        counts = measures["butterflies"].layers
        columns["butterflies"] = {layer.name: f"{layer.butterflies:,}" for layer in counts}
        columns["clustering"] = {layer.name: _number(layer.clustering) for layer in counts}
    if "spectrum" in measures:
        spectra = measures["spectrum"].layers
        columns["first singular value"] = {layer.name: _number(layer.first) for layer in spectra}
        columns["second"] = {layer.name: _number(layer.second) for layer in spectra}
        columns["Ramanujan gap"] = {layer.name: _number(layer.ramanujan_gap) for layer in spectra}
    if not columns:
        return ""
    rows = [[layer.name, *(column.get(layer.name, "-") for column in columns.values())] for layer in found.layers]
    return _table(rows, ["layer", *columns])


def _measures(found: Analysis) -> str:
    """A table of what was measured of the whole, empty if nothing was."""
    rows = [row for name, measure in found.measures.items() for row in _ROWS[name](measure)]
    return _table(rows, ["measure", "whole network"]) if rows else ""


def _of_degrees(measure: Degrees) -> list[Row]:
    return [
        (f"{name} (least, mean, most)", _range(part))
        for name, part in (("in-degree", measure.incoming), ("out-degree", measure.outgoing))
    ] + [
        (f"{name}, Gini coefficient", _number(None if part is None else part.gini))
        for name, part in (("in-degree", measure.incoming), ("out-degree", measure.outgoing))
    ]


def _of_assortativity(measure: Assortativity) -> list[Row]:
    names = ("out_in", "out_out", "in_in", "in_out")
    return [(f"assortativity {name.replace('_', '-')}", _number(getattr(measure, name))) for name in names]


def _of_paths(measure: Any) -> list[Row]:
    number = f"{measure.count:,}" if measure.count is not None else f"10^{measure.log10_count:.2f}"
    return [
        ("paths from an input to an output", number),
        ("shortest such path", _number(measure.shortest)),
        ("longest such path (depth)", _number(measure.longest)),
        ("mean over outputs of the shortest", _number(measure.mean_shortest)),
    ]


def _of_components(measure: Any) -> list[Row]:
    return [
        (f"components{of}", f"{part.number:,}; {_percent(part.share)} of units in the largest")
        for of, part in (("", measure.units), (" of the live part", measure.live))
    ]


def _of_cores(measure: Any) -> list[Row]:
    return [("largest k-core", f"k = {_number(measure.largest)}; {measure.units:,} units")]


def _of_distances(measure: Distances) -> list[Row]:
    def described(part: Lengths) -> str:
        sample = "" if part.exact else f"; {part.sources:,} random sources, seed {measure.seed}"
        return f"{_number(part.mean)}{sample}"

    return [
        ("mean distance from inputs to outputs", described(measure.input_output)),
        ("mean distance along connections", described(measure.directed)),
        ("mean distance in any direction", described(measure.undirected)),
        ("global efficiency in any direction", _number(measure.undirected.efficiency)),
    ]


def _of_butterflies(measure: Any) -> list[Row]:
    whole = measure.whole
    return [("butterflies", f"{whole.butterflies:,}"), ("butterfly clustering", _number(whole.clustering))]


def _of_triangles(measure: Any) -> list[Row]:
    reason = "" if measure.skips else "; none can be, no connection skips a layer"
    return [("triangles", f"{measure.triangles:,}{reason}"), ("transitivity", _number(measure.transitivity))]


def _of_spectrum(measure: Any) -> list[Row]:
    return [("gap of the normalised Laplacian", _number(measure.laplacian_gap))]


def _of_small_world(measure: Any) -> list[Row]:
    return [
        (
            "clustering, and of random networks",
            f"{_number(measure.clustering)}, {_number(measure.reference_clustering)}",
        ),
        (
            "path length, and of random networks",
            f"{_number(measure.path_length)}, {_number(measure.reference_path_length)}",
        ),
        (f"small-world sigma, {measure.references} networks, seed {measure.seed}", _number(measure.sigma)),
    ]


_ROWS: Mapping[str, Any] = {
    "degrees": _of_degrees,
    "assortativity": _of_assortativity,
    "paths": _of_paths,
    "components": _of_components,
    "cores": _of_cores,
    "distances": _of_distances,
    "butterflies": _of_butterflies,
    "triangles": _of_triangles,
    "spectrum": _of_spectrum,
    "small-world": _of_small_world,
}


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _range(distribution: Distribution | None) -> str:
    if distribution is None:
        return "-"
    return f"{distribution.minimum:,} / {distribution.mean:.4g} / {distribution.maximum:,}"

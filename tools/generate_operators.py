"""Write `schemas/onnx-operators.json`: arity and attribute types of every ONNX operator version.

Run it after raising the `onnx` package; `--check` compares instead of writing and exits 1 on a difference.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import generated
import onnx.defs

TARGET = Path(__file__).resolve().parent.parent / "schemas" / "onnx-operators.json"


def table() -> dict[str, Any]:
    """The table, domain -> operator -> versions, oldest first."""
    domains: dict[str, dict[str, list[dict[str, Any]]]] = {}
    schemas = onnx.defs.get_all_schemas_with_history()
    for schema in sorted(schemas, key=lambda s: (s.domain, s.name, s.since_version)):
        if schema.domain == "ai.onnx.preview.training":
            continue
        version: dict[str, Any] = {
            "since": schema.since_version,
            "inputs": [schema.min_input, schema.max_input],
            "outputs": [schema.min_output, schema.max_output],
        }
        for side, least in (("inputs", schema.min_input), ("outputs", schema.min_output)):
            formals = getattr(schema, side)[:least]
            optional = [i for i, formal in enumerate(formals) if formal.option == formal.option.Optional]
            if optional:
                version[f"optional_{side}"] = optional
        if schema.attributes:
            version["attributes"] = {name: attribute(a) for name, a in sorted(schema.attributes.items())}
        if schema.deprecated:
            version["deprecated"] = True
        domains.setdefault(schema.domain, {}).setdefault(schema.name, []).append(version)
    newest = {domain: max(v[-1]["since"] for v in ops.values()) for domain, ops in domains.items()}
    newest[""] = onnx.defs.onnx_opset_version()
    return {"newest": newest, "domains": domains}


def attribute(schema: onnx.defs.OpSchema.Attribute) -> str:
    """Type of an attribute as AttributeProto names it, with a ``!`` if it is required."""
    kind = str(schema.type).rpartition(".")[2]
    return kind + ("!" if schema.required else "")


def text() -> str:
    """The file's content: one operator version a line, so that a diff reads well."""
    content = table()
    lines = ["{", f'"newest": {json.dumps(content["newest"], sort_keys=True)},', '"domains": {']
    domains = sorted(content["domains"].items())
    for position, (domain, operators) in enumerate(domains):
        lines.append(f"{json.dumps(domain)}: {{")
        rows = [
            f"{json.dumps(name)}: [\n " + ",\n ".join(json.dumps(v, separators=(",", ":")) for v in versions) + "]"
            for name, versions in sorted(operators.items())
        ]
        lines.append(",\n".join(rows))
        lines.append("}," if position + 1 < len(domains) else "}")
    return "\n".join([*lines, "}}", ""])


if __name__ == "__main__":
    sys.exit(generated.main(__doc__, {TARGET: text}))

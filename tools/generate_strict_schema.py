"""Write the strict twin of a schema: the same rules, but no members that the schema does not name.

The twin is what our own writer's output must meet. `--check` compares instead of writing and exits 1 on a
difference.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import generated

FOLDER = Path(__file__).resolve().parent.parent / "schemas"
_FREE = {"extensions", "attributes"}  # user data and extensions stay open in the twin


def close(schema: Any) -> Any:
    """`schema` with every object closed to members it does not name; conditions are left as they are."""
    if isinstance(schema, list):
        return [close(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {
        key: value if key in ("if", "then", "else", "allOf", *_FREE) else close(value) for key, value in schema.items()
    }
    if schema.get("type") == "object" and "properties" in schema:
        closed["additionalProperties"] = False
    return closed


def strict_text(version: str) -> str:
    """Text of the strict twin of a version."""
    schema = close(json.loads((FOLDER / f"structure-{version}.json").read_text(encoding="utf-8")))
    schema["$id"] += "-strict"
    schema["title"] += " (strict)"
    schema["description"] = "What writers of this version emit: no members other than those named here."
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Write or check the twins of all versions."""
    versions = [path.stem.removeprefix("structure-") for path in sorted(FOLDER.glob("structure-*[0-9].json"))]
    twins = {FOLDER / f"structure-{version}-strict.json": partial(strict_text, version) for version in versions}
    return generated.main(__doc__, twins)


if __name__ == "__main__":
    sys.exit(main())

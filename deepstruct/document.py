"""Structure <-> the plain JSON value of a document of the current version (`docs/format.md`).

Files, JSON text and weights are elsewhere: `jsonprofile`, `converters/json` and `sidecar`.
"""

from __future__ import annotations

from deepstruct.document_reading import Reading, check_head, examine, from_json
from deepstruct.document_writing import FORMAT, SCHEMA_URN, WeightsReference, digest, to_json, unplaced

__all__ = [
    "FORMAT",
    "SCHEMA_URN",
    "Reading",
    "WeightsReference",
    "check_head",
    "digest",
    "examine",
    "from_json",
    "to_json",
    "unplaced",
]

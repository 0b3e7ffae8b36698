"""Verification: are two files the same network? The evidence, as data.

`alignment` finds what corresponds to what, `identity`, `wiring`, `numerics` and `outputs` are the four tiers, and
`certificate` is what they come to. `docs/verification.md` says what each tier proves.
"""

from __future__ import annotations

"""Validation: everything that is wrong with a document, each fault with its code, place and what to do.

`validate` looks at one file, `codes` says what each code means, `selection` what a caller wants to hear of, `report`
holds what was found; `text`, `github`, `github_summary`, `sarif`, `gitlab` and `junit` are the forms in which it is
shown, of which `findings` and `logs` have what they share.
"""

from __future__ import annotations

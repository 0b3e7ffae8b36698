"""Certificate: what a verification comes to, as data that a schema describes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import jsonschema_rs
import rfc8785

from deepstruct import files, schemas
from deepstruct.errors import MalformedFileError

VERSION = "1.0.0"
FORMAT = "deepstruct-certificate"

Verdict = Literal["equivalent", "different", "not certifiable"]
EXIT_CODES: dict[Verdict, int] = {"equivalent": 0, "different": 1, "not certifiable": 4}


@dataclass(frozen=True, slots=True)
class FileDigest:
    """One file of a model.

    Attributes:
        name: without its folder.
        bytes: its size.
        sha256: of its content, hexadecimal.
    """

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Subject:
    """One of the two models.

    Attributes:
        format: name of the format.
        files: the file itself, then those that it refers to.
        structure: digest of the structure, as `docs/format.md` section "Digests" defines it; ``""`` if it was not read.
    """

    format: str
    files: tuple[FileDigest, ...]
    structure: str = ""

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.files[0].name


@dataclass(frozen=True, slots=True)
class FirstDifference:
    """Where the two begin to differ, in the order of computation.

    Attributes:
        tier: that found it.
        a: node in the first structure, ``""`` if it has no counterpart there.
        b: node in the second.
        operator: of the node.
        parameter: that differs, ``""`` if it is not a parameter that does.
        message: one sentence.
        connections: entries that differ, at most ten: index in the first structure's orientation, and both numbers.
        differing: how many there are.
    """

    tier: str
    a: str
    b: str
    operator: str
    message: str
    parameter: str = ""
    connections: tuple[Mapping[str, Any], ...] = ()
    differing: int = 0


@dataclass(frozen=True)
class Certificate:
    """The evidence that two files hold the same network, or that they do not.

    Attributes:
        verdict: what the tiers come to.
        reasons: sentences; empty for an equivalence without reservations.
        a: the first file.
        b: the second.
        options: seed and what else was asked for.
        versions: of deepstruct and of the runtimes.
        tiers: tier -> its verdict and figures, as JSON objects; see `docs/verification.md`.
        first_difference: where the two begin to differ.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    a: Subject
    b: Subject
    options: Mapping[str, Any]
    versions: Mapping[str, str]
    tiers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    first_difference: FirstDifference | None = None

    @property
    def exit_code(self) -> int:
        """Of the command that issues it: 0, 1 or 4."""
        return EXIT_CODES[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """The certificate as a JSON object, with a digest of all other members (RFC 8785, SHA-256)."""
        members = {"format": FORMAT, "certificate_version": VERSION, **asdict(self)}
        text = json.dumps(members, ensure_ascii=False, allow_nan=False)
        content: dict[str, Any] = json.loads(text.encode("utf-8", "replace"))  # names of files may be no text
        return {**content, "digest": _digest(content)}

    def save(self, path: Path) -> None:
        """Writes the certificate to a file, which is replaced if it exists.

        Raises:
            WriteError: the operating system does not let us.
        """
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        with files.writing(path), files.Targets(overwrite=True) as targets:
            targets.open(path).write(text.encode())


def load(path: Path) -> dict[str, Any]:
    """The content of a certificate file, which is valid and has its own digest.

    Raises:
        MalformedFileError: it is no certificate, or was changed since it was written.
        UnreadableFileError: the operating system does not let us read it.
    """
    from deepstruct.errors import FaultyError
    from deepstruct.jsonprofile import read
    from deepstruct.limits import Limits

    try:
        content = read(path, Limits.from_environment())
    except FaultyError as error:
        raise MalformedFileError(str(path), f"no certificate: {error.faults[0]}") from error
    faults = jsonschema_rs.Draft202012Validator(schema()).iter_errors(content)
    first = min(faults, key=lambda fault: list(map(str, fault.instance_path)), default=None)
    if first is not None:
        place = "/" + "/".join(map(str, first.instance_path))
        raise MalformedFileError(str(path), f"no certificate: {place}: {first.message[:200]}")
    certificate: dict[str, Any] = content
    kept = {key: value for key, value in certificate.items() if key != "digest"}
    if _digest(kept) != certificate["digest"]:
        raise MalformedFileError(
            str(path), "the certificate was changed after it was issued: its digest is another one"
        )
    return certificate


def schema() -> dict[str, Any]:
    """JSON Schema of the certificate."""
    found: dict[str, Any] = json.loads(schemas.text(f"certificate-{VERSION}.json"))
    return found


def _digest(content: Mapping[str, Any]) -> str:
    return f"sha256:{hashlib.sha256(rfc8785.dumps(dict(content))).hexdigest()}"

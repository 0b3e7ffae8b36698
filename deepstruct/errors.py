"""Every error deepstruct raises: facts as attributes, the sentence as text, one exit code per kind."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from deepstruct.printable import printable

if TYPE_CHECKING:
    from deepstruct.verification.certificate import Certificate

Severity = Literal["error", "warning", "info", "hint"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong at one place.

    Attributes:
        code: stable upper-case name of the rule, for example ``MASK_SIZE``.
        pointer: JSON pointer (RFC 6901) into the document; hub objects use the pointers of the document
            they would be written to.
        message: one sentence that says what is wrong and what to do.
        severity: ``error`` makes the object unusable; nothing else does.
        line: in the JSON text, from 1; None where no text is known.
        column: in that line, from 1, in characters (Unicode code points).
    """

    code: str
    pointer: str
    message: str
    severity: Severity = "error"
    line: int | None = None
    column: int | None = None

    def under(self, prefix: str) -> Fault:
        """The same fault seen from an enclosing object at `prefix`."""
        return replace(self, pointer=prefix + self.pointer)

    def __str__(self) -> str:
        place = self.pointer or ("/" if self.line is None else f"line {self.line} column {self.column}")
        return printable(f"{place}: {self.message} [{self.code}]")


def pointer(*parts: str | int) -> str:
    """JSON pointer made of `parts`, escaped as RFC 6901 section 3 asks."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


MOST_FAULTS = 10_000
MOST_CHARACTERS = 1 << 24
"""Faults of one file that are kept, and characters in them, so that their number does not use up the memory."""

TOO_MANY = Fault("LIMIT_EXCEEDED", "", "there are too many faults; nothing behind these was looked at")
"""The last fault that is kept where there are more."""

_LONGEST_NAME = 100
"""Characters of a name up to which others are compared with it; the time grows with their square."""


def bounded(faults: Iterable[Fault]) -> Iterator[Fault]:
    """The faults, as many as are kept of one file; if there are more, the last one says so."""
    characters = 0
    for number, fault in enumerate(faults):
        characters += len(fault.pointer) + len(fault.message)
        if number >= MOST_FAULTS or characters > MOST_CHARACTERS:
            yield TOO_MANY
            return
        yield fault


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for a name that looks like one of the first thousand known ones, else nothing."""
    if len(name) > _LONGEST_NAME:
        return ""
    candidates = [other for other in itertools.islice(known, 1_000) if len(other) <= _LONGEST_NAME]
    close = difflib.get_close_matches(name, candidates, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


class DeepstructWarning(UserWarning):
    """Root of all warnings of this package."""


class DocumentWarning(DeepstructWarning):
    """A document holds something that this version keeps but does not understand."""


class LossWarning(DeepstructWarning):
    """A file holds something that a Model cannot, and nobody asked for the list of losses."""


class DeepstructError(Exception):
    """Root of all errors of this package."""

    exit_code: ClassVar[int] = 70


class UsageError(DeepstructError):
    """The request itself cannot be carried out as asked."""

    exit_code = 2


class FaultyError(DeepstructError, ValueError):
    """Something is invalid; `faults` has every fault that was found, each with its place."""

    exit_code = 3

    def __init__(self, subject: str, faults: Iterable[Fault]) -> None:
        self.subject = subject
        self.faults = tuple(faults)
        super().__init__(subject, self.faults)

    def __str__(self) -> str:
        shown = [f"  {fault}" for fault in self.faults[:20]]
        if len(self.faults) > len(shown):
            shown.append(f"  ... and {len(self.faults) - len(shown)} more")
        return "\n".join([f"{printable(self.subject)}:", *shown])


class StructureError(FaultyError):
    """A hub object would be invalid, so it was not constructed."""


class DocumentError(FaultyError):
    """A document breaks a rule of `docs/format.md`."""


class FileError(DeepstructError):
    """Something about one file; `path` names it, `reason` says what."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(path, reason)

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.reason}"


class MalformedFileError(FileError, ValueError):
    """A file cannot be understood: truncated, of another kind, or inconsistent."""

    exit_code = 3


class UnreadableFileError(MalformedFileError, OSError):
    """The operating system does not let us read a file."""


class UnsupportedError(DeepstructError):
    """The input is fine, but this package cannot do that with it."""

    exit_code = 4


class LossError(DeepstructError):
    """A conversion would lose something and was told not to; `losses` says what."""

    exit_code = 5

    def __init__(self, losses: Iterable[object]) -> None:
        self.losses = tuple(losses)
        super().__init__(self.losses)

    def __str__(self) -> str:
        lines = "\n".join(f"  {loss}" for loss in self.losses)
        return f"the target cannot carry everything and --fail-on-loss was given:\n{lines}"


class VerificationError(FileError):
    """What was to be written does not hold the network of its source; `certificate` has the evidence."""

    exit_code = 1

    def __init__(self, path: str, certificate: Certificate) -> None:
        self.certificate = certificate
        super().__init__(path, f"not written: {_finding(certificate)}")


class NotCertifiedError(VerificationError):
    """Whether what was to be written holds the network of its source cannot be told."""

    exit_code = 4


def _finding(certificate: Certificate) -> str:
    first = certificate.first_difference
    place = f"; first difference in {first.a or first.b!r}: {first.message}" if first is not None else ""
    reasons = "; ".join(certificate.reasons[:3])
    words = {"different": "it would not hold the network of its source"}
    return f"{words.get(certificate.verdict, 'it cannot be certified')}: {reasons}{place}"


class MissingDependencyError(DeepstructError, ImportError):
    """A format needs a package that is not installed."""

    exit_code = 6

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed: run  pip install 'deepstruct[{extra}]'"
        )

    def __str__(self) -> str:
        return str(self.args[0])


class WriteError(FileError, OSError):
    """An output could not be written; whatever was there before is untouched."""

    exit_code = 7

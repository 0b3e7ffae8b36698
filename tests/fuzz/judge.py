"""The judge of a document in a folder: what validation, loading, formatting and textconv must do with any content."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import deepstruct
from deepstruct import jsonprofile
from deepstruct.errors import DeepstructError, Fault, UnsupportedError, UsageError
from deepstruct.limits import Limits, variable
from deepstruct.rewriting import format_text
from deepstruct.textconv import textconv
from deepstruct.validation import budget_file, github, github_summary, gitlab, junit, report, sarif, text
from deepstruct.validation.codes import table
from deepstruct.validation.report import FileReport
from deepstruct.validation.selection import Selection
from deepstruct.validation.validate import validate
from fuzz.seeds import BUDGET, DOCUMENT

SMALL = Limits(document_bytes=20_000, depth=12, values=2_000, mask_elements=200, total_mask_elements=500)
"""Limits of the second mode, which seeds do not all keep."""

Step = Callable[[str], None]
"""Is told the name of each step before it begins."""

_SHOWN = 1_000


class DisagreementError(Exception):
    """Two ways to look at a document say different things, or a report says what cannot be."""


def judge(folder: Path, limits: Limits, step: Step, *, brief: bool = False) -> None:
    """Looks at the document in a folder in every way that there is, or, if `brief`, validates and loads it only.

    Raises:
        DisagreementError: what was found contradicts itself.
        Exception: any other is a crash.
    """
    path = folder / DOCUMENT
    content = path.read_bytes()
    with _limited(limits), warnings.catch_warnings(), _confined(folder):
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", deepstruct.errors.DeepstructWarning)
        step("validate")
        found = validate(path, selection=Selection(most=0), limits=limits)
        _check_report(found, content)
        _demand(found.facts is not None or not found.valid, "a valid document has no facts")
        step("strict")
        strict = validate(path, weights=None, selection=Selection(strict=True, most=10), limits=limits)
        _check_report(strict, content)
        _check_budget(folder, limits, step)
        step("load")
        _check_loading(path, found)
        if brief:
            return
        step("textconv")
        for piece in textconv(path):
            _demand(isinstance(piece, bytes), "textconv gave something else than bytes")
        step("format")
        formatted = _formatted(content, found, limits)
        if formatted is not None:
            step("format again")
            _demand(format_text(formatted, limits=limits) == formatted, "format is not idempotent")
            step("compare")
            before, after = (_canonical(jsonprofile.parse(version, limits)) for version in (content, formatted))
            _demand(before == after, "format changes what a document says")
        step("render")
        few = FileReport(found.path, found.faults[:_SHOWN], found.left_out, found.facts)
        _check_forms(few)


def _demand(holds: bool, message: str) -> None:
    if not holds:
        raise DisagreementError(message)


@contextmanager
def _limited(limits: Limits) -> Iterator[None]:
    """The limits as the environment of the process, from which loading takes them."""
    names = {variable(name): str(getattr(limits, name)) for name in limits.__slots__}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_allowed: list[str] = []
"""Folders in which files may be opened now; any, if there are none."""

_FORBIDDEN = ("socket.", "subprocess.", "os.exec", "os.system", "os.posix_spawn", "os.fork", "shutil.", "os.remove")


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _allowed:
        return
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        place = os.path.realpath(os.fsdecode(arguments[0]))
        if not any(place.startswith(folder) for folder in _allowed):
            raise DisagreementError(f"a file outside of the folder was opened: {place}")
    if event.startswith(_FORBIDDEN):
        raise DisagreementError(f"{event} was done because of a document")


@contextmanager
def _confined(folder: Path) -> Iterator[None]:
    """No file is opened but those of the folder and of Python with its packages, no process or connection started."""
    if _audit not in _hooked:
        sys.addaudithook(_audit)
        _hooked.append(_audit)
    package = Path(deepstruct.__file__).parent
    modules = (sys.prefix, sys.base_prefix, package, package / "schemas", package / "converters")
    _allowed[:] = [os.path.realpath(folder) + os.sep, *(os.path.realpath(place) + os.sep for place in modules)]
    try:
        yield
    finally:
        _allowed.clear()


_hooked: list[Callable[..., None]] = []


def _check_report(found: FileReport, content: bytes) -> None:
    lines = content.decode("utf-8", "replace").split("\n")
    for fault in found.faults:
        _demand(fault.code in table(), f"{fault.code} is not in the table of codes")
        if fault.line is None or fault.column is None:
            _demand((fault.code, fault.pointer) == ("LIMIT_EXCEEDED", ""), f"{fault.code} has no place")
        else:
            inside = 1 <= fault.line <= len(lines) and 1 <= fault.column <= len(lines[fault.line - 1]) + 1
            _demand(inside, f"{fault.code} at {fault.line}:{fault.column} is outside of the text")
    _demand(found.facts is None or found.valid, "a document with errors has facts")


def _check_budget(folder: Path, limits: Limits, step: Step) -> None:
    if (folder / BUDGET).exists():
        step("budget")
        try:
            budget = budget_file.read(folder / BUDGET)
        except UsageError:
            return
        validate(folder / DOCUMENT, budget=budget, limits=limits)


def _check_loading(path: Path, found: FileReport) -> None:
    try:
        model = deepstruct.load(path, format="json")
    except DeepstructError as error:
        _demand(not found.valid, f"load refuses what validate finds valid: {error!s:.300}")
    else:
        first = next((str(fault) for fault in found.faults if fault.severity == "error"), "")
        _demand(found.valid, f"load reads what validate refuses: {first:.300}")
        for name in model.weights or ():
            if model.weights is not None:
                model.weights.kept(name)


def _formatted(content: bytes, found: FileReport, limits: Limits) -> bytes | None:
    """The canonical text of a document, None if there is none."""
    sound = all(fault.severity != "error" or _of_weights(fault) for fault in found.faults)
    try:
        formatted = format_text(content, limits=limits)
    except UnsupportedError:
        return None
    except DeepstructError as error:
        _demand(not sound, f"format refuses what validate finds valid: {error!s:.300}")
        return None
    _demand(sound, "format reads what validate refuses")
    return formatted


def _canonical(value: Any) -> str:
    """What is the same for two JSON values only if all their numbers have the same types and the same bits."""
    return json.dumps(value, sort_keys=True)


def _of_weights(fault: Fault) -> bool:
    return table()[fault.code].kind == "weights" or (fault.code, fault.pointer) == (
        "DIGEST_MISMATCH",
        "/weights/digest",
    )


def _check_forms(found: FileReport) -> None:
    forms: Mapping[str, str] = {
        "text": "".join(f"{line}\n" for line in (*text.lines(found), text.verdict(found), text.total([found]))),
        "json": json.dumps(report.to_json([found]), allow_nan=False),
        "github": github.render([found], {}),
        "summary": github_summary.summary([found], {}),
        "sarif": sarif.render([found], {}),
        "gitlab": gitlab.render([found], {}),
        "junit": junit.render([found], {}),
    }
    for name, made in forms.items():
        made.encode("utf-8")
        _demand(all(line.isprintable() for line in made.split("\n")), f"{name} has characters that are not seen")
    commands = [line for name in ("text", "github") for line in forms[name].split("\n") if _COMMAND.search(line)]
    _demand(all(_OURS.match(line) for line in commands), "a document gives commands to the system that runs it")
    for name in ("json", "sarif", "gitlab"):
        json.loads(forms[name])
    ElementTree.fromstring(forms["junit"])


_COMMAND = re.compile(r"^\s*::|##\[|##vso\[")
_OURS = re.compile(r"::(error|warning|notice) [^:]*title=deepstruct [A-Z_]+::(?!.*##)")


def claimed(content: bytes, limits: Limits) -> int:
    """Bytes that the masks of a document take at most, one bit an entry, as far as limits allow them."""
    try:
        parameters = json.loads(content)["parameters"].values()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return 0
    shapes = (item["shape"] for item in parameters if isinstance(item, dict) and "mask" in item and "shape" in item)
    sizes = [math.prod(shape) for shape in shapes if isinstance(shape, list) and {*map(type, shape)} <= {int}]
    return min(sum(size for size in sizes if 0 < size <= limits.mask_elements), limits.total_mask_elements) // 8

"""The conformance suite of converters: a class of tests to subclass, one for each format."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import deepstruct
from deepstruct import formats
from deepstruct.errors import DeepstructError, DeepstructWarning, LossError, UnsupportedError, UsageError
from deepstruct.files import Targets
from deepstruct.formats import Feature, Format, ReadOptions, WriteOptions
from deepstruct.io import Report
from deepstruct.losses import Loss
from deepstruct.model import Model
from deepstruct.structure import Structure
from deepstruct.testing import hostile, interruptions
from deepstruct.testing.differences import differences
from deepstruct.testing.models import chains, models
from deepstruct.testing.numbers import numbers, tame, with_weights
from deepstruct.testing.quirks import QUIRKS
from deepstruct.testing.reduction import reduced, without_extras
from deepstruct.testing.samples import SAMPLES
from deepstruct.testing.structures import FLOATS, structures

_STEM = "mödel 1 #%20"  # of file names, which are no part of a URL


class ConverterSuite:
    """Tests of one format: what its row in the table of formats claims is true, and no file makes its reader crash.

    Subclass it under a name that pytest collects, and name the format. What the row says is carried must come back
    exactly, with all bits of all numbers; what is not must be told. Other attributes are for formats that need them.

    Attributes:
        format_name: name of the format.
        reading: options that reading needs, for example the number of inputs of a graph.
        writing: options to write with.
        needs_weights: whether a structure without numbers is refused.
        may_refuse: whether structures beyond `SAMPLES` and feed-forward networks may be refused with an
            UnsupportedError.
        operators: of random structures, see `deepstruct.testing.structures`; all if None.
        dtypes: of parameters that it holds. Structures with others may be refused.
        exit_codes: of the errors that refuse files: 3 if they cannot be understood, 4 if it is not supported.
        max_examples: how many random models each property is tried with.
    """

    format_name: ClassVar[str]
    reading: ClassVar[Mapping[str, Any]] = {}
    writing: ClassVar[Mapping[str, Any]] = {}
    needs_weights: ClassVar[bool] = False
    may_refuse: ClassVar[bool] = False
    operators: ClassVar[Collection[str] | None] = None
    dtypes: ClassVar[Collection[str]] = (*FLOATS, "bool", "int8", "uint8", "int64")
    exit_codes: ClassVar[Collection[int]] = (3, 4)
    max_examples: ClassVar[int] = 40

    @property
    def row(self) -> Format:
        """The format's row of the table."""
        return formats.by_name(self.format_name)

    def carried(self, model: Model) -> Model | None:
        """What of a model comes back, or None if nothing that can be compared; what the row says, unless overridden."""
        return reduced(model, self.row.carries)

    def differences(self, expected: Model, found: Model) -> list[str]:
        """Sentences that say how what was read is not what was written; every difference counts, unless overridden."""
        return differences(expected, found)

    def test_its_row_is_sane(self) -> None:
        """Names, suffixes and options are such that people can use them, and the converter has what the row says."""
        row = self.row
        assert row.name == row.name.lower().strip(), "the name is for the command line: lower case, no white space"
        assert row.name.replace("-", "").isalnum(), "the name is for the command line: letters, digits and hyphens"
        assert row.summary.strip() == row.summary != "", "the summary is one line"
        assert "\n" not in row.summary, "the summary is one line"
        assert row.suffixes, "there is a suffix"
        assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in row.suffixes), row.suffixes
        assert row.specification, "it is said where the format is defined"
        assert row.reads or row.writes, "the format is read or written"
        assert row.carries <= set(get_args(Feature)), row.carries
        options = {field.name for kind in (ReadOptions, WriteOptions) for field in fields(kind)}
        assert row.options <= options, row.options - options
        assert bool(row.requires) == bool(row.extra), "what needs a package says how to install it"
        converter = row.load()
        for wanted, name in ((row.reads, "read"), (row.writes, "write"), (row.ledger, "ledger")):
            assert callable(getattr(converter, name, None)) or not wanted, f"{row.converter} has no {name}"

    def test_it_is_told_from_suffix_and_content(self, tmp_path: Path) -> None:
        """Files are found by the first suffix, by the name of the format, and by their beginning if the row has one."""
        for suffix in (self.row.suffixes[0], self.row.suffixes[0].upper()):
            found = formats.by_suffix(Path(f"a{suffix}"))
            assert found is not None
            assert found.name == self.row.name, f"{suffix} is taken for {found.name}"
        if not self.row.writes:
            pytest.skip(f"{self.row.name} is not written")
        path = tmp_path / "without suffix"
        self._save(self._sample(), path)
        if self.row.magic and self.row.reads:
            assert formats.of_source(path).name == self.row.name, "its content is taken for another format"
            self._assert_reads(path, self.carried(self._sample()))

    @pytest.mark.parametrize("sample", SAMPLES)
    def test_samples_come_back(self, tmp_path: Path, sample: str) -> None:
        """What the row says is carried comes back, and nothing is written but what is reported."""
        self._assert_comes_back(tmp_path, self._model(SAMPLES[sample]), refusable=False)

    @pytest.mark.parametrize("sample", SAMPLES)
    def test_same_models_make_the_same_bytes(self, tmp_path: Path, sample: str) -> None:
        """Files depend on the model alone: not on time, chance, the folder, or whether the model was read."""
        self._require("writes")
        contents = []
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            path = self._path(tmp_path / folder)
            self._save(self._model(SAMPLES[sample]), path)
            contents.append(_contents(tmp_path / folder))
        if self.row.reads and self.carried(self._model(SAMPLES[sample])) is not None:
            self._save(self._load(path), path)
            contents.append(_contents(tmp_path / "b"))
        assert all(content == contents[0] for content in contents), "the same model became other bytes"

    @pytest.mark.parametrize("sample", QUIRKS)
    def test_quirks_come_back(self, tmp_path: Path, sample: str) -> None:
        """Networks with a quirk come back, or are refused if the suite allows it."""
        self._assert_comes_back(tmp_path, self._model(QUIRKS[sample]))

    @pytest.mark.parametrize("sample", [*SAMPLES, *QUIRKS])
    def test_structures_alone_come_back(self, tmp_path: Path, sample: str) -> None:
        """A network without numbers comes back as one, or is refused."""
        structure = {**SAMPLES, **QUIRKS}[sample]
        self._assert_comes_back(tmp_path, Model(structure), refusable=self._may_refuse(structure) and sample in QUIRKS)

    def test_feed_forward_networks_come_back(self, tmp_path: Path) -> None:
        """So do random chains of layers."""
        self._require("reads", "writes")
        chosen = [dtype for dtype in FLOATS if dtype in self.dtypes]
        random = st.sampled_from(chosen or FLOATS).flatmap(chains)
        self._for_all(tmp_path, random, lambda folder, it: self._assert_comes_back(folder, it, refusable=False))

    def test_random_networks_come_back(self, tmp_path: Path) -> None:
        """So do random networks of any shape."""
        self._require("reads", "writes")
        random = structures(operators=self.operators, dtypes=self.dtypes)
        self._for_all(tmp_path, random, self._assert_comes_back)

    def test_random_structures_come_back(self, tmp_path: Path) -> None:
        """So do random networks without numbers."""
        self._require("reads", "writes")
        random = structures(operators=self.operators, dtypes=self.dtypes)
        self._for_all(tmp_path, random, self._assert_comes_back, weights=False)

    @pytest.mark.parametrize("sample", SAMPLES)
    def test_losses_are_told(self, tmp_path: Path, sample: str) -> None:
        """Exactly what is not carried is told, and nothing is written if no loss is allowed."""
        self._require("writes")
        model = with_weights(SAMPLES[sample], numbers)
        carried = self.carried(model)
        lossy = carried is None or bool(self.differences(model, carried))
        path = self._path(tmp_path)
        if lossy:
            with pytest.raises(LossError) as caught:
                self._save(model, path, fail_on_loss=True)
            assert caught.value.losses
            assert _contents(tmp_path) == {}, "something was written although it loses something"
        else:
            self._save(model, path, fail_on_loss=True)
        losses = self._save(model, path).losses
        assert bool(losses) == lossy, f"losses are {losses}, and the row claims to carry {sorted(self.row.carries)}"
        assert all(loss.what and loss.where and loss.why for loss in losses), losses

    def test_extras_are_kept_or_told(self, tmp_path: Path) -> None:
        """Claims on masks, and members that no version of the document knows, come back, or their loss is told."""
        self._require("reads", "writes")
        random = structures(operators=["Gemm", "Relu", "Add"], dtypes=("float32",), extra=True)

        def check(folder: Path, model: Model) -> None:
            losses = self._save(model, self._path(folder)).losses
            expected = self.carried(model)
            if expected is None:
                return
            found = self._load(self._path(folder))
            if losses:
                expected, found = without_extras(expected), without_extras(found)
            assert not self.differences(expected, found)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeepstructWarning)  # about these members
            self._for_all(tmp_path, random, check)

    @pytest.mark.parametrize("sample", SAMPLES)
    def test_documents_become_it_and_back(self, tmp_path: Path, sample: str) -> None:
        """A document goes into the format and comes out of it as it was."""
        self._require("reads", "writes")
        model = self.carried(self._model(SAMPLES[sample]))
        if model is None:
            pytest.skip(f"{self.row.name} carries no operators")
        before, after = tmp_path / "before.structure.json", tmp_path / "after.structure.json"
        deepstruct.save(model, before)
        name, path = self.row.name, self._path(tmp_path)
        deepstruct.convert(before, path, target_format=name, fail_on_loss=True, **self.writing)
        deepstruct.convert(path, after, source_format=name, fail_on_loss=True, **self.reading)
        assert not self.differences(model, deepstruct.load(after))

    def test_numbers_can_be_left_out(self, tmp_path: Path) -> None:
        """``weights=False`` reads and writes the structure alone."""
        self._require("reads", "writes")
        path, model = self._path(tmp_path), self._sample()
        self._save(model, path)
        expected = self.carried(Model(model.structure))
        self._assert_reads(path, expected, weights=False)
        if not self.needs_weights:
            self._save(model, path, weights=False)
            self._assert_reads(path, expected)

    def test_existing_files_are_kept_unless_told(self, tmp_path: Path) -> None:
        """A file is replaced if that is asked for, and only then."""
        self._require("writes")
        path, other = self._path(tmp_path), self._model(SAMPLES["single-layer"])
        self._save(self._sample(), path)
        before = _contents(tmp_path)
        with pytest.raises(UsageError):
            self._save(other, path, overwrite=False)
        assert _contents(tmp_path) == before, "an existing file was changed; open files with targets.open alone"
        self._save(other, path, overwrite=True)
        if self.row.reads:
            self._assert_reads(path, self.carried(other))

    def test_interruptions_leave_everything_as_it_was(self, tmp_path: Path) -> None:
        """Ctrl-C while a file is opened or numbers are fetched leaves old files whole and no new ones."""
        self._require("writes")
        path, model = self._path(tmp_path), self._sample()
        for _ in ("no files yet", "old files"):
            before = _contents(tmp_path)
            for number in range(max(1, len(before))):
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(Targets, "open", interruptions.opening(number))
                    with pytest.raises(KeyboardInterrupt):
                        self._save(model, path)
                assert _contents(tmp_path) == before, "an interruption left something behind"
            for number in range(len(model.structure.parameters) if "weights" in self.row.carries else 0):
                with pytest.raises(KeyboardInterrupt):
                    self._save(interruptions.fetching(model, number), path)
                assert _contents(tmp_path) == before, "an interruption left something behind"
            self._save(self._model(SAMPLES["single-layer"]), path)

    def test_reading_changes_nothing(self, tmp_path: Path) -> None:
        """Reading leaves the file and its folder alone."""
        self._require("reads", "writes")
        path = self._path(tmp_path)
        self._save(self._sample(), path)
        before, times = _contents(tmp_path), [file.stat().st_mtime_ns for file in sorted(tmp_path.iterdir())]
        _use(self._load(path))
        assert _contents(tmp_path) == before, "reading wrote something"
        assert [file.stat().st_mtime_ns for file in sorted(tmp_path.iterdir())] == times, "reading wrote something"

    def test_numbers_stay_those_of_the_file_that_was_read(self, tmp_path: Path) -> None:
        """A model whose numbers are read late is not changed by another file that takes the place of its own."""
        self._require("reads", "writes")
        path, model = self._path(tmp_path), self._sample()
        self._save(model, path)
        found = self._load(path)
        self._save(with_weights(model.structure, tame) if model.weights else model, path)
        expected = self.carried(model)
        if expected is not None:
            assert not self.differences(expected, found)

    def test_files_cut_short_are_refused(self, tmp_path: Path) -> None:
        """A file that ends early is refused, or what is missing did not matter."""
        self._require("reads", "writes")
        model = self._sample()
        report = self._save(model, self._path(tmp_path))
        expected = self.carried(model)
        for file, _ in report.files:
            content = file.read_bytes()
            for part in hostile.cut_short(content):
                file.write_bytes(part)
                what = f"{len(part)} of {len(content)} bytes of {file.name}"
                found = self._attempt(self._path(tmp_path), what)
                if found is not None and expected is not None:
                    assert not self.differences(expected, found), f"{what} are another model"
            file.write_bytes(content)

    def test_damaged_files_are_refused_or_read(self, tmp_path: Path) -> None:
        """A file with other bytes is refused or is another model, but nothing else happens."""
        self._require("reads", "writes")
        report = self._save(self._sample(), self._path(tmp_path))
        for file, _ in report.files:
            content = file.read_bytes()
            for number, changed in enumerate(hostile.damaged(content, 3 * self.max_examples)):
                file.write_bytes(changed)
                self._attempt(self._path(tmp_path), f"damage number {number} of {file.name}")
            file.write_bytes(content)

    @pytest.mark.parametrize("kind", hostile.OTHER_KINDS)
    def test_files_of_other_kinds_are_refused(self, tmp_path: Path, kind: str) -> None:
        """A file that is something else is refused with an error that says so."""
        self._require("reads")
        path = self._path(tmp_path)
        path.write_bytes(hostile.OTHER_KINDS[kind])
        found = self._attempt(path, kind)
        assert found is None or self.carried(self._sample()) is None, f"{kind} was read as a network"

    def _path(self, folder: Path) -> Path:
        return folder / f"{_STEM}{self.row.suffixes[0]}"

    def _save(self, model: Model, path: Path, **options: Any) -> Report:
        return deepstruct.save(model, path, format=self.row.name, **self.writing, **options)

    def _load(self, path: Path, **options: Any) -> Model:
        return deepstruct.load(path, format=self.row.name, **self.reading, **options)

    def _require(self, *ways: str) -> None:
        for way in ways:
            if not getattr(self.row, way):
                pytest.skip(f"{self.row.name} {'is not read' if way == 'reads' else 'is not written'}")

    def _sample(self) -> Model:
        return self._model(SAMPLES["skip-connection"])

    def _model(self, structure: Structure) -> Model:
        """A model with numbers that are easily lost, if the format carries numbers."""
        return with_weights(structure, numbers) if "weights" in self.row.carries else Model(structure)

    def _may_refuse(self, structure: Structure) -> bool:
        return self.may_refuse or any(parameter.dtype not in self.dtypes for parameter in structure.parameters)

    def _assert_comes_back(self, folder: Path, model: Model, *, refusable: bool | None = None) -> None:
        self._require("writes")
        path = self._path(folder)
        try:
            report = self._save(model, path)
        except UnsupportedError:
            lacks_weights = self.needs_weights and model.weights is None and bool(model.structure.parameters)
            allowed = self._may_refuse(model.structure) if refusable is None else refusable
            assert lacks_weights or allowed, "a network was refused"
            assert _contents(folder) == {}, "a refusal left something behind"
            return
        written = {file.name for file, _ in report.files}
        assert written == set(_contents(folder)), "other files were written than are reported"
        expected = self.carried(model)
        lossy = expected is None or bool(self.differences(model, expected))
        assert bool(report.losses) == lossy, f"losses are {report.losses}"
        if self.row.reads:
            self._assert_reads(path, expected)

    def _assert_reads(self, path: Path, expected: Model | None, **options: Any) -> None:
        if expected is not None:
            losses: list[Loss] = []
            found = self._load(path, losses=losses, **options)
            assert not self.differences(expected, found)
            assert not losses, "something was lost in reading what had just been written"

    def _for_all(
        self,
        tmp_path: Path,
        random: st.SearchStrategy[Structure],
        check: Callable[[Path, Model], None],
        *,
        weights: bool = True,
    ) -> None:
        """Runs a check for random models, each in a folder of its own."""
        given_models = models(random) if weights and "weights" in self.row.carries else random.map(Model)

        @settings(max_examples=self.max_examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(given_models)
        def run(model: Model) -> None:
            with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
                check(Path(folder), model)

        run()

    def _attempt(self, path: Path, what: str) -> Model | None:
        """The model in a file with all its numbers, or None if it was refused as it should be."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeepstructWarning)
                found = self._load(path)
                _use(found)
        except DeepstructError as error:
            refusal = error
        except Exception as error:
            raise AssertionError(f"{what}: a reader must raise errors of deepstruct, not {error!r}") from error
        else:
            return found
        assert refusal.exit_code in self.exit_codes, f"{what}: exit code {refusal.exit_code}, for {refusal}"
        assert _STEM in str(refusal), f"{what}: the error does not name the file: {refusal}"
        return None


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _use(model: Model) -> None:
    """Fetches all numbers, which may be read late."""
    for name in model.weights or ():
        if model.weights is not None:
            model.weights.kept(name)

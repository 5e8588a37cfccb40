"""100 flipped bits and 20 cuts at random places of everything that a pipeline keeps, and 500 flips in
the files of an export: each is found.

Found is what the consumer of a file refuses by its name before it is used; files that nothing consumes,
and DVC's cache, are for `darkroom verify`. The bits flip as on a disk that rots: sizes and times stay.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from project import Project

from darkroom.dataset.info import load_info
from darkroom.dataset.prepared import open_split
from darkroom.errors import UserError
from darkroom.export.folder import check_folder
from darkroom.models.exported import ONNX_FILES
from darkroom.models.file import load_model
from darkroom.prediction.predictor import Predictor
from darkroom.tracking.address import Address
from darkroom.tracking.journal.file import Journal
from darkroom.tracking.journal.writer import create_journal
from darkroom.tracking.ledger.soundness import Soundness
from darkroom.tracking.ledger.tracked import load_project
from darkroom.tracking.mlflow.promotion import Registry
from darkroom.tracking.records import End, Metrics, Start

pytestmark = pytest.mark.slow

NUM_FLIPS, NUM_CUTS = 100, 20
NUM_EXPORT_FLIPS = 500
PREPARED = Path("data/prepared")


@pytest.fixture(scope="module")
def project(pristine: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A pipeline that has run, with a registered version and a journal that waits."""
    project = pristine.copy(tmp_path_factory.mktemp("flips") / "project")
    start = Start(
        stage="train", name="train", tags={}, destination="0" * 16, address="", timestamp_ms=1_000
    )
    writer = create_journal(project.folder, start)
    for step in range(20):
        writer.append(Metrics(values={"loss": 1 / (1 + step)}, step=step, timestamp_ms=2_000 + step))
    writer.append(End(status="FINISHED", timestamp_ms=3_000))
    writer.close()
    writer.journal.release()
    return project


def refusal(use: Callable[[], object], file: Path) -> bool:
    """Returns whether a use of a damaged file is refused by the file's name."""
    try:
        use()
    except UserError as error:
        return file.name in str(error)
    return False


def is_found_by_verify(file: Path) -> bool:
    findings = list(Soundness(load_project(Path.cwd()), lambda num_bytes: None, 99).check())
    return any(file.name in f"{finding.subject} {finding.problem}" for finding in findings)


def is_found_by_verify_export(file: Path) -> bool:
    def check() -> None:
        if problems := check_folder(Path("export")).problems:
            raise UserError("\n".join(problems))

    return refusal(check, file)


def is_found_by_predict(file: Path) -> bool:
    return refusal(lambda: Predictor(Path("export")), file)


def is_found_in_journal(file: Path) -> bool:
    journal = Journal(file.parent)
    return bool(journal.read().damage) or journal.end() is None


def is_found_by_promote(file: Path) -> bool:
    registry = Registry.open(Path.cwd(), Address.of(Path.cwd(), {}))
    assert registry.candidate
    return refusal(lambda: registry.read_back(registry.candidate), file)


@dataclass(frozen=True)
class Kind:
    """Files of one kind, and who finds damage in one of them."""

    files: str
    consumer: str
    finds: Callable[[Path], bool]


def opens(split: str) -> Callable[[Path], bool]:
    return lambda file: refusal(
        lambda: open_split(PREPARED / split, load_info(PREPARED / "dataset.json")), file
    )


KINDS = {
    "shards of train": Kind("data/prepared/train/*", "train", opens("train")),
    "shards of val": Kind("data/prepared/val/*", "train", opens("val")),
    "shards of test": Kind("data/prepared/test/*", "evaluate, export", opens("test")),
    "dataset.json": Kind(
        "data/prepared/dataset.json", "all stages", lambda file: refusal(lambda: load_info(file), file)
    ),
    "manifest.parquet": Kind("data/prepared/manifest.parquet", "verify", is_found_by_verify),
    "model": Kind(
        "models/model.safetensors", "evaluate, export", lambda f: refusal(lambda: load_model(f), f)
    ),
    "predictions.parquet": Kind("reports/evaluate/*.parquet", "verify", is_found_by_verify),
    "exported model.onnx, model.json": Kind("export/model.[jo]*", "predict", is_found_by_predict),
    "other exported files": Kind("export/**/[!m]*", "verify", is_found_by_verify),
    "registered files": Kind("mlartifacts/models/*/artifacts/*", "promote", is_found_by_promote),
    "DVC's cache": Kind(".dvc/cache/files/md5/*/*", "verify", is_found_by_verify),
    "journal": Kind("mljournal/*/journal.jsonl", "sync", is_found_in_journal),
}


def damage(file: Path, change: Callable[[bytearray], object]) -> Iterator[None]:
    """Changes a file's bytes, and nothing else that can be seen of it; then puts them back."""
    before, whole = file.stat(), file.read_bytes()
    content = bytearray(whole)
    change(content)
    file.chmod(0o644)
    for written in (content, whole):
        file.write_bytes(written)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        if written is content:
            yield
    file.chmod(before.st_mode)


def flip(generator: np.random.Generator, content: bytearray) -> None:
    """Flips a bit; not one that makes white space of JSON other white space, which says the same."""
    while True:
        place, bit = int(generator.integers(len(content))), 1 << int(generator.integers(8))
        if not (bytes([content[place]]).isspace() and bytes([content[place] ^ bit]).isspace()):
            content[place] ^= bit
            return


def cut(generator: np.random.Generator, content: bytearray) -> None:
    del content[int(generator.integers(len(content))) :]


def test_every_flip_and_every_cut_is_found(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.folder)
    generator = np.random.default_rng(0)
    done: Counter[tuple[str, str]] = Counter()
    overlooked = []
    for index in range(NUM_FLIPS + NUM_CUTS):
        name = list(KINDS)[index % len(KINDS)]
        kind = KINDS[name]
        files = sorted(
            file for file in Path().glob(kind.files) if file.is_file() and file.stat().st_size
        )
        file = files[int(generator.integers(len(files)))]
        how, change = ("flip", flip) if index < NUM_FLIPS else ("cut", cut)
        for _ in damage(file, lambda content, change=change: change(generator, content)):
            done[name, how] += 1
            if not kind.finds(file):
                overlooked.append((name, how, file))
    assert not overlooked
    with capsys.disabled():
        print("\n| damaged | found by | flips | cuts |\n|---|---|---:|---:|")
        for name, kind in KINDS.items():
            print(f"| {name} | {kind.consumer} | {done[name, 'flip']} | {done[name, 'cut']} |")
    assert sum(done.values()) == NUM_FLIPS + NUM_CUTS


def test_without_damage_nothing_is_found(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    for kind in KINDS.values():
        for file in sorted(Path().glob(kind.files))[:5]:
            assert not kind.finds(file), file


def test_every_flipped_byte_of_an_export_is_found(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `verify export/` in every file; by `predict` in those that it loads, before it does."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)  # which nothing may call
    generator = np.random.default_rng(1)
    files = sorted(file for file in Path("export").rglob("*") if file.is_file())
    loaded = {Path("export/model.json"), Path("export") / ONNX_FILES["onnx"]}
    assert {Path("export/certificate.json"), Path("export/sbom.cdx.json"), *loaded} <= {*files}
    done: Counter[str] = Counter()
    overlooked = []
    for index in range(NUM_EXPORT_FLIPS):
        file = files[index % len(files)]
        for _ in damage(file, lambda content: flip(generator, content)):
            found = {"verify": is_found_by_verify_export(file)}
            if file in loaded:
                found["predict"] = is_found_by_predict(file)
        done.update(found)
        overlooked += [(file, command) for command, is_found in found.items() if not is_found]
    assert not overlooked
    assert not check_folder(Path("export")).problems
    with capsys.disabled():
        print(f"\n{NUM_EXPORT_FLIPS} bytes of {len(files)} files; found by: {dict(done)}")

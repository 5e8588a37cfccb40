"""`darkroom predict` with a real exported folder, and `darkroom params`."""

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image
from support import make_spec

from darkroom.cli import main
from darkroom.config.params import Params
from darkroom.digests import seal, unseal
from darkroom.export.formats import write_formats
from darkroom.export.source import Source
from darkroom.models.exported import describe_export
from darkroom.models.factory import make_classifier
from darkroom.models.file import load_model, save_model
from darkroom.prediction import predictor
from darkroom.prediction.listing import list_images
from darkroom.prediction.onnx_session import OnnxClassifier
from darkroom.prediction.predictor import BATCH_SIZE, Predictor
from darkroom.reporting.tables import write_json

ROOT = Path(__file__).parents[2]
SPEC = make_spec(
    channels=3, input_size=(12, 10), class_names=("cat", "dog, big", 'the "x"', "Äther", "<b>&")
)


def draw(path: Path, seed: int, size: tuple[int, int] = (10, 12), mode: str = "RGB") -> Path:
    """Writes an image, as wide and high as ``size`` says, of blocks in random colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (3, 3) if mode == "L" else (3, 3, 3)
    blocks = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(path)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the export stage writes, of a model that tells images apart."""
    folder = tmp_path_factory.mktemp("project")
    torch.manual_seed(1)
    model = make_classifier(SPEC)
    images = torch.randint(0, 256, (64, 3, 3, 3), dtype=torch.uint8)
    images = images.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)[..., :10]
    with torch.no_grad():
        for _ in range(30):
            logits = model(images)
        model.network.head.linear.bias -= logits.mean(dim=0)
        for parameter in model.network.head.parameters():
            parameter *= 30
    save_model(model, SPEC, folder / "model.safetensors")
    files = write_formats(
        ["onnx"], folder / "model.safetensors", Source(model.eval(), SPEC), folder / "export"
    )
    write_json(
        describe_export(SPEC.preprocessing(), folder / "export", files), folder / "export" / "model.json"
    )
    return folder / "export"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good images of several shapes, modes, formats and depths."""
    folder = tmp_path_factory.mktemp("photos")
    draw(folder / "a.png", 0)
    draw(folder / "b.png", 1, mode="L")
    draw(folder / "c.png", 2, size=(40, 30))
    draw(folder / "d.jpg", 3, size=(11, 50))
    draw(folder / "inner" / "e.png", 4)
    draw(folder / "inner" / "deeper" / "f, g.bmp", 5)
    unnamed = draw(folder / "inner" / "deeper" / "no_ending.png", 6)
    unnamed.rename(unnamed.with_suffix(""))
    return folder


@pytest.fixture
def anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "anywhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "250")
    return folder


def run(*arguments: object) -> Result:
    """Runs `darkroom`; what is no exit is raised."""
    options = {"prog_name": "darkroom", "catch_exceptions": False}
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)


def predicted(*arguments: object) -> list[list[str]]:
    """The cells that `darkroom predict` prints."""
    result = run("predict", *arguments)
    assert result.exit_code == 0, result.stderr
    return list(csv.reader(result.stdout.splitlines(), delimiter="\t"))


def refused(*arguments: object) -> str:
    """The message with which `darkroom` ends."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def by_torch(exported: Path, paths: Sequence[Path]) -> np.ndarray:
    """The checkpoint's probabilities of images, float ``(n, num_classes)``."""
    with torch.inference_mode():
        return logits_of(exported, paths).softmax(dim=1).numpy()


def logits_of(exported: Path, paths: Sequence[Path]) -> torch.Tensor:
    model, _ = load_model(exported / "model.safetensors")
    height, width = SPEC.input_size
    pixels = [
        np.asarray(Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BILINEAR))
        for path in paths
    ]
    return model(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


# what it predicts


def test_predictions_are_those_of_the_torch_model(exported: Path, photos: Path, anywhere: Path) -> None:
    paths = files_in(photos)
    rows = predicted(exported, *paths)
    expected = by_torch(exported, paths)
    assert [row[0] for row in rows] == [str(path) for path in paths]
    assert [row[1] for row in rows] == [SPEC.class_names[best] for best in expected.argmax(axis=1)]
    assert [float(row[2]) for row in rows] == pytest.approx(expected.max(axis=1), abs=1e-5)
    assert len({row[1] for row in rows}) > 1  # or equality would mean little


def test_another_pixel_changes_the_probability(exported: Path, anywhere: Path) -> None:
    path = draw(anywhere / "a.png", 0)
    [before] = predicted(exported, path)
    with Image.open(path) as image:
        image.putpixel((5, 5), (255, 0, 255))
        image.save(path)
    [after] = predicted(exported, path)
    assert before[2] != after[2]


def test_more_images_than_a_batch_stay_in_order_and_aligned(exported: Path, anywhere: Path) -> None:
    paths = [draw(anywhere / f"{index:03d}.png", index) for index in range(2 * BATCH_SIZE + 3)]
    bad = [paths[0], paths[BATCH_SIZE - 1], paths[BATCH_SIZE], paths[-1]]
    for path in bad:
        path.write_text("no image")
    result = run("predict", exported, anywhere)
    assert result.exit_code == 1
    rows = list(csv.reader(result.stdout.splitlines(), delimiter="\t"))
    good = [path for path in paths if path not in bad]
    expected = by_torch(exported, good)
    assert [row[0] for row in rows] == [str(path) for path in good]
    assert [float(row[2]) for row in rows] == pytest.approx(expected.max(axis=1), abs=1e-5)
    assert all(f"{path}: not classified" in result.stderr for path in bad)


def test_large_images_are_classified_in_small_batches_with_the_same_outputs(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def run(self: OnnxClassifier, images: NDArray[np.uint8]) -> Any:
        sizes.append(len(images))
        return original(self, images)

    original = OnnxClassifier.run
    monkeypatch.setattr(OnnxClassifier, "run", run)
    model = Predictor(exported)
    images = list(np.random.default_rng(0).integers(0, 256, (11, *model.input_shape), np.uint8))
    sizes.clear()
    whole = model.outputs(images)
    assert sizes == [11]
    monkeypatch.setattr(predictor, "MAX_INPUTS", 4 * images[0].size + 1)
    model = Predictor(exported)
    sizes.clear()
    parts = model.outputs(images)
    assert sizes == [4, 4, 3]
    for (part, score), (expected, expected_score) in zip(parts, whole, strict=True):
        assert part.tobytes() == expected.tobytes()
        assert score == expected_score
    monkeypatch.setattr(predictor, "MAX_INPUTS", 1)  # even an image that is larger is classified
    assert len(Predictor(exported).outputs(images[:1])) == 1


def test_a_batch_of_bad_files_alone_ends_well(exported: Path, anywhere: Path) -> None:
    (anywhere / "bad.png").write_text("no image")
    result = run("predict", exported, "bad.png")
    assert (result.exit_code, result.stdout) == (1, "")


# alone, elsewhere, light


def console(*arguments: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs the installed command in a process of its own."""
    script = Path(sys.executable).parent / "darkroom"
    return subprocess.run(
        [script, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        errors="surrogateescape",
    )


def test_the_command_works_with_a_copy_of_two_files_from_an_empty_folder(
    exported: Path, photos: Path, anywhere: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "mailed to someone"
    copy.mkdir()
    for name in ("model.onnx", "model.json"):
        shutil.copy(exported / name, copy)
    result = console("predict", copy, photos / "a.png", photos / "c.png", cwd=anywhere)
    assert (result.returncode, result.stderr) == (0, "")
    rows = list(csv.reader(result.stdout.splitlines(), delimiter="\t"))
    expected = by_torch(exported, [photos / "a.png", photos / "c.png"])
    assert [row[1] for row in rows] == [SPEC.class_names[best] for best in expected.argmax(axis=1)]
    assert [float(row[2]) for row in rows] == pytest.approx(expected.max(axis=1), abs=1e-5)
    assert list(anywhere.iterdir()) == []  # it leaves nothing behind


HEAVY = (
    "torch", "torchvision", "torchmetrics", "mlflow", "dvc", "matplotlib", "sklearn", "onnx", "fsspec"
)  # fmt: skip
IMPORTS = """
import sys
from darkroom.cli import main
main(sys.argv[1:], standalone_mode=False)
print(*sys.modules)
"""


def test_prediction_never_imports_torch(exported: Path, photos: Path, anywhere: Path) -> None:
    command = [sys.executable, "-c", IMPORTS, "predict", str(exported), str(photos), "--out", "out.csv"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    modules = result.stdout.split()
    assert "onnxruntime" in modules
    assert "darkroom.prediction.predictor" in modules
    assert [name for name in HEAVY if name in modules] == []


# which files


def paths_of(rows: list[list[str]]) -> list[Path]:
    return [Path(row[0]) for row in rows]


def test_a_folder_is_searched_to_any_depth_without_hidden_files(
    exported: Path, photos: Path, anywhere: Path
) -> None:
    copy = shutil.copytree(photos, anywhere / "photos")
    expected = [path.relative_to(anywhere) for path in files_in(copy)]
    draw(copy / ".hidden.png", 1)
    draw(copy / "@eaDir/1.png/SYNOFILE_THUMB_M.png", 1)
    (copy / "thumbs.DB").write_bytes(b"no image")
    draw(copy / ".cache" / "thumbnail.png", 2)
    draw(copy / "inner" / ".trash" / "deeper" / "old.png", 3)
    assert paths_of(predicted(exported, "photos")) == expected


def test_hidden_files_are_used_where_they_are_named(exported: Path, anywhere: Path) -> None:
    hidden = draw(anywhere / ".cache" / ".hidden.png", 1)
    draw(anywhere / ".cache" / "plain.png", 1)
    assert paths_of(predicted(exported, hidden)) == [hidden]
    assert paths_of(predicted(exported, ".cache")) == [Path(".cache/plain.png")]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["a.png", "b.png", "c.png"]),
        ("[ab].png", ["a.png", "b.png"]),
        ("?.jpg", ["d.jpg"]),
        ("inner/*", ["inner/e.png"]),
        ("inner", ["inner/deeper/f, g.bmp", "inner/deeper/no_ending", "inner/e.png"]),
        ("**/*.png", ["a.png", "b.png", "c.png", "inner/e.png"]),
    ],
)
def test_globs_match_files(
    pattern: str, expected: list[str], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    assert list(list_images([pattern])) == [Path(path) for path in expected]


def test_a_file_whose_name_is_a_pattern_is_taken_as_it_is(anywhere: Path) -> None:
    draw(anywhere / "[ab].png", 0)
    draw(anywhere / "a.png", 1)
    assert list(list_images(["[ab].png"])) == [Path("[ab].png")]


def test_what_is_given_twice_is_done_once_in_the_order_first_given(
    exported: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    rows = predicted(exported, "c.png", "*.png", "./c.png", "inner", "inner/e.png", "inner/")
    inner = ["inner/deeper/f, g.bmp", "inner/deeper/no_ending", "inner/e.png"]
    assert paths_of(rows) == [Path(path) for path in ["c.png", "a.png", "b.png", *inner]]


# the table


def test_top_k_lists_the_best_classes_in_order(exported: Path, photos: Path, anywhere: Path) -> None:
    paths = files_in(photos)
    header, *rows = predicted(exported, photos, "--top-k", 3)
    assert header == ["path", *(f"{n}{s}" for s in ("", "_2", "_3") for n in ("class", "probability"))]
    expected = by_torch(exported, paths)
    for row, probabilities in zip(rows, expected, strict=True):
        order = np.argsort(-probabilities)[:3]
        assert row[1::2] == [SPEC.class_names[index] for index in order]
        assert [float(cell) for cell in row[2::2]] == pytest.approx(probabilities[order], abs=1e-5)


def test_top_k_beyond_the_classes_lists_them_all(exported: Path, photos: Path, anywhere: Path) -> None:
    header, *rows = predicted(exported, photos, "--top-k", 99)
    assert len(header) == 1 + 2 * len(SPEC.class_names)
    for row in rows:
        assert set(row[1::2]) == set(SPEC.class_names)
        assert sum(float(cell) for cell in row[2::2]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("top_k", ["0", "-1", "two"])
def test_a_senseless_top_k_is_refused(top_k: str, exported: Path, photos: Path, anywhere: Path) -> None:
    assert "--top-k" in refused("predict", exported, photos, "--top-k", top_k)


def test_out_is_csv_with_every_image(exported: Path, photos: Path, anywhere: Path) -> None:
    result = run("predict", exported, photos, "--out", "preds.csv")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "preds.csv: 7 images classified" in result.stderr
    with (anywhere / "preds.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        dict(zip(("path", "class", "probability"), row, strict=True))
        for row in predicted(exported, photos)
    ]
    assert b"\r" not in (anywhere / "preds.csv").read_bytes()


def test_out_holds_names_with_commas_quotes_and_line_breaks(exported: Path, anywhere: Path) -> None:
    names = ['a,b "c".png', "two\nlines.png", "Ünï→.png"]
    for seed, name in enumerate(names):
        draw(anywhere / "in" / name, seed)
    assert run("predict", exported, "in", "--top-k", 5, "--out", "preds.csv").exit_code == 0
    with (anywhere / "preds.csv").open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    assert sorted(Path(row[0]).name for row in rows) == sorted(names)
    assert all(set(row[1::2]) == set(SPEC.class_names) for row in rows)


@pytest.mark.parametrize("options", [(), ("--out", "preds.csv")], ids=["print", "out"])
def test_a_name_that_is_no_utf_8_does_not_stop_the_others(
    options: tuple[str, ...], exported: Path, anywhere: Path
) -> None:
    draw(anywhere / "in" / "a.png", 0).rename(anywhere / "in" / os.fsdecode(b"a\xff.png"))
    draw(anywhere / "in" / "b.png", 1)
    # as where the locale is UTF-8; in the C locale Python lets such names through by itself
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    result = console("predict", exported, "in", *options, cwd=anywhere, **strict)
    assert "Traceback" not in result.stderr
    written = (anywhere / "preds.csv").read_bytes() if options else os.fsencode(result.stdout)
    assert b"in/b.png" in written


# bad files


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def truncate_jpeg(path: Path) -> None:
    Image.open(path).save(path, format="jpeg")
    truncate(path)


BAD_FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (truncate, "the bytes end too early"),
    "truncated JPEG": (truncate_jpeg, "the bytes end too early"),
    "text": (lambda path: path.write_text("I am a letter"), "not an image"),
    "empty": (lambda path: path.write_bytes(b""), "empty file"),
    "huge": (
        lambda path: Image.new("1", (2**14, 2**13 + 1)).save(path, format="png"),
        "16384 x 8193 pixels; at most",
    ),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("bad", BAD_FILES)
@pytest.mark.parametrize("options", [(), ("--out", "preds.csv")], ids=["print", "out"])
def test_a_bad_file_is_named_the_rest_is_done_and_the_status_is_1(
    bad: str, options: tuple[str, ...], exported: Path, anywhere: Path
) -> None:
    good = [draw(anywhere / "in" / name, seed) for seed, name in enumerate(("a.png", "c.png"))]
    damage, reason = BAD_FILES[bad]
    damage(draw(anywhere / "in" / "b.png", 5, size=(64, 64)))
    result = run("predict", exported, "in", *options)
    assert result.exit_code == 1
    assert f"in/b.png: not classified: {reason}" in result.stderr
    assert "1 of 3 files could not be classified" in result.stderr
    text = (anywhere / "preds.csv").read_text() if options else result.stdout
    rows = list(csv.reader(text.splitlines(), delimiter="," if options else "\t"))
    done = [Path(row[0]).name for row in rows if row[0] != "path"]
    assert done == [path.name for path in good]


def test_what_is_no_file_is_named_and_the_rest_is_done(exported: Path, anywhere: Path) -> None:
    draw(anywhere / "in" / "a.png", 0)
    (anywhere / "in" / "b.png").symlink_to("gone.png")
    (anywhere / "in" / "endless.png").symlink_to("/dev/zero")
    (anywhere / "in" / "loop").symlink_to(".", target_is_directory=True)
    os.mkfifo(anywhere / "in" / "pipe.png")
    with (anywhere / "in" / "sparse.png").open("wb") as file:
        file.truncate(40 * 2**30)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("in/socket.png")
        result = run("predict", exported, "in")
    assert result.exit_code == 1
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["in/a.png"]
    assert result.stderr.splitlines() == [
        "in/b.png: not classified: No such file or directory",
        "in/endless.png: not classified: not a regular file",
        "in/pipe.png: not classified: not a regular file",
        "in/socket.png: not classified: No such device or address",
        "in/sparse.png: not classified: 42,949,672,960 bytes; at most 536,870,912 are read",
        "5 of 6 files could not be classified",
    ]
    assert run("predict", exported, "in/b.png").exit_code == 1


# mistakes


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    """An exported folder that may be damaged."""
    return shutil.copytree(exported, tmp_path / "copied")


def test_mistaken_paths_end_with_one_message(exported: Path, photos: Path, anywhere: Path) -> None:
    (anywhere / "empty").mkdir()
    image = photos / "a.png"
    for arguments, named in (
        (("nowhere", image), "nowhere"),
        (("empty", image), "empty"),
        ((image, image), str(image)),
        ((exported, "no/such.png"), "no/such.png"),
        ((exported, "*.tiff"), "*.tiff"),
        ((exported, "empty"), "empty"),
        ((exported, image, "missing.png"), "missing.png"),
        ((exported, image, "--out", "no/folder/out.csv"), "no/folder/out.csv"),
    ):
        message = refused("predict", *arguments)
        assert named in message
        assert len(message.splitlines()) == 1, message
    assert "IMAGES" in refused("predict", exported)


@pytest.mark.parametrize("file", ["model.onnx", "model.json"])
def test_a_folder_that_lacks_a_file_is_refused_by_its_name(
    file: str, copied: Path, photos: Path, anywhere: Path
) -> None:
    (copied / file).unlink()
    assert refused("predict", copied, photos).startswith(f"{copied / file}: the")


def test_a_format_that_was_not_exported_is_named(copied: Path, photos: Path, anywhere: Path) -> None:
    described = unseal(json.loads((copied / "model.json").read_text()))
    change(copied, files={"model.safetensors": described["files"]["model.safetensors"]})
    message = refused("predict", copied, photos)
    assert message.startswith(
        f"{copied / 'model.onnx'}: model.json records no such file, but model.safe"
    )
    assert "export.formats" in message


def change(folder: Path, **changes: Any) -> None:
    """Writes model.json with other values, and the digest that belongs to them."""
    path = folder / "model.json"
    described = unseal(json.loads(path.read_text(encoding="utf-8")))
    write_json(seal({**described, **changes}), path)


def edited(**changes: Any) -> str:
    """The text of model.json with other values, and the digest that belongs to them."""
    return json.dumps(seal({**SPEC.preprocessing(), "files": {}, **changes}))


DAMAGED = {
    "empty": "",
    "no JSON": "no JSON",
    "cut": edited()[:-40],
    "a list": "[]",
    "nothing in it": "{}",
    "null": "null",
    "one side": edited(input_size=[12]),
    "a number for a size": edited(input_size=12),
    "text for a size": edited(input_size=["12", "10"]),
    "no width": edited(input_size=[12, 0]),
    "two channels": edited(channels=2),
    "null channels": edited(channels=None),
    "unknown resize": edited(resize="squash"),
    "null classes": edited(class_names=None),
    "too few classes": edited(class_names=["cat"]),
    "too many classes": edited(class_names=[*SPEC.class_names, "one more"]),
    "another model's size": edited(input_size=[24, 20]),
    "another model's channels": edited(channels=1),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_description_is_refused_before_any_work(
    damage: str, copied: Path, photos: Path, anywhere: Path
) -> None:
    assert run("predict", copied, photos).exit_code == 0
    files = json.loads((copied / "model.json").read_text(encoding="utf-8"))["files"]
    (copied / "model.json").write_text(DAMAGED[damage], encoding="utf-8")
    if "files" in DAMAGED[damage] and damage != "cut":
        change(copied, files=files)
    message = refused("predict", copied, photos)
    assert "model.json" in message
    assert len(message.splitlines()) == 1


def test_a_description_that_is_no_text_is_refused(copied: Path, photos: Path, anywhere: Path) -> None:
    (copied / "model.json").write_bytes(b"\xff\xfe\x00\x00")
    assert "model.json" in refused("predict", copied, photos)


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_damaged_model_is_refused(keep: float, copied: Path, photos: Path, anywhere: Path) -> None:
    content = (copied / "model.onnx").read_bytes()
    (copied / "model.onnx").write_bytes(content[: int(keep * len(content))])
    size = int(keep * len(content))
    assert f"model.onnx: the file has {size:,} bytes instead of" in refused("predict", copied, photos)
    write_json(
        describe_export(SPEC.preprocessing(), copied, [copied / "model.onnx"]), copied / "model.json"
    )
    assert "model.onnx: cannot be loaded" in refused("predict", copied, photos)


def test_a_flip_anywhere_in_either_file_is_refused_by_name(
    copied: Path, photos: Path, anywhere: Path
) -> None:
    generator = np.random.default_rng(0)
    for name in ("model.onnx", "model.json"):
        whole = (copied / name).read_bytes()
        for place in {0, len(whole) // 2, *generator.integers(0, len(whole), 20).tolist()}:
            damaged = bytearray(whole)
            damaged[place] ^= 1 << place % 8
            if bytes([whole[place]]).isspace() and bytes([damaged[place]]).isspace():
                continue
            (copied / name).write_bytes(damaged)
            assert refused("predict", copied, photos).startswith(f"{copied / name}: ")
        (copied / name).write_bytes(whole)
    assert run("predict", copied, photos).exit_code == 0


def test_files_of_two_exports_are_not_mixed(
    copied: Path, photos: Path, anywhere: Path, tmp_path: Path
) -> None:
    """The other export has the same architecture, and its classes in another order."""
    torch.manual_seed(2)
    spec = replace(SPEC, class_names=SPEC.class_names[::-1])
    other, model = tmp_path / "other", make_classifier(spec).eval()
    save_model(model, spec, tmp_path / "model.safetensors")
    files = write_formats(["onnx"], tmp_path / "model.safetensors", Source(model, spec), other)
    write_json(describe_export(spec.preprocessing(), other, files), other / "model.json")
    assert run("predict", other, photos).exit_code == 0
    for name in ("model.onnx", "model.json"):
        mixed = shutil.copytree(copied, tmp_path / f"with another {name}")
        shutil.copy(other / name, mixed)
        message = refused("predict", mixed, photos)
        assert message.startswith(f"{mixed / 'model.onnx'}: the ")
        assert "copy the whole folder of one export" in message


def test_an_export_without_digests_is_refused_with_what_to_do(
    copied: Path, photos: Path, anywhere: Path
) -> None:
    """As darkroom exported before it wrote digests."""
    write_json(SPEC.preprocessing(), copied / "model.json")
    message = refused("predict", copied, photos)
    assert message.startswith(f"{copied / 'model.json'}: holds no digests")
    assert "`dvc repro --force export`" in message


def test_an_edited_class_name_is_refused(copied: Path, photos: Path, anywhere: Path) -> None:
    text = (copied / "model.json").read_text(encoding="utf-8")
    (copied / "model.json").write_text(text.replace('"cat"', '"cow"'), encoding="utf-8")
    assert "damaged or edited" in refused("predict", copied, photos)


def test_an_image_without_finite_probabilities_is_named_and_the_others_are_done(
    copied: Path, photos: Path, anywhere: Path
) -> None:
    """The model divides by the image's pixels: black ones have no finite result."""
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Cast", ["images"], ["floats"], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("ReduceSum", ["floats", "axes"], ["sum"], keepdims=0),
            onnx.helper.make_node("Unsqueeze", ["sum", "one"], ["column"]),
            onnx.helper.make_node("Div", ["column", "column"], ["ones"]),
            onnx.helper.make_node("Mul", ["ones", "fifths"], ["probabilities"]),
        ],
        "fragile",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["n", 3, 12, 10])],
        [onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["n", 5])],
        [
            onnx.helper.make_tensor("axes", onnx.TensorProto.INT64, [3], [1, 2, 3]),
            onnx.helper.make_tensor("one", onnx.TensorProto.INT64, [1], [1]),
            onnx.helper.make_tensor("fifths", onnx.TensorProto.FLOAT, [5], [0.1, 0.2, 0.4, 0.2, 0.1]),
        ],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), copied / "model.onnx")
    write_json(
        describe_export(SPEC.preprocessing(), copied, [copied / "model.onnx"]), copied / "model.json"
    )
    Image.new("RGB", (10, 12)).save(anywhere / "black.png")
    draw(anywhere / "other.png", 1)
    result = run("predict", copied, "black.png", "other.png")
    assert result.exit_code == 1
    assert "black.png: not classified: the model's probabilities for it are not finite" in result.stderr
    [row] = csv.reader(result.stdout.splitlines(), delimiter="\t")
    assert row == ["other.png", SPEC.class_names[2], "0.400000"]


# several labels an image


THRESHOLDS = [0.999, 0.5, 0.3001, 0.5, 0.0]


@pytest.fixture(scope="module")
def several(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights, exported as a model that gives several labels."""
    folder = tmp_path_factory.mktemp("several")
    model, _ = load_model(exported / "model.safetensors")
    spec = replace(SPEC, target="several_labels", thresholds=tuple(THRESHOLDS))
    save_model(model, spec, folder / "model.safetensors")
    files = write_formats(["onnx"], folder / "model.safetensors", Source(model, spec), folder / "export")
    write_json(
        describe_export(spec.preprocessing(), folder / "export", files), folder / "export" / "model.json"
    )
    return folder / "export"


def sigmoids(several: Path, paths: Sequence[Path]) -> np.ndarray:
    with torch.inference_mode():
        return logits_of(several, paths).double().sigmoid().numpy()


def test_all_labels_that_reach_their_threshold_are_printed(
    several: Path, photos: Path, anywhere: Path
) -> None:
    paths = files_in(photos)
    rows = predicted(several, photos)
    found = set()
    for row, probabilities in zip(rows, sigmoids(several, paths), strict=True):
        order = [i for i in np.argsort(-probabilities) if probabilities[i] >= THRESHOLDS[i]]
        assert row[1] == "|".join(SPEC.class_names[index] for index in order)
        numbers = [float(cell) for cell in row[2].split("|")]
        assert numbers == pytest.approx(probabilities[order], abs=1e-5)
        found |= set(order)
    assert len(rows) == len(paths)
    assert len({row[1] for row in rows}) > 1
    assert len(found) > 2


def test_an_image_without_a_label_has_empty_cells(several: Path, photos: Path, anywhere: Path) -> None:
    copy = shutil.copytree(several, anywhere / "strict")
    change(copy, thresholds=[1.0] * 5)
    assert run("predict", copy, photos / "a.png", "--out", "preds.csv").exit_code == 0
    assert (anywhere / "preds.csv").read_text() == f"path,labels,probabilities\n{photos / 'a.png'},,\n"


@pytest.mark.parametrize("top_k", [1, 2, 99])
def test_top_k_lists_the_most_probable_labels_whatever_their_thresholds(
    top_k: int, several: Path, photos: Path, anywhere: Path
) -> None:
    assert run("predict", several, photos, "--top-k", top_k, "--out", "preds.csv").exit_code == 0
    with (anywhere / "preds.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header[:3] == ["path", "class", "probability"]
    assert len(header) == 1 + 2 * min(top_k, 5)
    for row, probabilities in zip(rows, sigmoids(several, files_in(photos)), strict=True):
        order = np.argsort(-probabilities)[:top_k]
        assert row[1::2] == [SPEC.class_names[index] for index in order]
        assert [float(cell) for cell in row[2::2]] == pytest.approx(probabilities[order], abs=1e-5)


@pytest.mark.parametrize("thresholds", [None, [], [0.5] * 4, [0.5] * 4 + [1.5], ["0.5"] * 5, 0.5])
def test_thresholds_that_do_not_fit_the_labels_are_refused(
    thresholds: Any, several: Path, photos: Path, anywhere: Path
) -> None:
    copy = shutil.copytree(several, anywhere / "copied")
    change(copy, thresholds=thresholds)
    message = refused("predict", copy, photos)
    assert "model.json" in message
    assert "threshold" in message
    assert len(message.splitlines()) == 1


# abstaining


def with_rules(exported: Path, folder: Path, threshold: float | None, sets: list[float] | None) -> Path:
    """Returns a copy of an exported folder, with the rules that `evaluate` chooses."""
    copy = shutil.copytree(exported, folder / "with rules")
    rules: dict[str, Any] = {"abstention": {"target_precision": 0.95, "threshold": threshold}}
    if sets is not None:
        rules["conformal"] = {"coverage": 0.9, "thresholds": sets}
    change(copy, **rules)
    return copy


def test_it_abstains_below_the_threshold_and_prints_the_possible_classes(
    exported: Path, photos: Path, anywhere: Path
) -> None:
    expected = by_torch(exported, files_in(photos)).astype(np.float64)
    threshold = float(np.median(expected.max(axis=1))) - 1e-6
    sets = [0.05, 0.2, 0.9, 0.01, 0.5]
    model = with_rules(exported, anywhere, threshold, sets)
    rows = predicted(model, photos, "--abstain")
    abstained = 0
    for row, probabilities in zip(rows, expected, strict=True):
        is_sure = probabilities.max() >= threshold
        assert row[1] == (SPEC.class_names[probabilities.argmax()] if is_sure else "abstain")
        assert float(row[2]) == pytest.approx(probabilities.max(), abs=1e-5)
        order = [index for index in np.argsort(-probabilities) if probabilities[index] >= sets[index]]
        assert row[3] == "|".join(SPEC.class_names[index] for index in order)
        abstained += not is_sure
    assert 0 < abstained < len(rows)
    assert len({row[3] for row in rows}) > 1
    assert predicted(model, photos) == predicted(exported, photos)  # it is asked for, or nothing changes


def test_the_table_has_a_column_of_sets_and_is_known_as_a_table(
    exported: Path, photos: Path, anywhere: Path
) -> None:
    model = with_rules(exported, anywhere, 0.0, [0.0] * 5)
    for _ in range(2):  # the second one replaces the first
        result = run("predict", model, photos, "--abstain", "--top-k", 2, "--out", "preds.csv")
        assert result.exit_code == 0, result.stderr
    with (anywhere / "preds.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["path", "class", "probability", "class_2", "probability_2", "set"]
    assert all(sorted(row[5].split("|")) == sorted(SPEC.class_names) for row in rows)


def test_without_sets_there_is_no_column(exported: Path, photos: Path, anywhere: Path) -> None:
    model = with_rules(exported, anywhere, 1.0, None)
    assert {tuple(row[1:2]) for row in predicted(model, photos, "--abstain")} == {("abstain",)}
    assert {len(row) for row in predicted(model, photos, "--abstain")} == {3}


def test_a_class_called_abstain_is_told_from_no_answer(
    exported: Path, photos: Path, anywhere: Path
) -> None:
    model = with_rules(exported, anywhere, 1.0, None)
    change(model, class_names=["abstain", *SPEC.class_names[1:]])
    assert {row[1] for row in predicted(model, photos, "--abstain")} == {"(abstain)"}


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({}, "evaluate.target_precision was null, or an earlier version of darkroom"),
        (
            {"abstention": {"target_precision": 0.99, "threshold": None}},
            "no threshold was shown to reach the precision 0.99",
        ),
        ({"abstention": {"target_precision": 0.9, "threshold": 1.5}}, "not in darkroom's format"),
        (
            {
                "abstention": {"target_precision": 0.9, "threshold": 0.5},
                "conformal": {"coverage": 0.9, "thresholds": [0.5] * 4},
            },
            "has 4 thresholds of sets for 5 classes",
        ),
    ],
)
def test_a_model_that_cannot_abstain_says_why(
    rules: dict[str, Any], reason: str, copied: Path, photos: Path, anywhere: Path
) -> None:
    change(copied, **rules)
    assert reason in refused("predict", copied, photos, "--abstain")


def test_labels_of_which_the_model_is_unsure_are_left_open(
    several: Path, photos: Path, anywhere: Path
) -> None:
    expected = sigmoids(several, files_in(photos))
    yes, no = np.quantile(expected, 0.7, axis=0), np.quantile(expected, 0.3, axis=0)
    yes[4] = 2  # never sure that it is there
    model = shutil.copytree(several, anywhere / "copied")
    assert "has no thresholds for --abstain" in refused("predict", model, photos, "--abstain")
    rules = {"target_precision": 0.95, "yes": [*yes[:4].tolist(), None], "no": no.tolist()}
    change(model, abstention=rules, conformal={"coverage": 0.9, "thresholds": [0.5] * 5})
    rows = predicted(model, photos, "--abstain")
    # halfway between two images, so that float32 decides nothing
    for row, probabilities in zip(rows, expected, strict=True):
        is_open = (probabilities < yes) & (probabilities > no)
        order = np.argsort(-probabilities)
        sure = (probabilities >= THRESHOLDS) & ~is_open
        assert row[1] == "|".join(SPEC.class_names[index] for index in order if sure[index])
        assert row[3] == "|".join(SPEC.class_names[index] for index in order if is_open[index])
        assert row[4] == "|".join(
            SPEC.class_names[index] for index in order if probabilities[index] >= 0.5
        )
    assert len({row[3] for row in rows}) > 1
    assert predicted(model, photos) == predicted(several, photos)
    change(model, abstention={**rules, "no": no[:4].tolist()})
    assert "has 5 and 4 thresholds for --abstain" in refused("predict", model, photos, "--abstain")


# help


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--help"], ["predict", "params", "Reproducible image classification"]),
        (["-h"], ["predict", "params"]),
        (["predict", "--help"], ["EXPORT", "IMAGES", "--out", "--top-k", "exit status is 1"]),
        (["params", "-h"], ["--check", "--file", "allowed values"]),
        (["--version"], ["darkroom, version 0.1"]),
    ],
)
def test_help_says_what_there_is(arguments: list[str], told: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert [word for word in told if word not in text] == []


def test_an_unknown_command_or_option_is_refused() -> None:
    assert "predicct" in refused("predicct")
    assert "--topk" in refused("predict", "a", "b", "--topk", "3")


# params


def listed(*arguments: object) -> dict[str, str]:
    """The names and values that `darkroom params` lists, in their order."""
    result = run("params", *arguments)
    assert result.exit_code == 0, result.stderr
    row = re.compile(r"^\W{0,3}([a-z_]\S*)[ │]{2,}(\S+(?: \S+)*)", re.MULTILINE)
    (title, _), *rows = row.findall(result.stdout)
    assert title == "parameter"
    return dict(rows)


def all_parameters() -> list[str]:
    names = []
    for name, field in Params.model_fields.items():
        sections = getattr(field.annotation, "model_fields", None)
        names += [f"{name}.{inner}" for inner in sections] if sections else [name]
    return names


@pytest.fixture
def params_file(anywhere: Path) -> Path:
    return Path(shutil.copy(ROOT / "params.yaml", anywhere / "params.yaml"))


def test_params_lists_every_parameter_with_its_value(params_file: Path) -> None:
    values = listed()
    assert list(values) == all_parameters()
    assert values["train.clip_norm"] == "null"
    assert values["model.name"] == "cnn"
    params_file.write_text(params_file.read_text().replace("name: cnn", "name: resnet"))
    assert listed() == {**values, "model.name": "resnet"}


def test_params_reads_another_file(params_file: Path) -> None:
    text = params_file.read_text()
    params_file.write_text("broken: [")
    Path("other.yaml").write_text(text)
    assert list(listed("--file", "other.yaml")) == all_parameters()


def test_check_is_silent_where_all_is_right(params_file: Path) -> None:
    result = run("params", "--check")
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize("options", [(), ("--check",)])
def test_a_mistake_in_params_is_told_by_line(options: tuple[str, ...], params_file: Path) -> None:
    lines = params_file.read_text().splitlines()
    number = next(index for index, line in enumerate(lines) if "optimizer:" in line)
    lines[number] = lines[number].replace("optimizer", "optimiser")
    params_file.write_text("\n".join(lines) + "\n")
    message = refused("params", *options)
    assert f"params.yaml:{number + 1}: train.optimiser" in message
    assert "did you mean train.optimizer?" in message


def test_params_outside_a_project_says_so(anywhere: Path) -> None:
    assert "params.yaml: no such file; run the command in the project's root folder" in refused(
        "params", "--check"
    )

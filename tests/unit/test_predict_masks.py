"""The files and shares of `darkroom predict --masks`; tests/test_mask_pipeline.py runs the command."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.errors import UserError
from darkroom.prediction.description import ExportDescription
from darkroom.prediction.masks import class_shares, mask_files, write_mask
from darkroom.prediction.targets.interface import predicted_target
from darkroom.reporting.palette import palette

MODEL = Path("export")


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images and an export, which is the working directory."""
    for name in ("photos/a.png", "photos/inner/b.jpg", "export/model.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_masks_keep_the_arrangement_of_their_images() -> None:
    images = [Path("photos/a.png"), Path("photos/inner/b.jpg")]
    assert mask_files(images, Path("m"), MODEL) == [Path("m/a.png"), Path("m/inner/b.png")]
    assert mask_files(images[1:], Path("m"), MODEL) == [Path("m/b.png")]


@pytest.mark.parametrize(
    ("folder", "image", "message"),
    [
        ("export/masks", "photos/a.png", "--masks export/masks: is in export, which only the export"),
        ("photos/a.png", "photos/inner/b.jpg", "--masks photos/a.png: not a folder"),
        ("photos", "photos/a.png", "photos/a.png is one of the images; choose another folder"),
        ("m", "photos/a.bmp", "the masks of photos/a.png and photos/a.bmp would both be m/a.png"),
    ],
)
def test_folders_that_would_lose_something_are_refused_even_with_force(
    folder: str, image: str, message: str, there: Path
) -> None:
    images = [Path("photos/a.png"), Path(image)]
    before = sorted(there.rglob("*"))
    with pytest.raises(UserError, match=message):
        mask_files(list(dict.fromkeys(images)), Path(folder), MODEL, force=True)
    assert sorted(there.rglob("*")) == before


def test_an_existing_mask_is_replaced_only_with_force() -> None:
    mask, file = np.array([[0, 2], [2, 254]], np.uint8), Path("m/inner/a.png")
    write_mask(mask, file)
    found = Image.open(file)
    assert found.mode == "P"
    assert np.array(found).tolist() == mask.tolist()
    assert np.array(found.convert("RGB")).tolist() == palette()[mask].tolist()
    assert [path.name for path in file.parent.iterdir()] == ["a.png"]
    images = [Path("photos/a.png"), Path("photos/inner/a.png")]
    with pytest.raises(UserError, match=r"m/inner/a.png exists; choose another folder, or .* --force"):
        mask_files(images, Path("m"), MODEL)
    assert mask_files(images, Path("m"), MODEL, force=True)[1] == file
    Path("m/full").touch()
    with pytest.raises(UserError, match=r"--masks: m/full/a.png cannot be written"):
        write_mask(mask, Path("m/full/a.png"))


def test_shares_of_all_classes_sum_to_one() -> None:
    shares = class_shares(np.array([[0, 2], [2, 2]], np.uint8), 4)
    assert shares.tolist() == [0.25, 0, 0.75, 0]


def test_models_say_whether_they_predict_masks() -> None:
    described = ExportDescription(
        class_names=["a", "b"], input_size=(4, 6), channels=1, resize="stretch", target="mask"
    )
    kind, file = predicted_target("mask"), Path("export/model.json")
    assert kind.output_shape(described) == (2, 4, 6)
    kind.check(described, file, masks=True)
    with pytest.raises(UserError, match=r"model of export/model.json predicts masks; .* --masks FOLDER"):
        kind.check(described, file, masks=False)
    with pytest.raises(UserError, match=r"--abstain: the model of export/model.json predicts masks"):
        kind.limits(described, file)
    for name, per_image in (("one_class", "one class"), ("several_labels", "several labels")):
        labels = described.model_copy(update={"target": name, "thresholds": [0.5, 0.5]})
        predicted_target(name).check(labels, file, masks=False)  # type: ignore[arg-type]
        with pytest.raises(UserError, match=rf"--masks: the model of .* predicts {per_image} per image"):
            predicted_target(name).check(labels, file, masks=True)  # type: ignore[arg-type]

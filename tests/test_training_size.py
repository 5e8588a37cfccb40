"""Rectangles, a schedule of training sizes and mirror images, from files to the exported model."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from effort import only_with_all
from PIL import Image
from project import Project

from darkroom.dataset.shards import Shards
from darkroom.dataset.views import EvaluationView
from darkroom.models.spec import load_spec
from darkroom.prediction.decisions import Prediction
from darkroom.prediction.predictor import Predictor

SCHEDULE = [{"epoch": 1, "size": [12, 20]}, {"epoch": 2, "size": [16, 32]}]


def write_images(folder: Path) -> None:
    """Write 40 noisy images per class, of many shapes; those of the second class are brighter."""
    random = np.random.default_rng(0)
    for level, name in ((90, "dark"), (140, "light")):
        (folder / name).mkdir(parents=True)
        for number in range(40):
            shape = (random.integers(30, 60), random.integers(40, 90), 3)
            pixels = random.normal(level, 50, shape).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.mark.slow
@only_with_all
@pytest.mark.parametrize(("resize", "crop"), [("crop", "centre"), ("pad", "whole")])
def test_predict_sees_the_pixels_that_evaluate_sees(tmp_path: Path, resize: str, crop: str) -> None:
    project = Project(tmp_path)
    write_images(tmp_path / "data/mine")
    project.set_params(data__fetch=[], data__path="data/mine", model__width=8, evaluate__tta="flip")
    project.set_params(prepare__image_size=[24, 40], prepare__resize=resize)
    project.set_params(train__epochs=3, train__image_size=SCHEDULE, train__evaluate_crop=crop)
    project.set_params(export__formats=["onnx"])
    project.stages("prepare", "train", "evaluate", "export")

    spec = load_spec(tmp_path / "models/model.safetensors")
    assert (spec.input_size, spec.prepared_size, spec.evaluate_crop) == ((16, 32), (24, 40), crop)
    shards = Shards(tmp_path / "data/prepared/test", view=EvaluationView.of(spec.input_size, crop))
    images = shards.gather(np.arange(len(shards))).transpose(0, 3, 1, 2)
    predictor = Predictor(tmp_path / "export")
    files = [tmp_path / "data/mine" / path for path in shards.paths]
    for outcome, expected in zip(
        predictor.predict(files, len(spec.class_names)), predictor.probabilities(images), strict=True
    ):
        assert isinstance(outcome, Prediction)
        found = dict(zip(outcome.classes, outcome.probabilities, strict=True))
        np.testing.assert_allclose([found[name] for name in spec.class_names], expected, rtol=1e-6)

    flipped = np.ascontiguousarray(images[..., ::-1])
    mean = (predictor.probabilities(images) + predictor.probabilities(flipped)) / 2
    predictions = pq.read_table(tmp_path / "reports/evaluate/predictions.parquet").to_pydict()
    assert predictions["path"] == shards.paths
    np.testing.assert_allclose(predictions["probabilities"], mean, atol=1e-5)
    assert np.abs(np.array(predictions["probabilities"]) - predictor.probabilities(images)).max() > 1e-4

    for text in (project.text("export/README.md"), project.text("reports/evaluate/report.html")):
        assert "evaluate.tta: flip" in text
    card = project.text("export/README.md")
    assert "`3 x 16 x 32`" in card
    assert "resized to 24 x 40" in card

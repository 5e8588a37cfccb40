"""The scores of several trainings, as files, as JSON and as a table for the terminal."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from darkroom.evaluation.targets.interface import evaluation_target
from darkroom.inputs import InputWords
from darkroom.models.targets.interface import model_target
from darkroom.params import flatten
from darkroom.repeats.estimate import Estimate, estimate
from darkroom.retraining.parts import LabelledImages
from darkroom.retraining.trainings import Probabilities, Training
from darkroom.targets import WORDS

TITLE = {"f1_macro": "macro F1"}


@dataclass(frozen=True)
class Summary:
    """The scores of trainings on the images, or rows, that each is tested on."""

    names: list[str]
    sizes: list[int]
    """Number of tested images of each training."""
    scores: list[dict[str, float]]
    """``f1_macro``, and the fraction of images that are right, by its name in metrics.json."""
    ratio: float
    """See ``estimate``."""
    words: InputWords
    """The words for what is tested."""
    origin: dict[str, Any]
    """What the results depend on: ``data.digest``, and the parameters by full name."""

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        return {
            name: estimate([one[name] for one in self.scores], self.ratio) for name in self.scores[0]
        }

    def to_json(self) -> dict[str, Any]:
        """Return all figures in values that JSON can hold."""
        return {
            "origin": self.origin,
            "trainings": [
                {"name": name, "num_images": size, **scores}
                for name, size, scores in zip(self.names, self.sizes, self.scores, strict=True)
            ],
            **{name: asdict(one) for name, one in self.estimates.items()},
        }

    def table(self, titles: dict[str, str]) -> Table:
        """Return a row per training, and the mean with its interval.

        Args:
            titles: see ``titles_of``.
        """
        shown = Table(box=SIMPLE_HEAD)
        for heading in ("", self.words.several, *titles.values()):
            shown.add_column(heading, justify="right" if heading else "left")
        for name, size, scores in zip(self.names, self.sizes, self.scores, strict=True):
            shown.add_row(name, f"{size:,}", *(f"{scores[score]:.4f}" for score in titles))
        shown.add_section()
        found = [self.estimates[name] for name in titles]
        shown.add_row("mean", "", *(f"{one.mean:.4f}" for one in found))
        shown.add_row("95 % interval", "", *(f"{one.low:.4f} to {one.high:.4f}" for one in found))
        shown.add_row("standard deviation", "", *(f"{one.spread:.4f}" for one in found))
        return shown


def titles_of(images: LabelledImages) -> dict[str, str]:
    """Return the titles of the scores."""
    words = WORDS[images.info.target]
    return {**TITLE, words.score: words.score_title}


def summarise(
    trainings: Sequence[Training],
    found: Sequence[Probabilities],
    images: LabelledImages,
    ratio: float,
) -> Summary:
    """Return the scores of what each training predicts; labels are predicted from 0.5 on.

    Args:
        found: as ``probabilities_of_each`` yields them.
        ratio: see ``estimate``.
    """
    target, num_classes = evaluation_target(images.info.target), len(images.info.class_names)
    scores: list[dict[str, float]] = []
    for one, probabilities in zip(trainings, found, strict=True):
        labels = torch.from_numpy(images.shards.labels[one.rows])
        preds = target.preds(torch.from_numpy(probabilities), [0.5] * num_classes)
        brief = target.brief_scores(labels, preds, num_classes)
        scores.append({name: float(brief[name] or 0) for name in titles_of(images)})
    names, sizes = [one.name for one in trainings], [len(one.rows) for one in trainings]
    origin = {"data.digest": images.info.digest, **flatten(trainings[0].config)}
    return Summary(names, sizes, scores, ratio, images.words, origin)


def write_out_of_fold(
    trainings: Sequence[Training],
    found: Sequence[Probabilities],
    images: LabelledImages,
    separator: str,
    path: Path,
) -> None:
    """Write one row per train and val image: what the model of the other folds predicts for it.

    Args:
        separator: between the labels of an image.
    """
    names = np.array(images.info.class_names, object)
    folds = np.empty(len(images.shards), np.int64)
    probabilities = np.empty((len(folds), len(names)))
    for number, (one, of_fold) in enumerate(zip(trainings, found, strict=True), 1):
        folds[one.rows], probabilities[one.rows] = number, of_fold
    preds = model_target(images.info.target).decide(probabilities, [0.5] * len(names))
    truth = images.target.indicators(images.shards.labels, len(names))
    label, pred = WORDS[images.info.target].columns
    table = pa.table(
        {
            "path": images.shards.paths,
            "split": images.splits,
            "fold": folds,
            label: [separator.join(names[row]) for row in truth],
            pred: [separator.join(names[row]) for row in preds],
            "probabilities": list(probabilities.astype(np.float32)),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")

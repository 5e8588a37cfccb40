"""Write all files of an export, and compare them with the checkpoint on the test images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkroom.config.export import Export
from darkroom.dataset.shards import Shards
from darkroom.dataset.views import EvaluationView
from darkroom.export.formats import BY_FILE, is_smaller, parts, takes_pictures, write_formats
from darkroom.export.gate import settle
from darkroom.export.parity import Parity, check_parity
from darkroom.export.reload import Assessor
from darkroom.export.scores import scores_of_files
from darkroom.export.source import Source
from darkroom.export.targets.interface import images_with_truth
from darkroom.inputs import INPUT_WORDS
from darkroom.paths import MODEL
from darkroom.progress import progress_bar, spinner


@dataclass(frozen=True)
class Written:
    """Files that agree with the checkpoint."""

    entries: Mapping[Path, Mapping[str, Any]]
    """What parity.json says of each file, the checkpoint first."""
    latencies: Mapping[str, Mapping[str, float]]
    """As ``reload.measure`` returns, by file name."""
    max_abs_difference: float
    """The maximum difference of a probability; without files with fewer bits."""
    changes: Sequence[str]
    """A sentence on the macro F1 of each file with fewer bits."""


class _Viewed:
    """A classifier of prepared images before the view that it was trained on."""

    def __init__(self, classifier: Assessor, view: EvaluationView) -> None:
        self._classifier = classifier
        self._view = view

    def assess(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the outputs for uint8 NCHW images, as ``Classifier.assess``."""
        seen = self._view(images.permute(0, 2, 3, 1).numpy())
        return self._classifier.assess(torch.from_numpy(seen).permute(0, 3, 1, 2).contiguous())


def write_and_check(
    source: Source,
    options: Export,
    num_threads: int,
    test: Shards,
    groups: NDArray[np.int64] | None,
    folder: Path,
) -> Written:
    """Write the files of an export and classify the test images with each.

    Args:
        groups: as ``groups_of`` returns.

    Raises:
        UserError: a file does not load, or differs too much from the checkpoint.
    """

    def check(files: Sequence[Path], whole: bool = False) -> dict[str, Parity]:
        smaller = [file.name for file in files if is_smaller(file)]
        several = INPUT_WORDS[test.input].several
        images: Shards = test
        checkpoint: Assessor = source.classifier
        if whole and (view := EvaluationView.of(source.spec.input_size, source.spec.evaluate_crop)):
            images, checkpoint = test.viewed(None), _Viewed(source.classifier, view)
        title = f"export: classifying the test {several} with each file"
        with progress_bar(title, len(test), several) as bar:
            batches = bar.count(images_with_truth(images, source.spec))
            return check_parity(
                checkpoint,
                source.spec,
                files,
                batches,
                num_threads,
                options.parity_tolerance,
                test.paths,
                smaller,
            )

    def again(file: Path) -> Parity:
        BY_FILE[file.name].write(source, file, True)
        return check([file])[file.name]

    with spinner(f"export: writing {', '.join(['safetensors', *options.formats])}"):
        files = write_formats(options.formats, MODEL, source, folder)
    parities = check([file for file in files if not takes_pictures(file)])
    if pictures := list(filter(takes_pictures, files)):
        parities |= check(pictures, whole=True)
    judgements = {}
    for file in filter(is_smaller, files):
        parities[file.name], judgements[file.name] = settle(
            file.name,
            parities[file.name],
            partial(again, file),
            groups,
            source.spec.class_names,
            options.max_f1_drop,
        )
    scores = scores_of_files(parities, groups)
    entries = {
        file: {
            "bytes": sum(part.stat().st_size for part in parts(file)),
            **parities[file.name].to_dict(),
            **scores[file.name],
            **(judgements[file.name].to_dict() if file.name in judgements else {}),
        }
        for file in files
    }
    return Written(
        entries,
        {name: dict(parity.latency) for name, parity in parities.items()},
        max(parities[file.name].max_abs_difference for file in files if not is_smaller(file)),
        [judged.summary() for judged in judgements.values()],
    )

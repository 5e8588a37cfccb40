"""Features of images by a backbone that is not trained, computed once and kept on disk.

Features are computed in batches of a fixed size, so the bytes from the cache are those of a new
computation. They are vectors: the pooling of the head, which has no weights, belongs to them.
"""

import copy
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from darkroom.compute.device import is_out_of_memory
from darkroom.digests import code_digest
from darkroom.errors import UserError, counted
from darkroom.features.folding import fold_norms
from darkroom.features.store import Matrix, Store
from darkroom.inputs import INPUT_WORDS
from darkroom.loading.batches import Batches
from darkroom.loading.placement import Augmentation, Features
from darkroom.models.classifier import Classifier
from darkroom.models.spec import ModelSpec
from darkroom.progress import Bar, progress_bar

BATCH_IMAGES = 32
"""Number of images per pass; another number can change the rounding of results."""

CHUNK_IMAGES = 8 * BATCH_IMAGES
"""Number of images whose features are saved at once. A kill loses at most this much work."""

ROOMS = ("augment", "compute", "dataset", "features", "loading", "models")
"""Code that features depend on."""


class View(NamedTuple):
    """What is done to images before the backbone sees them."""

    augmentation: Augmentation | None = None
    number: int = 0
    """The draws of the augmentation are those of the epoch with this number."""
    description: str = ""
    """Everything that the augmentation depends on, such as its options and the seed."""


class Wanted(NamedTuple):
    """A split of the prepared data, and a view of its images."""

    images: Batches
    view: View = View()


class Extractor:
    """Computes the features of a model's backbone, or reads them from a store.

    Args:
        model: on its device; it is not changed.
        environment: as ``describe_environment`` returns it.
    """

    def __init__(
        self, model: Classifier, spec: ModelSpec, environment: Mapping[str, str], store: Store
    ) -> None:
        self._model = model
        self._head = model.network.head
        self._store = store
        self._input = spec.input
        self._origin = {
            "model": _description(model, spec),
            "environment": {**environment, **_numerics()},
            "code": code_digest(ROOMS),
            "batch": BATCH_IMAGES,
        }

    def features(self, wanted: Sequence[Wanted], stage: str) -> list[Features]:
        """Return the pooled features of each split and view, a row per image in the order of the shards.

        Args:
            stage: begins messages.

        Raises:
            UserError: the images of a batch do not fit into memory.
            OSError: the store cannot be written, or the disk is full.
        """
        matrices = [self._open(one) for one in wanted]
        for matrix in matrices:
            if matrix.num_damaged:
                chunks = counted(matrix.num_damaged, "chunk")
                print(
                    f"{stage}: {matrix.path}: {chunks} damaged; the features are computed again",
                    file=sys.stderr,
                )
        num_missing = sum(m.stop(start) - start for m in matrices for start in m.missing)
        num_known = sum(one.images.num_images for one in wanted) - num_missing
        if num_known:
            print(
                f"{stage}: features of {counted(num_known, INPUT_WORDS[self._input].one)} from the cache"
            )
        if num_missing:
            with progress_bar(
                f"{stage}: features", num_missing, INPUT_WORDS[self._input].several
            ) as bar:
                model = copy.deepcopy(self._model).eval()
                model.network.backbone = fold_norms(model.network.backbone)
                model = model.to(memory_format=torch.channels_last)
                for one, matrix in zip(wanted, matrices, strict=True):
                    _compute(model, one, matrix, bar)
        return [matrix.rows() for matrix in matrices]

    def _open(self, wanted: Wanted) -> Matrix:
        view = [wanted.view.number, wanted.view.description] if wanted.view.augmentation else []
        origin = {**self._origin, "pixels": wanted.images.digest, "view": view}
        key = hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()[:32]
        return self._store.open(key, (wanted.images.num_images, self._head.num_inputs), CHUNK_IMAGES)


@torch.inference_mode()
def _compute(model: Classifier, wanted: Wanted, matrix: Matrix, bar: Bar) -> None:
    """Compute the missing chunks of a matrix."""
    parts_of = {
        start: torch.arange(start, matrix.stop(start)).split(BATCH_IMAGES) for start in matrix.missing
    }
    parts = [part for parts in parts_of.values() for part in parts]
    loaded = wanted.images.views(parts, wanted.view.augmentation, wanted.view.number)
    for start, parts_of_chunk in parts_of.items():
        rows = []
        for _ in parts_of_chunk:
            images = next(loaded)
            rows.append(_vectors(model, images).cpu().numpy())
            bar.advance(len(images))
        matrix.write(start, np.concatenate(rows))


def _vectors(model: Classifier, images: Tensor) -> Tensor:
    try:
        return model.vectors(images).float()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"{len(images)} images of {images.shape[2]} x {images.shape[3]} pixels at once do not fit "
            f"into the memory of {images.device}, even without training; choose a smaller model or a "
            "smaller prepare.image_size"
        ) from None


def _description(model: Classifier, spec: ModelSpec) -> list[object]:
    """Return what identifies the backbone with its normalisation and the pooling of the head."""
    total = hashlib.sha256()
    tensors = {**model.network.backbone.state_dict(), ".mean": model.mean, ".std": model.std}
    for name, tensor in tensors.items():
        values = tensor.detach().cpu().contiguous().numpy()
        total.update(f"{name} {values.dtype} {values.shape} ".encode())
        total.update(values.tobytes())
    code = version("timm") if spec.name.startswith("timm:") else spec.file_sha256 or ""
    sizes = [spec.width, spec.depth, spec.patch_size, spec.input_size, spec.channels]
    parts = [name for name in (spec.activation, spec.pooling) if name]
    return [spec.name, code, sizes, *parts, model.network.head.pooling, total.hexdigest()]


def _numerics() -> dict[str, object]:
    """Return the settings of torch that can change the rounding."""
    return {
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "tf32": [torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32],
        "benchmark": torch.backends.cudnn.benchmark,
    }

"""torchvision's transforms and policies, and those of the user, on the CPU, one sample at a time."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from darkroom.augment.draws import HOST, draw_words
from darkroom.augment.own import OwnTransform
from darkroom.errors import UserError, brief, did_you_mean
from darkroom.loading.philox import join
from darkroom.loading.threads import threads
from darkroom.own_names import is_own_file

POLICIES = {
    "randaugment": "RandAugment",
    "trivialaugment": "TrivialAugmentWide",
    "autoaugment": "AutoAugment",
    "augmix": "AugMix",
}

Transform = Callable[[Tensor], Tensor]
"""uint8 ``(channels, height, width)`` -> the same."""


def make_transforms(
    policy: str | None, transforms: Sequence[Mapping[str, Mapping[str, Any]]]
) -> list[tuple[str, Transform]]:
    """Return the transforms and then the policy, with their names for error messages.

    Raises:
        UserError: torchvision has no such transform, or it rejects these arguments; or see
            ``OwnTransform``.
    """
    named = [item for transform in transforms for item in transform.items()]
    if policy is None and all(is_own_file(name) for name, _ in named):
        return [(f"augment.transforms: {name}", OwnTransform(name, given)) for name, given in named]
    from torchvision.transforms import v2  # 3.5 s to import

    classes = dict(inspect.getmembers(v2, lambda member: inspect.isclass(member)))
    known = [name for name, kind in classes.items() if issubclass(kind, v2.Transform)]
    created: list[tuple[str, Transform]] = []
    for name, arguments in named:
        if is_own_file(name):
            created.append((f"augment.transforms: {name}", OwnTransform(name, arguments)))
            continue
        if name not in known:
            near = did_you_mean(name, known) or "."
            raise UserError(
                f"augment.transforms: torchvision.transforms.v2 has no transform {name}{near}"
                f" The transforms are: {', '.join(known)}"
            )
        try:
            created.append((f"augment.transforms: {name}", classes[name](**arguments)))
        except Exception as error:
            raise UserError(
                f"augment.transforms: {name} rejects the arguments {dict(arguments)} ({brief(error)});"
                f" its signature is {inspect.signature(classes[name])}"
            ) from None
    if policy is not None:
        created.append((f"augment.policy: {policy}", classes[POLICIES[policy]]()))
    return created


def transform_each(
    transforms: Sequence[tuple[str, Transform]],
    images: Tensor,
    seed: int,
    epoch: int,
    sample_ids: Tensor,
) -> Tensor:
    """Apply the transforms to one sample after the other.

    They draw from torch's global generator, which is seeded for each sample and restored at the end.

    Args:
        images: uint8 ``(n, height, width, channels)`` on the CPU.
        sample_ids: int64 ``(n,)``.

    Returns:
        As ``images``.

    Raises:
        UserError: a transform rejects such an image, or does not return one.
    """
    words = draw_words(seed, epoch, sample_ids, HOST)
    seeds = join(words).tolist()
    changed = torch.empty_like(images, memory_format=torch.contiguous_format)
    with threads(1), torch.random.fork_rng(devices=[]):
        for image, sample_seed, out in zip(images, seeds, changed, strict=True):
            torch.default_generator.manual_seed(sample_seed)
            out.copy_(_transform(transforms, image.permute(2, 0, 1)).permute(1, 2, 0))
    return changed


def _transform(transforms: Sequence[tuple[str, Transform]], image: Tensor) -> Tensor:
    given = image
    for name, transform in transforms:
        try:
            image = transform(image)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{name} cannot transform a uint8 image of {_size(given)} ({brief(error)}); remove it"
            ) from None
        if not isinstance(image, Tensor) or (image.dtype, image.shape) != (given.dtype, given.shape):
            result = f"{type(image).__module__.split('.')[0]} {type(image).__name__}"
            if isinstance(image, Tensor) and image.ndim == 3:
                result = f"{str(image.dtype).removeprefix('torch.')} image of {_size(image)}"
            raise UserError(
                f"{name} turns a uint8 image of {_size(given)} into a {result};"
                " only transforms that keep type and size are allowed, so remove it"
            )
    return image


def _size(image: Tensor) -> str:
    channels, height, width = image.shape
    return f"{height} x {width} pixels and {channels} channel{'s' * (channels > 1)}"

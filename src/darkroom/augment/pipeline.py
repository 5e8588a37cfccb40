"""All enabled augmentations, as functions of the seed, the epoch and the sample id."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from darkroom.augment import draws
from darkroom.augment.colour import draw_jitter, jitter
from darkroom.augment.draws import Ints, draw_words
from darkroom.augment.erase import draw_erasures, erase
from darkroom.augment.geometry import (
    affine,
    draw_affine,
    draw_crops,
    draw_resized_crops,
    draw_shifts_and_flips,
    resized_crop,
    shift_and_flip,
    whole_images,
)
from darkroom.augment.host import make_transforms, transform_each
from darkroom.augment.masks import affine_masks, resized_crop_masks, shift_and_flip_masks
from darkroom.augment.mix import draw_mixes, mix_images
from darkroom.loading.placement import send

if TYPE_CHECKING:
    from darkroom.config.augment import Augment
    from darkroom.config.train import Cut, TrainingSizes

PIXELS_AT_ONCE = 1 << 17
"""On a CPU; larger arrays do not fit its caches, and their memory is allocated again each time."""


class _Step(NamedTuple):
    """An augmentation of batches on the device."""

    blocks: range
    draw: Callable[[Ints, int, int], Ints]
    """Takes the words of these blocks, ``(n, 4 * len(blocks))``, the height and the width; returns
    integers ``(n, ...)``."""
    apply: Callable[[Tensor, Tensor], Tensor]
    """Takes the images, and these integers on the same device; returns the images."""
    apply_to_masks: Callable[[Tensor, Tensor], Tensor] | None = None
    """The same for masks ``(n, height, width)``; None: they stay as they are."""
    size: tuple[int, int] | None = None
    """Height and width of the result; None: those of the images."""


class Augmentation:
    """Random changes of training images.

    Images are changed on the host (transforms, then the policy), then on the device (resized crop, shift
    and flips, affine transform, colour, erasing), then mixed. The result depends only on the seed, the
    epoch and the sample id, not on the batch, the device or the process.

    With ``sizes``, images are cut and resized first, on the host if there are transforms: a random
    resized crop; or a crop as large as the last size, at a random position; or the whole image. All
    other changes work on images of the training size.
    """

    def __init__(
        self, options: "Augment", seed: int, sizes: "TrainingSizes" = (), cuts: "Cut" = "centre"
    ) -> None:
        """Take the options and the seed, 0..2**32 - 1.

        Args:
            sizes: the training sizes; (): the size of the images.
            cuts: which part of an image is resized without a random resized crop: ``centre``: a crop
                at a random position, because evaluation takes the one at the centre; ``whole``.

        Raises:
            UserError: ``options.transforms`` is not possible with torchvision.
        """
        self._seed = seed
        self._transforms = make_transforms(options.policy, options.transforms)
        self._steps = _make_steps(options)
        self._smallest, self._sizes, self._cuts = options.resized_crop, sizes, cuts
        self._cuts_on_host = bool(self._transforms and sizes)
        self._mixup, self._cutmix = options.mixup, options.cutmix
        self.needs_host = bool(self._transforms)
        """Whether ``on_host`` changes images."""
        self.mixes = options.mixup is not None or options.cutmix is not None
        """Whether ``mix`` is to be called."""

    def on_host(self, images: Tensor, sample_ids: Tensor, epoch: int) -> Tensor:
        """Apply torchvision's transforms and policy, one sample at a time; cut the images before.

        This seeds torch's global generator and restores it, so no other thread may draw from it at the
        same time.

        Args:
            images: uint8 ``(n, height, width, channels)`` on the CPU.
            sample_ids: int64 ``(n,)`` on the CPU.

        Returns:
            As ``images``, in the training size; the same object if nothing is enabled.

        Raises:
            UserError: a transform rejects such an image, or does not return one.
        """
        if not self._transforms:
            return images
        if self._cuts_on_host:
            images = self._apply([self._cut(images, epoch)], images, sample_ids, epoch)
        return transform_each(self._transforms, images, self._seed, epoch, sample_ids)

    def on_device(self, images: Tensor, sample_ids: Tensor, epoch: int) -> Tensor:
        """Apply the augmentations that work on batches.

        Args:
            images: uint8 ``(n, height, width, channels)``, on any device.
            sample_ids: int64 ``(n,)`` on the CPU.

        Returns:
            As ``images``, in the training size; the same object if nothing is enabled.
        """
        steps = self._steps_of(images, epoch)
        return self._apply(steps, images, sample_ids, epoch) if steps else images

    def on_masks(self, masks: Tensor, sample_ids: Tensor, epoch: int) -> Tensor:
        """Move masks as ``on_device`` moves their images; changes of colour do not apply to them.

        What is drawn depends on the sample and the size alone, so it is drawn again.

        Args:
            masks: uint8 ``(n, height, width)``, as large as the images and on the same device.
            sample_ids: int64 ``(n,)`` on the CPU.

        Returns:
            As ``masks``, in the training size; the same object if nothing moves them.
        """
        assert not self.needs_host
        steps = [step for step in self._steps_of(masks, epoch) if step.apply_to_masks is not None]
        if not steps:
            return masks
        height, width = masks.shape[1:3]
        for step, drawn in zip(steps, self._draw(steps, sample_ids, epoch, height, width), strict=True):
            assert step.apply_to_masks is not None
            masks = step.apply_to_masks(masks, send(torch.from_numpy(drawn), masks.device))
        return masks

    def _steps_of(self, images: Tensor, epoch: int) -> list[_Step]:
        """Return the steps on the device, for images or masks."""
        if not self._cuts_on_host and (self._sizes or self._smallest is not None):
            return [self._cut(images, epoch), *self._steps]
        return self._steps

    def _cut(self, images: Tensor, epoch: int) -> _Step:
        """Return the step that cuts images and resizes them to the size of an epoch."""
        height, width = images.shape[1:3]
        last = self._sizes[-1][1] if self._sizes else (height, width)
        # sizes are counted from epoch 1
        size = next((size for first, size in reversed(self._sizes) if first <= epoch + 1), last)
        apply = partial(resized_crop, size=size)
        to_masks = partial(resized_crop_masks, size=size)
        if self._smallest is not None:
            draw = partial(draw_resized_crops, smallest=self._smallest)
            return _Step(draws.RESIZED_CROP, draw, apply, to_masks, size)
        if self._cuts == "whole":
            return _Step(draws.CROP, whole_images, apply, to_masks, size)
        return _Step(draws.CROP, partial(draw_crops, size=last), apply, to_masks, size)

    def _apply(self, steps: list[_Step], images: Tensor, sample_ids: Tensor, epoch: int) -> Tensor:
        """Apply steps to batches, in parts that fit a CPU's caches."""
        num_images, height, width, _ = images.shape
        drawn = self._draw(steps, sample_ids, epoch, height, width)
        widths = [values.shape[1] for values in drawn]
        # a single copy to the device, for any augmentation
        changes = send(torch.from_numpy(np.concatenate(drawn, axis=1)), images.device)
        num_parts = 1
        if images.device.type == "cpu":
            num_parts = max(1, min(num_images, num_images * height * width // PIXELS_AT_ONCE))
        changed = []
        for part, part_changes in zip(
            images.tensor_split(num_parts), changes.tensor_split(num_parts), strict=True
        ):
            for step, change in zip(steps, part_changes.split(widths, dim=1), strict=True):
                part = step.apply(part, change)
            changed.append(part)
        return changed[0] if num_parts == 1 else torch.cat(changed)

    def _draw(
        self, steps: list[_Step], sample_ids: Tensor, epoch: int, height: int, width: int
    ) -> list[Ints]:
        """Return what each step draws: integers ``(n, ...)``."""
        blocks = [block for step in steps for block in step.blocks]
        words = draw_words(self._seed, epoch, sample_ids, blocks)
        drawn, start = [], 0
        for step in steps:
            stop = start + 4 * len(step.blocks)
            drawn.append(step.draw(words[:, start:stop], height, width))
            height, width = step.size or (height, width)
            start = stop
        return drawn

    def mix(
        self, images: Tensor, targets: Tensor, sample_ids: Tensor, epoch: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mix each image with the next one.

        Args:
            images: uint8 ``(n + 1, height, width, channels)``, on any device.
            targets: int64 ``(n + 1,)``, on the same device.
            sample_ids: int64 on the CPU; only the first ``n`` are used.

        Returns:
            images: float32 ``(n, height, width, channels)``, 0..255;
            other_targets: int64 ``(n,)``, the targets of the partners;
            shares: float32 ``(n,)``, 0..1, the weight of a sample's own target.
        """
        _, height, width, _ = images.shape
        words = draw_words(self._seed, epoch, sample_ids[: len(images) - 1], draws.MIX)
        mixes = torch.from_numpy(draw_mixes(words, height, width, self._mixup, self._cutmix))
        mixed, shares = mix_images(images, send(mixes, images.device), self._cutmix is not None)
        return mixed, targets[1:], shares


def _make_steps(options: "Augment") -> list[_Step]:
    """Return the steps that the options enable, but for the resized crop."""
    steps = []
    if options.crop_padding > 0 or options.horizontal_flip or options.vertical_flip:
        draw_shifts = partial(
            draw_shifts_and_flips,
            crop_padding=options.crop_padding,
            horizontal_flip=options.horizontal_flip,
            vertical_flip=options.vertical_flip,
        )
        steps.append(_Step(draws.SHIFT_AND_FLIP, draw_shifts, shift_and_flip, shift_and_flip_masks))
    if options.rotate > 0 or options.translate > 0 or options.scale > 0:
        draw_changes = partial(
            draw_affine, rotate=options.rotate, translate=options.translate, scale=options.scale
        )
        steps.append(_Step(draws.AFFINE, draw_changes, affine, affine_masks))
    strengths = (options.brightness, options.contrast, options.saturation, options.hue)
    if any(strengths):
        draw_factors = partial(draw_jitter, strengths=strengths)
        steps.append(_Step(draws.COLOUR, draw_factors, partial(jitter, strengths=strengths)))
    if options.erase > 0:
        draw_boxes = partial(draw_erasures, probability=options.erase)
        steps.append(_Step(draws.ERASE, draw_boxes, partial(erase, fill=options.erase_fill)))
    return steps

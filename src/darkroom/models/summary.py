"""The layers of a network and what they cost."""

from dataclasses import dataclass
from typing import Any
from warnings import catch_warnings

import torch
from torch import nn

from darkroom.errors import counted
from darkroom.inputs import INPUT_WORDS
from darkroom.models.classifier import Classifier
from darkroom.models.spec import ModelSpec

COLUMNS = ("layer", "kind", "output", "parameters")


@dataclass(frozen=True)
class Layer:
    """A module without submodules, or with parameters of its own.

    The shape is that of the output for one image; ``()`` if another module uses the weights.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    num_parameters: int

    def cells(self) -> tuple[str, str, str, str]:
        """Return the texts for ``COLUMNS``."""
        shape = " x ".join(str(size) for size in self.output_shape)
        return self.name, self.kind, shape, f"{self.num_parameters:,}" if self.num_parameters else ""


@dataclass(frozen=True)
class Summary:
    """Layers and totals; only operations of convolutions and matrix products are counted."""

    layers: list[Layer]
    num_parameters: int
    num_multiply_adds: int
    each: str = "an image"
    """What the operations are counted for."""

    def totals(self) -> str:
        return (
            f"{self.num_parameters:,} parameters, {self.num_multiply_adds:,} multiply-adds {self.each}"
        )


@torch.no_grad()
def summarize(classifier: Classifier, spec: ModelSpec) -> Summary:
    """Return the layers of a network, by running it on a blank image on its device, maybe ``meta``.

    Names are relative to the network, as in ``train.freeze``. Weights and random generators are not
    changed.
    """
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, torch.Tensor):  # the encoder of a U-Net returns several maps by name
            shapes.setdefault(module, tuple(first.shape[1:]))

    modules = dict(classifier.network.named_modules())
    handles = [module.register_forward_hook(note) for module in modules.values()]
    was_training = classifier.training
    from torch.utils.flop_counter import FlopCounterMode  # slow: imports triton

    classifier.eval()
    image = torch.zeros(1, spec.channels, *spec.input_size, device=classifier.mean.device)
    try:
        # the counter knows torch's operator for linear layers, not oneDNN's
        with (
            catch_warnings(action="ignore"),  # torch warns of TF32 on GPUs of Intel
            torch.backends.mkldnn.flags(enabled=False),
            FlopCounterMode(display=False) as counter,
        ):
            classifier(image)
    finally:
        classifier.train(was_training)
        for handle in handles:
            handle.remove()
    layers = []
    for name, module in modules.items():
        count = sum(p.numel() for p in module.parameters(recurse=False))
        is_used_leaf = module in shapes and not list(module.children())
        if count or is_used_leaf:  # attention uses the weights of a layer without calling it
            layers.append(Layer(name, type(module).__name__, shapes.get(module, ()), count))
    num_parameters = sum(layer.num_parameters for layer in layers)
    each = INPUT_WORDS[spec.input].a
    return Summary(layers, num_parameters, counter.get_total_flops() // 2, each)


def input_text(spec: ModelSpec) -> str:
    """Return what a network takes, as part of a sentence."""
    if spec.encoding is not None:
        return f"rows of {counted(spec.encoding.size, 'value')}"
    height, width = spec.input_size
    return f"{'RGB' if spec.channels == 3 else 'grey'} images of {height} x {width} pixels"


def summary_text(classifier: Classifier, spec: ModelSpec) -> str:
    """Return the result of ``summarize`` as plain text."""
    summary = summarize(classifier, spec)
    rows = [COLUMNS, *(layer.cells() for layer in summary.layers)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = []
    for *words, count in rows:
        padded = [word.ljust(width) for word, width in zip(words, widths, strict=False)]
        lines.append("  ".join([*padded, count.rjust(widths[-1])]).rstrip())
    return "\n".join([*lines, "", summary.totals(), ""])

"""What a network consists of, layer by layer, and what it costs."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle

from darkroom.models.classifier import Classifier
from darkroom.models.spec import ModelSpec

COLUMNS = ("layer", "kind", "output", "parameters")


@dataclass(frozen=True)
class Layer:
    """A module without parts, in the order of its first use. The shape is one image's."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    num_parameters: int

    def cells(self) -> tuple[str, str, str, str]:
        """Returns the text of ``COLUMNS``."""
        shape = " x ".join(str(size) for size in self.output_shape)
        return self.name, self.kind, shape, f"{self.num_parameters:,}" if self.num_parameters else ""


@dataclass(frozen=True)
class Summary:
    """Layers and totals; a multiplication and its addition count as one, in the network's products."""

    layers: list[Layer]
    num_parameters: int
    num_multiply_adds: int

    def totals(self) -> str:
        return f"{self.num_parameters:,} parameters, {self.num_multiply_adds:,} multiply-adds an image"


@torch.no_grad()
def summarize(classifier: Classifier, spec: ModelSpec) -> Summary:
    """Runs the network once on a blank image, on its device, which may be ``meta``.

    Names are as in ``train.freeze``: relative to the network. Neither weights nor generators change.
    """
    layers: dict[str, Layer] = {}
    handles: list[RemovableHandle] = []

    def note(name: str, module: nn.Module) -> None:
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            if name not in layers and isinstance(output, Tensor):
                count = sum(p.numel() for p in module.parameters())
                layers[name] = Layer(name, type(module).__name__, tuple(output.shape[1:]), count)

        handles.append(module.register_forward_hook(hook))

    for name, module in classifier.network.named_modules():
        if not list(module.children()):
            note(name, module)
    was_training = classifier.training
    classifier.eval()
    image = torch.zeros(1, spec.channels, *spec.input_size, device=classifier.mean.device)
    try:
        with FlopCounterMode(display=False) as counter:
            classifier(image)
    finally:
        classifier.train(was_training)
        for handle in handles:
            handle.remove()
    num_parameters = sum(p.numel() for p in classifier.parameters())
    return Summary(list(layers.values()), num_parameters, counter.get_total_flops() // 2)


def summary_text(classifier: Classifier, spec: ModelSpec) -> str:
    """Returns ``summarize`` as lines of plain text."""
    summary = summarize(classifier, spec)
    rows = [COLUMNS, *(layer.cells() for layer in summary.layers)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = []
    for *words, count in rows:
        padded = [word.ljust(width) for word, width in zip(words, widths, strict=False)]
        lines.append("  ".join([*padded, count.rjust(widths[-1])]).rstrip())
    return "\n".join([*lines, "", summary.totals(), ""])

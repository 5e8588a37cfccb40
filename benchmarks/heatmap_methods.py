"""Compares heatmaps of networks without feature maps by what hiding the hottest pixels takes.

    python benchmarks/heatmap_methods.py
    python benchmarks/heatmap_methods.py --table

Trains small networks on 1,000 of scikit-learn's digits, three seeds each, and hides the hottest tenth of
the pixels of 300 others. It takes two minutes and adds a line per network, seed and method to
benchmarks/results/heatmap-methods.jsonl:

- ``hottest`` and ``coldest``: the mean loss of probability of the predicted class if these pixels become
  the mean training pixel, black, or those of another image;
- ``random_weights`` and ``other_class``: the mean rank correlation with the maps of an untrained
  network, and of the next class.

The methods: ``ours``, as ``evaluate`` draws it; ``absolute``, gradient x input without its sign;
``rollout`` (Abnar and Zuidema, "Quantifying Attention Flow in Transformers", 2020); ``attention``
weighted by its gradient (after Chefer et al., "Generic Attention-model Explainability for Interpreting
Bi-Modal and Encoder-Decoder Transformers", 2021); and ``random`` pixels.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from machine import hardware, keep, kept
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from torch import Tensor
from torch.overrides import TorchFunctionMode

from darkroom.catalogue.counting import blank_spec
from darkroom.compute.determinism import set_determinism
from darkroom.evaluation.heatmaps import heatmaps
from darkroom.models.classifier import Classifier
from darkroom.models.factory import make_classifier

NAME = "heatmap-methods"
SIDE, MEAN, NUM_HIDDEN = 8, 0.3, 6
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"name": "mlp", "width": 64, "depth": 2},
    "vit, 16 patches": {"name": "vit", "width": 32, "depth": 2, "patch_size": 2},
    "vit, 64 patches": {"name": "vit", "width": 32, "depth": 2, "patch_size": 1},
}
FILLS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda images: torch.full_like(images, round(255 * MEAN)),
    "black": torch.zeros_like,
    "another": lambda images: images.roll(1, dims=0),
}
Method = Callable[[Classifier, Tensor, Tensor], Tensor]


class AttentionWeights(TorchFunctionMode):
    """Keeps the attention of each layer, ``(n, heads, patches, patches)``."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is Tensor.softmax:
            self.layers.append(output)
        return output


def rollout(model: Classifier, images: Tensor, classes: Tensor) -> Tensor:
    """Returns how much of each patch reaches the mean of all patches, ``(n, h, w)``."""
    with AttentionWeights() as attention, torch.no_grad():
        model(images)
    return _rolled([layer.double().mean(dim=1) for layer in attention.layers])


def weighted_attention(model: Classifier, images: Tensor, classes: Tensor) -> Tensor:
    """Returns the same of attention times its gradient, where that speaks for the class."""
    with AttentionWeights() as attention:
        score = model(images).gather(1, classes[:, None]).sum()
    gradients = torch.autograd.grad(score, attention.layers)
    weighted = [
        (layer.double() * gradient.double()).relu().mean(dim=1).detach()
        for layer, gradient in zip(attention.layers, gradients, strict=True)
    ]
    return _rolled([layer / layer.sum(dim=2, keepdim=True).clamp(min=1e-12) for layer in weighted])


def _rolled(layers: list[Tensor]) -> Tensor:
    num_images, num_patches, _ = layers[0].shape
    reached = torch.full((num_images, 1, num_patches), 1 / num_patches, dtype=torch.float64)
    for layer in reversed(layers):
        reached = (reached + reached @ layer) / 2  # half of it passes by the attention
    return reached.reshape(num_images, int(num_patches**0.5), -1)


def absolute(model: Classifier, images: Tensor, classes: Tensor) -> Tensor:
    """Returns the absolute gradient times input of each pixel, ``(n, h, w)``."""
    pixels = images.float().requires_grad_()
    [gradients] = torch.autograd.grad(model(pixels).gather(1, classes[:, None]).sum(), pixels)
    return (gradients.double() * (pixels.detach() - 255 * MEAN)).sum(dim=1).abs()


def ours(model: Classifier, images: Tensor, classes: Tensor) -> Tensor:
    return heatmaps(model, images, classes)[0]


def drawn(model: Classifier, images: Tensor, classes: Tensor) -> Tensor:
    return torch.rand(len(images), SIDE, SIDE, dtype=torch.float64)


def methods_of(name: str) -> dict[str, Method]:
    """Returns the methods that fit a network."""
    found: dict[str, Method] = {"ours": ours, "absolute": absolute, "random": drawn}
    if name.startswith("vit"):
        found |= {"rollout": rollout, "attention": weighted_attention}
    return found


def digits() -> tuple[Tensor, Tensor]:
    """Returns uint8 images ``(n, 1, 8, 8)`` and targets."""
    loaded = load_digits()
    images = torch.from_numpy((loaded.images * 15.9).astype(np.uint8))[:, None]
    return images, torch.from_numpy(loaded.target)


def classifier(name: str, seed: int) -> Classifier:
    torch.manual_seed(seed)
    spec = blank_spec(**NETWORKS[name], num_classes=10, input_size=(SIDE, SIDE), channels=1)
    return make_classifier(replace(spec, mean=(MEAN,), std=(0.4,))).eval()


def trained(name: str, seed: int) -> Classifier:
    """Returns a network after 200 steps on the first 1,000 digits."""
    model = classifier(name, seed).train()
    images, targets = digits()
    optimizer = torch.optim.Adam(model.parameters(), 0.005)
    for step in range(200):
        batch = torch.arange(step * 100, (step + 1) * 100) % 1000
        optimizer.zero_grad()
        F.cross_entropy(model(images[batch]), targets[batch]).backward()
        optimizer.step()
    return model.eval()


def spread(heat: Tensor) -> Tensor:
    """Returns heat at every pixel, as a browser enlarges it, ``(n, 64)``."""
    return F.interpolate(heat[:, None], (SIDE, SIDE), mode="bilinear")[:, 0].flatten(1)


@torch.no_grad()
def lost(model: Classifier, images: Tensor, preds: Tensor, order: Tensor, filled: Tensor) -> float:
    """Returns the mean loss of probability if the pixels that come first become those of ``filled``."""
    first = order.argsort(dim=1, descending=True)[:, :NUM_HIDDEN]
    hidden = images.flatten(1).scatter(1, first, filled.flatten(1).gather(1, first))
    before, after = (
        model(some).softmax(dim=1).gather(1, preds[:, None]).mean().item()
        for some in (images, hidden.reshape(images.shape))
    )
    return round(before - after, 4)


def correlation(one: Tensor, other: Tensor) -> float | None:
    """Returns the mean rank correlation of maps that are not constant."""
    pairs = zip(spread(one).numpy(), spread(other).numpy(), strict=True)
    found = [spearmanr(*pair).statistic for pair in pairs if all(heat.std() > 0 for heat in pair)]
    return round(float(np.mean(found)), 3) if found else None


def measure(name: str, seed: int) -> None:
    """Adds a line per method."""
    model, untrained = trained(name, seed), classifier(name, seed + 100)
    images, targets = (some[1000:1300] for some in digits())
    preds = model(images).argmax(dim=1)
    for method, draw in methods_of(name).items():
        heat = draw(model, images, preds)
        orders = {"hottest": spread(heat), "coldest": -spread(heat)}
        figures = {
            f"{where}_{fill}": lost(model, images, preds, order, FILLS[fill](images))
            for where, order in orders.items()
            for fill in FILLS
        }
        keep(NAME, {
            "network": name, "seed": seed, "method": method, **hardware(),
            "accuracy": round((preds == targets).double().mean().item(), 4), **figures,
            "random_weights": correlation(heat, draw(untrained, images, preds)),
            "other_class": correlation(heat, draw(model, images, (preds + 1) % 10)),
        })  # fmt: skip


def table() -> None:
    """Prints the means over the seeds of the newest lines, hottest / coldest."""
    newest = {(line["network"], line["method"], line["seed"]): line for line in kept(NAME)}
    print("| network | method | " + " | ".join(FILLS) + " | random weights | other class |")
    print("|---|---|" + "---:|" * (len(FILLS) + 2))
    for network, method in dict.fromkeys(key[:2] for key in newest):
        lines = [line for key, line in newest.items() if key[:2] == (network, method)]

        def mean(field: str, lines: list[dict[str, Any]] = lines) -> str:
            return f"{statistics.mean(line[field] for line in lines):.2f}"

        cells = [f"{mean(f'hottest_{fill}')} / {mean(f'coldest_{fill}')}" for fill in FILLS]
        cells += [mean("random_weights"), mean("other_class")]
        print(f"| {network} | {method} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="print the newest figures as a table")
    if parser.parse_args().table:
        table()
        return
    set_determinism(0, num_threads=1)
    for name in NETWORKS:
        for seed in range(3):
            measure(name, seed)


if __name__ == "__main__":
    main()

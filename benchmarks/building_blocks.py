"""Trains deep and small networks on the digits, with other activations, initial weights and poolings.

    python benchmarks/building_blocks.py [--seeds 3] [--epochs 15] [--dry] [--table]

- ``mlp``: 20 layers of 64 units with tanh or relu and PyTorch's, kaiming or orthogonal initial weights,
  as it is and without batch normalisation. With as many inputs as outputs, xavier is kaiming.
- ``pooling``: a cnn of width 16 with max, avg and stride.

1,437 images to train on, 360 to test, another split for each seed; plain SGD with a one-cycle schedule.
Gradient norms are those of the first step; F1 is the macro F1 of the last epoch on the test images.

Adds a line per network to benchmarks/results/building-blocks.jsonl; ``--table`` prints those lines.
"""

import argparse
import statistics
from collections.abc import Iterator
from typing import Any

import torch
from machine import describe, hardware_of_training, keep, kept
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from training import TRAIN, make_plain_loss, section

from darkroom.catalogue.counting import blank_spec
from darkroom.compute.determinism import set_determinism
from darkroom.loading.batches import TrainBatch
from darkroom.models.weights import start_from
from darkroom.training.engine import fit
from darkroom.training.gradients import ends_of
from darkroom.training.state import TrainingState

NAME = "building-blocks"
BATCH_SIZE, DEPTH = 64, 20
OPTIONS = {"lr": 0.05, "label_smoothing": 0.0, "gradient_norms": True}


def networks() -> Iterator[dict[str, Any]]:
    """Yields what distinguishes a network."""
    for norm in ("none", "batch"):
        for activation in ("tanh", "relu"):
            for init in ("torch", "kaiming", "orthogonal"):
                yield {"name": "mlp", "activation": activation, "init": init, "norm": norm}
    for pooling in ("max", "avg", "stride"):
        yield {"name": "cnn", "pooling": pooling}


def make_network(network: dict[str, Any]) -> nn.Module:
    """Returns a network; its weights are drawn from torch's global generator."""
    is_deep = network["name"] == "mlp"
    spec = blank_spec(
        name=network["name"],
        width=64 if is_deep else 16,
        depth=DEPTH if is_deep else 2,
        activation=network.get("activation"),
        pooling=network.get("pooling"),
        num_classes=10,
        input_size=(8, 8),
        channels=1,
    )
    model = start_from("random", spec, network.get("init")).classifier
    if network.get("norm") == "none":
        for path, module in list(model.named_modules()):
            if isinstance(module, nn.BatchNorm1d):
                model.set_submodule(path, nn.Identity())
    return model


def split(seed: int) -> list[tuple[Tensor, Tensor]]:
    """Returns images, uint8 ``(n, 1, 8, 8)``, and labels to train on and to test."""
    digits = load_digits()
    images = torch.from_numpy(digits.images * 255 / 16).to(torch.uint8)[:, None]
    parts = train_test_split(
        images, torch.from_numpy(digits.target).long(), test_size=0.2, random_state=seed
    )
    return [(parts[0], parts[2]), (parts[1], parts[3])]


def train(network: dict[str, Any], seed: int, epochs: int) -> dict[str, float]:
    """Trains a network, and returns its macro F1 and the norms of its first step's gradients."""
    (images, targets), test = split(seed)
    options = section({**TRAIN, **OPTIONS, "epochs": epochs})
    torch.manual_seed(seed)
    model = make_network(network)
    loss = make_plain_loss(options, torch.device("cpu"))
    num_steps = len(images) // BATCH_SIZE

    def batches(epoch: int, step: int) -> Iterator[TrainBatch]:
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1000 * seed + epoch))
        for chosen in order[: num_steps * BATCH_SIZE].view(num_steps, -1)[step:]:
            yield TrainBatch(images[chosen], targets[chosen])

    first = TrainingState(model, options, num_steps)
    logits = model.train()(images[:BATCH_SIZE])
    nn.functional.cross_entropy(logits, targets[:BATCH_SIZE]).backward()
    assert first.gradients is not None
    first.gradients.add_step()
    ends = ends_of(first.gradients.of_epoch(1))
    assert ends is not None
    state = TrainingState(model, options, num_steps)
    result = list(fit(state, batches, lambda _: [test], loss, options, seed))[-1]
    return {
        "first_layer": ends[0].grad_norm or 0.0,
        "last_layer": ends[1].grad_norm or 0.0,
        "f1_macro": result.val_f1_macro,
    }


def measure(network: dict[str, Any], seeds: int, epochs: int) -> dict[str, Any]:
    found = [train(network, seed, epochs) for seed in range(seeds)]
    columns = {name: [each[name] for each in found] for name in found[0]}
    return {
        **network,
        "depth": DEPTH if network["name"] == "mlp" else 2,
        "epochs": epochs,
        "seeds": seeds,
        **{name: float(f"{statistics.mean(values):.4g}") for name, values in columns.items()},
        "f1_range": [round(edge(columns["f1_macro"]), 4) for edge in (min, max)],
    }


def print_table() -> None:
    """Prints the newest line of each network, as in docs/models.md."""
    newest: dict[tuple[Any, ...], Any] = {
        tuple(line.get(key) for key in ("name", "activation", "init", "norm", "pooling")): line
        for line in kept(NAME)
    }
    print(
        "| hardware | network | gradient, first layer | last layer | macro F1 |\n|---|---|---|---|---|"
    )
    for (name, *words), line in newest.items():
        what = ", ".join([name, *(f"{word}" for word in words if word)])
        lowest, highest = line["f1_range"]
        scores = f"{line['f1_macro']:.3f} ({lowest:.3f} to {highest:.3f})"
        norms = f"{line['first_layer']:.2g} | {line['last_layer']:.2g}"
        print(f"| {describe(line)} | {what} | {norms} | {scores} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    parser.add_argument("--table", action="store_true", help="print the kept lines")
    args = parser.parse_args()
    if args.table:
        print_table()
        return
    set_determinism(0, num_threads=1, deterministic=True, tf32=False)
    hardware = hardware_of_training("cpu")
    for network in networks():
        line = measure(network, args.seeds, args.epochs)
        keep(NAME, {**line, **hardware}, args.dry)


if __name__ == "__main__":
    main()

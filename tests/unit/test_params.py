"""params.yaml: what is refused, in which words and at which line; and what is not."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from darkroom.config.augment import Augment
from darkroom.config.fetch import NamedSet
from darkroom.config.params import Params
from darkroom.errors import UserError
from darkroom.params import flatten, load_params, parameters

ROOT = Path(__file__).parents[2]
SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")
FILE = Path("params.yaml")

TO_10_000 = "a whole number at least 1 and at most 10,000"
LR = "auto or a number above 0 and at most 100"
FRACTION = "a number above 0 and below 1"
SEED = "a whole number at least 0 and at most 4,294,967,295"
SIDES = "a whole number at least 1 and at most 2,048 or [height, width]"
SIZE = f"auto or {SIDES}"
TRAIN_SIZE = f"{SIDES} or a list of {{epoch: 1, size: SIZE}} or null"
DROPOUT = "a number at least 0 and below 1"
SETS = (
    f"a list with any of {', '.join(get_args(NamedSet))} or hf--OWNER--NAME"
    " or file:own/fetch/FILE.py:NAME"
)
OWN_OPTIONS = {"width": "8", "depth": "2"}  # null for networks of libraries
LIBRARY = {
    "model.name": "name: torchvision:resnet18",
    **{f"model.{option}": f"{option}: null" for option in OWN_OPTIONS},
}
OPTIMIZERS = "one of sgd, adam, adamw, adagrad, adadelta, rmsprop, muon"
SCHEDULES = "one of constant, one_cycle, cosine, step, multi_step, exponential, plateau"
OWN_FILE = "file:own/train/NAME.py:NAME"
MODELS = (
    "mlp or cnn or resnet or vit or unet or torchvision:NAME or timm:NAME or"
    f" smp:ARCHITECTURE.ENCODER or {OWN_FILE}"
)
EPOCHS = "a whole number at least 1 and at most 10,000 or a list of such numbers or null"
FROZEN = "one of none, backbone or a list of layer name patterns"
UNFROZEN = "a list with any of {epoch: 3, layers: pattern}"
FACTORS = "{pattern: factor}, such as {backbone.*: 0.1}"
GATE = "{min_f1_macro: 0.95, min_recall: 0.9, max_drop: 0.01, against: champion} or null"
CLASS_WEIGHTS = "balanced or {class: weight} or null"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def find_line(text: str, name: str) -> int:
    """Returns the line, from 0, of ``train`` or ``train.lr`` in the text of a params.yaml."""
    section, _, key = name.rpartition(".")
    lines = text.splitlines()
    start = find_line(text, section) + 1 if section else 0
    wanted = f"{'  ' if section else ''}{key}:"
    return next(i for i in range(start, len(lines)) if lines[i].startswith(wanted))


def edited(edits: dict[str, str]) -> str:
    """Puts other lines in place of a parameter, or of a whole section, of the shipped file."""
    text = SHIPPED
    for name, replacement in edits.items():
        lines = text.splitlines()
        start = find_line(text, name)
        indent = "  " if "." in name else ""
        end = start + 1
        while end < len(lines) and lines[end].startswith(f"{indent}  "):
            end += 1
        new = [indent + line for line in replacement.splitlines()]
        text = "\n".join([*lines[:start], *new, *lines[end:]]) + "\n"
    return text


def with_line(text: str, message: str) -> str:
    """Puts file and line before a message: a missing name is reported where its section starts."""
    name = message.split(": ")[0].split(" ")[0]
    if " is missing" in message:
        name = name.rpartition(".")[0]
    return f"params.yaml:{find_line(text, name) + 1 if name else 1}: {message}"


def refusal(content: str | bytes) -> str:
    FILE.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as refused:
        load_params(FILE)
    return str(refused.value)


def loaded(text: str) -> Params:
    FILE.write_text(text, encoding="utf-8")
    return load_params(FILE)


def scheduled(name: str, **values: str) -> dict[str, str]:
    """Edits for a schedule with only these of its options."""
    options = {"warmup_fraction": "null", "decay_epochs": "null", "decay_factor": "null"} | values
    edits = {f"train.{option}": f"{option}: {value}" for option, value in options.items()}
    return {"train.schedule": f"schedule: {name}"} | edits


FALLS = {
    "step": {"decay_epochs": "5", "decay_factor": "0.1"},
    "multi_step": {"decay_epochs": "[5, 15]", "decay_factor": "0.1"},
    "exponential": {"decay_factor": "0.9"},
    "plateau": {"decay_epochs": "5", "decay_factor": "0.1"},
}
"""Schedules that fall, with what they need."""

FROZEN_BACKBONE = {
    "train.freeze": "freeze: backbone",
    "model.weights": "weights: models/weights/mine.pth",
}

NOT_AUGMENTED = {
    f"augment.{name}": f"{name}: 0" for name in ("crop_padding", "rotate", "scale", "erase")
}
TEACHER = "{file: models/weights/large.safetensors, weight: 0.5, temperature: 2}"

TWO_SIZES = "[{epoch: 1, size: 8}, {epoch: 3, size: [9, 12]}]"


def training_size(size: str) -> dict[str, str]:
    return {"train.image_size": f"image_size: {size}", "train.evaluate_crop": "evaluate_crop: centre"}


MISTAKES: list[tuple[dict[str, str], str]] = [
    # names
    ({"seed": "seed: 0\nzzz: 0"}, "zzz is not a parameter"),
    ({"seed": "sed: 0"}, "sed is not a parameter; did you mean seed?"),
    ({"seed": "seed: 0\n1: 2"}, "1 is not a parameter"),
    ({"num_threads": "num-threads: 2"}, "num-threads is not a parameter; did you mean num_threads?"),
    ({"evaluate": "evalute:\n  batch_size: 1"}, "evalute is not a parameter; did you mean evaluate?"),
    ({"evaluate.batch_size": "batch_size: 1\nzzz: 0"}, "evaluate.zzz is not a parameter"),
    (
        {"train.optimizer": "optimiser: sgd"},
        "train.optimiser is not a parameter; did you mean train.optimizer?",
    ),
    (
        {"train.optimizer": "optimizer: sgd\nOptimizer: sgd"},
        "train.Optimizer is not a parameter; did you mean train.optimizer?",
    ),
    ({"model.depth": "depth: 2\nlr: 1"}, "model.lr is not a parameter; did you mean train.lr?"),
    ({"seed": "seed: 0\nmomentum: 0"}, "momentum is not a parameter; did you mean train.momentum?"),
    # what is not there
    ({"seed": ""}, f"seed is missing: seed of all random choices; it must be {SEED}"),
    (
        {"train.epochs": ""},
        f"train.epochs is missing: number of passes over the training data; it must be {TO_10_000}",
    ),
    (
        {"evaluate": ""},
        "evaluate is missing; it must be a section with batch_size, tta, target_precision, coverage,"
        " gate",
    ),
    (
        {"augment": ""},
        f"augment is missing; it must be a section with {', '.join(Augment.model_fields)}",
    ),
    (
        {"train.batch_size": "batch_size: automatic"},
        "train.batch_size: 'automatic' is not allowed; it must be auto or a whole number at least 1 and "
        "at most 65,536; did you mean auto?",
    ),
    (
        {"train.compile": "compile: true"},
        "train.compile: true is not allowed; it must be one of default, cuda_graphs or null",
    ),
    # types
    ({"train.lr": "lr: fast"}, f"train.lr: 'fast' is not allowed; it must be {LR}"),
    ({"train.lr": "lr: '0.1'"}, f"train.lr: '0.1' is not allowed; it must be {LR}"),
    ({"train.lr": "lr: true"}, f"train.lr: true is not allowed; it must be {LR}"),
    ({"train.lr": "lr:"}, f"train.lr: null is not allowed; it must be {LR}"),
    ({"train.lr": "lr: [0.1]"}, f"train.lr: [0.1] is not allowed; it must be {LR}"),
    ({"train.lr": "lr: {max: 1}"}, f"train.lr: {{'max': 1}} is not allowed; it must be {LR}"),
    ({"train.epochs": "epochs: 20.0"}, f"train.epochs: 20.0 is not allowed; it must be {TO_10_000}"),
    ({"train.epochs": "epochs: true"}, f"train.epochs: true is not allowed; it must be {TO_10_000}"),
    (
        {"prepare.image_size": "image_size: 64.0"},
        f"prepare.image_size: 64.0 is not allowed; it must be {SIZE}",
    ),
    (
        {"train.deterministic": "deterministic: 1"},
        "train.deterministic: 1 is not allowed; it must be true or false",
    ),
    (
        {"prepare.fold": "fold: 2 of 5"},
        "prepare.fold: '2 of 5' is not allowed; it must be K/N, such as 2/5, or null",
    ),
    (
        {"prepare.split": "split: stable", "prepare.channels": "channels: 1"},
        "prepare.image_size: auto can change when images are added, and would then move others to "
        "another split; prepare.split stable needs a number",
    ),
    (
        {"prepare.split": "split: stable", "prepare.image_size": "image_size: 8"},
        "prepare.channels: auto can change when images are added, and would then move others to "
        "another split; prepare.split stable needs a number",
    ),
    ({"prepare.fold": "fold: 6/5"}, "prepare.fold: 6/5 is not a valid fold; 5 folds are 1/5 to 5/5"),
    (
        {"prepare.fold": "fold: 1/1"},
        "prepare.fold: 1/1 is not a valid fold; there must be at least two folds",
    ),
    (
        {"prepare.fold": "fold: 1/2", "prepare.val_fraction": "val_fraction: 0.5"},
        "prepare.val_fraction: 0.5 and a fold of 1/2 leave no training data; their sum must be below 1",
    ),
    (
        {"prepare.fold": "fold: 1/2", "prepare.split": "split: given"},
        "prepare.fold: 1/2 makes a test split, but prepare.split is given, which makes none",
    ),
    (
        {"data.fetch": "fetch: [hf:me/birds]"},
        f"data.fetch: 'hf:me/birds' is not allowed; it must be {SETS}",
    ),
    (
        {"prepare.near_duplicates": "near_duplicates: 0.3"},
        "prepare.near_duplicates: 0.3 is not allowed; it must be a number above 0 and at most 0.15 or "
        "null",
    ),
    ({"data.path": "path: 3"}, "data.path: 3 is not allowed; it must be text that is not empty"),
    ({"data.fetch": "fetch: MNIST"}, f"data.fetch: 'MNIST' is not allowed; it must be {SETS}"),
    (
        {"evaluate.target_precision": "target_precision: 95"},
        "evaluate.target_precision: 95 is not allowed; it must be a number above 0 and below 1 or null",
    ),
    (
        {"evaluate.coverage": "coverage: 1"},
        "evaluate.coverage: 1 is not allowed; it must be a number above 0 and below 1 or null",
    ),
    (
        {"evaluate": "evaluate: 256"},
        "evaluate: 256 is not allowed; it must be a section with batch_size, tta, target_precision,"
        " coverage, gate",
    ),
    (
        {"evaluate": "evaluate:"},
        "evaluate: null is not allowed; it must be a section with batch_size, tta, target_precision,"
        " coverage, gate",
    ),
    (
        {"evaluate": "evaluate: [1]"},
        "evaluate: [1] is not allowed; it must be a section with batch_size, tta, target_precision,"
        " coverage, gate",
    ),
    # 1 is a choice of prepare.channels, but true and 1.0 are not: DVC would see another value
    (
        {"prepare.channels": "channels: true"},
        "prepare.channels: true is not allowed; it must be one of auto, 1, 3",
    ),
    (
        {"prepare.channels": "channels: 1.0"},
        "prepare.channels: 1.0 is not allowed; it must be one of auto, 1, 3",
    ),
    # ranges
    ({"seed": "seed: -1"}, f"seed: -1 is not allowed; it must be {SEED}"),
    ({"seed": "seed: 4294967296"}, f"seed: 4294967296 is not allowed; it must be {SEED}"),
    ({"train.epochs": "epochs: 0"}, f"train.epochs: 0 is not allowed; it must be {TO_10_000}"),
    ({"train.epochs": "epochs: 10001"}, f"train.epochs: 10001 is not allowed; it must be {TO_10_000}"),
    (
        {"prepare.image_size": "image_size: 0"},
        f"prepare.image_size: 0 is not allowed; it must be {SIZE}",
    ),
    (
        {"prepare.image_size": "image_size: 2049"},
        f"prepare.image_size: 2049 is not allowed; it must be {SIZE}",
    ),
    (
        {"prepare.val_fraction": "val_fraction: 0"},
        f"prepare.val_fraction: 0 is not allowed; it must be {FRACTION}",
    ),
    (
        {"prepare.val_fraction": "val_fraction: 1"},
        f"prepare.val_fraction: 1 is not allowed; it must be {FRACTION}",
    ),
    ({"model.dropout": "dropout: -0.1"}, f"model.dropout: -0.1 is not allowed; it must be {DROPOUT}"),
    ({"model.dropout": "dropout: 1"}, f"model.dropout: 1 is not allowed; it must be {DROPOUT}"),
    ({"train.lr": "lr: 0"}, f"train.lr: 0 is not allowed; it must be {LR}"),
    ({"train.lr": "lr: 100.5"}, f"train.lr: 100.5 is not allowed; it must be {LR}"),
    ({"train.lr": "lr: .nan"}, f"train.lr: nan is not allowed; it must be {LR}"),
    ({"train.lr": "lr: .inf"}, f"train.lr: inf is not allowed; it must be {LR}"),
    ({"train.lr": "lr: -.inf"}, f"train.lr: -inf is not allowed; it must be {LR}"),
    ({"train.epochs": "epochs: .inf"}, f"train.epochs: inf is not allowed; it must be {TO_10_000}"),
    # choices
    (
        {"train.optimizer": "optimizer: adamax"},
        f"train.optimizer: 'adamax' is not allowed; it must be {OPTIMIZERS}; did you mean adam?",
    ),
    (
        {"train.optimizer": "optimizer: SGD"},
        f"train.optimizer: 'SGD' is not allowed; it must be {OPTIMIZERS}; did you mean sgd?",
    ),
    (
        {"train.optimizer": "optimizer: lion"},
        f"train.optimizer: 'lion' is not allowed; it must be {OPTIMIZERS}",
    ),
    (
        {"train.schedule": "schedule: cosin"},
        f"train.schedule: 'cosin' is not allowed; it must be {SCHEDULES}; did you mean cosine?",
    ),
    (
        {"train.loss": "loss: ce"},
        "train.loss: 'ce' is not allowed; it must be one of cross_entropy, nll, focal, bce, dice,"
        f" cross_entropy+dice, focal+dice or {OWN_FILE}; did you mean bce?",
    ),
    (
        {"train.sampling": "sampling: balance"},
        "train.sampling: 'balance' is not allowed; it must be one of natural, balanced; "
        "did you mean balanced?",
    ),
    (
        {"model.head": "head: pool"},
        "model.head: 'pool' is not allowed; it must be one of linear, mlp, concat_pool",
    ),
    (
        {"prepare.resize": "resize: padding"},
        "prepare.resize: 'padding' is not allowed; it must be one of stretch, crop, pad"
        "; did you mean pad?",
    ),
    (
        {"prepare.channels": "channels: 2"},
        "prepare.channels: 2 is not allowed; it must be one of auto, 1, 3",
    ),
    (
        {"prepare.image_size": "image_size: Auto"},
        f"prepare.image_size: 'Auto' is not allowed; it must be {SIZE}; did you mean auto?",
    ),
    (
        {"model.name": "name: resnet18"},
        f"model.name: 'resnet18' is not allowed; it must be {MODELS}; did you mean resnet?",
    ),
    (
        {"data.fetch": "fetch: [cifar10]"},
        f"data.fetch: 'cifar10' is not allowed; it must be {SETS}; did you mean CIFAR10?",
    ),
    # YAML 1.2: these are text, not true
    (
        {"train.deterministic": "deterministic: on"},
        "train.deterministic: 'on' is not allowed; it must be true or false",
    ),
    (
        {"train.deterministic": "deterministic: yes"},
        "train.deterministic: 'yes' is not allowed; it must be true or false",
    ),
    # values that do not go together
    (
        {"prepare.val_fraction": "val_fraction: 0.5", "prepare.test_fraction": "test_fraction: 0.5"},
        "prepare.test_fraction: 0.5 and prepare.val_fraction 0.5 leave no training data; "
        "their sum must be below 1",
    ),
    (
        {"data.label_separator": 'label_separator: "|"'},
        "data.label_separator: '|' needs a manifest, but data.manifest is null; set both or neither",
    ),
    (
        {"data.label_separator": 'label_separator: ""', "data.manifest": "manifest: labels.csv"},
        "data.label_separator: '' is not allowed; it must be text that is not empty or null",
    ),
    (
        {"data.image_root": "image_root: images"},
        "data.image_root: 'images' needs a manifest, but data.manifest is null; set both or neither",
    ),
    *(
        (
            {
                "data.image_root": f"image_root: {root}",
                "data.manifest": "manifest: labels.csv",
                "data.path": "path: data/mine",
            },
            f"data.image_root: {root!r} is not a folder in data.path; {advice}",
        )
        for root, advice in {
            "data/mine/images": "it is relative to data.path, so write images",
            "data/mine": "it is relative to data.path, so write .",
            "/photos": "DVC tracks only data.path, so the images must be inside it: set data.path to a"
            " folder that contains the manifest and the images, and data.image_root to the image folder",
            "../photos": "DVC tracks only data.path, so the images must be inside it: set data.path to a"
            " folder that contains the manifest and the images, and data.image_root to the image folder",
        }.items()
    ),
    (
        {"data.group_pattern": "group_pattern: ^(.*)_", "data.group_column": "group_column: patient"},
        "data.group_pattern: '^(.*)_' and data.group_column 'patient' both define groups; set one of"
        " them to null",
    ),
    (
        {"data.merge_labels": "merge_labels: {7: seven}"},
        "data.merge_labels: the key 7 is not text; write '7', as in {label: class}, such as {Cat: cat}",
    ),
    (
        {"data.merge_labels": "merge_labels: {Cat: cat, cat: animal}"},
        "data.merge_labels: 'Cat' is merged into 'cat', which is merged into 'animal'; map both to"
        " 'animal'",
    ),
    (
        {"data.merge_labels": "merge_labels: {'cat ': cat}"},
        "data.merge_labels: 'cat ' is blank, or begins or ends with a blank, which is removed from"
        " labels when they are read; remove the blanks here too",
    ),
    (
        {
            "data.merge_labels": "merge_labels: {Cat: cat|dog}",
            "data.manifest": "manifest: labels.csv",
            "data.label_separator": 'label_separator: "|"',
        },
        "data.merge_labels: 'Cat' or 'cat|dog' contains data.label_separator '|'; each must be a"
        " single label",
    ),
    (
        {
            "data.merge_labels": "merge_labels: {Cat: cat}",
            "train.class_weights": "class_weights: {Cat: 2}",
        },
        "train.class_weights: data.merge_labels merges 'Cat' into 'cat'; set the weight of 'cat'",
    ),
    (
        {"data.fetch": "fetch: [MNIST, digits, MNIST]"},
        "data.fetch: ['MNIST', 'digits', 'MNIST'] contains a data set twice; list each data set once",
    ),
    *(
        (
            {"model.name": f"name: {name}", f"model.{option}": f"{option}: null"},
            f"model.{option}: null is not allowed when model.name is {name}",
        )
        for name in ("mlp", "cnn", "resnet")
        for option in OWN_OPTIONS
    ),
    *(
        (
            {
                "model.name": f"name: {name}",
                **{f"model.{o}": f"{o}: {value if o == option else 'null'}" for o in OWN_OPTIONS},
            },
            f"model.{option}: {value} has no effect when model.name is {name}; it must be null",
        )
        for name in ("torchvision:resnet18", "timm:resnet18.a1_in1k")
        for option, value in OWN_OPTIONS.items()
    ),
    (
        {"model.name": "name: resnet", "model.width": "width: 7"},
        "model.width: 7 is too narrow for resnet; it must be at least 8, because PyTorch's CPU kernel"
        " for its shortcuts writes out of bounds for fewer channels",
    ),
    (
        {"model.name": "name: vit"},
        "model.patch_size: null is not allowed when model.name is vit",
    ),
    (
        {"model.patch_size": "patch_size: 4"},
        "model.patch_size: 4 has no effect when model.name is cnn; it must be null",
    ),
    *(
        (
            {**edits, f"model.{option}": f"{option}: {value}"},
            f"model.{option}: {value} has no effect when model.{condition}; it must be null",
        )
        for option, value, condition, edits in (
            ("activation", "tanh", "name is torchvision:resnet18", LIBRARY),
            ("pooling", "avg", "name is torchvision:resnet18", LIBRARY),
            ("init", "xavier", "name is torchvision:resnet18", LIBRARY),
            ("pooling", "stride", "name is mlp", {"model.name": "name: mlp"}),
            (
                "pooling",
                "max",
                "name is vit",
                {"model.name": "name: vit", "model.patch_size": "patch_size: 2"},
            ),
            (
                "init",
                "kaiming",
                "weights is models/weights/a.safetensors",
                {"model.weights": "weights: models/weights/a.safetensors"},
            ),
        )
    ),
    (
        {"model.stochastic_depth": "stochastic_depth: 0.25"},
        "model.stochastic_depth: 0.25 skips residual blocks, but cnn has none; it must be 0",
    ),
    (
        {"model.name": "name: mlp", "model.head": "head: concat_pool"},
        "model.head: concat_pool pools feature maps, but mlp has none; choose linear or mlp",
    ),
    (
        {"model.weights": "weights: default"},
        "model.weights: default means a library's pretrained weights, but cnn has none; choose random or"
        " a file",
    ),
    (
        {"train.loss": "loss: focal"},
        "train.focal_gamma: null is not allowed when train.loss is focal",
    ),
    (
        {"train.focal_gamma": "focal_gamma: 2"},
        "train.focal_gamma: 2.0 has no effect when train.loss is cross_entropy; it must be null",
    ),
    *(
        (
            {
                "train.optimizer": f"optimizer: {name}",
                "train.momentum": "momentum: null",
                "train.nesterov": f"nesterov: {'true' if name == 'sgd' else 'null'}",
            },
            f"train.momentum: null is not allowed when train.optimizer is {name}",
        )
        for name in ("sgd", "rmsprop", "muon")
    ),
    *(
        (
            {"train.optimizer": f"optimizer: {name}", "train.nesterov": "nesterov: null"},
            f"train.momentum: 0.9 has no effect when train.optimizer is {name}; it must be null",
        )
        for name in ("adam", "adamw", "adagrad", "adadelta")
    ),
    (
        {"train.nesterov": "nesterov: null"},
        "train.nesterov: null is not allowed when train.optimizer is sgd",
    ),
    (
        {"train.optimizer": "optimizer: muon", "train.nesterov": "nesterov: false"},
        "train.nesterov: false has no effect when train.optimizer is muon; it must be null",
    ),
    (
        {"train.momentum": "momentum: 0"},
        "train.nesterov: true needs momentum, but train.momentum is 0; it must be false",
    ),
    *(
        (
            {"train.schedule": f"schedule: {name}", "train.warmup_fraction": "warmup_fraction: null"},
            f"train.warmup_fraction: null is not allowed when train.schedule is {name}",
        )
        for name in ("one_cycle", "cosine")
    ),
    (
        {"train.warmup_fraction": "warmup_fraction: 0"},
        "train.warmup_fraction: 0 is not allowed when train.schedule is one_cycle; usual: 0.3",
    ),
    *(
        (
            scheduled(name, **{**values, "warmup_fraction": "0.3"}),
            f"train.warmup_fraction: 0.3 has no effect when train.schedule is {name}; it must be null",
        )
        for name, values in FALLS.items()
    ),
    *(
        (
            scheduled(name, **{**values, option: "null"}),
            f"train.{option}: null is not allowed when train.schedule is {name}",
        )
        for name, values in FALLS.items()
        for option in values
    ),
    (
        {"train.decay_factor": "decay_factor: 0.1"},
        "train.decay_factor: 0.1 has no effect when train.schedule is one_cycle; it must be null",
    ),
    (
        scheduled("exponential", decay_factor="0.9", decay_epochs="[2, 3]"),
        "train.decay_epochs: [2, 3] has no effect when train.schedule is exponential; it must be null",
    ),
    *(
        (
            scheduled(name, decay_factor="0.1", decay_epochs="[2, 3]"),
            f"train.decay_epochs: [2, 3] is not allowed when train.schedule is {name}; "
            "it must be one whole number",
        )
        for name in ("step", "plateau")
    ),
    (
        scheduled("multi_step", decay_factor="0.1", decay_epochs="3"),
        "train.decay_epochs: 3 is not allowed when train.schedule is multi_step; "
        "it must be a list of epochs",
    ),
    *(
        (
            scheduled("multi_step", decay_factor="0.1", decay_epochs=epochs),
            f"train.decay_epochs: {epochs} is not ascending; list each epoch once, in order",
        )
        for epochs in ("[3, 2]", "[2, 2]")
    ),
    (
        {"train.clip_norm": "clip_norm: 1", "train.clip_value": "clip_value: 1"},
        "train.clip_value: train.clip_norm already clips the gradients; set one of them to null",
    ),
    (
        {"train.class_weights": "class_weights: balanced", "train.sampling": "sampling: balanced"},
        "train.class_weights: train.sampling is already balanced, and together they would favour rare "
        "classes twice; set this to null or train.sampling to natural",
    ),
    (
        {"train.unfreeze": "unfreeze: [{epoch: 3, layers: backbone.*}]"},
        "train.unfreeze: nothing is frozen, because train.freeze is none; it must be []",
    ),
    (
        {
            "train.freeze": "freeze: ['backbone.*']",
            "train.unfreeze": "unfreeze: [{epoch: 1, layers: backbone.layer4.*}]",
        },
        "train.unfreeze: epoch 1 is not allowed for backbone.layer4.*, because layers that are trained "
        "from the first epoch on are not frozen; it must be at least 2, or the layers must be left out "
        "of train.freeze",
    ),
    (
        {
            "train.freeze": "freeze: backbone",
            "train.unfreeze": "unfreeze: [{epoch: 20, layers: '*.1'}, {epoch: 41, layers: '*.2'}]",
        },
        "train.unfreeze: epoch 41 is never reached, because train.epochs is 40",
    ),
    (
        {**FROZEN_BACKBONE, "train.layer_decay": "layer_decay: 0.75"},
        "train.layer_decay: 0.75 has no effect when the whole backbone is frozen; it must be null",
    ),
    (
        {**FROZEN_BACKBONE, "train.lr_factors": "lr_factors: {head.*: 2, backbone.stages.*: 0.1}"},
        "train.lr_factors: backbone.stages.* has no effect when the whole backbone is frozen; remove it",
    ),
    (
        {
            **FROZEN_BACKBONE,
            "model.name": "name: resnet",
            "model.stochastic_depth": "stochastic_depth: 0.1",
        },
        "model.stochastic_depth: 0.1 has no effect when the whole backbone is frozen; it must be 0",
    ),
    (
        {"train.freeze": "freeze: backbone"},
        "train.freeze: backbone would never be trained and keep its random weights, because "
        "model.weights is random; choose other weights, or set this to none",
    ),
    (
        {"train.teacher": f"teacher: {TEACHER}", **FROZEN_BACKBONE},
        "train.teacher: a teacher needs images, and epochs see features instead while train.freeze is"
        " backbone; set this to null, or train.freeze to none",
    ),
    (
        {"train.teacher": f"teacher: {TEACHER}", **training_size(TWO_SIZES)},
        "train.teacher: a teacher takes images of one size, and train.image_size is a schedule; set one"
        " size",
    ),
    (
        {"train.teacher": "teacher: {file: a.safetensors, weight: 1.5, temperature: 2}"},
        "train.teacher: weight: 1.5 is not allowed; it must be at most 1, in {file: models/weights/FILE,"
        " weight: 0.5, temperature: 2} or null",
    ),
    (
        {"train.feature_views": "feature_views: 4"},
        "train.feature_views: 4 has no effect unless train.freeze is backbone; it must be null",
    ),
    (
        {
            "train.freeze": "freeze: backbone",
            "train.unfreeze": "unfreeze: [{epoch: 4, layers: '*.1'}]",
            "train.feature_views": "feature_views: 4",
        },
        "train.feature_views: 4 is more than the 3 epochs in which the backbone is frozen, so that some "
        "views would never be used; lower it",
    ),
    *(
        (
            {
                **FROZEN_BACKBONE,
                "train.feature_views": "feature_views: 4",
                f"augment.{name}": f"{name}: 0.2",
            },
            f"train.feature_views: augment.{name} mixes other images in each epoch, so their features "
            "cannot be computed once; set it or this to null",
        )
        for name in ("mixup", "cutmix")
    ),
    (
        {**FROZEN_BACKBONE, **NOT_AUGMENTED, "train.feature_views": "feature_views: 4"},
        "train.feature_views: 4 has no effect when no augmentation is set, because all views would be "
        "the same; it must be null",
    ),
    (
        {
            **FROZEN_BACKBONE,
            **NOT_AUGMENTED,
            **training_size("8"),
            "train.weight_decay": "weight_decay: auto",
        },
        "train.weight_decay: auto trains several heads on features, but those of augmented images, here "
        "of random crops to train.image_size, are new in each epoch; set train.feature_views, or this "
        "to a number",
    ),
    *(
        (
            {**edits, "train.weight_decay": "weight_decay: auto"},
            "train.weight_decay: auto trains several heads on features, so the backbone must be frozen "
            "throughout; set train.freeze to backbone and train.unfreeze to [], or this to a number",
        )
        for edits in (
            {},
            {
                "train.freeze": "freeze: backbone",
                "train.unfreeze": "unfreeze: [{epoch: 4, layers: '*.1'}]",
            },
        )
    ),
    (
        {**FROZEN_BACKBONE, "train.weight_decay": "weight_decay: auto"},
        "train.weight_decay: auto trains several heads on features, but those of augmented images are "
        "new in each epoch; set train.feature_views, or this to a number",
    ),
    (
        {
            **FROZEN_BACKBONE,
            "train.optimizer": "optimizer: muon",
            "train.nesterov": "nesterov: null",
        },
        "train.optimizer: muon is for the matrices of the backbone, which is frozen; choose adamw",
    ),
    # what would happen only after the last epoch
    *(
        (
            scheduled(name, decay_factor="0.1", decay_epochs=f"{epochs}"),
            f"train.decay_epochs: a decay after {epochs} epochs has no effect, because train.epochs "
            "is 40; lower it, or set train.schedule to constant",
        )
        for name in ("step", "plateau")
        for epochs in (40, 41)
    ),
    (
        scheduled("multi_step", decay_factor="0.1", decay_epochs="[20, 40, 60]"),
        "train.decay_epochs: a decay after epoch 40 has no effect, because train.epochs is 40; "
        "remove it",
    ),
    (
        {"train.micro_batches": "micro_batches: 65"},
        "train.micro_batches: 65 is more than the number of images or rows per batch; it must be at "
        "most train.batch_size, 64",
    ),
    (
        {"train.micro_batches": "micro_batches: 2", "train.compile": "compile: cuda_graphs"},
        "train.compile: cuda_graphs is not possible when train.micro_batches is 2; it must be default"
        " or null, or set train.micro_batches to 1",
    ),
    # sizes
    (
        {"prepare.image_size": "image_size: [8, 0]"},
        f"prepare.image_size: 0 is not allowed; it must be {SIZE}",
    ),
    (
        {"prepare.image_size": "image_size: [8, 9, 3]"},
        f"prepare.image_size: [8, 9, 3] is not allowed; it must be {SIZE}",
    ),
    (
        training_size("[{epoch: 1, side: 8}]"),
        f"train.image_size: {{'epoch': 1, 'side': 8}} lacks the key size; it must be {TRAIN_SIZE}",
    ),
    (
        training_size("[{epoch: 1, size: 0}]"),
        "train.image_size: size: 0 is not allowed; it must be at least 1, in " + TRAIN_SIZE,
    ),
    (
        {"train.image_size": "image_size: []"},
        f"train.image_size: [] is not allowed; it must be {TRAIN_SIZE}",
    ),
    (
        {"train.image_size": "image_size: 8"},
        "train.evaluate_crop: null is not allowed when train.image_size is set",
    ),
    (
        {"evaluate.gate": "gate: {}"},
        "evaluate.gate: {} requires nothing; it must be null",
    ),
    (
        {"evaluate.gate": "gate: {max_drop: 0.1}"},
        "evaluate.gate: max_drop and against belong together: the drop is measured against that model",
    ),
    (
        {"evaluate.gate": "gate: {min_f1: 0.9}"},
        f"evaluate.gate: unknown key min_f1; it must be {GATE}",
    ),
    (
        {"evaluate.gate": "gate: {min_recall: {cat: 2}}"},
        f"evaluate.gate: cat: 2 is not allowed; it must be at most 1, in {GATE}",
    ),
    (
        {"train.evaluate_crop": "evaluate_crop: whole"},
        "train.evaluate_crop: whole has no effect when train.image_size is null; it must be null",
    ),
    (
        {**training_size("[9, 8]"), "prepare.image_size": "image_size: 8"},
        "train.image_size: 9 x 8 (height x width) is more than the prepared images have, 8 x 8; lower"
        " it, or raise prepare.image_size",
    ),
    *(
        (training_size(sizes), f"train.image_size: {told}")
        for sizes, told in (
            ("[{epoch: 2, size: 8}]", "begins at epoch 2; the first size must begin at epoch 1"),
            (
                "[{epoch: 1, size: 8}, {epoch: 1, size: 9}]",
                "the epochs [1, 1] are not ascending; list each epoch once, in order",
            ),
            (
                "[{epoch: 1, size: 8}, {epoch: 41, size: 9}]",
                "epoch 41 is never reached, because train.epochs is 40",
            ),
        )
    ),
    (
        {**training_size(TWO_SIZES), "train.compile": "compile: default"},
        "train.image_size: a schedule does not work with train.compile default, because the network"
        " would be compiled again at each size, and torch.compile gives up after eight variants; set"
        " one size, or train.compile to null",
    ),
    (
        {**training_size(TWO_SIZES), **FROZEN_BACKBONE},
        "train.image_size: a schedule has no use when the backbone is frozen, because its features do"
        " not get better; set one size, or train.freeze to none",
    ),
    (
        {**training_size(TWO_SIZES), "model.name": "name: mlp"},
        "train.image_size: mlp has weights for one size only and cannot be trained with a schedule of"
        " sizes; set one size, or choose another model.name",
    ),
    (
        {**training_size("[4, 9]"), "augment.crop_padding": "crop_padding: 4"},
        "augment.crop_padding: 4 can move images of 4 pixels completely out of view; it must be below 4"
        " (usual: an eighth, 0)",
    ),
    # what leaves nothing of an image
    *(
        (
            {"prepare.image_size": "image_size: 16", "augment.crop_padding": f"crop_padding: {padding}"},
            f"augment.crop_padding: {padding} can move images of 16 pixels completely out of view; "
            "it must be below 16 (usual: an eighth, 2)",
        )
        for padding in (16, 100)
    ),
    (
        {"augment.translate": "translate: 1"},
        "augment.translate: 1 can move images completely out of view; it must be below 1",
    ),
    # parts of a parameter's value
    *(
        (
            {"train.unfreeze": f"unfreeze: [{entry}]"},
            f"train.unfreeze: {shown} is not allowed; it must be {UNFROZEN}",
        )
        for entry, shown in (
            ("backbone", "'backbone'"),
            ("{epoch: 3, layers: ''}", "''"),
        )
    ),
    *(
        (
            {"train.unfreeze": f"unfreeze: [{entry}]"},
            f"train.unfreeze: {told}{UNFROZEN}",
        )
        for entry, told in (
            ("{epoch: 0, layers: x}", "epoch: 0 is not allowed; it must be at least 1, in "),
            ("{epoch: 10001, layers: x}", "epoch: 10001 is not allowed; it must be at most 10,000, in "),
            ("{epoch: 3, layer: x}", "{'epoch': 3, 'layer': 'x'} lacks the key layers; it must be "),
            ("{epoch: 3, layers: x, lr: 0.1}", "unknown key lr; it must be "),
        )
    ),
    *(
        (
            {"train.freeze": f"freeze: {value}"},
            f"train.freeze: {shown} is not allowed; it must be {FROZEN}",
        )
        for value, shown in (("head", "'head'"), ("[]", "[]"), ("null", "null"))
    ),
    (
        {"train.freeze": "freeze: back"},
        f"train.freeze: 'back' is not allowed; it must be {FROZEN}; did you mean backbone?",
    ),
    *(
        (
            {"train.lr_factors": f"lr_factors: {value}"},
            f"train.lr_factors: {shown} is not allowed; it must be {FACTORS}",
        )
        for value, shown in (("0.1", "0.1"), ("null", "null"))
    ),
    *(
        (
            {"train.decay_epochs": f"decay_epochs: {value}"},
            f"train.decay_epochs: {value} is not allowed; it must be {EPOCHS}",
        )
        for value in ("0", "[]", "0.5")
    ),
    *(
        (
            {"train.class_weights": f"class_weights: {value}"},
            f"train.class_weights: {shown} is not allowed; it must be {CLASS_WEIGHTS}",
        )
        for value, shown in (("even", "'even'"), ("{}", "{}"))
    ),
    *(
        ({f"train.{name}": f"{name}: {value}"}, f"train.{name}: {told}{allowed}")
        for name, allowed, value, told in (
            ("lr_factors", FACTORS, "{head.*: 0}", "head.*: 0 is not allowed; it must be above 0, in "),
            (
                "class_weights",
                CLASS_WEIGHTS,
                "{cat: 0}",
                "cat: 0 is not allowed; it must be above 0, in ",
            ),
            (
                "class_weights",
                CLASS_WEIGHTS,
                "{' a': 2e6}",
                "' a': 2000000.0 is not allowed; it must be at most 1e+06, in ",
            ),
            (
                "class_weights",
                CLASS_WEIGHTS,
                "{1: 2}",
                "the key 1 is not text; write '1', as in ",
            ),
        )
    ),
    (
        {"export.formats": "formats: [onnx, onnx]"},
        "export.formats: ['onnx', 'onnx'] contains a format twice; list each format once",
    ),
]


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        pytest.param(edits, message, id=message[:60], marks=() if number % 3 == 0 else pytest.mark.slow)
        for number, (edits, message) in enumerate(MISTAKES)
    ],
)
def test_one_mistake_is_refused_in_one_line(edits: dict[str, str], message: str) -> None:
    text = edited(edits)
    assert refusal(text) == with_line(text, message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "torchvision:resnet500",
            "torchvision has no model resnet500; did you mean resnet50? "
            "`darkroom models 'torchvision:*'` lists them",
        ),
        (
            "timm:resnet5000.a1_in1k",
            "timm has no model resnet5000; did you mean resnet50? `darkroom models 'timm:*'` lists them",
        ),
        (
            "torchvision:zzz",
            "torchvision has no model zzz. `darkroom models 'torchvision:*'` lists them",
        ),
    ],
)
def test_a_network_that_no_library_has_is_told_before_what_it_would_need(
    name: str, message: str
) -> None:
    """The width and depth of another network are left, and would be complained about first."""
    text = edited({"model.name": f"name: {name}"})
    lines = refusal(text).splitlines()
    assert lines == [with_line(text, f"model.name: {message}")]


def test_a_network_that_a_library_has_is_told_what_it_needs() -> None:
    told = refusal(edited({"model.name": "name: torchvision:resnet18"}))
    assert "model.width: 32 has no effect when model.name is torchvision:resnet18" in told


NOT_YAML = {
    "duplicate key": (
        "seed: 0\nnum_threads: 2\nseed: 1\n",
        ':3: found duplicate key "seed" with value "1" (original value: "0")',
    ),
    "duplicate key in a section": (
        "train:\n  lr: 0.1\n  lr: 0.2\n",
        ':3: found duplicate key "lr" with value "0.2" (original value: "0.1")',
    ),
    "open bracket": ("seed: [0\ntrain: 1\n", ":2: expected ',' or ']', but got ':'"),
    "open quote": ('seed: "0\ntrain: 1\n', ":3: found unexpected end of stream"),
    "two colons": ("seed: 0\ntrain: lr: 1\n", ":2: mapping values are not allowed here"),
    "tab": ("train:\n\tlr: 1\n", ":2: found character '\\t' that cannot start any token"),
    "unknown alias": ("seed: *other\n", ":1: found undefined alias 'other'"),
    "unknown tag": ("seed: !new 0\n", ":1: could not determine a constructor for the tag '!new'"),
    "two documents": (
        "seed: 0\n---\nseed: 0\n",
        ":2: expected a single document in the stream but found another document",
    ),
    "empty": ("", f":1: expected sections ({', '.join(Params.model_fields)})"),
    "only a comment": ("# soon\n", f":1: expected sections ({', '.join(Params.model_fields)})"),
    "a list": ("- seed\n", f":1: expected sections ({', '.join(Params.model_fields)})"),
    "text": ("seed\n", f":1: expected sections ({', '.join(Params.model_fields)})"),
}


@pytest.mark.parametrize(("text", "problem"), NOT_YAML.values(), ids=NOT_YAML)
def test_what_is_no_mapping_is_refused_at_its_line(text: str, problem: str) -> None:
    assert refusal(text) == f"params.yaml{problem}"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_what_is_not_utf_8_is_refused(encoding: str) -> None:
    text = edited({"data.path": "path: données"})
    assert refusal(text.encode(encoding)).startswith("params.yaml: not UTF-8 text (")
    assert loaded(text).data.path == "données"


def test_a_control_character_is_refused() -> None:
    assert refusal("seed: \x07\n").startswith("params.yaml: not YAML: unacceptable character #x0007")


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(UserError) as refused:
        load_params(Path("elsewhere/params.yaml"))
    assert str(refused.value) == (
        "elsewhere/params.yaml: no such file; run the command in the project's root folder"
    )


def test_a_folder_in_place_of_the_file_is_refused() -> None:
    FILE.mkdir()
    with pytest.raises(UserError, match=r"^params\.yaml: "):
        load_params(FILE)


def test_all_mistakes_are_said_at_once_in_the_order_of_lines() -> None:
    text = edited(
        {
            "export.parity_tolerance": "parity_tolerance: 0",
            "train.lr": "",
            "seed": "seed: zero",
            "train.optimizer": "optimiser: sgd",
            "prepare.resize": "resize: squeeze",
            "evaluate": "",
            "data.fetch": "fetch: [digits,\n  mnist]",
        }
    )
    message = refusal(text).splitlines()
    assert [re.sub(r"params\.yaml:(\d+): ([\w.]+).*", r"\2", line) for line in message] == [
        "evaluate",
        "seed",
        "data.fetch",
        "prepare.resize",
        "train.lr",
        "train.optimiser",
        "export.parity_tolerance",
    ]
    lines = [int(line.split(":")[1]) for line in message]
    assert lines == sorted(lines)
    assert lines[2] == find_line(text, "data.fetch") + 2  # where the wrong one of the list stands
    assert lines[4] == find_line(text, "train") + 1
    assert message[-1] == with_line(
        text,
        "export.parity_tolerance: 0 is not allowed; it must be a number above 0 and at most 1",
    )


def test_several_wrong_combinations_are_said_at_once() -> None:
    text = edited(
        {
            "export.formats": "formats: [pt2, pt2]",
            "model.name": "name: torchvision:resnet18",
            "prepare.val_fraction": "val_fraction: 0.9",
            "prepare.test_fraction": "test_fraction: 0.9",
        }
    )
    names = [line.split(": ")[1] for line in refusal(text).splitlines()]
    assert names == [
        "prepare.test_fraction",
        "model.width",
        "model.depth",
        "export.formats",
    ]


@pytest.mark.parametrize("batch_size", [0, 16])
def test_a_merged_section_is_read_and_checked(batch_size: int) -> None:
    """``<<`` is what YAML has against repetition; ruamel, and so DVC, reads it."""
    text = edited(
        {
            "evaluate": f"evaluate:\n  <<: {{batch_size: {batch_size}, tta: null,"
            " target_precision: null, coverage: 0.5, gate: null}"
        }
    )
    if batch_size:
        assert loaded(text).evaluate.batch_size == batch_size
    else:
        message = refusal(text)
        assert re.fullmatch(r"params\.yaml:\d+: evaluate\.batch_size: 0 is not allowed; .*", message)


def yaml_leaves(values: dict[str, Any]) -> dict[str, Any]:
    """Values by ``section.name``; a value that is itself a dict stays one."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        is_section = isinstance(value, dict)
        leaves |= {f"{name}.{key}": v for key, v in value.items()} if is_section else {name: value}
    return leaves


def test_the_shipped_file_passes_with_the_values_it_shows() -> None:
    assert flatten(loaded(SHIPPED)) == yaml_leaves(YAML(typ="safe").load(SHIPPED))


def sections_reversed(text: str) -> str:
    blocks = re.split(r"^(?=\w)", text, flags=re.MULTILINE)
    assert len(blocks) > len(Params.model_fields)
    return "".join(reversed(blocks))


HARMLESS = {
    "comments": lambda text: "# first\n" + text.replace("\n", "  # why\n"),
    "sections in another order": sections_reversed,
    "blank lines": lambda text: text.replace("\n", "\n\n"),
    "Windows line ends": lambda text: text.replace("\n", "\r\n"),
    "byte order mark": lambda text: "\ufeff" + text,
    "document start": lambda text: "---\n" + text,
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_what_means_the_same_passes(change: Any) -> None:
    changed = change(SHIPPED)
    assert changed != SHIPPED
    FILE.write_bytes(changed.encode())
    assert load_params(FILE) == loaded(SHIPPED)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("seed", "0", 0),
        ("seed", "4294967295", 2**32 - 1),
        ("train.epochs", "1", 1),
        ("train.epochs", "10000", 10_000),
        ("train.epochs", "010", 10),  # octal in YAML 1.1
        ("train.lr", "1e-3", 0.001),  # text in YAML 1.1
        ("train.lr", "100", 100.0),
        ("model.dropout", "0", 0.0),
        ("prepare.image_size", "2048", 2048),
        ("prepare.image_size", "auto", "auto"),
        ("prepare.channels", "1", 1),
        ("prepare.channels", "3", 3),
        ("data.path", "on", "on"),
        ("data.fetch", "[]", []),
        ("train.clip_norm", "1", 1.0),
        ("train.deterministic", "false", False),
    ],
)
def test_allowed_values_pass(name: str, text: str, value: Any) -> None:
    key = name.rpartition(".")[2]
    got = flatten(loaded(edited({name: f"{key}: {text}"})))[name]
    assert got == value
    assert type(got) is type(value)


NO_MOMENTUM = {"train.momentum": "momentum: null", "train.nesterov": "nesterov: null"}
FROM_3 = {"train.unfreeze": "unfreeze: [{epoch: 3, layers: backbone.*}]"}
BACKBONE = {"train.freeze": "freeze: backbone"}


@pytest.mark.parametrize(
    "edits",
    [
        *(
            {"train.optimizer": f"optimizer: {name}", **NO_MOMENTUM}
            for name in ("adam", "adamw", "adagrad", "adadelta")
        ),
        *(
            {"train.optimizer": f"optimizer: {name}", "train.nesterov": "nesterov: null"}
            for name in ("rmsprop", "muon")
        ),
        {"train.momentum": "momentum: 0", "train.nesterov": "nesterov: false"},
        {"train.nesterov": "nesterov: false"},
        scheduled("constant"),
        scheduled("cosine", warmup_fraction="0"),
        scheduled("cosine", warmup_fraction="0.1"),
        *(scheduled(name, **values) for name, values in FALLS.items()),
        scheduled("multi_step", decay_factor="0.1", decay_epochs="[3]"),
        {"train.loss": "loss: focal", "train.focal_gamma": "focal_gamma: 0"},
        {
            "train.loss": "loss: focal",
            "train.focal_gamma": "focal_gamma: 2",
            "augment.mixup": "mixup: 0.2",
            "augment.cutmix": "cutmix: 1",
        },
        {"train.loss": "loss: bce"},
        {"train.clip_norm": "clip_norm: 1"},
        {"train.clip_value": "clip_value: 1"},
        {"train.class_weights": "class_weights: balanced"},
        {"train.class_weights": "class_weights: {'3': 2.5}"},
        {"train.sampling": "sampling: balanced"},
        {**BACKBONE, **FROM_3},
        FROZEN_BACKBONE,
        {**FROZEN_BACKBONE, "train.lr_factors": "lr_factors: {head.*: 2}"},
        {**FROZEN_BACKBONE, "train.feature_views": "feature_views: 40"},
        {**BACKBONE, **FROM_3, "train.feature_views": "feature_views: 2"},
        {**FROZEN_BACKBONE, **NOT_AUGMENTED, "train.weight_decay": "weight_decay: auto"},
        {
            **FROZEN_BACKBONE,
            **NOT_AUGMENTED,
            **training_size("[4, 9]"),
            "train.feature_views": "feature_views: 4",
        },
        training_size(TWO_SIZES),
        {**training_size(TWO_SIZES), "prepare.image_size": "image_size: [9, 12]"},
        {"prepare.image_size": "image_size: [96, 192]"},
        {"evaluate.tta": "tta: flip"},
        {"evaluate.gate": "gate: {min_f1_macro: 0.9, min_recall: 0.8}"},
        {"evaluate.gate": "gate: {min_recall: {'3': 0.8}, max_drop: 0, against: champion}"},
        {
            **FROZEN_BACKBONE,
            "train.feature_views": "feature_views: 2",
            "train.weight_decay": "weight_decay: auto",
        },
        {"train.epochs": "epochs: 1", "train.patience": "patience: 10"},  # a short trial
        scheduled("step", decay_factor="0.1", decay_epochs="39"),
        scheduled("multi_step", decay_factor="0.1", decay_epochs="[20, 39]"),
        {"train.micro_batches": "micro_batches: 64"},
        {"train.micro_batches": "micro_batches: 65", "train.batch_size": "batch_size: auto"},
        {"prepare.image_size": "image_size: 16", "augment.crop_padding": "crop_padding: 15"},
        {"augment.crop_padding": "crop_padding: 100"},  # of images whose size is not known yet
        {"augment.translate": "translate: 0.99"},
        {**BACKBONE, "train.unfreeze": "unfreeze: [{epoch: 20, layers: backbone.*}]"},
        {**BACKBONE, **FROM_3, "train.layer_decay": "layer_decay: 0.75"},
        {"train.freeze": "freeze: [backbone.*, head.0]", "train.layer_decay": "layer_decay: 0.75"},
        {"train.layer_decay": "layer_decay: 0.75"},
        {"train.lr_factors": "lr_factors: {backbone.*: 0.1, head.*: 10}"},
        {"train.lr": "lr: auto"},
        {
            "model.name": "name: torchvision:resnet18",
            "model.width": "width: null",
            "model.depth": "depth: null",
            "model.stochastic_depth": "stochastic_depth: 0.2",
            "model.head": "head: concat_pool",
            "model.weights": "weights: default",
        },
        {"model.name": "name: resnet", "model.stochastic_depth": "stochastic_depth: 0.2"},
        {"model.name": "name: resnet", "model.width": "width: 8"},
        {"model.name": "name: vit", "model.patch_size": "patch_size: 2"},
        {"model.name": "name: mlp", "model.head": "head: mlp"},
        {"model.name": "name: resnet", "model.pooling": "pooling: avg", "model.init": "init: torch"},
        {"model.activation": "activation: tanh", "model.weights": "weights: models/weights/a.pth"},
        {"model.head": "head: concat_pool", "model.weights": "weights: models/weights/mine.pth"},
        {"prepare.val_fraction": "val_fraction: 0.5", "prepare.test_fraction": "test_fraction: 0.49"},
        {"data.fetch": "fetch: [MNIST, digits]"},
        {"export.formats": "formats: [pt2, onnx]"},
    ],
    ids=lambda edits: " ".join(edits.values())[:60],
)
def test_values_that_go_together_pass(edits: dict[str, str]) -> None:
    loaded(edited(edits))


def test_a_value_that_is_a_dict_stays_one() -> None:
    factors = "lr_factors: {backbone.*: 0.1, head.*: 10}"
    unfreeze = "unfreeze: [{epoch: 3, layers: backbone.*}]"
    edits = {"train.lr_factors": factors, "train.unfreeze": unfreeze, **BACKBONE}
    values = flatten(loaded(edited(edits)))
    assert values["train.lr_factors"] == {"backbone.*": 0.1, "head.*": 10.0}
    assert values["train.unfreeze"] == [{"epoch": 3, "layers": "backbone.*"}]
    assert flatten(loaded(SHIPPED))["train.lr_factors"] == {}


def test_every_parameter_is_listed_with_what_is_allowed_and_what_it_means() -> None:
    listed = list(parameters())
    assert [name for name, _, _ in listed] == list(flatten(loaded(SHIPPED)))
    assert all(allowed and about.strip() == about and len(about) > 10 for _, allowed, about in listed)


def run_prepare(text: str) -> tuple[subprocess.CompletedProcess[str], set[Path]]:
    """Runs the real stage beside the given params.yaml; returns also which files it made."""
    Path("stages").mkdir()
    shutil.copy(ROOT / "stages/prepare.py", "stages")
    shutil.copy(ROOT / "dvc.yaml", ".")
    random = np.random.default_rng(0)
    for label in ("cat", "dog"):
        Path("images", label).mkdir(parents=True)
        for index in range(10):
            pixels = random.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(f"images/{label}/{index}.png")
    FILE.write_text(text, encoding="utf-8")
    before = set(Path().rglob("*"))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DARKROOM_", "MLFLOW_"))}
    done = subprocess.run(
        [sys.executable, "stages/prepare.py"],
        env={**kept, "DARKROOM_TRACKING": "off", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    return done, set(Path().rglob("*")) - before


def test_a_stage_refuses_a_mistake_without_traceback_before_it_writes_anything() -> None:
    text = edited({"data.path": "path: images", "train.optimizer": "optimiser: sgd"})
    done, made = run_prepare(text)
    assert done.returncode == 2
    assert done.stderr == (
        with_line(text, "train.optimiser is not a parameter; did you mean train.optimizer?") + "\n"
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert made == set()


@pytest.mark.slow
def test_the_same_stage_without_the_mistake_writes_its_outputs() -> None:
    done, made = run_prepare(edited({"data.path": "path: images"}))
    assert done.returncode == 0, done.stderr
    assert Path("data/prepared/dataset.json") in made

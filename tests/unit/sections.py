"""Plain sections of params.yaml, for tests that change some of their values.

Nothing of darkroom is imported.
"""

from typing import Any

TRAIN: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 8,
    "micro_batches": 1,
    "loss": "cross_entropy",
    "focal_gamma": None,
    "label_smoothing": 0.0,
    "teacher": None,
    "class_weights": None,
    "sampling": "natural",
    "optimizer": "sgd",
    "lr": 0.05,
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 0.0005,
    "l1": 0.0,
    "schedule": "one_cycle",
    "warmup_fraction": 0.3,
    "decay_epochs": None,
    "decay_factor": None,
    "clip_norm": None,
    "clip_value": None,
    "gradient_norms": False,
    "freeze": "none",
    "unfreeze": [],
    "feature_views": None,
    "layer_decay": None,
    "lr_factors": {},
    "ema_decay": None,
    "patience": None,
    "precision": "float32",
    "tf32": False,
    "compile": None,
    "deterministic": True,
    "image_size": None,
    "evaluate_crop": None,
}

AUGMENT: dict[str, Any] = {
    "crop_padding": 0,
    "resized_crop": None,
    "horizontal_flip": False,
    "vertical_flip": False,
    "rotate": 0.0,
    "translate": 0.0,
    "scale": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "policy": None,
    "transforms": [],
    "erase": 0.0,
    "erase_fill": "mean",
    "mixup": None,
    "cutmix": None,
}
"""Nothing is switched on."""

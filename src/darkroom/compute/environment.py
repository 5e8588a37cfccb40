"""What results depend on besides data, parameters and code: platform, packages and device."""

import hashlib
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from darkroom.compute.determinism import instruction_set

PACKAGES = (
    "matplotlib",
    "numpy",
    "onnx",
    "onnxscript",
    "pandas",
    "pillow",
    "pyarrow",
    "safetensors",
    "scikit-learn",
    "torch",
    "torchmetrics",
    "torchvision",
)
"""Packages whose version can change an output."""


def describe_environment(device: torch.device) -> dict[str, str]:
    """Return the properties of the environment that must be equal for outputs to be equal."""
    return {
        **(_describe_gpu(device) if device.type == "cuda" else {"device": device.type}),
        "instruction set": instruction_set(),
        "platform": f"{sys.platform} {platform.machine()}",
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        **{package: version(package) for package in PACKAGES},
        "torch": torch.__version__,  # with the build, such as 2.15.0+cpu
    }


def _describe_gpu(device: torch.device) -> dict[str, str]:
    return {
        "device": torch.cuda.get_device_name(device),
        "cudnn": f"{torch.backends.cudnn.version()}",
        # overrides train.tf32, see NVIDIA's documentation of cuBLAS and cuDNN
        "NVIDIA_TF32_OVERRIDE": os.environ.get("NVIDIA_TF32_OVERRIDE", ""),
    }


def fingerprint(environment: dict[str, str]) -> str:
    """Return the SHA-256 of an environment's description."""
    return hashlib.sha256(json.dumps(environment, sort_keys=True).encode()).hexdigest()


def write_environment(environment: dict[str, str], path: Path) -> None:
    """Write the description and its fingerprint, unless the file has the same content."""
    content = {"fingerprint": fingerprint(environment), **environment}
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")

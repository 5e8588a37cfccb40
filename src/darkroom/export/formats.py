"""Write exported formats; the bytes of a file depend only on the model."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from darkroom.export.onnx_fp16 import write_onnx_fp16
from darkroom.export.onnx_int8 import write_onnx_int8
from darkroom.export.onnx_with_preprocessing import write_onnx_with_preprocessing
from darkroom.export.openvino import write_openvino
from darkroom.export.source import Source
from darkroom.models.exported import ONNX_FILES


@dataclass(frozen=True)
class Format:
    """An exported format."""

    file_name: str
    description: str
    write: Callable[[Source, Path, bool], None]
    """Writes a file. The last argument says whether the first and the last layer keep float32; it
    matters if ``is_smaller``."""
    is_smaller: bool = False
    """Whether numbers are stored with fewer bits: the file is judged by its macro F1."""
    weights_name: str | None = None
    """A second file that ``write`` writes."""
    takes_pictures: bool = False
    """Whether the file takes one picture of any size, in place of prepared images."""
    package: str = "onnxruntime"
    """The Python package that runs the file."""


def write_pt2(source: Source, path: Path, _: bool = False) -> None:
    """Write a ``torch.export`` archive for any number of images."""
    program = source.capture()
    for node in program.graph.nodes:
        # these hold absolute paths of source files
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack"):
            node.meta.pop(key, None)
    torch.export.save(program, path)


def write_onnx(source: Source, path: Path, _: bool = False) -> None:
    """Write ONNX with numbers of 32 bits."""
    path.write_bytes(source.onnx)


FORMATS = {
    "onnx": Format(
        ONNX_FILES["onnx"], "ONNX model, for ONNX Runtime and `darkroom predict`", write_onnx
    ),
    "onnx-fp16": Format(
        ONNX_FILES["onnx-fp16"], "the ONNX model with numbers of 16 bits", write_onnx_fp16, True
    ),
    "onnx-int8": Format(
        ONNX_FILES["onnx-int8"], "the ONNX model with integers of 8 bits", write_onnx_int8, True
    ),
    "onnx-with-preprocessing": Format(
        "model-with-preprocessing.onnx",
        "ONNX model that takes one image of any size, and resizes and crops it itself",
        write_onnx_with_preprocessing,
        takes_pictures=True,
    ),
    "openvino": Format(
        "model.xml",
        "OpenVINO model, with its weights in `model.bin`",
        write_openvino,
        False,
        "model.bin",
        package="openvino",
    ),
    "pt2": Format(
        "model.pt2", "`torch.export` archive, for `torch.export.load`", write_pt2, package="torch"
    ),
}

BY_FILE = {each.file_name: each for each in FORMATS.values()}


def write_formats(names: Sequence[str], checkpoint: Path, source: Source, folder: Path) -> list[Path]:
    """Copy the checkpoint into ``folder`` and write the formats ``names`` next to it.

    Returns:
        the files that can be run, the checkpoint first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [Path(shutil.copyfile(checkpoint, folder / "model.safetensors"))]
    for name in names:
        files.append(folder / FORMATS[name].file_name)
        FORMATS[name].write(source, files[-1], False)
    return files


def takes_pictures(file: Path) -> bool:
    """Return whether a file that ``write_formats`` returned takes pictures of any size."""
    return file.name in BY_FILE and BY_FILE[file.name].takes_pictures


def is_smaller(file: Path) -> bool:
    """Return whether a file that ``write_formats`` returned is judged by its macro F1."""
    return file.name in BY_FILE and BY_FILE[file.name].is_smaller


def package_of(file: Path) -> str:
    """Return the Python package that reads a file that ``write_formats`` returned."""
    return BY_FILE[file.name].package if file.name in BY_FILE else "safetensors"


def parts(file: Path) -> list[Path]:
    """Return a file that ``write_formats`` returned, and the file with its weights if there is one."""
    weights = BY_FILE[file.name].weights_name if file.name in BY_FILE else None
    return [file] if weights is None else [file, file.with_name(weights)]

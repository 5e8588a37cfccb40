"""Run an ONNX file as a classifier, and reject files that are not one."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import UserError, brief, counted

if TYPE_CHECKING:
    import onnxruntime

OUTPUT = "probabilities"
UNFAMILIARITY = "unfamiliarity"
"""The name of an output that files of earlier versions lack."""

_PREFIX = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .* failed:)?")
_PLACE = re.compile(r"/\S+:\d+ [^()]*(\([^()]*\)[^()]*::[^()]*)*\([^()]*\)( const)?(::\S+)? ")
"""A line of ONNX Runtime's source, with the signature of the function."""


def open_session(model: Path) -> "onnxruntime.InferenceSession":
    """Return a session of an ONNX file on the CPU.

    Raises:
        UserError: the file cannot be loaded.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the exception holds what would be printed
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no other base class
        raise UserError(f"{model}: cannot be loaded ({_reason(error)})") from None


class OnnxClassifier:
    """An ONNX Runtime session of an exported classifier.

    Args:
        model: the ONNX file.
        input_shape: ``(channels, height, width)`` of an image.
        output_shape: of the probabilities of an image, ``(num_classes, ...)``.
        description: the file that shape and classes come from, for messages.

    Raises:
        UserError: the file cannot be loaded (it is not ONNX, is damaged, or needs missing operators or
            files), or does not classify such images.
    """

    def __init__(
        self,
        model: Path,
        input_shape: tuple[int, int, int],
        output_shape: tuple[int, ...],
        description: Path,
    ) -> None:
        self._session = open_session(model)
        self._model = model
        inputs = {one.name: (one.type, one.shape) for one in self._session.get_inputs()}
        outputs = {one.name: (one.type, one.shape) for one in self._session.get_outputs()}
        if len(inputs) != 1 or OUTPUT not in outputs:
            raise UserError(
                f"{model}: not a classifier as darkroom exports it, which has one input and an output "
                f"{OUTPUT!r}; it has the inputs {_names(inputs)} and the outputs {_names(outputs)}"
            )
        [self._input] = inputs
        kind, shape = inputs[self._input]
        if kind != "tensor(uint8)" or len(shape) != 4 or isinstance(shape[0], int):
            raise UserError(
                f"{model}: its input is {kind} {shape}; images are uint8 (any number, channels, height, "
                "width)"
            )
        found = shape[1:], outputs[OUTPUT][1][1:]
        if found != (list(input_shape), list(output_shape)):
            classes = " x ".join(map(str, found[1])) or "no"
            raise UserError(
                f"{description}: describes another model than {model}, which takes images of {found[0]} "
                f"(channels, height, width) and has {classes} classes"
            )
        self._output_shape = output_shape
        self._outputs = [OUTPUT, *([UNFAMILIARITY] if UNFAMILIARITY in outputs else [])]
        self.run(np.zeros((1, *input_shape), np.uint8))

    @property
    def has_unfamiliarity(self) -> bool:
        """Whether the model measures the unfamiliarity of images."""
        return UNFAMILIARITY in self._outputs

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return the outputs for images, uint8 ``(n, channels, height, width)``.

        An image gets the same outputs alone and beside others; see
        ``docs/decisions/0038-what-is-shipped.md``.

        Returns:
            The probabilities, float32 ``(n, num_classes, ...)``; the unfamiliarity, float32 ``(n,)``, or
            None.

        Raises:
            UserError: the model fails, or returns another shape.
        """
        # a matrix product with one row has a kernel of its own, which rounds differently
        given = np.repeat(images, 2, axis=0) if len(images) == 1 else images
        try:
            found, *others = self._session.run(self._outputs, {self._input: given})
        except Exception as error:  # as above
            raise UserError(f"{self._model}: fails on an image ({_reason(error)})") from None
        expected = [(len(given), *self._output_shape), (len(given),)]
        for output, wanted in zip([found, *others], expected, strict=False):
            if not isinstance(output, np.ndarray) or output.shape != wanted:
                shape = getattr(output, "shape", type(output).__name__)
                raise UserError(
                    f"{self._model}: returned {shape} for {counted(len(given), 'image')}; {wanted} is "
                    "expected"
                )
        return found[: len(images)], others[0][: len(images)] if others else None


def _reason(error: Exception) -> str:
    """Return what an error of ONNX Runtime says, without its code and places in its source."""
    return brief(_PLACE.sub("", _PREFIX.sub("", f"{error}")) or error)


def _names(values: Iterable[str]) -> str:
    return ", ".join(map(repr, values)) or "none"

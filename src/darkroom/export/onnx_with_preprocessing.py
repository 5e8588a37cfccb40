"""Write ONNX that takes one picture of any size, and prepares it as ``darkroom predict`` does."""

from pathlib import Path

import torch
from torch import Tensor, nn

from darkroom.export.preprocessing import Preprocessing
from darkroom.export.source import ExportedModel, Source, graphs, onnx_of

NAMES = ("height", "width")

MAX_SIDE = 65_535
"""Maximum height and width of a picture, in pixels."""


class _OfPicture(nn.Module):
    """The exported model of one picture, RGB as displayed."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.preprocessing = Preprocessing(source.spec)
        self.model = ExportedModel(source.classifier, source.spec)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of uint8 ``(height, width, 3)``, as those of a batch of one."""
        prepared = self.preprocessing(image)
        # twice, because a matrix product with one row has a kernel of its own, which rounds differently
        return tuple(output[:1] for output in self.model(torch.stack([prepared, prepared])))


def write_onnx_with_preprocessing(source: Source, path: Path, _: bool = False) -> None:
    """Write an ONNX model with the input ``image``, and the outputs of the other formats for one image.

    Its probabilities are those of ``model.onnx`` for the prepared image, to the bit.
    """
    height, width = (torch.export.Dim(name, min=1, max=MAX_SIDE) for name in NAMES)
    example = torch.zeros(37, 53, 3, dtype=torch.uint8)
    program = torch.export.export(
        _OfPicture(source).eval(), (example,), dynamic_shapes={"image": {0: height, 1: width}}
    )
    model = onnx_of(program, "image", source.spec)
    # the sizes have names that the tracer counts up
    for graph in graphs(model.graph):
        del graph.value_info[:]
    for axis, name in zip(model.graph.input[0].type.tensor_type.shape.dim, NAMES, strict=False):
        axis.dim_param = name
    path.write_bytes(model.SerializeToString(deterministic=True))

"""The exported model as a captured program and as an ONNX graph, from which all formats are written."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto
from torch import Tensor, nn

from darkroom.export.inputs.interface import exported_input
from darkroom.models.classifier import Classifier, probabilities_of
from darkroom.models.spec import ModelSpec


class ExportedModel(nn.Module):
    """The exported model: raw pixels in; logits, calibrated probabilities and unfamiliarity out."""

    def __init__(self, classifier: Classifier, spec: ModelSpec) -> None:
        super().__init__()
        self.classifier = classifier
        self.spec = spec

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of uint8 NCHW images.

        Returns:
            logits and probabilities, ``(n, num_classes)``; and, if the classifier measures it, the
            unfamiliarity, ``(n,)``.
        """
        logits, unfamiliarity = self.classifier.assess(images)
        outputs = logits, probabilities_of(logits, self.spec)
        return outputs if unfamiliarity is None else (*outputs, unfamiliarity)


def output_names(spec: ModelSpec) -> list[str]:
    """Return the names of the outputs of ``ExportedModel``."""
    return ["logits", "probabilities", *(["unfamiliarity"] if spec.unfamiliarity else [])]


@dataclass(frozen=True, eq=False)
class Source:
    """What formats are written from."""

    classifier: Classifier
    spec: ModelSpec
    calibration: NDArray[np.uint8] | None = None
    """Training images, uint8 ``(n, channels, height, width)``, for formats that measure the range of
    values in the network."""

    def capture(self) -> torch.export.ExportedProgram:
        """Return the program for any number of images."""
        # two images, because the tracer treats a batch size of 1 as a constant
        images = exported_input(self.spec.input).example(self.spec)
        batch = torch.export.Dim("batch", min=1)
        exported = ExportedModel(self.classifier, self.spec).eval()
        return torch.export.export(exported, (images,), dynamic_shapes={"images": {0: batch}})

    @cached_property
    def onnx(self) -> bytes:
        """The ONNX model with the input ``images``, or an input per column of a table.

        Its outputs are those that ``output_names`` returns.
        """
        kind = exported_input(self.spec.input)
        model = onnx_of(self.capture(), kind.name, self.spec)
        kind.finish(model, self.spec)
        return model.SerializeToString(deterministic=True)


def onnx_of(program: torch.export.ExportedProgram, input_name: str, spec: ModelSpec) -> ModelProto:
    """Return a captured program as an ONNX model with the outputs that ``output_names`` returns."""
    written = torch.onnx.export(
        program,
        input_names=[input_name],
        output_names=output_names(spec),
        dynamo=True,
        verbose=False,
    )
    assert written is not None
    model: ModelProto = written.model_proto
    strip_traces(model)
    return model


def strip_traces(model: ModelProto) -> None:
    """Remove metadata with paths of the exporting machine."""
    del model.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]
    for graph in graphs(model.graph):
        del graph.metadata_props[:]
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            del value.metadata_props[:]
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph, and those inside of its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)

"""Write exported formats; the bytes of a file depend only on the model."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
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


@dataclass(frozen=True)
class Format:
    """An exported format."""

    file_name: str
    description: str
    write: Callable[[Classifier, ModelSpec, Path], None]


def output_names(spec: ModelSpec) -> list[str]:
    """Return the names of the outputs of ``ExportedModel``."""
    return ["logits", "probabilities", *(["unfamiliarity"] if spec.unfamiliarity else [])]


def write_pt2(classifier: Classifier, spec: ModelSpec, path: Path) -> None:
    """Write a ``torch.export`` archive for any number of images."""
    program = _capture(classifier, spec)
    for node in program.graph.nodes:
        # these hold absolute paths of source files
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack"):
            node.meta.pop(key, None)
    torch.export.save(program, path)


def write_onnx(classifier: Classifier, spec: ModelSpec, path: Path) -> None:
    """Write ONNX with the input ``images``, or an input per column of a table.

    Its outputs are those that ``output_names`` returns.
    """
    program = torch.onnx.export(
        _capture(classifier, spec),
        input_names=[exported_input(spec.input).name],
        output_names=output_names(spec),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    _strip_traces(model)
    exported_input(spec.input).finish(model, spec)
    path.write_bytes(model.SerializeToString(deterministic=True))


FORMATS = {
    "onnx": Format("model.onnx", "ONNX model, for ONNX Runtime and `darkroom predict`", write_onnx),
    "pt2": Format("model.pt2", "`torch.export` archive, for `torch.export.load`", write_pt2),
}


def write_formats(
    names: Sequence[str], checkpoint: Path, classifier: Classifier, spec: ModelSpec, folder: Path
) -> list[Path]:
    """Copy the checkpoint into ``folder`` and write the formats ``names`` next to it.

    Returns:
        the files, the checkpoint first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [Path(shutil.copyfile(checkpoint, folder / "model.safetensors"))]
    for name in names:
        files.append(folder / FORMATS[name].file_name)
        FORMATS[name].write(classifier, spec, files[-1])
    return files


def _capture(classifier: Classifier, spec: ModelSpec) -> torch.export.ExportedProgram:
    # two images, because the tracer treats a batch size of 1 as a constant
    images = exported_input(spec.input).example(spec)
    batch = torch.export.Dim("batch", min=1)
    exported = ExportedModel(classifier, spec).eval()
    return torch.export.export(exported, (images,), dynamic_shapes={"images": {0: batch}})


def _strip_traces(model: ModelProto) -> None:
    """Remove metadata with paths of the exporting machine."""
    del model.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]
    for graph in _graphs(model.graph):
        del graph.metadata_props[:]
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            del value.metadata_props[:]
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)

"""Write OpenVINO's format. An extra: darkroom[openvino]."""

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from darkroom.errors import UserError
from darkroom.export.source import Source


def check_openvino() -> None:
    """Check that the library is installed.

    Raises:
        UserError: it is not.
    """
    if find_spec("openvino") is None:
        raise UserError(
            "export.formats: openvino needs the package openvino; install it with "
            "`pip install 'darkroom[openvino]'`"
        )


def write_openvino(source: Source, path: Path, _: bool = False) -> None:
    """Write the model with numbers of 32 bits: the graph into ``path``, the weights into a .bin file.

    Raises:
        UserError: openvino is not installed.
    """
    check_openvino()
    import openvino

    with TemporaryDirectory(prefix="darkroom-openvino-") as folder:
        file = Path(folder, "model.onnx")
        file.write_bytes(source.onnx)
        model = openvino.convert_model(file)
        for index, node in enumerate(model.get_ordered_ops()):
            # names that the converter gives count what the process has converted before
            if node.get_type_name() not in ("Parameter", "Result"):
                node.set_friendly_name(f"{node.get_type_name()}_{index}")
        openvino.save_model(model, path, compress_to_fp16=False)

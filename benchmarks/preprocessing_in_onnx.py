"""Measures how long resizing takes inside an ONNX file, beside Pillow.

    python benchmarks/preprocessing_in_onnx.py [--rounds 9]

Both resize the same images to 224 x 224 pixels in turn. The ONNX file has the default network `cnn`; the
time of the same network for the prepared image is subtracted.

Adds a JSON line per image size to benchmarks/results/preprocessing-in-onnx.jsonl: medians in ms.
"""

import argparse
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import onnxruntime
from machine import hardware, keep
from PIL import Image

from darkroom.catalogue.counting import blank_spec
from darkroom.decoding.decode import PixelLayout, resize
from darkroom.export.formats import FORMATS
from darkroom.export.source import Source
from darkroom.models.factory import make_classifier

SIZES = ((375, 500), (1200, 1600), (3000, 4000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    spec = blank_spec(name="cnn", width=32, depth=2, num_classes=10, input_size=(224, 224), channels=3)
    source = Source(make_classifier(spec).eval(), spec)
    layout = PixelLayout(224, 224, 3, "stretch")
    with TemporaryDirectory() as folder:
        sessions = {}
        for name in ("onnx", "onnx-with-preprocessing"):
            FORMATS[name].write(source, Path(folder, name), False)
            sessions[name] = onnxruntime.InferenceSession(Path(folder, name))
    for height, width in SIZES:
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        prepared = np.asarray(resize(image, layout)).transpose(2, 0, 1)[None].repeat(2, axis=0)
        kinds = {
            "pillow": lambda image=image: resize(image, layout),
            "network": lambda prepared=prepared: sessions["onnx"].run(None, {"images": prepared}),
            "file": lambda pixels=pixels: sessions["onnx-with-preprocessing"].run(
                None, {"image": pixels}
            ),
        }
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(rounds + 1):
            for kind, run in kinds.items():
                began = perf_counter()
                run()
                seconds[kind].append(perf_counter() - began)
        ms = {kind: 1e3 * statistics.median(values[1:]) for kind, values in seconds.items()}
        in_onnx = ms["file"] - ms["network"]
        line = {
            "image": f"{width} x {height}",
            "pillow_ms": round(ms["pillow"], 2),
            "onnx_ms": round(in_onnx, 1),
            "onnx_over_pillow": round(in_onnx / ms["pillow"], 1),
            "rounds": rounds,
        }
        keep("preprocessing-in-onnx", hardware() | line)


if __name__ == "__main__":
    main()

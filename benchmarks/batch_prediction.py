"""Rate and peak memory of `darkroom predict --out` for 1,000 and 20,000 tiny images, as CSV and Parquet.

    python benchmarks/batch_prediction.py [EXPORT]

EXPORT is the exported digits model, export/, unless it is named. The images are PNG files of 8 x 8
pixels, so that time and memory are those of the command, not of decoding.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import hardware, keep
from PIL import Image

NUMBERS = (1_000, 20_000)


def run(*arguments: object) -> tuple[float, float]:
    """Runs a command; returns its seconds and its peak of resident memory in MiB."""
    began = time.perf_counter()
    command = [f"{Path(sys.executable).parent / 'darkroom'}", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command} failed")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def main() -> None:
    export = Path(sys.argv[1] if len(sys.argv) > 1 else "export").resolve()
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for index in range(max(NUMBERS)):
            path = Path(folder, "images", f"{index:05d}.png")
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
        for number in NUMBERS:
            listed = Path(folder, "list.txt")
            names = sorted(Path(folder, "images").iterdir())[:number]
            listed.write_text("".join(f"{name}\n" for name in names))
            for suffix in ("csv", "parquet"):
                out = Path(folder, f"{number}.{suffix}")
                seconds, mib = run("predict", export, "--from-file", listed, "--out", out)
                keep(
                    "batch_prediction",
                    {
                        "num_images": number,
                        "format": suffix,
                        "seconds": round(seconds, 2),
                        "images_per_second": round(number / seconds),
                        "peak_mib": round(mib, 1),
                        "out_kib": round(out.stat().st_size / 1024, 1),
                        **hardware(),
                    },
                )


if __name__ == "__main__":
    main()

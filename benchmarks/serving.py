"""Load on `darkroom serve`: requests per second beside bare ONNX Runtime, latency, errors, peak memory.

    python benchmarks/serving.py [EXPORT] [--seconds 60] [--clients 64] [--images FOLDER]
    python benchmarks/serving.py [EXPORT] --hostile 10000 [--seed 0]

EXPORT is the exported digits model, export/, unless it is named. The clients are threads of this
process on loopback; each sends one image per request over a connection of its own: a PNG of noise of
the model's input size, or a file of --images. Before and after the load, while the server is idle, the
same model runs in ONNX Runtime in batches of 64 with the server's settings: on decoded images, and with
the images decoded by the server's code in as many threads. The machine must be quiet: clients and
server share its cores.

With --hostile, this many requests that no client should send go to a server with small limits: bombs,
truncated images, huge bodies, paths in names, wrong types, bad JSON, thousands of headers, broken HTTP,
and clients that never finish. No time is measured, so the machine need not be quiet.
"""

import argparse
import io
import itertools
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import numpy as np
from machine import hardware, keep
from PIL import Image

from darkroom.parallel import available_cores
from darkroom.prediction.predictor import Predictor
from darkroom.progress import progress_bar

BATCH = 64


def images_for(predictor: Predictor, folder: Path | None) -> list[bytes]:
    """Returns 256 files of a folder, or 256 PNG files of the model's input size."""
    if folder is not None:
        paths = sorted(path for path in folder.rglob("*") if path.is_file())[:256]
        return [path.read_bytes() for path in paths]
    channels, height, width = predictor.input_shape
    generator = np.random.default_rng(0)
    found = []
    for _ in range(256):
        pixels = generator.integers(0, 256, (height, width, channels), np.uint8)
        encoded = io.BytesIO()
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(encoded, "PNG")
        found.append(encoded.getvalue())
    return found


def bare(predictor: Predictor, files: list[bytes], seconds: float) -> tuple[float, float]:
    """Returns the images per second of ONNX Runtime alone, and with decoding before each batch."""
    decoded = [predictor.input_of(content) for content in files]
    rates = []
    with ThreadPoolExecutor(available_cores()) as pool:
        for decodes in (False, True):
            predictor.outputs(decoded[:BATCH])
            began, count = time.perf_counter(), 0
            while time.perf_counter() - began < seconds:
                start = count % len(files)
                some = files[start : start + BATCH]
                batch = (
                    list(pool.map(predictor.input_of, some))
                    if decodes
                    else decoded[start : start + BATCH]
                )
                predictor.outputs(batch)
                count += len(batch)
            rates.append(count / (time.perf_counter() - began))
    return rates[0], rates[1]


class Load:
    """Clients that ask all the time, and what came of it."""

    def __init__(self, port: int, files: list[bytes], headers: Mapping[str, str] | None = None) -> None:
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()
        self._port, self._files, self._headers = port, files, headers or {}
        self._ends = 0.0

    def run(self, clients: int, seconds: float) -> float:
        """Asks for some seconds; returns the seconds until the last answer."""
        began = time.perf_counter()
        self._ends = began + seconds
        threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - began

    def _ask(self, first: int) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        for number in itertools.count(first):
            began = time.perf_counter()
            if began > self._ends:
                connection.close()
                return
            content = self._files[number % len(self._files)]
            try:
                connection.request("POST", "/predict", content, self._headers)
                response = connection.getresponse()
                response.read()
                self.statuses[f"{response.status}"] += 1
            except (OSError, HTTPException) as error:
                self.statuses[type(error).__name__] += 1
                connection.close()
            self.latencies.append(time.perf_counter() - began)


def peak_mib(pid: int) -> float:
    """Returns the peak of resident memory of a process."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    assert found
    return int(found[1]) / 1024


HOSTILE_LIMITS = {
    "--max-body-mib": 1,
    "--max-pixels": 1_000_000,
    "--client-seconds": 1,
    "--max-batch": 8,
}


def attack(export: Path, number: int, seed: int) -> None:
    """Sends hostile requests to a server, and keeps what came of them."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    import served as real_server
    from hostile_requests import hostile_requests, is_clear, resident_mib, send_all

    image = images_for(Predictor(export), None)[0]
    counts: dict[str, Counter[str]] = {}
    num_unclear = 0
    words = [word for pair in HOSTILE_LIMITS.items() for word in pair]
    real_server.PATIENCE_SECONDS = 600  # the machine may be busy
    with real_server.serving(export.resolve(), *words) as served:
        expected, before = served.predict(image).json, resident_mib(served)
        answers = send_all(served, hostile_requests(seed, with_slow=True), number, 64)
        with progress_bar("hostile requests", number, "requests") as bar:
            for (kind, _), answer in answers:
                status = f"{answer.status}" if answer else "closed"
                counts.setdefault(kind, Counter())[status] += 1
                num_unclear += answer is not None and not is_clear(answer)
                bar.advance(1)
        peak, crashed = resident_mib(served, "VmHWM"), served.process.poll() is not None
        same = not crashed and served.predict(image).json == expected
        lines = len(served.lines) - 1
        ended = None if crashed else served.end()
    keep(
        "serving-hostile",
        {
            "requests": number,
            "seed": seed,
            "limits": HOSTILE_LIMITS,
            "statuses": {kind: dict(sorted(found.items())) for kind, found in counts.items()},
            "unclear_answers": num_unclear,
            "crashes": int(crashed),
            "same_answer_afterwards": same,
            "lines_in_log": lines,
            "exit_status": ended,
            "before_mib": round(before, 1),
            "peak_mib": round(peak, 1),
            **hardware(),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("export", nargs="?", default="export", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="send these files")
    parser.add_argument("--hostile", type=int, metavar="NUMBER", help="send hostile requests instead")
    parser.add_argument("--seed", type=int, default=0, help="of the hostile requests")
    options = parser.parse_args()
    if options.hostile:
        attack(options.export, options.hostile, options.seed)
        return
    predictor = Predictor(options.export)
    files = images_for(predictor, options.images)
    bare_seconds = min(options.seconds / 4, 5)
    command = [Path(sys.executable).parent / "darkroom", "serve", options.export, "--port", "0"]
    before = bare(predictor, files, bare_seconds)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        line = server.stderr.readline()
        address = re.search(r" on http://127\.0\.0\.1:(\d+);", line)
        if address is None:
            sys.exit(line)
        threading.Thread(target=server.stderr.read, daemon=True).start()
        Load(int(address[1]), files).run(options.clients, min(options.seconds / 10, 2))  # warm
        load = Load(int(address[1]), files)
        seconds = load.run(options.clients, options.seconds)
        peak = peak_mib(server.pid)
        server.terminate()
    after = bare(predictor, files, bare_seconds)
    model, with_decoding = (statistics.fmean(pair) for pair in zip(before, after, strict=True))
    answered = load.statuses["200"]
    quantiles = np.quantile(load.latencies, [0.5, 0.99]) * 1000
    keep(
        "serving",
        {
            "model_mib": round((options.export / "model.onnx").stat().st_size / 2**20, 2),
            "input": list(predictor.input_shape),
            "images": options.images.name if options.images else "noise",
            "clients": options.clients,
            "seconds": round(seconds, 1),
            "requests_per_second": round(answered / seconds),
            "bare_images_per_second": round(model),
            "bare_with_decoding_per_second": round(with_decoding),
            "over_bare": round(answered / seconds / model, 4),
            "over_bare_with_decoding": round(answered / seconds / with_decoding, 4),
            "p50_ms": round(float(quantiles[0]), 1),
            "p99_ms": round(float(quantiles[1]), 1),
            "answered": answered,
            "errors": len(load.latencies) - answered,
            "peak_mib": round(peak, 1),
            **hardware(),
        },
    )


if __name__ == "__main__":
    main()

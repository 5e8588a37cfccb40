"""Compares what processors of other makers compute, to the byte: emulated ones with this one.

    python benchmarks/cpu_makers.py [--cpus EPYC-Milan Haswell-v4] [--networks vit ...]

Needs ``qemu-x86_64``, version 7.2 or later (Debian's package qemu-user).

- ``float32``, ``float64``, ``numpy``: functions of torch and of NumPy, with the instruction set pinned
  as in a stage; those of NumPy also without;
- ``libraries``: codecs of images, Parquet files, SciPy, scikit-learn and Matplotlib;
- ``networks``: two training steps from random weights; outputs, gradients and weights are compared.

Adds a line per emulated processor to benchmarks/results/cpu-makers.jsonl, with the names of everything
that differs.
"""

import argparse
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

from machine import hardware_of_training, keep

from darkroom.compute.determinism import INSTRUCTION_SET, configure_libraries, set_determinism

NAME = "cpu-makers"
UNARY = (
    "abs acos asin asinh atan cos cosh digamma erf erfc exp exp2 expm1 frac i0 lgamma log log10 log1p"
    " log2 logit reciprocal round rsqrt sigmoid sin sinh sqrt square tan tanh"
)
ACTIVATIONS = "elu gelu hardswish leaky_relu logsigmoid mish relu selu silu softplus"
REDUCTIONS = "cumsum log_softmax logsumexp mean norm prod softmax std sum var"
NUMPY = (
    "arctan cbrt cos exp exp2 expm1 log log10 log1p log2 sin sinh sqrt tan tanh"
    " cumsum mean sort std sum var"
)

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"width": 64, "depth": 3, "input_size": (8, 8), "batch_size": 16},
    "cnn": {"width": 16, "depth": 2, "input_size": (8, 8), "batch_size": 16},
    "resnet": {"width": 16, "depth": 1, "input_size": (32, 32), "batch_size": 8},
    "vit": {"width": 64, "depth": 2, "patch_size": 4, "input_size": (32, 32), "batch_size": 4},
    "torchvision:resnet18": {"input_size": (64, 64), "batch_size": 4},
    "torchvision:mobilenet_v2": {"input_size": (64, 64), "batch_size": 4},
    "torchvision:convnext_tiny": {"input_size": (64, 64), "batch_size": 2},
    "timm:vit_small_patch16_224": {"input_size": (224, 224), "batch_size": 2},
}


def digest(*values: Any) -> str:
    import numpy as np

    total = sha256()
    for value in values:
        total.update(np.ascontiguousarray(value).tobytes())
    return total.hexdigest()[:16]


def digests_of_numpy() -> Iterator[tuple[str, str]]:
    import numpy as np

    x = (np.random.default_rng(0).random(10_001) * 8 + 0.001).astype(np.float64)
    yield from ((name, digest(getattr(np, name)(x))) for name in NUMPY.split())
    square = x[:10_000].reshape(100, 100)
    yield "power", digest(x**1.7)
    yield "product", digest(square @ square)
    yield "svd", digest(*np.linalg.svd(square))


def digests_of_libraries() -> Iterator[tuple[str, str]]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from matplotlib.figure import Figure
    from PIL import Image
    from scipy import fft, special, stats
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    picture = coarse.resize((400, 300), Image.Resampling.BICUBIC)
    yield "resize", digest(picture)
    for name in ("png", "jpeg", "webp"):
        encoded = io.BytesIO()
        picture.save(encoded, name, lossless=True)  # only webp has another way
        yield name, digest(encoded.getbuffer(), Image.open(encoded))
    table = pa.table(
        {"a": random.normal(size=5_000), "b": [f"{number % 77}" for number in range(5_000)]}
    )
    for compression in ("none", "snappy", "zstd"):
        written = io.BytesIO()
        pq.write_table(table, written, compression=compression)
        yield f"parquet, {compression}", digest(written.getbuffer())
    x = random.random(500)
    yield "quantiles", digest(special.betaincinv(2.0, 3.0, x), stats.t.ppf(x, 5), special.ndtri(x))
    yield "dct", digest(fft.dctn(random.normal(size=(32, 32))))
    rows, classes = random.normal(size=(400, 60)), random.integers(0, 3, 400)
    yield "logistic regression", digest(LogisticRegression().fit(rows, classes).coef_)
    yield "principal components", digest(PCA(10).fit_transform(rows))
    figure, drawn = Figure(), io.BytesIO()
    figure.subplots().plot(x[:50])
    figure.savefig(drawn, format="png")
    yield "plot", digest(drawn.getbuffer())


def digests_of_torch(dtype: Any) -> Iterator[tuple[str, str]]:
    import torch
    import torch.nn.functional as F
    from torch import linalg

    torch.manual_seed(0)
    x = torch.rand(20_000, dtype=dtype) * 8 + 0.001
    unit, normal = torch.rand_like(x) * 0.98 + 0.01, torch.randn_like(x)
    for name in UNARY.split():
        yield name, digest(getattr(torch, name)(unit if name in ("acos", "asin", "logit") else x))
    for name in ACTIVATIONS.split():
        yield name, digest(getattr(F, name)(normal))
    rows, columns = normal.reshape(100, 200), x.reshape(200, 100)
    for name in REDUCTIONS.split():
        yield name, digest(*(getattr(rows, name)(dim) for dim in (0, 1)))
    positive = rows @ rows.T + 200 * torch.eye(100, dtype=dtype)
    images = x.reshape(2, 2, 50, 100)
    others: dict[str, Callable[[], Any]] = {
        "power": lambda: x**1.7,
        "power of 0.5": lambda: x**0.5,
        "divide": lambda: normal / x,
        "atan2": lambda: torch.atan2(normal, x),
        "hypot": lambda: torch.hypot(normal, x),
        "lerp": lambda: torch.lerp(normal, x, 0.01),
        "product": lambda: rows @ columns,
        "product with a vector": lambda: rows @ columns[:, 0],
        "batched product": lambda: torch.bmm(rows.reshape(4, 25, 200), columns.reshape(4, 200, 25)),
        "attention": lambda: F.scaled_dot_product_attention(
            *rows.reshape(1, 4, 25, 200).expand(3, -1, -1, -1, -1)
        ),
        "cdist": lambda: torch.cdist(rows, columns.T.contiguous()),
        "cholesky": lambda: linalg.cholesky(positive),
        "inv": lambda: linalg.inv(positive),
        "solve": lambda: linalg.solve(positive, rows),
        "svd": lambda: torch.cat([part.flatten() for part in linalg.svd(rows, full_matrices=False)]),
        "eigh": lambda: linalg.eigh(positive)[1],
        "qr": lambda: linalg.qr(columns)[0],
        "interpolate": lambda: F.interpolate(images, (33, 77), mode="bilinear", antialias=True),
        "batch_norm": lambda: F.batch_norm(images, None, None, training=True),
        "layer_norm": lambda: F.layer_norm(rows, (200,)),
        "normalize": lambda: F.normalize(rows),
        "avg_pool2d": lambda: F.avg_pool2d(images, 3),
        "convolution": lambda: F.conv2d(images, normal[:90].reshape(5, 2, 3, 3)),
        "randn": lambda: torch.randn(1_000, dtype=dtype),
        "orthogonal": lambda: torch.nn.init.orthogonal_(torch.empty(50, 60, dtype=dtype)),
    }
    for name, compute in others.items():
        yield name, digest(compute())


def digest_of_network(name: str) -> str:
    import torch
    import torch.nn.functional as F

    from darkroom.catalogue.counting import blank_spec
    from darkroom.models.factory import make_classifier

    set_determinism(0, 2)
    size = dict(NETWORKS[name])
    batch_size = size.pop("batch_size")
    model = make_classifier(blank_spec(name=name, **size, num_classes=10, channels=3))
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    compared = []
    for _ in range(2):
        images = torch.randint(0, 256, (batch_size, 3, *size["input_size"]), dtype=torch.uint8)
        optimizer.zero_grad()
        outputs = model(images)
        F.cross_entropy(outputs, torch.arange(batch_size) % 10, label_smoothing=0.05).backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        compared += [
            outputs.detach().numpy(),
            *(grad.clone().numpy() for grad in gradients if grad is not None),
        ]
        optimizer.step()
    return digest(*compared, *(value.numpy() for value in model.state_dict().values()))


def compute(what: str) -> None:
    """Prints the digest of each function or network, in this process; its parent has set the pins."""
    if what == "numpy":
        found = dict(digests_of_numpy())
    elif what == "libraries":
        found = dict(digests_of_libraries())
    elif what in NETWORKS:
        found = {what: digest_of_network(what)}
    else:
        import torch

        set_determinism(0, 2)
        found = dict(digests_of_torch(getattr(torch, what)))
    print(json.dumps(found))


def digests_on(cpu: str | None, what: str, pinned: bool = True) -> dict[str, str]:
    """Runs ``compute`` in a process of its own; ``cpu``: on an emulated processor of this name."""
    packages = [path for path in sys.path if path.endswith("site-packages")]
    done = subprocess.run(
        [
            *(["qemu-x86_64", "-cpu", cpu] if cpu else []),
            os.path.realpath(sys.executable),
            __file__,
            "--child",
            what,
        ],
        env={
            **{name: value for name, value in os.environ.items() if name not in INSTRUCTION_SET},
            **(INSTRUCTION_SET if pinned else {}),
            "PYTHONPATH": os.pathsep.join(["src", *packages]),
        },
        capture_output=True,  # qemu names each feature that it lacks
        text=True,
    )
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def compare(cpu: str, networks: list[str]) -> dict[str, Any]:
    """Returns how much was compared with an emulated processor, and what differs."""

    def differing(what: str, pinned: bool = True) -> tuple[int, list[str]]:
        here, there = (digests_on(each, what, pinned) for each in (None, cpu))
        return len(here), [name for name in here if here[name] != there[name]]

    line: dict[str, Any] = {"emulated": cpu}
    for what in ("float32", "float64", "numpy", "libraries"):
        line[what] = dict(zip(("compared", "differing"), differing(what), strict=True))
    line["numpy, not pinned"] = dict(
        zip(("compared", "differing"), differing("numpy", pinned=False), strict=True)
    )
    different = [name for name in networks if differing(name)[1]]
    line["networks"] = {"compared": networks, "differing": different}
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpus", nargs="+", default=["EPYC-Milan", "Haswell-v4"], help="qemu's names")
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        compute(args.child)
        return
    configure_libraries()
    machine = hardware_of_training("cpu")
    for cpu in args.cpus:
        keep(NAME, {**compare(cpu, args.networks), **machine})


if __name__ == "__main__":
    main()

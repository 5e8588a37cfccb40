"""CPUs of other makers compute the same bytes: on emulated ones, and not without what pins them.

qemu emulates a processor by name: libraries choose the code that they have for it, and instructions that
approximate have results of their own, as on a real one.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from darkroom.compute.determinism import INSTRUCTION_SET

pytestmark = pytest.mark.slow

QEMU = "qemu-x86_64"
MAKERS = {"AMD": "EPYC-Milan", "Intel": "Haswell-v4"}
"""A processor of each maker; both have AVX2 and not AVX-512."""

ROOT = Path(__file__).parents[1]

CODE = """
import hashlib, json, sys
from darkroom.compute.determinism import configure_libraries, set_determinism

configure_libraries()
import numpy as np
import torch
import torch.nn.functional as F
from support import augment_options, make_spec, train_options, weights_hash
from darkroom.augment.pipeline import Augmentation
from darkroom.metrics.temperature import fit_temperature
from darkroom.models.factory import make_classifier
from darkroom.training.losses import focal_term
from darkroom.training.optim import make_optimizer
from darkroom.training.unfamiliarity import fit

set_determinism(0, 2)


def digest(*values):
    sha256 = hashlib.sha256()
    for value in values:
        sha256.update(np.ascontiguousarray(value).tobytes())
    return sha256.hexdigest()[:12]


def train(optimizer="sgd", **network):
    torch.manual_seed(0)
    spec = make_spec(input_size=(16, 16), channels=3, **network)
    model = make_classifier(spec).to(memory_format=torch.channels_last)
    momentum = 0.9 if optimizer in ("sgd", "rmsprop", "muon") else None
    options = train_options(
        optimizer=optimizer, momentum=momentum, nesterov=True if optimizer == "sgd" else None
    )
    steps = make_optimizer(model, options)
    for _ in range(2):
        images = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8)
        steps.zero_grad()
        F.cross_entropy(model(images), torch.arange(24) % 2, label_smoothing=0.1).backward()
        steps.step()
    return weights_hash(model)[:12]


found = {}
for name, network in {
    "mlp": {"width": 64, "depth": 2},
    "cnn": {"width": 16, "depth": 2},
    "resnet": {"width": 16, "depth": 1},
    "vit": {"width": 64, "depth": 2, "patch_size": 4},
}.items():
    found[name] = train(name=name, dropout=0.1, **network)
for optimizer in ("adam", "adamw", "adagrad", "adadelta", "rmsprop", "muon"):
    found[optimizer] = train(optimizer, name="mlp", width=32, depth=2)

for gamma in (0.5, 1.5, 2.0):
    log_p = (-torch.rand(500) * 3).requires_grad_()
    focal_term(log_p, gamma).sum().backward()
    found[f"focal loss, {gamma}"] = digest(focal_term(log_p, gamma).detach(), log_p.grad)

logits = np.random.default_rng(0).normal(0, 3, (500, 7))
found["temperature"] = fit_temperature(logits, logits.argmax(axis=1))
found["numpy"] = digest(np.exp(logits), np.log(np.abs(logits)), np.abs(logits) ** 1.7)

vectors = torch.randn(300, 40, generator=torch.Generator().manual_seed(0))
fitted = fit(vectors[:200], np.arange(200) % 3, vectors[200:])
found["unfamiliarity"] = digest(*fitted.module.state_dict().values(), fitted.module(vectors))

everything = {"crop_padding": 2, "resized_crop": 0.3, "rotate": 9.0, "scale": 0.2, "brightness": 0.2,
              "contrast": 0.2, "saturation": 0.3, "hue": 0.1, "erase": 0.5}
augmentation = Augmentation(augment_options(**everything), 0)
images = torch.randint(0, 256, (20, 16, 16, 3), dtype=torch.uint8)
found["augmentation"] = digest(augmentation.on_device(images, torch.arange(20), 1))
print(json.dumps(found))
"""


UNPINNED = """
import hashlib, json
import numpy as np
import torch

torch.manual_seed(0)
x = torch.rand(64, 72)
values = {"numpy": np.exp(x.double().numpy()), "product": x @ x.T, "root": x.sqrt()}
print(json.dumps({name: hashlib.md5(np.asarray(value)).hexdigest() for name, value in values.items()}))
"""


def digests(cpu: str | None, code: str = CODE) -> dict[str, object]:
    """Returns a digest of each computation, on this processor or on an emulated one."""
    emulator = [QEMU, "-cpu", cpu] if cpu else []
    # an emulated Python cannot find its environment by the link that started it
    packages = [path for path in sys.path if path.endswith("site-packages")]
    done = subprocess.run(
        [*emulator, os.path.realpath(sys.executable), "-c", code],
        env={
            **{name: value for name, value in os.environ.items() if name not in INSTRUCTION_SET},
            "PYTHONPATH": os.pathsep.join([f"{ROOT / 'src'}", f"{ROOT / 'tests/unit'}", *packages]),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@cache
def digests_here() -> dict[str, object]:
    return digests(None)


def require_emulator() -> None:
    """Skips where no qemu can emulate AVX2, or this Python is for another kind of processor."""
    if shutil.which(QEMU) is None or platform.machine() != "x86_64":
        pytest.skip(f"needs {QEMU} (Debian's package qemu-user) on x86-64")
    said = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"version (\d+)\.(\d+)", said)
    assert version
    if (int(version[1]), int(version[2])) < (7, 2):
        pytest.skip(f"{QEMU} emulates AVX2 from version 7.2 on")


@pytest.mark.parametrize("maker", MAKERS)
def test_a_processor_of_another_maker_computes_the_same_bytes(maker: str) -> None:
    require_emulator()
    assert digests(MAKERS[maker]) == digests_here()


def test_without_what_pins_them_processors_differ() -> None:
    """Else the test above could not fail."""
    require_emulator()
    here, amd, intel = (digests(cpu, UNPINNED) for cpu in (None, *MAKERS.values()))
    assert amd["product"] != intel["product"]
    assert here["root"] not in (amd["root"], intel["root"])
    has_avx512 = "avx512f" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    assert (here["numpy"] != amd["numpy"]) == has_avx512

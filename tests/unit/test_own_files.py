"""Backbones from a Python file of the user: mistakes, training, resuming, the cache, the model file."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from project import documented
from safetensors.torch import save_file
from support import make_spec, two_brightnesses, weights_hash, write_shards
from test_every_model import Stopped, new_state, train
from test_params import edited

from darkroom.dataset.shards import Shards
from darkroom.errors import UserError
from darkroom.features.extractor import Extractor, Wanted
from darkroom.features.store import Store
from darkroom.loading.batches import Batches
from darkroom.models.factory import make_classifier
from darkroom.models.file import load_model, save_model
from darkroom.models.spec import ModelSpec
from darkroom.models.summary import summary_text
from darkroom.models.weights import start_from
from darkroom.own_files import look_at
from darkroom.own_names import Arguments
from darkroom.params import load_params

FILE = Path("own/train/tiny.py")
NAME = f"file:{FILE}:Tiny"

HEAD = """\
import torch
from torch import nn

class Tiny(nn.Module):
    def __init__(self, channels, width=4):
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The current folder: a project with the guide's example."""
    monkeypatch.chdir(tmp_path)
    FILE.parent.mkdir(parents=True)
    FILE.write_text(documented("own/train/tiny.py"))
    before = set(sys.modules)
    yield
    assert {name for name in set(sys.modules) - before if "own" in name} <= {
        "darkroom_own.tiny",
        "darkroom_own.other",
    }


def own_spec(**changes: Any) -> ModelSpec:
    return make_spec(name=NAME, **changes)


def refused(**edits: str) -> str:
    """The mistake in params.yaml with the file as the network."""
    lines = {"name": f"name: {NAME}", "width": "width: null", "depth": "depth: null", **edits}
    Path("params.yaml").write_text(edited({f"model.{key}": line for key, line in lines.items()}))
    with pytest.raises(UserError) as error:
        load_params(Path("params.yaml"))
    return f"{error.value}"


def forward(body: str) -> None:
    FILE.write_text(f"{HEAD}\n    def forward(self, images):\n        {body}\n")


# mistakes that show when params.yaml is read: nothing is run


STATIC = {
    "no such name": (
        "class Tinny: pass\ndef other(): pass",
        "own/train/tiny.py does not define Tiny; did you mean Tinny?",
    ),
    "other names": (
        "def other(): pass\n_hidden = 1",
        "own/train/tiny.py does not define Tiny; it defines other",
    ),
    "no names": ("", "own/train/tiny.py does not define Tiny; it defines nothing"),
    "a method": (
        "class Other:\n    def Tiny(self): pass",
        "own/train/tiny.py does not define Tiny; it defines Other",
    ),
    "syntax": (
        "import torch\n\nclass Tiny\n    pass",
        "own/train/tiny.py:3: expected ':'; it is not valid Python",
    ),
    "a NUL": ("x = 1\0", "own/train/tiny.py: source code string cannot contain null bytes"),
    "a package": (
        "import torch\nimport tortch.nn as nn\nTiny = nn.Module",
        "own/train/tiny.py:2: the package tortch is not installed",
    ),
    "a part of a package": (
        "from tortch.nn import Module as Tiny",
        "own/train/tiny.py:1: the package tortch is not installed",
    ),
    "a neighbour": (
        "import layers\nTiny = layers.Tiny",
        "own/train/tiny.py:1: layers is another file of the project; a file stands on its own",
    ),
    "a neighbour in the package": (
        "from own.train.layers import Tiny",
        "own/train/tiny.py:1: own.train.layers is another file of the project",
    ),
    "a relative import": (
        "from .layers import Tiny",
        "own/train/tiny.py:1: .layers is another file of the project",
    ),
    "an argument": (
        "def Tiny(channels, *, colour): pass",
        "own/train/tiny.py: Tiny requires the argument colour, which darkroom does not pass; it can take"
        " channels, input_size, width, depth",
    ),
    "an argument of a class": (
        "class Tiny:\n    def __init__(self, classes): pass",
        "own/train/tiny.py: Tiny requires the argument classes",
    ),
}


@pytest.mark.parametrize("case", STATIC)
def test_a_mistake_shows_when_the_parameters_are_read(case: str) -> None:
    text, expected = STATIC[case]
    FILE.write_text(text)
    FILE.with_name("layers.py").write_text("raise SystemExit('this must not run')\n")
    message = refused()
    assert re.match(rf"params\.yaml:\d+: model\.name: {re.escape(expected)}", message), message
    assert "\n" not in message


def test_a_missing_file_is_named_with_those_that_are_there() -> None:
    FILE.rename(FILE.with_name("tinny.py"))
    assert "there is no file own/train/tiny.py; own/train/ holds tinny.py" in refused()
    FILE.with_name("tinny.py").unlink()
    assert "there is no file own/train/tiny.py; own/train/ holds none" in refused()


@pytest.mark.parametrize(
    "name",
    [
        *("own/train/tiny.py:Tiny", "file:tiny.py:Tiny", "file:own/fetch/tiny.py:Tiny"),
        *("file:own/train/tiny.py", "file:own/train/../tiny.py:Tiny", "file:/own/train/tiny.py:Tiny"),
    ],
)
def test_another_place_is_refused(name: str) -> None:
    message = refused(name=f"name: {name}")
    assert f"model.name: '{name}' is not allowed; it must be mlp or " in message
    assert "or file:own/train/NAME.py:NAME" in message


MODEL = {
    "width: 8": "",
    "depth: 2": "model.depth: 2 has no effect when Tiny in own/train/tiny.py does not take depth",
    "stochastic_depth: 0.1": "model.stochastic_depth: 0.1 has no effect on the network of a file",
    "activation: relu": f"model.activation: relu has no effect when model.name is {NAME}",
    "init: kaiming": f"model.init: kaiming has no effect when model.name is {NAME}",
    "patch_size: 4": f"model.patch_size: 4 has no effect when model.name is {NAME}",
    "weights: default": "model.weights: default means a library's pretrained weights",
}


@pytest.mark.parametrize("line", MODEL)
def test_parameters_that_a_file_does_not_take_must_be_null(line: str) -> None:
    if MODEL[line]:
        assert MODEL[line] in refused(**{line.partition(":")[0]: line})
        return
    edits = {"model.name": f"name: {NAME}", "model.width": line, "model.depth": "depth: null"}
    Path("params.yaml").write_text(edited(edits))
    assert load_params(Path("params.yaml")).model.name == NAME


def test_a_required_argument_must_be_set() -> None:
    FILE.write_text("def Tiny(channels, width): pass")
    assert "model.width: null is not allowed when Tiny in own/train/tiny.py requires width" in refused()


def test_what_is_named_tells_its_arguments_or_is_left_to_a_run() -> None:
    FILE.write_text(
        "from functools import partial\nfrom torch import nn\n"
        "def all(a, /, b, c=1, *d, e, f=2, **g): pass\n"
        "class Plain(nn.Module): pass\n"
        "class Made(nn.Module):\n    def __init__(self, a, b=1): pass\n"
        "if True:\n    made = partial(Made, 1)\n"
    )
    assert look_at(f"file:{FILE}:all") == Arguments(
        frozenset({"a", "b", "c", "e", "f"}), frozenset({"a", "b", "e"})
    )
    assert look_at(f"file:{FILE}:Made") == Arguments(frozenset({"a", "b"}), frozenset({"a"}))
    for name in ("Plain", "made", "partial"):
        assert look_at(f"file:{FILE}:{name}") is None


# mistakes that only a run tells


RUN = {
    "returns two": (
        "return self.stem(images), images",
        "Tiny in own/train/tiny.py returns a tuple; it must return float32 features",
    ),
    "a list of three axes": (
        "return self.stem(images).flatten(2)",
        "returns float32 (3, 4, 64) for images of shape (3, 1, 8, 8); it must return float32 features,"
        " (n, C, h, w) or (n, C), here with n = 3",
    ),
    "another number of images": (
        "return self.stem(images).mean(dim=(0, 2, 3))[None]",
        "returns float32 (1, 4) for images of shape (3, 1, 8, 8)",
    ),
    "float64": ("return self.stem(images).double()", "returns float64 (3, 4, 8, 8)"),
    "nothing": ("return self.stem(images)[:, :0]", "returns float32 (3, 0, 8, 8)"),
    "an error": (
        "return self.stem(images) @ torch.zeros(3, 3)",
        "own/train/tiny.py:10: RuntimeError: ",
    ),
    "a typing error": ("return self.stam(images)", "own/train/tiny.py:10: AttributeError: "),
    "random features": (
        "return self.stem(images) + torch.rand(1)",
        "returns other features for the same images in evaluation mode",
    ),
    "features of the batch": (
        "return self.stem(images) - images.mean()",
        "returns other features for an image when other images are in the batch",
    ),
}


@pytest.mark.parametrize("case", RUN)
def test_what_is_no_backbone_is_refused_before_any_work(case: str) -> None:
    body, expected = RUN[case]
    forward(body)
    with pytest.raises(UserError, match=re.escape(expected)):
        start_from("random", own_spec())


MADE = {
    "an import": ("from torch import tensr as Tiny", "own/train/tiny.py:1: ImportError: cannot import"),
    "the file": ("import torch\nTiny = torch.tensr(1)", "own/train/tiny.py:2: AttributeError: "),
    "an exit": ("def Tiny(): pass\nraise SystemExit(3)", "own/train/tiny.py:2: SystemExit: 3"),
    "a number": ("Tiny = 3", "own/train/tiny.py: Tiny is of type int; it must be a function or a class"),
    "a string": ("def Tiny(): return 'net'", "Tiny in own/train/tiny.py makes a str; it must make"),
    "an error": ("def Tiny():\n    return 1 / 0", "own/train/tiny.py:2: ZeroDivisionError: division by"),
    "an argument": (
        "from functools import partial\nfrom torch import nn\nTiny = partial(nn.Conv2d, 1)",
        "own/train/tiny.py: Tiny requires the argument kernel_size, which darkroom does not pass",
    ),
    "other weights": (
        f"import random\n{HEAD}        self.stem.weight.data *= random.random()\n"
        "    def forward(self, x): return self.stem(x)",
        "has other weights when it is made again with the same seed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MADE)
def test_what_makes_no_backbone_is_refused_before_any_work(case: str) -> None:
    text, expected = MADE[case]
    FILE.write_text(text)
    with pytest.raises(UserError, match=rf"^model\.name: .*{re.escape(expected)}"):
        start_from("random", own_spec())


# what works


def test_the_example_of_the_guide_trains_and_resumes_exactly() -> None:
    spec = own_spec(input_size=(16, 16), channels=3, dropout=0.2)
    state = new_state(spec, seed=1)
    began_with = weights_hash(state.model)
    whole = train(spec, state)
    assert weights_hash(state.model) != began_with
    stopped, other = new_state(spec, seed=1), new_state(spec, seed=2)
    with pytest.raises(Stopped):
        train(spec, stopped, stop_at=1)
    other.restore(stopped.to_dict())
    assert train(spec, other) == whole
    assert train(spec, new_state(spec, seed=2)) != whole


def test_it_is_the_network_of_its_file_and_draws_the_same_weights_whatever_ran_before() -> None:
    torch.manual_seed(3)
    FILE.write_text("import torch\ntorch.rand(5)\n" + documented("own/train/tiny.py"))
    first = start_from("random", own_spec())  # runs the file
    after = torch.rand(1)
    torch.manual_seed(3)
    again = start_from("random", own_spec())
    assert weights_hash(first.classifier) == weights_hash(again.classifier)
    assert torch.rand(1) == after
    assert first.spec.file_sha256 == again.spec.file_sha256 is not None

    namespace: dict[str, Any] = {}
    exec(documented("own/train/tiny.py"), namespace)
    torch.manual_seed(3)
    plain = namespace["Tiny"](channels=1)
    backbone = first.classifier.network.backbone
    assert plain.state_dict().keys() == backbone.state_dict().keys()
    assert weights_hash(plain) == weights_hash(backbone)


def test_width_reaches_a_file_and_the_summary_shows_its_layers() -> None:
    spec = ModelSpec(**{**own_spec().__dict__, "width": 6})
    assert make_classifier(spec).network.backbone.stem.out_channels == 6
    assert re.search(
        r"backbone\.stem +Conv2d +6 x 4 x 4 +60\n", summary_text(make_classifier(spec), spec)
    )


def test_lazy_layers_are_taken() -> None:
    forward("return self.lazy(self.stem(images).flatten(1))")
    FILE.write_text(FILE.read_text().replace("self.stem =", "self.lazy = nn.LazyLinear(5); self.stem ="))
    assert start_from("random", own_spec()).classifier.network.head.num_inputs == 5


def test_a_model_file_names_its_file_and_refuses_another(tmp_path: Path) -> None:
    start = start_from("random", own_spec())
    save_model(start.classifier, start.spec, tmp_path / "model.safetensors")
    loaded, spec = load_model(tmp_path / "model.safetensors")
    assert spec.file_sha256 == start.spec.file_sha256
    assert weights_hash(loaded) == weights_hash(start.classifier)
    FILE.write_text(FILE.read_text() + "# another\n")
    with pytest.raises(
        UserError, match=r"own/train/tiny\.py is not the file that the model was trained"
    ) as e:
        load_model(tmp_path / "model.safetensors")
    assert f"not {spec.file_sha256[:8]}" in f"{e.value}"
    FILE.unlink()
    with pytest.raises(UserError, match=r"there is no file own/train/tiny\.py"):
        load_model(tmp_path / "model.safetensors")


def test_models_of_other_networks_do_not_mention_a_file() -> None:
    assert "file_sha256" not in make_spec().to_dict()


def test_weights_come_from_a_plain_file_or_another_training() -> None:
    spec = own_spec()
    torch.manual_seed(1)
    other = start_from("random", spec)
    weights = Path("models/weights/tiny.safetensors")
    weights.parent.mkdir(parents=True)
    save_file(other.classifier.network.backbone.state_dict(), weights)
    save_model(other.classifier, other.spec, weights.with_name("model.safetensors"))
    torch.manual_seed(2)
    for path in (weights, weights.with_name("model.safetensors")):
        found = start_from(f"{path}", spec)
        assert weights_hash(found.classifier.network.backbone) == weights_hash(
            other.classifier.network.backbone
        )
        assert (found.spec.mean, found.remark) == (spec.mean, "")
    FILE.write_text(FILE.read_text() + "# another\n")
    found = start_from("models/weights/model.safetensors", spec)
    assert found.remark.endswith("was trained with another version of own/train/tiny.py")
    save_file({"stem.weight": torch.zeros(1)}, weights)
    with pytest.raises(UserError, match=r"do not fit file:own/train/tiny.py:Tiny: missing: .*norm.bias"):
        start_from(f"{weights}", spec)


def test_the_cache_of_features_is_keyed_by_the_bytes_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = two_brightnesses(20, 0)
    write_shards(tmp_path / "shards", images, labels, "decoded")
    batches = Batches(Shards(tmp_path / "shards"), torch.device("cpu"), 5)

    def num_cached() -> int:
        torch.manual_seed(0)
        start = start_from("random", own_spec())
        store = Store(tmp_path / "cache", 2**30)
        Extractor(start.classifier, start.spec, {}, store).features([Wanted(batches)], "train")
        return "from the cache" in capsys.readouterr().out

    assert [num_cached(), num_cached()] == [False, True]
    text = FILE.read_text()
    FILE.write_text(text.replace("maps + torch", "maps - torch"))  # the weights are the same
    assert [num_cached(), num_cached()] == [False, True]
    FILE.write_text(text)
    assert num_cached()

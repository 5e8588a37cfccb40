"""What models are said to cost, against published figures, and the two commands."""

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from effort import at_least
from support import make_spec, weights_hash
from torchvision import models

from darkroom.catalogue.counting import count_models, installed_names, make_without_weights
from darkroom.catalogue.table import ListedModel, ModelTable, installed_version
from darkroom.cli import main
from darkroom.dataset.info import FORMAT_VERSION
from darkroom.digests import seal
from darkroom.models.factory import make_classifier
from darkroom.models.summary import summarize, summary_text
from darkroom.reporting.tables import write_json

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vit_b_32", "regnet_x_400mf"])
def test_parameters_and_multiply_adds_are_the_published_ones(name: str) -> None:
    meta = models.get_model_weights(name).DEFAULT.meta
    [entry] = count_models([f"torchvision:{name}"])
    assert entry.num_parameters == meta["num_params"]
    assert entry.num_multiply_adds / 1e9 == pytest.approx(meta["_ops"], abs=0.0015)
    assert entry.side == 224


def names_of(found: list[ListedModel]) -> list[str]:
    return [model.name for model in found]


@pytest.mark.slow
def test_the_table_has_what_is_counted_now() -> None:
    """Samples of the models of darkroom and torchvision, and of timm."""
    table = ModelTable.load()
    if others := table.versions.keys() & table.other_versions():
        pytest.skip(f"other versions of {others}: `python tools/model_table.py` counts their models")
    names = [name for name in installed_names() if name.rpartition(":")[0] in ("", *table.versions)]
    assert names_of(table.models) == names
    sizes = {"timm": at_least(400, 100)}
    sample = [
        one for i, one in enumerate(table.models) if i % sizes.get(one.library, at_least(5, 1)) == 0
    ]
    assert list(count_models(names_of(sample))) == sample


def test_those_of_all_torchvision_models_are_the_published_ones() -> None:
    biases = {"torchvision:maxvit_t": 1000}  # its own last layer has none
    with_auxiliary_heads = ("torchvision:inception_v3", "torchvision:googlenet")
    entries = ModelTable.load().matching("torchvision:")
    assert len(entries) > 70
    for entry in entries:
        if entry.remark:  # for masks; see the next test
            continue
        meta = models.get_model_weights(entry.name.partition(":")[2]).DEFAULT.meta
        if entry.name not in with_auxiliary_heads:
            expected = meta["num_params"] + biases.get(entry.name, 0)
            assert entry.num_parameters == expected, entry.name
        if (
            "squeezenet" in entry.name
        ):  # ours pools before the last layer, which is at 13 x 13 places there
            last = 13 * 13 * 512 * 1000
            assert (entry.num_multiply_adds + last - 512 * 1000) / 1e9 == pytest.approx(
                meta["_ops"], rel=0.01
            )
        else:
            # published to three digits behind the point
            published = pytest.approx(meta["_ops"], rel=0.01, abs=0.001)
            assert entry.num_multiply_adds / 1e9 == published, entry.name


def test_those_for_masks_have_the_published_parameters() -> None:
    published = {
        # their last layer is two, each with 21 biases
        "lraspp_mobilenet_v3_large": 3_221_538 - 21,
        # without the auxiliary classifiers: conv 3 x 3, batch norm, conv 1 x 1 to 21 classes
        "deeplabv3_mobilenet_v3_large": 11_029_328 - (9 * 40 * 10 + 2 * 10 + 10 * 21 + 21),
        "deeplabv3_resnet50": 42_004_074 - (9 * 1024 * 256 + 2 * 256 + 256 * 21 + 21),
        "deeplabv3_resnet101": 60_996_202 - (9 * 1024 * 256 + 2 * 256 + 256 * 21 + 21),
        "fcn_resnet50": 35_322_218 - (9 * 1024 * 256 + 2 * 256 + 256 * 21 + 21),
        "fcn_resnet101": 54_314_346 - (9 * 1024 * 256 + 2 * 256 + 256 * 21 + 21),
    }
    entries = [entry for entry in ModelTable.load().models if entry.remark == "for masks"]
    assert {f"{entry.name}": entry.num_parameters for entry in entries} == {
        f"torchvision:{name}": number for name, number in published.items()
    }


def test_a_cnn_is_counted_as_by_hand() -> None:
    spec = make_spec(width=4, depth=2, input_size=(8, 8))
    summary = summarize(make_classifier(spec), spec)
    first = 64 * 9 * (1 * 4 + 4 * 4)  # 8 x 8 places, 3 x 3 windows
    second = 16 * 9 * (4 * 8 + 8 * 8)
    assert summary.num_multiply_adds == first + second + 8 * 2
    weights = 9 * (4 + 16 + 32 + 64) + 2 * (4 + 4 + 8 + 8) + 8 * 2 + 2
    assert summary.num_parameters == weights == sum(layer.num_parameters for layer in summary.layers)
    by_name = {layer.name: layer for layer in summary.layers}
    assert by_name["backbone.stages.1.0"].output_shape == (4, 4, 4)
    assert by_name["head.linear"].output_shape == (2,)
    assert next(iter(by_name)) == "backbone.stages.0.0"


@pytest.mark.parametrize(
    "name",
    [
        "vit_b_32",
        "swin_t",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("convnext_tiny", "maxvit_t")),
    ],
)
def test_layers_hold_all_parameters(name: str) -> None:
    """Also those that belong to no leaf, or to one that another module reads."""
    spec = make_spec(name=f"torchvision:{name}", channels=3, input_size=(224, 224))
    model = make_without_weights(spec)
    summary = summarize(model, spec)
    assert sum(layer.num_parameters for layer in summary.layers) == summary.num_parameters
    assert summary.num_parameters == sum(parameter.numel() for parameter in model.parameters())


def test_numbers_without_weights_are_those_with() -> None:
    for spec in (
        make_spec(name="vit", patch_size=4),
        make_spec(name="torchvision:squeezenet1_1", input_size=(32, 32)),
    ):
        assert summarize(make_without_weights(spec), spec) == summarize(make_classifier(spec), spec)


@pytest.mark.parametrize("training", [True, False])
def test_a_summary_leaves_no_trace(training: bool) -> None:
    spec = make_spec(name="resnet", dropout=0.5, stochastic_depth=0.5)
    model = make_classifier(spec).train(training)
    before = weights_hash(model)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    text = summary_text(model, spec)
    assert torch.equal(torch.rand(3), expected)
    assert weights_hash(model) == before
    assert model.training == model.network.backbone.training == training
    assert not any(module._forward_hooks for module in model.modules())
    assert text == summary_text(model, spec)
    assert text.splitlines()[0].split() == ["layer", "kind", "output", "parameters"]
    assert "parameters, " in text.splitlines()[-1]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, arguments, env={"COLUMNS": "120"})


def test_models_are_found_by_a_part_or_a_glob() -> None:
    both = ["torchvision:squeezenet1_0", "torchvision:squeezenet1_1"]
    table = ModelTable.load()
    assert names_of(table.matching("torchvision:squeeze")) == both
    assert names_of(table.matching("torchvision:*t1_1")) == both[1:]
    assert names_of(table.matching("ml[p]")) == ["mlp"]
    assert {"mlp", "cnn", "resnet", "vit"} < set(names_of(table.matching(None)))
    result = run("models", "squeeze*1")
    assert result.exit_code == 2
    assert "no model matches squeeze*1" in result.stderr
    result = run("models", "torchvision:squeezenet1_1")
    assert result.exit_code == 0, result.output
    assert "1,235,496" in result.stdout  # torchvision's documentation
    result = run("models", "[mr]*[pt]")  # mlp and resnet
    assert "272,474" in result.stdout


def test_models_of_another_version_are_counted_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ModelTable.load()
    older = [model for model in known.models if model.name != "torchvision:squeezenet1_1"]
    table = ModelTable({**known.versions, "torchvision": "0.1"}, older)
    monkeypatch.setattr(ModelTable, "load", lambda: table)
    result = run("models", "squeezenet1_1")
    assert "1,235,496" in result.stdout
    assert "counted with torchvision" not in result.stdout
    installed = installed_version("torchvision")
    remark = f"counted with torchvision 0.1; {installed} is installed, whose models may differ"
    assert remark in run("models", "squeezenet1_0").stdout


def test_the_summary_is_of_the_prepared_data_or_of_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS.read_text())
    result = run("summary")
    assert result.exit_code == 0, result.output
    assert "cnn for RGB images of 32 x 32 pixels, 10 classes" in result.stdout
    result = run("summary", "--size", "16", "--channels", "1", "--classes", "3")
    assert "cnn for grey images of 16 x 16 pixels, 3 classes" in result.stdout
    assert "head.linear" in result.stdout
    result = run("summary", "--size", "1")
    assert result.exit_code == 2
    assert "at least 2 x 2 pixels" in result.stderr
    (tmp_path / "data" / "prepared").mkdir(parents=True)
    info = {"format_version": FORMAT_VERSION, "class_names": ["a", "b"], "counts": {}}
    info |= {"multi_label": False, "labels_per_image": {}, "input_size": [8, 12], "channels": 1}
    info |= {"resize": "pad", "mean": [0.5], "std": [0.5], "digest": "0"}
    write_json(seal(info), tmp_path / "data" / "prepared" / "dataset.json")
    result = run("summary")
    assert "cnn for grey images of 8 x 12 pixels, 2 classes" in result.stdout

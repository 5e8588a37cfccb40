"""timm's models, where timm is installed, and the message where it is not."""

import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from effort import at_least
from support import make_spec, weights_hash

from darkroom.catalogue.counting import count_models, installed_names, make_without_weights
from darkroom.catalogue.table import ModelTable
from darkroom.errors import UserError
from darkroom.models.factory import make_classifier
from darkroom.models.network import backbone_layers
from darkroom.models.weights import start_from

SMALL = {
    "resnet10t": "concat_pool",
    "mobilenetv3_small_050": "concat_pool",
    "vit_tiny_patch16_224": "mlp",
    "convnext_atto": "concat_pool",
    "efficientvit_b0": "linear",
    "swin_tiny_patch4_window7_224": "linear",
}
"""A few small ones, with a head that they can have."""


def spec_of(name: str, **changes: Any) -> Any:
    fixed = {"name": f"timm:{name}", "channels": 3, "input_size": (64, 64)}
    return make_spec(**{**fixed, "class_names": ("a", "b", "c"), **changes})


def test_without_timm_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"model\.name: .*pip install 'darkroom\[timm\]'"):
        make_classifier(spec_of("resnet10t"))


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm", reason="timm is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [1, 3][: at_least(1, 2)])
def test_models_make_logits_and_one_seed_one_step(timm: Any, name: str, channels: int) -> None:
    spec = spec_of(name, channels=channels, head=SMALL[name])

    def hashes(seed: int) -> tuple[str, str]:
        torch.manual_seed(seed)
        model = make_classifier(spec)
        before = weights_hash(model)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        images = torch.randint(0, 256, (2, channels, 64, 64), dtype=torch.uint8)
        logits = model(images)
        assert logits.shape == model.eval()(images).shape == (2, 3)
        F.cross_entropy(logits, torch.tensor([0, 1])).backward()
        optimizer.step()
        return before, weights_hash(model)

    assert hashes(0) == hashes(0)
    assert not set(hashes(0)) & set(hashes(1))


@pytest.mark.parametrize("name", SMALL)
def test_layers_hold_every_parameter_of_the_backbone_once(timm: Any, name: str) -> None:
    network = make_without_weights(spec_of(name)).network
    layers = backbone_layers(network)
    names = [key for layer in layers for key in layer]
    assert sorted(names) == sorted(k for k, _ in network.named_parameters() if k.startswith("backbone."))
    assert len(layers) >= 6


def test_the_backbone_is_timms_model_without_its_last_layer(timm: Any) -> None:
    model = make_classifier(spec_of("resnet10t")).eval()
    whole = timm.create_model("resnet10t").eval()
    whole.load_state_dict(model.network.backbone.state_dict(), strict=False)
    images = torch.rand(2, 3, 64, 64)
    expected = whole.forward_head(whole.forward_features(images), pre_logits=True)
    torch.testing.assert_close(model.network.backbone(images), expected)


@pytest.mark.slow
def test_mistakes_are_refused_by_name(timm: Any) -> None:
    with pytest.raises(UserError, match=r"timm has no model resnt10t; did you mean resnet10t\?"):
        make_classifier(spec_of("resnt10t"))
    with pytest.raises(UserError, match=r"model\.stochastic_depth: 0\.1 .*timm:vgg11 does not offer"):
        make_without_weights(spec_of("vgg11", stochastic_depth=0.1))
    make_without_weights(spec_of("resnet10t", stochastic_depth=0.1))
    for name in ("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"):  # tokens; channels last
        with pytest.raises(UserError, match=rf"model\.head: .*{name} has none"):
            make_classifier(spec_of(name, head="concat_pool"))


@pytest.mark.slow
def test_weights_of_a_file_begin_the_backbone(
    timm: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "models" / "weights" / "resnet10t.pth"
    path.parent.mkdir(parents=True)
    whole = timm.create_model("resnet10t")
    torch.save(whole.state_dict(), path)
    for head in ("linear", "concat_pool"):
        start = start_from(f"{path}", spec_of("resnet10t", head=head))
        own, theirs = start.classifier.network.backbone.state_dict(), whole.state_dict()
        assert all(torch.equal(own[key], theirs[key]) for key in own)
        config = whole.pretrained_cfg
        assert (start.spec.mean, start.spec.std) == (config["mean"], config["std"])
    with pytest.raises(UserError, match="do not fit timm:convnext_atto: missing: "):
        start_from(f"{path}", spec_of("convnext_atto"))


def test_default_weights_are_timms_pretrained_ones(timm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    create_model = timm.create_model

    def stand_in(name: str, pretrained: bool = False, **options: Any) -> Any:
        torch.manual_seed(99 if pretrained else 1)
        return create_model(name, **options)

    monkeypatch.setattr(timm, "create_model", stand_in)
    first, again = (start_from("default", spec_of("resnet10t")) for _ in range(2))
    assert first.sha256 == again.sha256
    expected = stand_in("resnet10t", pretrained=True, num_classes=0).state_dict()
    own = first.classifier.network.backbone.state_dict()
    assert all(torch.equal(own[key], expected[key]) for key in own)

    def fail(name: str, pretrained: bool = False, **options: Any) -> Any:
        if pretrained:
            raise OSError("no network")
        return create_model(name, **options)

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(UserError, match=r"timm:resnet10t could not be downloaded \(no network\)"):
        start_from("default", spec_of("resnet10t"))


def test_timms_models_are_listed_and_counted(timm: Any) -> None:
    assert "timm:resnet10t" in installed_names()
    [counted] = count_models(["timm:resnet10t"])
    assert counted.num_parameters == sum(p.numel() for p in timm.create_model("resnet10t").parameters())
    assert not any(model.library == "timm" for model in ModelTable.load().matching(None))

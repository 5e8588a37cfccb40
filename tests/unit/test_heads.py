"""Heads, against the same computation spelled out, and the layers that they share with backbones."""

import pytest
import torch
import torch.nn.functional as F
from support import make_spec
from torch import nn

from darkroom.errors import UserError
from darkroom.models.backbones.layers import AveragePool, BatchNorm1d, StochasticDepth, rising
from darkroom.models.factory import make_classifier
from darkroom.models.heads import HEADS, make_head


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_average_of_a_map_is_what_torch_pools(head: str) -> None:
    module = make_head(head, "net", (6, 5, 4), num_classes=3, dropout=0.3).eval()
    features = torch.randn(2, 6, 5, 4)
    vector = F.adaptive_avg_pool2d(features, 1).flatten(1)
    torch.testing.assert_close(module(features), module(vector))
    assert not torch.allclose(module(features), module(features.amax(dim=(2, 3))))


def test_the_linear_head_is_a_linear_layer() -> None:
    module = make_head("linear", "net", (6,), num_classes=3, dropout=0.3).eval()
    features = torch.randn(2, 6)
    expected = features @ module.linear.weight.T + module.linear.bias
    torch.testing.assert_close(module(features), expected)


def test_concat_pool_is_the_head_of_fastai() -> None:
    module = make_head("concat_pool", "net", (6, 5, 4), num_classes=3, dropout=0.0)
    kinds = ["BatchNorm1d", "Dropout", "Linear", "ReLU", "BatchNorm1d", "Dropout", "Linear"]
    assert [type(layer).__name__ for layer in module.layers] == kinds
    features = torch.randn(8, 6, 5, 4)
    pooled = [F.adaptive_avg_pool2d(features, 1), F.adaptive_max_pool2d(features, 1)]
    x = torch.cat(pooled, dim=1).flatten(1)
    for layer in module.layers:
        x = nn.BatchNorm1d(len(layer.weight))(x) if isinstance(layer, nn.BatchNorm1d) else layer(x)
    torch.testing.assert_close(module(features), x)


@pytest.mark.parametrize("head", HEADS)
def test_dropout_acts_in_training_only(head: str) -> None:
    features = torch.randn(16, 6, 2, 2)
    module = make_head(head, "net", (6, 2, 2), num_classes=3, dropout=0.5)
    assert not torch.equal(module(features), module(features))
    module.eval()
    assert torch.equal(module(features), module(features))


@pytest.mark.parametrize("head", HEADS)
def test_every_own_backbone_with_a_map_has_every_head(head: str) -> None:
    for name in ("cnn", "resnet"):
        model = make_classifier(make_spec(name=name, head=head))
        assert model(torch.zeros(4, 1, 8, 8)).shape == (4, 2)


def test_concat_pool_without_a_map_is_refused() -> None:
    for name, more in (("mlp", {}), ("vit", {"patch_size": 4})):
        with pytest.raises(UserError, match=rf"model\.head: .*{name} has none; take linear or mlp"):
            make_classifier(make_spec(name=name, head="concat_pool", **more))


def test_a_batch_of_one_image_is_normalised_by_the_running_statistics() -> None:
    ours, torchs = BatchNorm1d(3), nn.BatchNorm1d(3)
    x = torch.randn(8, 3)
    assert torch.equal(ours(x), torchs(x))
    assert torch.equal(ours(x[:1]), torchs.eval()(x[:1]))
    with pytest.raises(ValueError, match="more than 1 value"):
        torchs.train()(x[:1])
    assert torch.equal(ours.running_mean, torchs.running_mean)


def test_stochastic_depth_is_torchvisions() -> None:
    from torchvision.ops import StochasticDepth as Reference

    x = torch.randn(32, 3, 2, 2)
    for probability in (0.1, 0.5, 0.9):
        torch.manual_seed(1)
        expected = Reference(probability, "row")(x)
        torch.manual_seed(1)
        actual = StochasticDepth(probability)(x)
        torch.testing.assert_close(actual, expected)
    torch.manual_seed(2)
    assert not torch.equal(StochasticDepth(0.5)(x), actual)


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean() -> None:
    layer = StochasticDepth(0.25)
    x = torch.ones(40_000, 2)
    dropped = layer(x)
    assert torch.equal(dropped[:, 0], dropped[:, 1])
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (dropped == 0).float().mean() == pytest.approx(0.25, abs=0.01)
    assert dropped.mean() == pytest.approx(1, abs=0.01)
    assert layer.eval()(x) is x


def test_probabilities_rise_linearly_from_the_first_block_to_the_last() -> None:
    assert rising(0.4, 5) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert rising(0.4, 1) == [0]
    for name, more in (("resnet", {}), ("vit", {"patch_size": 4})):
        model = make_classifier(make_spec(name=name, depth=2, stochastic_depth=0.5, **more))
        layers = [m for m in model.modules() if isinstance(m, StochasticDepth)]
        probabilities = [layer.probability for layer in layers]
        assert probabilities == pytest.approx(rising(0.5, len(layers)))


@pytest.mark.parametrize("side", [1, 2, 6, 7, 13])
def test_average_pooling_is_torchs(side: int) -> None:
    x = torch.randn(2, 3, side, side + 2, requires_grad=True)
    pool, reference = AveragePool((7, 6)), nn.AdaptiveAvgPool2d((7, 6))
    torch.testing.assert_close(pool(x), reference(x))
    weight = torch.randn(2, 3, 7, 6)
    [ours] = torch.autograd.grad((pool(x) * weight).sum(), x)
    [torchs] = torch.autograd.grad((reference(x) * weight).sum(), x)
    torch.testing.assert_close(ours, torchs)

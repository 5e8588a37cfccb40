"""The vision transformer's parts against torch's own with the same weights, and the perceptron."""

import pytest
import torch
import torch.nn.functional as F
from support import make_spec, weights_hash
from torch import nn

from darkroom.errors import UserError
from darkroom.models.backbones.vit import Attention, Block, ViT
from darkroom.models.factory import OWN_BACKBONES, make_classifier

RGB_32 = {"channels": 3, "input_size": (32, 32)}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def torchs_attention(ours: Attention, width: int) -> nn.MultiheadAttention:
    theirs = nn.MultiheadAttention(width, ours.num_heads, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.project.weight)
        theirs.out_proj.bias.copy_(ours.project.bias)
    return theirs


@pytest.mark.parametrize(("width", "num_heads"), [(5, 1), (64, 2), (96, 3)])
def test_attention_is_torchs(width: int, num_heads: int) -> None:
    ours = Attention(width, num_heads, dropout=0.0)
    x = torch.randn(3, 7, width)
    expected, _ = torchs_attention(ours, width)(x, x, x)
    torch.testing.assert_close(ours(x), expected)
    queries, keys, values = ours.qkv(x).unflatten(2, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(ours(x), ours.project(mixed))
    if num_heads > 1:
        ours.num_heads = 1
        assert not torch.allclose(ours(x), expected)


def test_a_block_is_torchs_encoder_layer_that_normalises_first() -> None:
    width, num_heads = 64, 2
    ours = Block(width, num_heads, dropout=0.0, stochastic_depth=0.0, activation="gelu").eval()
    theirs = nn.TransformerEncoderLayer(
        width, num_heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
    )
    theirs.self_attn = torchs_attention(ours.attention, width)
    for mine, other in (
        (ours.norm1, theirs.norm1),
        (ours.norm2, theirs.norm2),
        (ours.mlp[0], theirs.linear1),
        (ours.mlp[3], theirs.linear2),
    ):
        other.load_state_dict(mine.state_dict())
    x = torch.randn(2, 5, width)
    torch.testing.assert_close(ours(x), theirs(x))
    assert not torch.allclose(ours(x), ours(ours(x)))


def test_patches_are_those_that_unfold_cuts() -> None:
    network = ViT(3, (8, 12), 4, 16, 1, 0.0, 0.0, "gelu")
    x = torch.randn(2, 3, 8, 12)
    cut = F.unfold(x, 4, stride=4).transpose(1, 2)  # (n, patches, channels * 4 * 4)
    expected = cut @ network.patches.weight.flatten(1).T + network.patches.bias
    torch.testing.assert_close(network.patches(x).flatten(2).transpose(1, 2), expected)
    assert network.positions.shape == (1, 6, 16)


def test_the_order_of_patches_matters() -> None:
    model = make_classifier(make_spec(name="vit", width=32, patch_size=4, **RGB_32)).eval()
    images = torch.rand(2, 3, 32, 32) * 255
    turned = images.flip(3)
    assert not torch.allclose(model(images), model(turned))
    with torch.no_grad():
        model.network.backbone.positions.zero_()
        shifted = images.roll(4, dims=3)  # the same patches elsewhere
    torch.testing.assert_close(model(images), model(shifted))


def test_the_number_of_parameters_is_the_papers() -> None:
    """Of a block: 12 width^2 + 13 width; 86 million of ViT-B/16 in table 1 are twelve such blocks."""
    width, depth, patch = 64, 3, 4
    network = ViT(3, (32, 32), patch, width, depth, 0.0, 0.0, "gelu")
    blocks = depth * (12 * width**2 + 13 * width)
    patches = 3 * patch**2 * width + width
    positions, norm = 64 * width, 2 * width
    assert sum(p.numel() for p in network.parameters()) == blocks + patches + positions + norm


def test_initial_weights_have_a_deviation_of_two_hundredths() -> None:
    network = ViT(3, (32, 32), 4, 128, 2, 0.0, 0.0, "gelu")
    for tensor in (network.positions, network.blocks[0].mlp[0].weight, network.patches.weight):
        assert float(tensor.detach().std()) == pytest.approx(0.02, rel=0.15)
    assert not network.blocks[1].attention.qkv.bias.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 5}, r"model\.patch_size: .*5 x 5 do not cover .*32 x 32.*1, 2, 4, 8, 16, 32"),
        ({"patch_size": 16, "input_size": (32, 24)}, r"16 x 16 do not cover .*32 x 24.*1, 2, 4, 8,"),
        ({"width": 100}, r"model\.width: 100 .* 3 attention heads.*multiple of 32, such as 96"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(changes: dict, message: str) -> None:
    fitting = {"name": "vit", "width": 96, "patch_size": 8, **RGB_32}
    make_classifier(make_spec(**fitting))
    with pytest.raises(UserError, match=message):
        make_classifier(make_spec(**{**fitting, **changes}))


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN_BACKBONES)
def test_one_seed_gives_one_network_and_one_step(name: str) -> None:
    spec = make_spec(
        name=name,
        width=32,
        dropout=0.1,
        patch_size=4 if name == "vit" else None,
        stochastic_depth=0.5 if name in ("resnet", "vit") else 0.0,
        **RGB_32,
    )

    def hashes(seed: int) -> tuple[str, str]:
        torch.manual_seed(seed)
        model = make_classifier(spec)
        before = weights_hash(model)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
        F.cross_entropy(model(images), torch.arange(8) % 2).backward()
        optimizer.step()
        return before, weights_hash(model)

    assert hashes(0) == hashes(0)
    assert not set(hashes(0)) & set(hashes(1))


def test_the_perceptron_has_as_many_layers_and_parameters_as_asked_for() -> None:
    spec = make_spec(name="mlp", width=10, depth=3, dropout=0.2, **RGB_32)
    model = make_classifier(spec)
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert [m.weight.shape for m in linear] == [(10, 3072), (10, 10), (10, 10), (2, 10)]
    norms = 3 * 20
    expected = 10 * 3072 + 10 * 10 * 2 + norms + 2 * 10 + 2
    assert sum(p.numel() for p in model.parameters()) == expected
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 2)  # one image, in training

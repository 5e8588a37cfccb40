"""Heatmaps: formulas by hand, and sanity checks on a model trained on digits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from support import make_spec
from test_reporting import HOSTILE_NAMES, evaluate_noise
from torch import Tensor, nn

from darkroom.evaluation.explorer import explore
from darkroom.evaluation.heatmaps import add_heatmaps, heatmaps, quantised
from darkroom.evaluation.report import write_report
from darkroom.models.classifier import Classifier
from darkroom.models.factory import make_classifier
from darkroom.models.heads import LinearHead
from darkroom.models.network import Network

TEN = tuple("0123456789")


def classifier(
    name: str, seed: int = 0, side: int = 8, channels: int = 1, **changes: object
) -> Classifier:
    torch.manual_seed(seed)
    spec = make_spec(
        name=name, class_names=TEN, input_size=(side, side), channels=channels,
        mean=(0.3,) * channels, std=(0.4,) * channels, **changes,
    )  # fmt: skip
    return make_classifier(spec).eval()


def digits() -> tuple[Tensor, Tensor]:
    loaded = load_digits()
    images = torch.from_numpy((loaded.images * 15.9).astype(np.uint8))[:, None]
    return images, torch.from_numpy(loaded.target)


NETWORKS = {
    "cnn": {"width": 16, "depth": 2},
    "mlp": {"width": 64, "depth": 2},
    "vit": {"width": 32, "depth": 2, "patch_size": 2},
}


@pytest.fixture(scope="module", params=["cnn", "mlp", pytest.param("vit", marks=pytest.mark.slow)])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def trained(name: str) -> Classifier:
    """A small network after some steps on 1,000 digits."""
    model = classifier(name, **NETWORKS[name])
    num_steps, lr = (200, 0.005) if name == "vit" else (60, 0.01)
    images, targets = digits()
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for step in range(num_steps):
        batch = torch.arange(step * 100, (step + 1) * 100) % 1000
        optimizer.zero_grad()
        F.cross_entropy(model(images[batch]), targets[batch]).backward()
        optimizer.step()
    return model.eval()


def unseen() -> tuple[Tensor, Tensor]:
    images, targets = digits()
    return images[1000:1300], targets[1000:1300]


def spread(heat: Tensor) -> Tensor:
    """Heat at every pixel, as a browser enlarges it: (n, 64)."""
    return F.interpolate(heat[:, None], (8, 8), mode="bilinear")[:, 0].flatten(1)


def test_with_average_pooling_and_one_linear_layer_it_is_the_class_activation_map() -> None:
    """Zhou et al., "Learning Deep Features for Discriminative Localization", 2016."""
    model = classifier("cnn", width=8, depth=2)
    images, targets = unseen()
    heat, method = heatmaps(model, images[:20], targets[:20])
    features = model.features(images[:20]).detach().double()  # (20, 16, 4, 4)
    weights = model.network.head.linear.weight.detach().double()[targets[:20]]
    expected = (weights[:, :, None, None] / 16 * features).sum(dim=1).clamp(min=0)
    assert method == "Grad-CAM"
    assert expected.max() > 0
    torch.testing.assert_close(heat, expected, rtol=1e-5, atol=1e-8)


def test_of_a_linear_model_it_is_what_hiding_a_pixel_takes_from_the_logit() -> None:
    head = LinearHead(64, 10, dropout=0.0)
    model = Classifier(Network(nn.Flatten(), head), [0.3], [0.4]).eval()
    images, targets = unseen()
    heat, method = heatmaps(model, images[:5], targets[:5])
    assert method == "gradient x input"
    pixels = images[:5].float()
    logits = model(pixels).gather(1, targets[:5, None])
    for pixel in range(64):
        hidden = pixels.flatten(1).index_fill(1, torch.tensor(pixel), 255 * 0.3).reshape(pixels.shape)
        lost = (logits - model(hidden).gather(1, targets[:5, None])).detach()[:, 0].double()
        torch.testing.assert_close(heat.flatten(1)[:, pixel], lost.relu(), rtol=1e-3, atol=1e-5)
    assert (heat == 0).any()
    assert (heat > 0.1).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side", "changes", "method", "size"),
    [
        ("mlp", 8, {"width": 16, "depth": 2}, "gradient x input", (8, 8)),
        ("vit", 32, {"width": 32, "depth": 1, "patch_size": 8}, "gradient x input", (16, 16)),
        ("resnet", 32, {"width": 8, "depth": 18}, "Grad-CAM", (8, 8)),
        ("torchvision:mobilenet_v2", 64, {}, "Grad-CAM", (4, 4)),
        ("torchvision:convnext_tiny", 128, {}, "Grad-CAM", (4, 4)),
        ("torchvision:swin_t", 128, {}, "Grad-CAM", (4, 4)),
        ("torchvision:vit_b_32", 64, {}, "gradient x input", (16, 16)),
    ],
)
def test_the_method_fits_the_network(
    name: str, side: int, changes: dict, method: str, size: tuple[int, int]
) -> None:
    own = {"width": None, "depth": None, "patch_size": None, **changes}
    model = classifier(name, side=side, channels=3, **own)
    images = torch.randint(0, 256, (3, 3, side, side), dtype=torch.uint8)
    heat, found = heatmaps(model, images, torch.tensor([1, 2, 3]))
    assert (found, tuple(heat.shape)) == (method, (3, *size))
    assert heat.isfinite().all()
    assert (heat >= 0).all()
    alone, _ = heatmaps(model, images[1:2], torch.tensor([2]))
    torch.testing.assert_close(alone[0], heat[1], rtol=1e-3, atol=1e-3 * float(heat[1].max()))


@pytest.mark.slow
def test_random_weights_change_the_map(trained: Classifier, name: str) -> None:
    """Adebayo et al., "Sanity Checks for Saliency Maps", 2018."""
    images, targets = unseen()
    untrained = classifier(name, 1, **NETWORKS[name])
    maps = [spread(heatmaps(model, images, targets)[0]) for model in (trained, untrained)]
    again = spread(heatmaps(trained, images, targets)[0])
    correlations = [
        spearmanr(mine, other).statistic
        for mine, other in zip(*(m.numpy() for m in maps), strict=True)
        if mine.std() > 0 < other.std()
    ]
    assert len(correlations) > 100
    assert abs(np.mean(correlations)) < 0.3
    assert torch.equal(again, maps[0])


def test_masking_the_hottest_tenth_of_pixels_costs_more_than_a_random_tenth(trained: Classifier) -> None:
    images, targets = unseen()
    preds = trained(images).argmax(dim=1)
    assert (preds == targets).double().mean() > 0.8
    heat = spread(heatmaps(trained, images, preds)[0])
    random = torch.rand(heat.shape, generator=torch.Generator().manual_seed(0))

    def drop(order: Tensor) -> float:
        """The mean loss of probability after six pixels became the mean pixel."""
        hidden = images.clone().flatten(1)
        hidden.scatter_(1, order.argsort(dim=1, descending=True)[:, :6], round(255 * 0.3))
        before, after = (
            trained(some).softmax(dim=1).gather(1, preds[:, None]).mean().item()
            for some in (images, hidden.reshape(images.shape))
        )
        return before - after

    assert drop(heat) > 1.5 * drop(random) > 0
    assert drop(-heat) < drop(random)  # the coldest


def test_heat_is_rounded_to_levels() -> None:
    heat = np.array([[0.0, 1.0], [0.5, 2.0]])
    assert quantised(heat).tolist() == [[0, 8], [4, 15]]
    assert quantised(heat * (1 + 1e-7)).tolist() == [[0, 8], [4, 15]]
    assert quantised(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]


def test_the_report_shows_a_heatmap_beside_each_of_the_hardest_images(tmp_path: Path) -> None:
    noise = evaluate_noise(tmp_path / "shards")
    torch.manual_seed(0)
    spec = replace(noise.spec, name="cnn", width=8, depth=1)
    model = make_classifier(spec).eval()
    hardest = add_heatmaps(noise.hardest, model, noise.evaluation)
    heat, _ = heatmaps(
        model,
        torch.from_numpy(hardest[3].pixels.transpose(2, 0, 1).copy())[None],
        noise.evaluation.preds[[hardest[3].index]],
    )
    assert hardest[3].heatmap is not None
    assert hardest[3].heatmap.levels.tolist() == quantised(heat[0].numpy()).tolist()
    for name in ("precision_recall.png", "roc.png", "reliability.png", "risk_coverage.png"):
        (tmp_path / name).touch()
    explorer = explore(noise.evaluation, noise.shards)
    write_report(
        noise.evaluation,
        hardest,
        explorer,
        replace(spec, training={}),
        [],
        tmp_path,
        tmp_path / "a",
    )
    text = (tmp_path / "a").read_text()
    assert text.count('class="heat"') == len(hardest) == 30
    assert not any(f"speak for {name}" in text for name in HOSTILE_NAMES[:3:2])

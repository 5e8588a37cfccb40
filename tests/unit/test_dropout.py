"""Dropout: torch's, except that drawing it on a CPU takes less time."""

import pytest
import torch
from torch import nn

from darkroom.models.backbones.layers import Dropout

SHAPE = (300, 257)  # not a multiple of four elements


def drawn(probability: float, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    """Returns what becomes of ones."""
    torch.manual_seed(seed)
    return Dropout(probability)(torch.ones(shape))


@pytest.mark.parametrize("probability", [1e-4, 0.1, 0.2, 0.5, 0.9, 0.999])
def test_the_share_of_zeros_is_the_probability_and_the_mean_is_kept(probability: float) -> None:
    found = torch.cat([drawn(probability, seed).flatten() for seed in range(20)])
    share = (found == 0).double().mean().item()
    error = (probability * (1 - probability) / len(found)) ** 0.5
    assert abs(share - probability) < 4 * error + 1e-5
    [scale] = found[found != 0].unique().tolist()
    assert scale == pytest.approx(1 / (1 - probability), rel=0.01)
    assert found.double().mean().item() == pytest.approx(1, abs=5 * error * scale)


def test_elements_are_zeroed_independently() -> None:
    is_zero = torch.stack([drawn(0.5, seed, (64,)) == 0 for seed in range(4_000)]).double()
    correlations = torch.corrcoef(is_zero.T)
    correlations.fill_diagonal_(0)
    assert correlations.abs().max() < 5 / 4_000**0.5  # 2,016 pairs: 4.1 errors by chance
    deviation = (is_zero.mean(dim=0) - 0.5).abs().max()
    assert deviation < 4.5 * 0.5 / 4_000**0.5


def test_the_gradient_is_zero_where_the_element_is_and_scaled_elsewhere() -> None:
    torch.manual_seed(0)
    x = torch.randn(SHAPE, requires_grad=True)
    y = Dropout(0.25)(x)
    y.sum().backward()
    assert torch.equal(y.detach(), x.detach() * x.grad)
    assert 0.2 < (x.grad == 0).double().mean() < 0.3
    kept = x.grad[x.grad != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 4 / 3))


def test_it_is_a_function_of_the_seed() -> None:
    assert torch.equal(drawn(0.5, 1), drawn(0.5, 1))
    assert not torch.equal(drawn(0.5, 1), drawn(0.5, 2))


@pytest.mark.parametrize("module", [Dropout(0.5).eval(), Dropout(0.0)])
def test_in_evaluation_and_without_a_probability_nothing_changes(module: nn.Module) -> None:
    x = torch.randn(SHAPE)
    assert torch.equal(module(x), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_type_is_kept(dtype: torch.dtype) -> None:
    assert Dropout(0.5)(torch.ones(SHAPE, dtype=dtype)).dtype == dtype


def test_an_empty_batch_stays_empty() -> None:
    assert Dropout(0.5)(torch.ones(0, 5)).shape == (0, 5)

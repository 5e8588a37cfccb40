"""Square roots of every CPU against exact ones, and the block in which libraries use them."""

import numpy as np
import pytest
import torch

from darkroom.models.square_root import SquareRoots, square_root

VALUES = np.concatenate([np.geomspace(1e-30, 1e30, 5_001), np.linspace(0, 4, 1_000)])


@pytest.mark.parametrize(("dtype", "digits"), [(torch.float32, 24), (torch.float64, 53)])
def test_roots_are_within_two_units_in_the_last_place(dtype: torch.dtype, digits: int) -> None:
    x = torch.from_numpy(VALUES).to(dtype)
    exact = np.sqrt(x.numpy().astype(np.longdouble))
    difference = np.abs(square_root(x).numpy().astype(np.longdouble) - exact)
    assert (difference <= 2.0 ** (2 - digits) * exact).all()


def test_special_values() -> None:
    x = torch.tensor([0.0, 4.0, float("inf"), -1.0, float("nan"), 1e-40])
    wanted = torch.tensor([0.0, 2.0, float("inf"), float("nan"), float("nan"), 1e-20])
    torch.testing.assert_close(square_root(x), wanted, equal_nan=True)


def test_each_way_to_take_a_root_is_replaced_in_the_block() -> None:
    x = torch.rand(999) * 9
    wanted = square_root(x)
    with SquareRoots():
        found = [x.sqrt(), torch.sqrt(x), *torch._foreach_sqrt([x, x])]
        changed = [x.clone(), x.clone()]
        torch._foreach_sqrt_(changed)
        alone = x.clone()
        assert alone.sqrt_() is alone
        out = torch.empty(999)
        torch.sqrt(x, out=out)  # of no optimizer, and left to torch
        others = [x + 1, torch.empty(3, device="meta").sqrt()]
    assert all(torch.equal(each, wanted) for each in (*found, *changed, alone))
    torch.testing.assert_close(out, wanted)
    assert torch.equal(others[0], x + 1)
    assert others[1].is_meta


def test_after_the_block_torch_takes_the_roots() -> None:
    x = torch.rand(999) * 9
    before = x.sqrt()
    assert not torch.equal(before, square_root(x))
    with pytest.raises(ZeroDivisionError), SquareRoots():
        raise ZeroDivisionError
    assert torch.equal(x.sqrt(), before)

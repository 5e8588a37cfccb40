"""Half precision is refused where it is slow, and measured where it may be fast."""

import copy

import pytest
import torch
from torch import nn

from darkroom.compute.precision import Precision, autocast, check_precision, cpu_flags
from darkroom.errors import UserError
from darkroom.training.half_precision import compare_with_float32

CPU = torch.device("cpu")
ZEN4, SAPPHIRE_RAPIDS, HASWELL = {"avx2", "avx512_bf16"}, {"avx2", "amx_bf16"}, {"avx2"}


@pytest.mark.parametrize(
    ("precision", "is_pinned", "flags", "message"),
    [
        ("bfloat16", True, HASWELL, "bfloat16 is not allowed on a CPU.* must be float32; on a GPU"),
        ("bfloat16", False, HASWELL, "bfloat16 is not allowed on a CPU.* must be float32; on a GPU"),
        ("bfloat16", False, set(), "must be float32; on a GPU"),
        ("bfloat16", True, ZEN4, "must be float32, or train.deterministic must be false"),
        ("bfloat16", True, SAPPHIRE_RAPIDS, "train.deterministic: true limits it to AVX2"),
        ("float16", True, ZEN4, "float16 is not allowed on a CPU.* must be float32; on a GPU"),
        ("float16", False, ZEN4, "must be float32 or bfloat16"),
        ("float16", False, HASWELL, "must be float32; on a GPU"),
    ],
)
def test_slow_precisions_are_refused_with_what_is_possible(
    precision: Precision, is_pinned: bool, flags: set[str], message: str
) -> None:
    with pytest.raises(UserError, match=f"^train.precision: .*{message}"):
        check_precision(precision, CPU, is_pinned, flags)


@pytest.mark.parametrize("flags", [ZEN4, SAPPHIRE_RAPIDS])
def test_fast_precisions_are_allowed(flags: set[str]) -> None:
    check_precision("bfloat16", CPU, False, flags)
    check_precision("float32", CPU, True, flags)
    check_precision("float32", CPU, False, set())


def test_the_flags_of_this_cpu_are_those_that_torch_finds() -> None:
    found = {"avx512f": torch.cpu._is_avx512_supported(), "avx2": torch.cpu._is_avx2_supported()}
    assert {name: name in cpu_flags() for name in found} == found


def test_only_half_precision_changes_what_is_computed() -> None:
    x = torch.randn(4, 4)
    kinds: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision in kinds:
        with autocast(CPU, precision):
            assert f"torch.{precision}" == str((x @ x).dtype)


def test_comparing_two_precisions_changes_nothing() -> None:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    model = nn.Sequential(AsFloat(), model)
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(7)
    remark = compare_with_float32(model, "bfloat16", (3, 8, 8), 16)
    drawn = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(3), drawn)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert "train.precision is bfloat16; on this CPU, a step in " in remark


class AsFloat(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float()

"""Linear layers through oneDNN compute what nn.Linear does, and are exported as such."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from darkroom.models.backbones.linear import Linear, use_onednn

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")


def pair(bias: bool = True) -> tuple[Linear, nn.Linear]:
    """The same weights in both kinds of layer."""
    ours = Linear(40, 24, bias)
    theirs = nn.Linear(40, 24, bias)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def gradients(layer: nn.Module, x: Tensor) -> list[Tensor | None]:
    x = x.clone().requires_grad_()
    layer(x).pow(3).sum().backward()
    return [x.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 40), (7, 40), (3, 5, 40), (2, 3, 4, 40)])
def test_outputs_and_gradients_are_those_of_double_precision(shape: tuple[int, ...], bias: bool) -> None:
    ours, theirs = pair(bias)
    x = torch.randn(shape)
    torch.testing.assert_close(ours(x).double(), theirs.double()(x.double()), rtol=1e-5, atol=1e-5)
    for grad, wanted in zip(gradients(ours, x), gradients(theirs, x.double()), strict=True):
        assert grad is not None
        assert wanted is not None
        torch.testing.assert_close(grad.double(), wanted, rtol=1e-4, atol=1e-4)


def test_inputs_of_any_strides_are_computed() -> None:
    ours, _ = pair()
    x = torch.randn(40, 6, 3).permute(2, 1, 0)
    assert torch.equal(ours(x), ours(x.contiguous()))


def test_frozen_weights_get_no_gradient_and_pass_one_on() -> None:
    ours, theirs = pair()
    x = torch.randn(3, 40)
    for layer in (ours, theirs):
        layer.weight.requires_grad_(False)
    grads, wanted = gradients(ours, x), gradients(theirs, x)
    assert grads[1] is None
    torch.testing.assert_close([grads[0], grads[2]], [wanted[0], wanted[2]], rtol=1e-4, atol=1e-4)


def test_a_row_does_not_depend_on_the_other_rows() -> None:
    ours, _ = pair()
    x = torch.randn(300, 40)
    with torch.inference_mode():
        whole = ours(x)
        for count in (2, 3, 17, 64, 299):
            assert torch.equal(ours(x[:count]), whole[:count])


def test_other_types_and_autocast_are_left_to_torch() -> None:
    ours, theirs = pair()
    x = torch.randn(3, 40)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x).dtype == torch.bfloat16
    assert torch.equal(ours.double()(x.double()), theirs.double()(x.double()))
    assert ours.to("meta")(x.to("meta")).shape == (3, 24)


def test_layers_keep_their_names_weights_and_copies() -> None:
    network = nn.Sequential(nn.Linear(40, 24), nn.ReLU(), nn.Linear(24, 2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    use_onednn(network)
    assert [type(module).__module__.split(".")[0] for module in network] == [
        "darkroom",
        "torch",
        "darkroom",
    ]
    assert list(network.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    x = torch.randn(3, 40)
    assert torch.equal(copy.deepcopy(network)(x), network(x))


def test_an_exported_layer_is_a_standard_one() -> None:
    ours, _ = pair()
    program = torch.export.export(ours.eval(), (torch.randn(3, 40),))
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert targets == ["aten.linear.default"]


SCRIPT = """
import sys, torch
from torch import nn
from darkroom.models.backbones.linear import Linear
layer = (Linear if sys.argv[1] == "ours" else nn.Linear)(64, 64)
layer(torch.randn(32, 64, requires_grad=True)).sum().backward()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("whose", "calls_mkl"), [("ours", False), ("theirs", True)])
def test_no_product_is_left_to_mkl(whose: str, calls_mkl: bool) -> None:
    """``MKL_VERBOSE`` prints a line for each call of MKL, ``ONEDNN_VERBOSE`` for each of oneDNN."""
    environment = os.environ | {"MKL_VERBOSE": "1", "ONEDNN_VERBOSE": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [sys.executable, "-c", SCRIPT, whose]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ("SGEMM" in done.stdout.upper()) == calls_mkl
    executed = [line for line in done.stdout.splitlines() if "exec,cpu" in line]
    assert len(executed) == (0 if calls_mkl else 3)
    assert all("avx2" in line and "avx512" not in line for line in executed)

"""Outputs that are no numbers are refused, with the image named."""

import math

import numpy as np
import pytest

from darkroom.errors import UserError
from darkroom.metrics.finite import check_finite


def test_finite_outputs_pass() -> None:
    check_finite(np.array([[1e30, -1e30], [0, 1]]), ["a.png", "b.png"], "the model")
    check_finite(np.empty((0, 3)), [], "the model")
    check_finite(np.empty((0, 3, 2, 2)), [], "the model")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_image_and_the_number_are_named(value: float) -> None:
    outputs = np.zeros((4, 3))
    outputs[1, 2] = outputs[3, 0] = value
    with pytest.raises(UserError) as refused:
        check_finite(outputs, ["a.png", "b.png", "c.png", "d.png"], "evaluate: the model")
    message = str(refused.value)
    expected = (
        "evaluate: the model has outputs that are not finite for 2 of 4 images, the first of them b.png "
        f"({value});"
    )
    assert message.startswith(expected)

"""Models of rows against scikit-learn and pandas, and their ONNX form with named columns."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch.nn import functional as F

from darkroom.errors import UserError
from darkroom.export.columns import name_columns
from darkroom.models.rows import RowInput, embedding_length

NUMBERS = np.array([[1.0, 1.7e9 + 1], [np.nan, 1.7e9 + 2], [3.0, 1.7e9 + 4]])
CODES = np.array([[1, 2], [2, 0], [0, 1]])
ROWS = torch.from_numpy(np.hstack([NUMBERS, CODES]))
STATISTICS = [2.0, 1.7e9], [2.0, 1.7e9], [0.5, 2.0]


def test_numbers_are_filled_and_standardised_and_categories_are_indicators() -> None:
    layer = RowInput(*STATISTICS, [2, 3], one_hot=True)
    filled = np.where(np.isnan(NUMBERS), STATISTICS[0], NUMBERS)
    standard = (filled - STATISTICS[1]) / STATISTICS[2]
    encoder = OneHotEncoder(categories=[[1, 2], [1, 2, 3]], handle_unknown="ignore", sparse_output=False)
    encoder.fit([[1, 1]])
    expected = np.hstack([standard, encoder.transform(CODES)])
    outputs = layer(ROWS)
    assert outputs.dtype == torch.float32
    np.testing.assert_array_equal(outputs, expected.astype(np.float32))
    assert outputs.shape[1] == layer.num_outputs


def test_an_unknown_category_is_zero_also_after_training() -> None:
    torch.manual_seed(0)
    layer = RowInput(*STATISTICS, [2, 3], one_hot=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    before = layer(ROWS).detach()
    layer(ROWS).square().sum().backward()
    optimizer.step()
    after = layer(ROWS).detach()
    first, second = embedding_length(2), embedding_length(3)
    assert not after[2, 2 : 2 + first].any()
    assert not after[1, 2 + first :].any()
    assert len(after[0]) == 2 + first + second == layer.num_outputs
    assert not torch.equal(before[0], after[0])


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
def test_a_linear_layer_on_rows_is_the_logistic_regression_of_scikit_learn(load: Callable) -> None:
    inputs, labels = load(return_X_y=True)
    scaler = StandardScaler().fit(inputs)
    layer = RowInput(np.median(inputs, axis=0), scaler.mean_, scaler.scale_, [], one_hot=True)
    standard = layer(torch.from_numpy(inputs))
    reference = LogisticRegression(C=1, tol=1e-8, max_iter=5000).fit(scaler.transform(inputs), labels)
    linear = torch.nn.Linear(layer.num_outputs, len(np.unique(labels)))
    with torch.no_grad():  # two classes have one vector of weights there
        count = len(reference.coef_)
        linear.weight.zero_()[-count:] = torch.from_numpy(reference.coef_)
        linear.bias.zero_()[-count:] = torch.from_numpy(reference.intercept_)
    logits = linear(standard)
    expected = reference.predict_proba(scaler.transform(inputs))
    np.testing.assert_allclose(logits.softmax(1).detach(), expected, atol=1e-5)
    loss = F.cross_entropy(logits, torch.from_numpy(labels))
    assert loss.item() == pytest.approx(log_loss(labels, expected), abs=1e-6)
    # at the optimum, the gradient of the loss is that of the penalty |w|^2 / 2 with the other sign
    (loss * len(labels)).backward()
    assert linear.weight.grad is not None
    gradient = linear.weight.grad[-count:].numpy()
    np.testing.assert_allclose(gradient, -reference.coef_, atol=2e-3)


def test_an_onnx_model_takes_named_columns_with_categories_as_text() -> None:
    matrix = helper.make_tensor_value_info("rows", TensorProto.DOUBLE, ["batch", 3])
    out = helper.make_tensor_value_info("out", TensorProto.DOUBLE, ["batch", 3])
    graph = helper.make_graph([helper.make_node("Identity", ["rows"], ["out"])], "g", [matrix], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    name_columns(model, ["mean radius", "model.rows.0"], {"city": ["", "Oslo", "Rome"]})
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert {entry.name: entry.type for entry in session.get_inputs()} == {
        "mean radius": "tensor(double)",
        "model.rows.0": "tensor(double)",
        "city": "tensor(string)",
    }
    numbers = np.array([1.5, np.nan, 3.0, 4.0])
    cities = np.array(["Rome", "Bonn", "Oslo", ""], object)
    (rows,) = session.run(None, {"mean radius": numbers, "model.rows.0": -numbers, "city": cities})
    np.testing.assert_array_equal(rows, np.column_stack([numbers, -numbers, [3, 0, 2, 1]]))
    with pytest.raises(UserError, match="the columns out have the names of outputs"):
        name_columns(model, ["out"], {})

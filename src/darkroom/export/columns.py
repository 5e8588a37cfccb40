"""Named columns as the inputs of an ONNX model of rows, in place of one matrix of numbers and codes."""

from collections.abc import Mapping, Sequence

from onnx import ModelProto, TensorProto, compose, helper

from darkroom.errors import UserError, listed

_ML = "ai.onnx.ml"
_ML_VERSION = 3
_BATCH = "batch"


def name_columns(
    model: ModelProto, numbers: Sequence[str], categories: Mapping[str, Sequence[str]]
) -> None:
    """Replace the input of a model of rows by one input per column.

    A number is float64 ``(n,)``, NaN if missing. A category is a string ``(n,)``, empty if missing;
    operators at the start of the graph look up its code, 0 if it is not one of ``categories``.

    All other names in the graph get a prefix that no column has, so that a column may have any name
    but that of an output.

    Args:
        model: changed in place. Its only input is float64 ``(n, len(numbers) + len(categories))``.
        categories: the values of each column of codes, the first of which has code 1.

    Raises:
        UserError: a column has the name of an output.
    """
    graph, names = model.graph, [*numbers, *categories]
    if clashing := sorted({output.name for output in graph.output} & set(names)):
        raise UserError(
            f"the columns {listed(clashing)} have the names of outputs of the exported model; rename"
            " them in the table"
        )
    prefix = "model."
    while any(name.startswith(prefix) for name in names):
        prefix += "_"
    compose.add_prefix_graph(graph, prefix, rename_outputs=False, inplace=True)
    rows = graph.input[0].name
    begin, parts = [], []
    axis = f"{rows}.axis"
    for position, name in enumerate(names):
        column, value = f"{rows}.{position}", name
        if name in categories:
            value = f"{column}.number"
            values = list(categories[name])
            begin += [
                helper.make_node(
                    "LabelEncoder",
                    [name],
                    [f"{column}.code"],
                    domain=_ML,
                    keys_strings=values,
                    values_int64s=range(1, len(values) + 1),
                    default_int64=0,
                ),
                helper.make_node("Cast", [f"{column}.code"], [value], to=TensorProto.DOUBLE),
            ]
        begin.append(helper.make_node("Unsqueeze", [value, axis], [column]))
        parts.append(column)
    begin.append(helper.make_node("Concat", parts, [rows], axis=1))
    kinds = dict.fromkeys(categories, TensorProto.STRING)
    inputs = [
        helper.make_tensor_value_info(name, kinds.get(name, TensorProto.DOUBLE), [_BATCH])
        for name in names
    ]
    nodes = list(graph.node)
    del graph.input[:], graph.node[:]
    graph.input.extend(inputs)
    graph.node.extend([*begin, *nodes])
    graph.initializer.append(helper.make_tensor(axis, TensorProto.INT64, [1], [1]))
    if categories:
        model.opset_import.append(helper.make_opsetid(_ML, _ML_VERSION))

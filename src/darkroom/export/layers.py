"""Which nodes of an ONNX graph may compute with fewer bits."""

from onnx import GraphProto

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def float_nodes(graph: GraphProto, safer: bool) -> list[str]:
    """Return the names of the nodes that keep float32.

    These are the normalisation of pixels before the first layer, and what is computed beside or after
    the logits: the probabilities and the unfamiliarity.

    Args:
        graph: nodes in topological order, the output ``logits`` among others.
        safer: also keep the first and the last layer with weights.
    """
    wanted, network = {"logits"}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            network.append(node.name)
    inside = set(network)
    layers = [node.name for node in graph.node if node.name in inside and node.op_type in WEIGHTED]
    kept = {layers[0], layers[-1]} if safer else set[str]()
    names = [node.name for node in graph.node]
    before = set(names[: names.index(layers[0])])
    return [name for name in names if name not in inside or name in before or name in kept]

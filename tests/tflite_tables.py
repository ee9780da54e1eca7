"""Tables of weights in TFLite files."""

import numpy as np


def tables(path, vocabulary_size):
    """(type, buffer) of the tensors with a row per token that a TFLite file holds data for."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    found = set()
    for graph in (model.Subgraphs(i) for i in range(model.SubgraphsLength())):
        for tensor in (graph.Tensors(i) for i in range(graph.TensorsLength())):
            shape = tensor.ShapeAsNumpy()
            held = model.Buffers(tensor.Buffer())
            if np.size(shape) == 2 and shape[0] == vocabulary_size and held.DataLength():
                found.add((tensor.Type(), tensor.Buffer()))
    return found

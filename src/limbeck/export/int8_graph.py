"""What an ONNX graph needs so that int8 kernels run it, and nothing between them is laid out anew.

Runtimes have no int8 kernel for a transposed convolution. One of stride 2 is a convolution of half the kernel with four
times the channels, whose outputs take turns in the image:
y[2a + p, 2b + q] = sum over k = p, l = q mod 2 of w[k, l] x[a - (k - p) / 2, b - (l - q) / 2].
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

IMAGE_CHANNELS = 4


def beside_an_image(made: Any) -> list[str]:
    """Names of the convolutions of an ONNX model that read or write at most 4 channels; depthwise ones not."""
    shapes = {value.name: value.dims for value in made.graph.initializer}
    return [
        node.name
        for node in made.graph.node
        if node.op_type == "Conv"
        and _attributes(node).get("group", 1) == 1
        and min(shapes.get(node.input[1], (5, 5))[:2]) <= IMAGE_CHANNELS
    ]


def without_transposed_convolutions(made: Any) -> int:
    """Rewrite those of stride 2, kernel 3, without groups and padding, that feed one padded convolution; how many.

    The image they make is a row and a column of zeros too large, which the next convolution takes for its padding.
    """
    import onnx
    from onnx import helper, numpy_helper

    graph = made.graph
    weights = {value.name: value for value in graph.initializer}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    nodes, count = [], 0
    for node in graph.node:
        following = readers.get(node.output[0], [])
        if not (_is_doubling(node, weights) and len(following) == 1 and _has_end_padding(following[0])):
            nodes.append(node)
            continue
        kernel = numpy_helper.to_array(weights[node.input[1]])
        name, channels, halves = f"{node.name}_phases", f"{node.output[0]}_channels", f"{node.input[1]}_phases"
        graph.initializer.append(numpy_helper.from_array(phases(kernel), halves))
        nodes += [
            helper.make_node("Conv", [node.input[0], halves], [channels], name, kernel_shape=[2, 2], pads=[1, 1, 1, 1]),
            helper.make_node("DepthToSpace", [channels], node.output, f"{name}_in_turn", blocksize=2, mode="CRD"),
        ]
        padding = next(attribute for attribute in following[0].attribute if attribute.name == "pads")
        top, left, bottom, right = padding.ints
        padding.CopyFrom(helper.make_attribute("pads", [top, left, bottom - 1, right - 1]))
        count += 1
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]  # sizes on the way are others now
    read = {name for node in graph.node for name in node.input}
    left = [value for value in graph.initializer if value.name in read]
    del graph.initializer[:]
    graph.initializer.extend(left)
    onnx.checker.check_model(made)
    return count


def with_factors_as_maps(made: Any) -> int:
    """Let what scales or shifts whole channels, [n, c, 1, 1], come out of a convolution that changes nothing; how many.

    OpenVINO gives an operation on maps the layout of most of its inputs. Int8 convolutions leave channels innermost,
    what was never a map has them outermost: each large map would be turned over and back, for longer than the
    convolutions take.
    """
    import onnx
    from onnx import helper, numpy_helper

    graph = made.graph
    inferred = onnx.shape_inference.infer_shapes(made).graph.value_info
    shapes = {v.name: [side.dim_value for side in v.type.tensor_type.shape.dim] for v in inferred}
    nodes, wide = [], set()
    for node in graph.node:
        nodes.append(node)
        shape = shapes.get(node.output[0], [])
        if node.op_type != "Unsqueeze" or len(shape) != 4 or shape[1] <= IMAGE_CHANNELS or shape[2:] != [1, 1]:
            continue
        name, channels = node.output[0], shape[1]
        node.output[0] = f"{name}_flat"
        ones = f"ones_{channels}"
        if channels not in wide:
            graph.initializer.append(numpy_helper.from_array(np.ones((channels, 1, 1, 1), np.float32), ones))
        wide.add(channels)
        nodes.append(
            helper.make_node("Conv", [f"{name}_flat", ones], [name], f"{name}_map", kernel_shape=[1, 1], group=channels)
        )
    count = len(nodes) - len(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    return count


def phases(weight: np.ndarray) -> np.ndarray:
    """Weights [i, o, 3, 3] of a transposed convolution of stride 2 as those [4 o, i, 2, 2] of a convolution.

    Output channel 4 o + 2 p + q holds the pixels (2a + p, 2b + q).
    """
    num_in, num_out = weight.shape[:2]
    found = np.zeros((num_out, 2, 2, num_in, 2, 2), weight.dtype)
    taps = {0: [(0, 2), (1, 0)], 1: [(1, 1)]}  # phase: (place in the half kernel, place in the kernel)
    for row, row_taps in taps.items():
        for column, column_taps in taps.items():
            for to_row, from_row in row_taps:
                for to_column, from_column in column_taps:
                    found[:, row, column, :, to_row, to_column] = weight[:, :, from_row, from_column].T
    return found.reshape(num_out * 4, num_in, 2, 2)


def _is_doubling(node: Any, weights: Mapping[str, Any]) -> bool:
    facts = _attributes(node)
    return (
        node.op_type == "ConvTranspose"
        and len(node.input) == 2
        and node.input[1] in weights
        and list(weights[node.input[1]].dims)[2:] == [3, 3]
        and list(facts.get("strides", [])) == [2, 2]
        and facts.get("group", 1) == 1
        and not any(facts.get("pads", []))
        and not any(facts.get("output_padding", []))
    )


def _has_end_padding(node: Any) -> bool:
    return node.op_type == "Conv" and min(_attributes(node).get("pads", [0])) >= 1


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}

"""Frozen graphs of some hundred bytes whose constants or sums would fill the memory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fuzz_bombs import peak, refused
from tensorflow_writer import GraphWriter

from multibox.errors import InputError
from multibox.importers.tensorflow.evaluate import fixed_value
from multibox.importers.tensorflow.graph import Graph, Output


def graph_of(build: Callable[[GraphWriter], None], path: Path) -> Graph:
    writer = GraphWriter()
    build(writer)
    path.write_bytes(writer.message.SerializeToString())
    return Graph(path)


def hollow_constant(writer: GraphWriter, name: str, *sides: int) -> str:
    writer.const(name, np.zeros(1, np.float32), splat=True)
    shape = writer.message.node[-1].attr[-1].value.tensor.shape
    del shape.dim[:]
    for side in sides:
        shape.dim.add(size=side)
    return name


@pytest.mark.parametrize("sides", [(2**26,), (2**40, 2**40, 2**40), (2**62,) * 90])
def test_a_constant_of_one_number_many_times(tmp_path: Path, sides: tuple[int, ...]) -> None:
    refused(
        lambda: graph_of(lambda writer: hollow_constant(writer, "a", *sides), tmp_path / "a.pb"),
        "repeated numbers, more than the limit of 33,554,432",
    )


def test_many_constants_of_one_number_are_counted_together(tmp_path: Path) -> None:
    def build(writer: GraphWriter) -> None:
        for i in range(100):
            hollow_constant(writer, f"c{i}", 1000, 1000)

    refused(lambda: graph_of(build, tmp_path / "a.pb"), "constants of 100,000,000 repeated")


def test_what_a_graph_computes_is_counted_in_all(tmp_path: Path) -> None:
    """A chain of sums, each of which is kept until the end: 80 MB from some hundred bytes."""

    def build(writer: GraphWriter) -> None:
        last = hollow_constant(writer, "c", 4_000_000)
        for i in range(20):
            last = writer.op("Add", f"sum{i}", last, "c")

    graph = graph_of(build, tmp_path / "a.pb")
    assert fixed_value(graph, Output("sum2")).shape == (4_000_000,)
    before = peak()
    with pytest.raises(InputError, match=r"sum8.*more than 33,554,432 numbers") as caught:
        fixed_value(graph, Output("sum19"))
    assert "\n" not in str(caught.value)
    assert peak() - before < 300 << 20

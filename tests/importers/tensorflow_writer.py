"""Writing TensorFlow's GraphDef node by node, without TensorFlow."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from multibox.importers.tensorflow.schema import graph_message

FLOAT, INT, UINT8, BOOL = 1, 3, 4, 10
_NUMPY = {np.dtype(np.float32): FLOAT, np.dtype(np.int32): INT, np.dtype(bool): BOOL}


class Type(int):
    """An attribute that names a type."""


class GraphWriter:
    """Adds nodes to a GraphDef; every method returns the name of what it added."""

    def __init__(self) -> None:
        self.message = graph_message()()
        self._control: list[str] = []

    def add(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        node = self.message.node.add(name=name.encode(), op=op.encode())
        node.input.extend(i.encode() for i in inputs)
        for key, value in attributes.items():
            attr = node.attr.add(key=key.encode()).value
            if isinstance(value, Type):
                attr.type = value
            elif isinstance(value, bool):
                attr.b = value
            elif isinstance(value, int):
                attr.i = value
            elif isinstance(value, float):
                attr.f = value
            elif isinstance(value, str):
                attr.s = value.encode()
            else:
                attr.list.i.extend(value)
        return name

    def const(self, name: str, value: Any, *, splat: bool = False) -> str:
        array = np.asarray(value)
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int32)
        control = [f"^{self._control[-1]}"] if self._control else []
        self.add("Const", name, *control, dtype=Type(_NUMPY[array.dtype]))
        tensor = self.message.node[-1].attr.add(key=b"value").value.tensor
        tensor.dtype = _NUMPY[array.dtype]
        for side in array.shape:
            tensor.shape.dim.add(size=side)
        if splat:
            tensor.float_val.append(float(array.flat[0]))
        else:
            tensor.content = array.tobytes()
        return name

    def op(self, op: str, name: str, *inputs: str, kind: int = FLOAT, **attributes: Any) -> str:
        """An operation of one type T."""
        return self.add(op, name, *inputs, T=Type(kind), **attributes)

    def binary(self, op: str, name: str, x: str, y: float | str, kind: int = FLOAT) -> str:
        if not isinstance(y, str):
            y = self.const(f"{name}/y", np.array(y, np.float32 if kind == FLOAT else np.int32))
        return self.op(op, name, x, y, kind=kind)

    def pack(self, name: str, *inputs: str, axis: int = 0, kind: int = FLOAT) -> str:
        return self.op("Pack", name, *inputs, kind=kind, N=len(inputs), axis=axis)

    def concat(self, name: str, *inputs: str, axis: int, kind: int = FLOAT) -> str:
        at = self.const(f"{name}/axis", axis)
        return self.op("ConcatV2", name, *inputs, at, kind=kind, N=len(inputs), Tidx=Type(INT))

    def reshape(self, name: str, x: str, shape: Sequence[int] | str) -> str:
        if not isinstance(shape, str):
            shape = self.const(f"{name}/shape", np.array(shape))
        return self.op("Reshape", name, x, shape, Tshape=Type(INT))

    def gather(self, name: str, x: str, indices: str) -> str:
        axis = self.const(f"{name}/axis", 0)
        kinds = {"Tparams": Type(FLOAT), "Tindices": Type(INT), "Taxis": Type(INT)}
        return self.add("GatherV2", name, x, indices, axis, **kinds)

    def slice(self, name: str, x: str, begin: Sequence[int], size: Sequence[int]) -> str:
        first = self.const(f"{name}/begin", np.array(begin))
        count = self.const(f"{name}/size", np.array(size))
        return self.op("Slice", name, x, first, count, Index=Type(INT))

    def length(self, name: str, x: str, axis: int = 0, kind: int = FLOAT) -> str:
        """One side of a tensor's shape."""
        shape = self.op("Shape", f"{name}/Shape", x, kind=kind, out_type=Type(INT))
        ends = [
            self.const(f"{name}/{i}", np.array([value]))
            for i, value in enumerate((axis, axis + 1, 1))
        ]
        return self.op(
            "StridedSlice", name, shape, *ends, kind=INT, Index=Type(INT), shrink_axis_mask=1
        )

    def span(self, name: str, count: str | int) -> str:
        """0, 1, ... up to ``count``."""
        stop = count if isinstance(count, str) else self.const(f"{name}/limit", count)
        start, delta = self.const(f"{name}/start", 0), self.const(f"{name}/delta", 1)
        return self.add("Range", name, start, stop, delta, Tidx=Type(INT))

    @contextmanager
    def _inside(self, name: str) -> Iterator[None]:
        self._control.append(name)
        yield
        self._control.pop()

    def map(
        self,
        name: str,
        count: str,
        inputs: Sequence[str],
        body: Callable[..., Sequence[str]],
        outputs: int,
    ) -> list[str]:
        """TensorFlow 1's ``map_fn``: a while loop over the first axis of float ``inputs``."""
        frame = {"frame_name": f"{name}/while"}
        indices = self.span(f"{name}/range", count)
        arrays = [
            self.add("TensorArrayV3", f"{name}/TensorArray_{i}", count, dtype=Type(FLOAT))
            for i in range(len(inputs) + outputs)
        ]
        flows = [
            self.op(
                "TensorArrayScatterV3",
                f"{name}/Scatter_{i}",
                arrays[i],
                indices,
                x,
                f"{arrays[i]}:1",
            )
            for i, x in enumerate(inputs)
        ]

        def enter(label: str, x: str, kind: int, constant: bool) -> str:
            return self.op(
                "Enter", f"{name}/while/{label}", x, kind=kind, is_constant=constant, **frame
            )

        state = [enter("Enter", self.const(f"{name}/zero", 0), INT, False)]
        state += [
            enter(f"Enter_{i}", f"{arrays[len(inputs) + i]}:1", FLOAT, False)
            for i in range(outputs)
        ]
        kinds = [INT] + [FLOAT] * outputs
        merged = [
            self.op(
                "Merge", f"{name}/while/Merge_{i}", x, f"{name}/while/NextIteration_{i}",
                kind=kinds[i], N=2,
            )
            for i, x in enumerate(state)
        ]  # fmt: skip
        less = self.op(
            "Less", f"{name}/while/Less", merged[0], enter("count", count, INT, True), kind=INT
        )
        condition = self.add("LoopCond", f"{name}/while/LoopCond", less)
        switches = [
            self.op("Switch", f"{name}/while/Switch_{i}", x, condition, kind=kinds[i])
            for i, x in enumerate(merged)
        ]
        held = [
            self.op("Identity", f"{name}/while/Identity_{i}", f"{x}:1", kind=kinds[i])
            for i, x in enumerate(switches)
        ]
        with self._inside(held[0]):
            items = []
            for i, flow in enumerate(flows):
                handle = self._enter_resource(f"{name}/while/handle_{i}", arrays[i], frame)
                flow = enter(f"flow_{i}", flow, FLOAT, True)
                items.append(
                    self.add(
                        "TensorArrayReadV3", f"{name}/while/Read_{i}", handle, held[0], flow,
                        dtype=Type(FLOAT),
                    )
                )  # fmt: skip
            results = body(*items)
            following = [self.binary("Add", f"{name}/while/add", held[0], 1, INT)]
            for i, result in enumerate(results):
                array = arrays[len(inputs) + i]
                handle = self._enter_resource(f"{name}/while/result_{i}", array, frame)
                following.append(
                    self.op(
                        "TensorArrayWriteV3", f"{name}/while/Write_{i}", handle, held[0], result,
                        held[1 + i],
                    )
                )  # fmt: skip
        for i, x in enumerate(following):
            self.op("NextIteration", f"{name}/while/NextIteration_{i}", x, kind=kinds[i])
        gathered = []
        for i in range(outputs):
            flow = self.op("Exit", f"{name}/while/Exit_{i}", f"{name}/while/Switch_{i + 1}")
            gathered.append(
                self.add(
                    "TensorArrayGatherV3", f"{name}/Gather_{i}", arrays[len(inputs) + i], indices,
                    flow, dtype=Type(FLOAT),
                )
            )  # fmt: skip
        return gathered

    def _enter_resource(self, name: str, x: str, frame: dict[str, str]) -> str:
        resource = 20
        return self.op("Enter", name, x, kind=resource, is_constant=True, **frame)

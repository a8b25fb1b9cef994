import time

import numpy as np
import onnx
import onnxruntime
import pytest

from multibox.benchmarking import peak
from multibox.benchmarking.convolutions import Kind, convolutions
from multibox.benchmarking.peak import Kernel, Precision, best_kernel


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_the_file_is_valid_and_does_what_it_says(kind: Kind) -> None:
    work = convolutions(16, 9, kind)
    onnx.checker.check_model(onnx.load_from_string(work.model), full_check=True)
    session = onnxruntime.InferenceSession(work.model, providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"x0": work.example})
    assert out.shape == work.example.shape
    assert out.dtype == work.example.dtype
    # Neither vanishing nor all at an end of the scale: an engine could take a short cut there.
    assert 0.1 < np.std(out.astype(float)) / np.std(work.example.astype(float)) < 10
    assert len(np.unique(out)) > 20


def test_its_multiply_adds_are_those_of_its_layers() -> None:
    work = convolutions(16, 9, "float")
    layers = onnx.load_from_string(work.model).graph.node
    assert work.multiply_adds == len(layers) * (16 * 16 * 3 * 3) * (9 * 9)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_best_kernel_is_the_one_that_did_most(
    precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multibox.benchmarking.peak._SHAPES", ((8, 4), (64, 24)))
    kernel = best_kernel(precision, 1)
    assert kernel is not None
    assert "64 -> 64 on 24 x 24" in kernel.description
    assert kernel.timed() > 0


def test_a_burst_of_other_work_does_not_make_a_lesser_kernel_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    burst = iter([0.02] * 8)
    good = Kernel(lambda: time.sleep(next(burst, 0.001)), 1000, "engine", "good")
    lesser = Kernel(lambda: time.sleep(0.005), 1000, "engine", "lesser")
    monkeypatch.setattr(peak, "_kernels", lambda precision, threads: iter([good, lesser]))
    assert best_kernel("fp32", 1) == good


def test_without_openvino_nothing_here_has_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multibox.benchmarking.peak.find_spec", lambda name: None)
    assert best_kernel("bf16", 1) is None

"""What a benchmark says: its figures as JSON with a fixed schema, and as a table."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from rich.table import Table

from multibox.benchmarking.peak import Precision
from multibox.benchmarking.stages import Stages

SAMPLES_FOR_P99 = 100
"""Below this a p99 would be little more than the slowest sample: it is left out."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Latency(_Part):
    """Milliseconds of a call, which is one batch."""

    p50: float = Field(description="median")
    p99: float | None = Field(description="null where there are fewer than 100 samples")

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """The percentiles of ``seconds``, interpolated linearly between samples."""
        milliseconds = 1000 * np.asarray(seconds)
        enough = len(seconds) >= SAMPLES_FOR_P99
        return cls(
            p50=float(np.percentile(milliseconds, 50)),
            p99=float(np.percentile(milliseconds, 99)) if enough else None,
        )


class Split(_Part):
    """A call's stages, and the whole of it, which for several pictures may be less than the sum."""

    decode: Latency = Field(description="from the pictures' bytes to their pixels")
    preprocess: Latency = Field(description="from there to the network's first layer")
    network: Latency = Field(description="the engine alone, to the network's raw outputs")
    postprocess: Latency = Field(description="from these to boxes in the pictures' pixels")
    whole: Latency

    @classmethod
    def of(cls, samples: Sequence[Stages]) -> "Split":
        """The percentiles of each stage and of the whole, each by itself."""
        stages = {name: [getattr(s, name) for s in samples] for name in Stages._fields}
        return cls(**{name: Latency.of(seconds) for name, seconds in stages.items()})


class Peak(_Part):
    """What the processor's arithmetic was seen to reach, measured in turn with the results."""

    precision: Precision
    operations_per_second: float = Field(description="a multiply-add is two; the median")
    engine: str = Field(description="which engine's kernel reached it")
    kernel: str


class Model(_Part):
    """A network that was measured."""

    file: str = Field(description="as it was given")
    name: str = Field(description="the zoo's name of the detector")
    image_size: tuple[int, int] = Field(description="height and width of the input, pixels")
    classes: int
    default_boxes: int
    multiply_adds: int = Field(description="of convolutions and matrix products, for one picture")
    note: str = Field(default="", description="what the reader has to know about its weights")


class Result(_Part):
    """One model on one engine at one batch size."""

    model: str = Field(description='the "file" of one of the models')
    engine: Literal["onnxruntime", "openvino", "torch"]
    precision: Precision
    batch_size: int
    samples: int = Field(description="calls that were measured")
    milliseconds: Split
    pictures_per_second: float = Field(description="batch size by the whole's median")
    operations_per_second: float = Field(description="of the network: twice its multiply-adds")
    fraction_of_peak: float | None = Field(description="null where no kernel has the precision")
    detections: int = Field(description="found in the picture")


class Machine(_Part):
    """Where it was measured."""

    processor: str
    cores: int = Field(description="that this process may use")
    system: str
    python: str
    packages: dict[str, str] = Field(description="versions of what computes")


class Report(_Part):
    """Everything that one benchmark found."""

    schema_version: Literal[1] = 1
    machine: Machine
    threads: int
    picture: str = Field(description="the file, or how it was made")
    picture_size: tuple[int, int] = Field(description="height and width, pixels")
    models: tuple[Model, ...]
    peaks: tuple[Peak, ...]
    results: tuple[Result, ...]


def table(report: Report) -> Table:
    """A row for each result, milliseconds of the median call."""
    several = len(report.models) > 1
    rows = Table(box=None, pad_edge=False)
    rows.add_column("engine", no_wrap=True)
    if several:
        rows.add_column("model", no_wrap=True)
    for title in (
        "batch", "decode", "prepare", "network", "post", "whole", "p99", "pictures/s", "of peak"
    ):  # fmt: skip
        rows.add_column(title, justify="right", no_wrap=True)
    for result in report.results:
        split = result.milliseconds
        p99 = "–" if split.whole.p99 is None else f"{split.whole.p99:.1f}"
        fraction = "–" if result.fraction_of_peak is None else f"{result.fraction_of_peak:.0%}"
        rows.add_row(
            f"{result.engine} {result.precision}",
            *([result.model] if several else []),
            str(result.batch_size),
            f"{split.decode.p50:.2f}",
            f"{split.preprocess.p50:.2f}",
            f"{split.network.p50:.2f}",
            f"{split.postprocess.p50:.2f}",
            f"{split.whole.p50:.2f}",
            p99,
            f"{result.pictures_per_second:.1f}",
            fraction,
        )
    return rows

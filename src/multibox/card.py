"""The model card: everything besides the weights that is needed to run, judge and trace a model.

It is stored as JSON under the one key ``multibox`` of a checkpoint's metadata.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

CARD_KEY = "multibox"
SCHEMA_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Preprocessing(_Part):
    """How an upright RGB picture becomes the network's input."""

    image_size: tuple[int, int] = Field(description="height and width of the input, pixels")
    mean: tuple[float, float, float] = Field(description="per RGB channel, on the 0..255 scale")
    std: tuple[float, float, float] = Field(description="per RGB channel, on the 0..255 scale")
    fractions: bool = Field(
        default=False,
        description="pixels, mean and std are brought to 0..1 first, as torchvision does: the "
        "same input but for its last digit, which a deep network turns into the fourth of its "
        "outputs",
    )
    channel_order: Literal["rgb", "bgr"] = "rgb"
    interpolation: Literal["linear", "area", "linear-corner"] = Field(
        default="linear",
        description="linear-corner aligns the pixels' corners instead of their centres, as "
        "TensorFlow 1 did",
    )


class DefaultBoxLevel(_Part):
    """The default boxes of one feature map (paper 2.2, "Choosing scales and aspect ratios").

    Per cell, in this order: a square of ``min_size``; a square of sqrt(min_size * max_size) when
    ``max_size`` is given; then for each aspect ratio r a box of w/h = r and one of w/h = 1/r.
    Detectors that follow another rule state the ``shapes`` of a cell's boxes instead.
    """

    grid: tuple[int, int] = Field(description="rows and columns of the feature map")
    step: tuple[float, float] | None = Field(
        default=None,
        description="pixels between centres, down and across; None: the image divided by the grid",
    )
    offset: float = Field(default=0.5, description="the first centre, in steps from the corner")
    min_size: float | None = Field(default=None, gt=0, description="pixels")
    max_size: float | None = Field(default=None, gt=0, description="pixels")
    aspect_ratios: tuple[float, ...] = Field(default=(), description="w/h, each with its inverse")
    shapes: tuple[tuple[float, float], ...] | None = Field(
        default=None, min_length=1, description="widths and heights, pixels, in a cell's order"
    )

    @property
    def boxes_per_cell(self) -> int:
        """How many default boxes share one cell's centre."""
        if self.shapes is not None:
            return len(self.shapes)
        return 1 + (self.max_size is not None) + 2 * len(self.aspect_ratios)

    @model_validator(mode="after")
    def _one_rule(self) -> "DefaultBoxLevel":
        by_size = self.max_size is not None or bool(self.aspect_ratios)
        if (self.min_size is None) == (self.shapes is None) or (self.shapes and by_size):
            raise ValueError("a level has either sizes and aspect ratios or shapes")
        return self


class DefaultBoxSpec(_Part):
    """All default boxes of a detector, and how offsets from them are coded."""

    image_size: tuple[int, int] = Field(description="height and width, pixels")
    levels: tuple[DefaultBoxLevel, ...]
    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    clip: Literal["none", "centre-size", "corners", "sides"] = Field(
        default="none",
        description="what is cut to 0..1: centres, widths and heights; corners; or widths and "
        "heights alone, as torchvision does",
    )
    truncate_sizes: bool = Field(
        default=False, description="cut sizes to whole pixels, as Caffe's PriorBox layer does"
    )

    @property
    def count(self) -> int:
        """The number of default boxes of one picture."""
        return sum(lv.grid[0] * lv.grid[1] * lv.boxes_per_cell for lv in self.levels)


class ExtraLayer(_Part):
    """One extra feature layer: 1x1 to ``squeeze`` channels, then ``kernel`` to ``channels``."""

    squeeze: int
    channels: int
    kernel: int = 3
    stride: int = 2
    padding: int = 1


ExtraKind = Literal["conv", "conv-norm", "separable", "inverted-residual"]
HeadKind = Literal["conv3x3", "conv1x1", "separable"]


class Architecture(_Part):
    """What has to be built before the weights can be loaded into it.

    The last four values are for detectors whose authors' framework had other habits.
    """

    backbone: str = Field(description='a name known to multibox.backbones, or "timm:NAME"')
    strides: tuple[int, ...] | None = Field(
        default=None, description="of the maps taken from a timm backbone"
    )
    extras: tuple[ExtraLayer, ...]
    extra_kind: ExtraKind = Field(
        description="what an extra layer is made of: plain convolutions; convolutions with "
        "BatchNorm; a depthwise separable one (SSDLite); the same without the last activation"
    )
    heads: tuple[HeadKind, ...] = Field(description="what predicts, for every feature map")
    norm_epsilon: float = Field(default=1e-3, gt=0, description="of extra layers and heads")
    backbone_norm_epsilon: float | None = Field(
        default=None, gt=0, description="None: the backbone's own"
    )
    activation: Literal["relu", "relu6"] | None = Field(
        default=None, description="instead of every ReLU or ReLU6; None: as each part has it"
    )
    padding: Literal["symmetric", "tensorflow"] = Field(
        default="symmetric",
        description="of layers with a stride: TensorFlow's SAME puts the odd pixel at the end",
    )


class PostProcessing(_Part):
    """From raw outputs to detections (paper section 3.7: .01, .45, top 200; Caffe: top_k 400)."""

    scores: Literal["softmax", "sigmoid"] = "softmax"
    score_threshold: float = Field(default=0.01, ge=0, le=1)
    iou_threshold: float = Field(default=0.45, ge=0, le=1)
    top_k: int = Field(default=400, gt=0, description="of each class, before suppression")
    keep: int = Field(default=200, gt=0, description="of each picture, after suppression")
    clip: Literal["before", "after"] = Field(
        default="after",
        description="whether boxes are cut to the picture before or after suppression",
    )
    largest_log_ratio: float | None = Field(
        default=None,
        gt=0,
        description="decoded sides are at most exp of this times their default box's; None: any",
    )


class ModelCard(_Part):
    """A detector's names, default boxes, preprocessing, thresholds, recipe, metrics and origin."""

    schema_version: int = SCHEMA_VERSION
    model: str = Field(description="the zoo's name of the detector")
    names: tuple[str, ...] = Field(
        min_length=1, description="class names, background not among them"
    )
    architecture: Architecture
    preprocessing: Preprocessing
    default_boxes: DefaultBoxSpec
    postprocessing: PostProcessing = PostProcessing()
    recipe: dict[str, Any] | None = Field(default=None, description="how it was trained")
    metrics: dict[str, Any] = Field(default_factory=dict, description="measured, and on what")
    origin: str = Field(default="", description="where the weights began")
    parity: dict[str, Any] | None = Field(
        default=None, description="how imported weights compare with a reference, and with which"
    )
    export: dict[str, Any] | None = Field(
        default=None,
        description="format and precision of an exported file, and how it compares with PyTorch",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "ModelCard":
        if len(self.architecture.heads) != len(self.default_boxes.levels):
            raise ValueError("the architecture has not one head for every level of default boxes")
        if self.preprocessing.image_size != self.default_boxes.image_size:
            raise ValueError("preprocessing and default boxes disagree about the image size")
        if len(set(self.names)) != len(self.names):
            raise ValueError("two classes have the same name")
        return self

"""Any timm network that can give its feature maps (``--backbone timm:NAME``)."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from multibox.backbones.base import Backbone
from multibox.backbones.online import knock, patience
from multibox.errors import InputError

PREFIX = "timm:"

# What timm's networks raise for a call or a picture they are not made for.
_UNSUITED = (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError)
_UNAVAILABLE = (OSError, RuntimeError, ValueError, EOFError, SafetensorError, UnpicklingError)


class TimmBackbone(Backbone):
    """The last map of each wanted stride, finest first.

    ``image_size`` (height, width) is the only input for networks whose weights depend on it, the
    vision transformers; for all others the maps are checked for it.

    Raises: InputError when timm or the network is not there, when it lacks a stride, or when a map
    is not ceil(side / stride) cells high and wide, which the detectors' default boxes rely on.
    """

    def __init__(self, name: str, strides: Sequence[int], image_size: tuple[int, int]) -> None:
        super().__init__()
        plan = _plan(name, strides, image_size)
        self.network = _create(name, image_size, out_indices=plan.indices)
        self.channels = tuple(self.network.feature_info.channels())
        self._channels_last = _is_channels_last(self.network)
        self._early = plan.early
        _drop_unused(self.network, plan.used)

    def forward(self, images: Tensor) -> list[Tensor]:
        """One map a stride."""
        maps: list[Tensor] = self.network(images)
        return [x.permute(0, 3, 1, 2) for x in maps] if self._channels_last else maps

    def early_layers(self) -> tuple[nn.Module, ...]:
        """All that the map of stride 4 is made of; nothing where there is no such map."""
        return tuple(
            layer
            for name, layer in self.network.named_modules()
            if list(layer.parameters(recurse=False))
            and all(
                f"{name}.{parameter}" in self._early for parameter, _ in layer.named_parameters()
            )
        )

    def load_classifier(self, weights: Mapping[str, Tensor]) -> None:
        """By timm's names for the network's features; the classifier is not among them."""
        self.network.load_state_dict({name: weights[name] for name in self.network.state_dict()})


@dataclass(frozen=True, slots=True)
class TimmSource:
    """The pretrained weights of a timm network, and the mean and std they saw (0..255).

    ``name`` may end in a tag that chooses one of several sets, as in "resnet18.a1_in1k".
    """

    name: str
    image_size: tuple[int, int]

    @property
    def origin(self) -> str:
        """What a card says about where they came from."""
        config = _config(self.name)
        return f"timm's {config.architecture}" + (f".{config.tag}" if config.tag else "")

    @property
    def mean(self) -> tuple[float, float, float]:
        """Per RGB channel."""
        red, green, blue = (255 * value for value in _config(self.name).mean)
        return red, green, blue

    @property
    def std(self) -> tuple[float, float, float]:
        """Per RGB channel."""
        red, green, blue = (255 * value for value in _config(self.name).std)
        return red, green, blue

    def download(self) -> dict[str, Tensor]:
        """The state dict of the features, from the hub's cache or else from the hub.

        Raises: InputError when they cannot be had; without a network, within seconds.
        """
        if not _config(self.name).has_weights:
            raise InputError(
                f"timm has no pretrained weights of {self.name}: start without them: --weights none"
            )
        try:
            with patience(20):
                network = self._pretrained()
        except _UNAVAILABLE as error:
            raise InputError(
                f"the weights of {PREFIX}{self.name} are not in the cache and cannot be downloaded "
                f"({_one_line(error)}): start without them: --weights none"
            ) from error
        state: dict[str, Tensor] = network.state_dict()
        return state

    def _pretrained(self) -> Any:
        from huggingface_hub import constants

        options = _options(self.name, self.image_size) | {"pretrained": True}
        try:
            with _cache_only():
                return _timm().create_model(self.name, **options)
        except OSError:
            # The hub's client tries for a minute or more before it gives up.
            knock(constants.ENDPOINT)
            return _timm().create_model(self.name, **options)


@contextmanager
def _cache_only() -> Iterator[None]:
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which of a network's maps are taken, and the names of the parameters behind them."""

    indices: tuple[int, ...]
    used: frozenset[str]
    early: frozenset[str]


def _plan(name: str, strides: Sequence[int], image_size: tuple[int, int]) -> _Plan:
    """What to take from the network, found out on shapes alone."""
    height, width = image_size
    with torch.device("meta"), torch.inference_mode(False), torch.enable_grad():
        network = _create(name, image_size).eval()
        index = {stride: i for i, stride in enumerate(network.feature_info.reduction())}
        missing = [stride for stride in strides if stride not in index]
        if missing:
            raise InputError(
                f"{PREFIX}{name} has no feature map of stride {missing[0]}, which this detector "
                f"needs (it has {', '.join(map(str, index))}): choose another backbone"
            )
        remedy = f"take an --image-size that is a multiple of {max(index)}, or another backbone"
        try:
            maps = network(torch.zeros(1, 3, height, width))
        except _UNSUITED as error:
            raise InputError(
                f"{PREFIX}{name} cannot take an input of {height}x{width} pixels "
                f"({_one_line(error)}): {remedy}"
            ) from error
        rows, columns = (1, 2) if _is_channels_last(network) else (2, 3)
        for stride in strides:
            shape = maps[index[stride]].shape
            grid, wanted = (
                (shape[rows], shape[columns]),
                (-(-height // stride), -(-width // stride)),
            )
            if grid != wanted:
                raise InputError(
                    f"{PREFIX}{name} makes {grid[0]}x{grid[1]} cells of stride {stride} from "
                    f"{height}x{width} pixels where this detector needs {wanted[0]}x{wanted[1]}: "
                    f"{remedy}"
                )
        early = _behind(network, [maps[i] for stride, i in index.items() if stride <= 4])
        sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
        if sum(sizes[name] for name in early) > sum(sizes.values()) / 2:
            early = frozenset()  # HRNet's finest map comes last, from all that is coarser
        # timm's number of a map: by default some networks leave their first ones out.
        numbers = network.feature_info.out_indices
        return _Plan(
            tuple(numbers[index[stride]] for stride in strides),
            used=_behind(network, [maps[index[stride]] for stride in strides]),
            early=early,
        )


def _behind(network: nn.Module, maps: Sequence[Tensor]) -> frozenset[str]:
    """The names of the parameters that ``maps`` depend on."""
    if not maps:
        return frozenset()
    learning = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    names, parameters = zip(*learning, strict=True)
    total = torch.stack([x.sum() for x in maps]).sum()
    gradients = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
    return frozenset(
        name for name, gradient in zip(names, gradients, strict=True) if gradient is not None
    )


def _drop_unused(network: nn.Module, used: frozenset[str]) -> None:
    """Take away the stages behind the last map; some of timm's networks keep and compute them."""
    for prefix, part in list(network.named_modules()):
        if not isinstance(part, nn.Sequential):
            continue
        owners = [
            {f"{prefix}.{child}.{name}" for name, _ in layer.named_parameters()}
            for child, layer in part.named_children()
        ]
        # A branch of which nothing is used may still be computed, and must keep its shape.
        if used.isdisjoint(set().union(*owners)):
            continue
        while owners[-1] and used.isdisjoint(owners.pop()):
            del part[-1]
    for name, parameter in network.named_parameters():
        # Distributed training waits for the gradient of everything that asks for one.
        parameter.requires_grad_(name in used)


def _is_channels_last(network: Any) -> bool:
    """Whether maps are ``[b, h, w, channels]``, as Swin and its kin keep them."""
    return getattr(network, "output_fmt", "NCHW") == "NHWC"


def _create(name: str, image_size: tuple[int, int], **options: Any) -> Any:
    options |= _options(name, image_size)
    try:
        return _timm().create_model(name, **options)
    except _UNSUITED as error:
        height, width = image_size
        raise InputError(
            f"{PREFIX}{name} cannot give feature maps of an input of {height}x{width} pixels "
            f"({_one_line(error)}): choose another backbone or --image-size"
        ) from error


def _options(name: str, image_size: tuple[int, int]) -> dict[str, Any]:
    fixed = {"img_size": image_size} if _config(name).fixed_input_size else {}
    return {"features_only": True} | fixed


def _config(name: str) -> Any:
    """What timm says about a network and its pretrained weights; InputError for unknown ones."""
    timm = _timm()
    network, _, tag = name.partition(".")
    if not timm.is_model(name):
        near = difflib.get_close_matches(network, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InputError(f"timm has no network named {name}{hint}")
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError:
        known = ", ".join(timm.list_pretrained(f"{network}.*")) or "none"
        raise InputError(f"timm has no weights {tag!r} of {network}; there are: {known}") from None


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise InputError('a timm backbone needs timm: pip install "multibox[timm]"') from None
    return timm


def _one_line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:120]

"""Where ImageNet weights come from, without a network."""

import io
import socket
from email.message import Message
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
import torch
import torchvision
from torchvision.models import get_weight

from multibox.backbones import build_backbone, imagenet_source
from multibox.errors import InputError

SOURCES = [
    "vgg16",
    "vgg16:features",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "resnet34",
    "resnet50",
    "resnet50_stride32",
]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch cache, and a network that is down."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    offline(monkeypatch, URLError("no route to host"))
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


def offline(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch.hub, "urlopen", refuse)


def file_name(backbone: str) -> str:
    return get_weight(imagenet_source(backbone).weights).url.rpartition("/")[2]


@pytest.mark.parametrize("backbone", SOURCES)
def test_mean_and_std_are_those_of_the_same_weights(backbone: str) -> None:
    source = imagenet_source(backbone)
    published = get_weight(source.weights).transforms()
    assert source.mean == pytest.approx([255 * x for x in published.mean], abs=2e-3)
    assert source.std == pytest.approx([255 * x for x in published.std], abs=1e-6)


def test_the_two_sets_of_vgg_differ_in_everything() -> None:
    whole, features = imagenet_source("vgg16"), imagenet_source("vgg16:features")
    assert whole.weights != features.weights
    assert features.mean == (123, 117, 104)
    assert features.std == (1, 1, 1)
    assert all(std > 50 for std in whole.std)


@pytest.mark.parametrize(
    "name", ["mobilenet_v3_large_reduced", "mobilenet_v1", "resnet34:features"]
)
def test_a_backbone_without_weights_says_so(name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}.*--weights none"):
        imagenet_source(name)


@pytest.mark.parametrize(
    "name", ["resnet34", "resnet50", "resnet50_stride32", "mobilenet_v3_small"]
)
def test_what_is_published_fits_the_backbone(cache: Path, name: str) -> None:
    """A file under the published name with torchvision's own network in it, on disk as theirs."""
    source = imagenet_source(name)
    torch.manual_seed(0)
    network = torchvision.models.get_model(name.removesuffix("_stride32"))
    torch.save(network.state_dict(), cache / file_name(name))
    backbone = build_backbone(name)
    backbone.load_classifier(source.download())
    own = backbone.state_dict()
    assert len(own) > 100
    theirs = network.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in own.items())
    assert source.origin == f"torchvision's {source.weights}"


def test_weights_in_the_cache_need_no_network(cache: Path) -> None:
    state = {"features.0.weight": torch.arange(6.0).reshape(2, 3)}
    torch.save(state, cache / file_name("mobilenet_v2"))
    loaded = imagenet_source("mobilenet_v2").download()
    assert loaded.keys() == state.keys()
    assert torch.equal(loaded["features.0.weight"], state["features.0.weight"])


@pytest.mark.parametrize(
    "error",
    [
        URLError("no route to host"),
        HTTPError("https://example.invalid", 403, "Forbidden", Message(), None),
        TimeoutError("timed out"),
        ConnectionResetError("reset by peer"),
        IncompleteRead(b""),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("backbone", ["vgg16", "mobilenet_v2"])
def test_a_missing_file_is_named_with_the_way_out(
    cache: Path, monkeypatch: pytest.MonkeyPatch, backbone: str, error: Exception
) -> None:
    offline(monkeypatch, error)
    with pytest.raises(InputError) as raised:
        imagenet_source(backbone).download()
    message = str(raised.value)
    assert str(cache / file_name(backbone)) in message
    assert "--weights none" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>Please log in</html>", b"PK\x03\x04 and then nothing"],
    ids=["empty", "a web page", "cut off"],
)
def test_a_damaged_file_is_named(cache: Path, content: bytes) -> None:
    path = cache / file_name("mobilenet_v2")
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        imagenet_source("mobilenet_v2").download()
    message = str(raised.value)
    assert str(path) in message
    assert "damaged" in message
    assert "\n" not in message


def test_a_download_with_the_wrong_content_is_not_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Response(io.BytesIO):
        def info(self) -> Message:
            return Message()

    monkeypatch.setattr(torch.hub, "urlopen", lambda *_, **__: Response(b"a proxy's page"))
    with pytest.raises(InputError, match="mobilenet_v2"):
        imagenet_source("mobilenet_v2").download()
    assert list(cache.iterdir()) == []


def test_a_cached_file_runs_no_code(cache: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (cache / "sprung",)

    torch.save({"features.0.weight": Trap()}, cache / file_name("mobilenet_v2"))
    with pytest.raises(InputError, match="damaged"):
        imagenet_source("mobilenet_v2").download()
    assert not (cache / "sprung").exists()


def test_the_socket_timeout_is_put_back(cache: Path) -> None:
    with pytest.raises(InputError):
        imagenet_source("mobilenet_v2").download()
    assert socket.getdefaulttimeout() is None

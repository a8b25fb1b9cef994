import re
from urllib.parse import urlsplit

import pytest

from multibox import zoo
from multibox.errors import InputError
from multibox.importers import published
from multibox.importers.published import (
    PUBLISHED,
    UNPINNED,
    PublishedFile,
    find_published,
    is_published_name,
)

FILES = [
    file for weights in PUBLISHED.values() for file in (weights.file, weights.prototxt) if file
]


@pytest.mark.parametrize("weights", PUBLISHED.values(), ids=PUBLISHED)
def test_an_entry_is_complete(weights):
    assert find_published(weights.name) is weights
    assert weights.name.partition(":")[0] == weights.source
    assert weights.model in zoo.MODELS
    assert is_published_name(weights.name)
    assert 0 < weights.figure.value < 1
    assert weights.licence
    assert weights.witness
    assert (weights.prototxt is not None) == (weights.source == "caffe")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.file_name)
def test_a_file_is_pinned_in_full_and_comes_over_https(file):
    assert re.fullmatch("[0-9a-f]{64}", file.sha256)
    assert urlsplit(file.url).scheme == "https"
    assert re.fullmatch(r"[\w.+-]+", file.file_name)
    assert (file.member is not None) == file.url.endswith(".tar.gz")


def test_one_name_in_the_cache_is_one_address():
    addresses: dict[str, set[str]] = {}
    for file in FILES:
        addresses.setdefault(file.file_name, set()).add(file.url)
    assert all(len(urls) == 1 for urls in addresses.values())


def test_full_hashes_begin_with_the_published_prefixes():
    in_names = [re.search(r"-([0-9a-f]{8})\.pth", file.url) for file in FILES]
    prefixes = {match[1]: file for match, file in zip(in_names, FILES, strict=True) if match}
    assert set(prefixes) == {"b556d3b4", "a79551df"}
    assert all(file.sha256.startswith(prefix) for prefix, file in prefixes.items())


def test_addresses_and_figures_are_torchvisions_own():
    detection = pytest.importorskip("torchvision.models.detection")
    for name, entry in (
        ("ssd300_vgg16", detection.SSD300_VGG16_Weights.COCO_V1),
        ("ssdlite320_mobilenet_v3_large", detection.SSDLite320_MobileNet_V3_Large_Weights.COCO_V1),
    ):
        ours = PUBLISHED[f"torchvision:{name}"]
        assert ours.file.url == entry.url
        figure = entry.meta["_metrics"]["COCO-val2017"]["box_map"]
        assert ours.figure.value == pytest.approx(figure / 100)


@pytest.mark.parametrize("pin", ["", "a79551d", "A79551DF", "a79551df" * 9, "zzzzzzzz"])
def test_no_file_without_a_hash(pin):
    with pytest.raises(ValueError, match="no SHA-256"):
        PublishedFile("https://example.org/x.pth", pin)


@pytest.mark.parametrize("name", UNPINNED)
def test_files_without_a_published_hash_are_refused_with_what_to_do(name):
    entry = UNPINNED[name]
    assert is_published_name(name)
    assert name not in PUBLISHED
    with pytest.raises(InputError) as refused:
        find_published(name)
    line = str(refused.value)
    assert f"multibox import {entry.file} --from {entry.source}" in line
    assert entry.where in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("asked", "offered"),
    [
        ("torchvision:ssd300_vgg", "torchvision:ssd300_vgg16"),
        ("Torchvision:SSD300_VGG16", "torchvision:ssd300_vgg16"),
        ("torchvison:ssd300_vgg16", "torchvision:ssd300_vgg16"),
        ("tensorflow:ssdlite_mobilenet_v2", "tensorflow:ssdlite_mobilenet_v2_coco"),
        ("caffe:mobilenet_v1", "caffe:ssd300_mobilenet_v1"),
        ("torchvision:", "torchvision:ssd300_vgg16"),
        ("caffe:zzz", "caffe:ssd300_vgg16"),
    ],
)
def test_a_slip_is_answered_with_the_nearest_name(asked, offered):
    assert is_published_name(asked)
    with pytest.raises(InputError, match=offered):
        find_published(asked)


@pytest.mark.parametrize(
    "path",
    [
        "C:\\x", "C:x.pth", "c:/models/x.pth", "a:b", "model.pth", "ssd300_vgg16", "", ":", ":x",
        "./torchvision:x", "torchvision:a/b", "torchvision:a\\b", "http://x", "https://x/y.pth",
        "data:x", "timm:resnet18", "torchvision", "caffe :x y", "torchvision:a\nb",
    ],
)  # fmt: skip
def test_paths_are_no_names(path):
    assert not is_published_name(path)


def test_every_source_has_an_importer():
    importing = pytest.importorskip("multibox.importing")
    assert importing.Source == published.PublishedSource

"""Weights that other projects published: where they lie, and by which hash they are known.

Only files with a known SHA-256 can be downloaded by name. ``UNPINNED`` lists those that their
projects publish without one: they are named so that asking for them says what to do instead.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from multibox.errors import InputError
from multibox.zoo.entry import Published

PublishedSource = Literal[
    "torchvision", "amdegroot", "lufficc", "qfgaohao", "nvidia", "caffe", "tensorflow"
]

_SOURCES = get_args(PublishedSource)
_PIN = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file on a server, or one member of an archive there.

    ``sha256`` is the file's hash (the archive's, where there is a ``member``) in lower-case hex,
    or at least its first eight digits where no more is published. ``size`` is in bytes.

    Raises: ValueError without such a hash: nothing is downloaded that cannot be verified.
    """

    url: str
    sha256: str
    size: int | None = None
    member: str | None = None

    def __post_init__(self) -> None:
        if not _PIN.fullmatch(self.sha256):
            raise ValueError(f"{self.url}: {self.sha256!r} is no SHA-256, nor the start of one")

    @property
    def file_name(self) -> str:
        """The last part of the address: the name in the cache."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """Weights by name, the importer that reads them, and what their authors say of them.

    ``model`` is the zoo's detector they belong to, ``licence`` that of the project that published
    them, ``witness`` where the hash is from. ``class_names`` None: the importer knows them.
    ``prototxt`` is the network that a caffemodel comes with.
    """

    name: str
    source: PublishedSource
    model: str
    file: PublishedFile
    licence: str
    figure: Published
    witness: str
    class_names: tuple[str, ...] | None = None
    prototxt: PublishedFile | None = None


@dataclass(frozen=True, slots=True)
class Unpinned:
    """Published weights that nobody gives a hash of: ``where`` and ``file`` say how to get them."""

    name: str
    source: PublishedSource
    where: str
    file: str


_COCO_AP = "COCO val2017 AP"
_MINIVAL_AP = "COCO 2014 minival AP"
_VOC07 = "VOC2007 test mAP (11-point)"
_VOC12 = "VOC2012 test mAP"
_TENSORFLOW = "https://download.tensorflow.org/models/object_detection"
_TENSORFLOW_ZOO = "tensorflow/models, research/object_detection, TensorFlow 1 model zoo"
_OPENVINO = "https://storage.openvinotoolkit.org/repositories/open_model_zoo/public/2021.4"
_OPENVINO_ZOO = "openvinotoolkit/open_model_zoo, models/public, model.yml"
_SSD300_FOLDER = "models/VGGNet/VOC0712Plus/SSD_300x300_ft"
_SSD512_FOLDER = "models/VGGNet/VOC0712Plus/SSD_512x512"


def _tensorflow(
    name: str, model: str, archive: str, sha256: str, size: int, figure: float
) -> PublishedWeights:
    return PublishedWeights(
        name=f"tensorflow:{name}",
        source="tensorflow",
        model=model,
        file=PublishedFile(
            url=f"{_TENSORFLOW}/{archive}.tar.gz",
            sha256=sha256,
            size=size,
            member=f"{archive}/frozen_inference_graph.pb",
        ),
        licence="Apache-2.0",
        figure=Published(_MINIVAL_AP, figure, "COCO", _TENSORFLOW_ZOO),
        witness=_OPENVINO_ZOO,
    )


def _caffe_archive(
    model: str, file: str, sha256: str, size: int, weights: str, figure: Published
) -> PublishedWeights:
    url = f"{_OPENVINO}/{file}"
    folder = weights.rpartition("/")[0]
    return PublishedWeights(
        name=f"caffe:{model}",
        source="caffe",
        model=model,
        file=PublishedFile(url, sha256, size, weights),
        prototxt=PublishedFile(url, sha256, size, f"{folder}/deploy.prototxt"),
        licence="BSD-2-Clause",
        figure=figure,
        witness=_OPENVINO_ZOO,
    )


_ALL = (
    PublishedWeights(
        name="torchvision:ssd300_vgg16",
        source="torchvision",
        model="ssd300_vgg16",
        file=PublishedFile(
            url="https://download.pytorch.org/models/ssd300_vgg16_coco-b556d3b4.pth",
            sha256="b556d3b43ab6c3f63d81bfb8835fe8756ac22da664357da100dccf96b6a6b42d",
        ),
        licence="BSD-3-Clause",
        figure=Published(_COCO_AP, 0.251, "COCO", "torchvision, SSD300_VGG16_Weights"),
        witness="the first eight digits in the file's name; in full LibreYOLO, which converts it",
    ),
    PublishedWeights(
        name="torchvision:ssdlite320_mobilenet_v3_large",
        source="torchvision",
        model="ssdlite320_mobilenet_v3_large",
        file=PublishedFile(
            url="https://download.pytorch.org/models/"
            "ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
            sha256="a79551df90c79834bcd3bb3845ef9d966b5449a3a9b2833ae8404778ca5d65d2",
            size=14_069_355,
        ),
        licence="BSD-3-Clause",
        figure=Published(
            _COCO_AP, 0.213, "COCO", "torchvision, SSDLite320_MobileNet_V3_Large_Weights"
        ),
        witness="the first eight digits in the file's name; in full several projects that use it",
    ),
    PublishedWeights(
        name="amdegroot:ssd300_vgg16",
        source="amdegroot",
        model="ssd300_vgg16",
        file=PublishedFile(
            url="https://s3.amazonaws.com/amdegroot-models/ssd300_mAP_77.43_v2.pth",
            sha256="3d147eb48c8f3771101e12ff14d8105b935d2e4e08fa471e2ee5a2426c20d61e",
            size=105_151_288,
        ),
        licence="MIT",
        figure=Published(_VOC07, 0.7743, "VOC07+12", "amdegroot/ssd.pytorch, README"),
        witness="the Git LFS pointer of the copy in "
        "yuniktmr/Pytorch-OpenCV-Object-Detection-using-SSD-Convoluted-Neural-Net",
    ),
    PublishedWeights(
        name="caffe:ssd300_mobilenet_v1",
        source="caffe",
        model="ssd300_mobilenet_v1",
        file=PublishedFile(
            url=f"{_OPENVINO}/mobilenet-ssd/MobileNetSSD_deploy.caffemodel",
            sha256="761c86fbae3d8361dd454f7c740a964f62975ed32f4324b8b85994edec30f6af",
            size=23_147_564,
        ),
        prototxt=PublishedFile(
            url="https://raw.githubusercontent.com/chuanqi305/MobileNet-SSD/"
            "ba00fc987b3eb0ba87bb99e89bf0298a2fd10765/MobileNetSSD_deploy.prototxt",
            sha256="e781559c4f5beaec2a486ccd952af5b6fa408e9498761bf5f4fb80b4e9f0d25e",
            size=29_353,
        ),
        licence="MIT",
        figure=Published(_VOC07, 0.727, "COCO, then VOC07+12", "chuanqi305/MobileNet-SSD, README"),
        witness=_OPENVINO_ZOO,
    ),
    _caffe_archive(
        "ssd300_vgg16",
        "ssd300/models_VGGNet_VOC0712Plus_SSD_300x300_ft.tar.gz",
        "e3eb9794a33eb77e6798f396df453123c249a1df554e42a3302eb4aa20a8f2ee",
        97_789_219,
        f"{_SSD300_FOLDER}/VGG_VOC0712Plus_SSD_300x300_ft_iter_160000.caffemodel",
        Published(_VOC12, 0.793, "COCO, then VOC07++12", "arXiv 1512.02325, table 6"),
    ),
    _caffe_archive(
        "ssd512_vgg16",
        "ssd512/models_VGGNet_VOC0712Plus_SSD_512x512.tar.gz",
        "2d98a6ddd5b4cb0ba59a37fe5d50020457cfe104d45873c3ea43d1e6dcddd12d",
        100_991_061,
        f"{_SSD512_FOLDER}/VGG_VOC0712Plus_SSD_512x512_iter_240000.caffemodel",
        Published(_VOC12, 0.785, "VOC07++12", "arXiv 1512.02325, table 6"),
    ),
    _tensorflow(
        "ssd_mobilenet_v1_coco",
        "ssd300_mobilenet_v1",
        "ssd_mobilenet_v1_coco_2018_01_28",
        "8788f89108519fd1102b8a5c2ac861cf6d86603571b6ce5bbd1c245b7fe005e3",
        76_541_073,
        0.21,
    ),
    _tensorflow(
        "ssd_mobilenet_v2_coco",
        "ssdlite300_mobilenet_v2",
        "ssd_mobilenet_v2_coco_2018_03_29",
        "b9380178b2e35333f1a735e39745928488bdabeb9ed20bc6fa07af8172cb5adc",
        187_925_923,
        0.22,
    ),
    _tensorflow(
        "ssdlite_mobilenet_v2_coco",
        "ssdlite300_mobilenet_v2",
        "ssdlite_mobilenet_v2_coco_2018_05_09",
        "542445cce834dbfbb7df1991425d475e85a2d7ec68c60a4f262bb18aac10c8b2",
        51_025_348,
        0.22,
    ),
)

PUBLISHED: Mapping[str, PublishedWeights] = {weights.name: weights for weights in _ALL}

_LUFFICC = "https://github.com/lufficc/SSD/releases/download/1.2/"
_QFGAOHAO = "https://drive.google.com/drive/folders/1pKn-RifvJGWiOx0ZCRLtCXM5GT5lAluu, the file "
_NVIDIA = "https://api.ngc.nvidia.com/v2/models/nvidia/ssd_pyt_ckpt_amp/versions/20.06.0/files/"

_BY_HAND: tuple[tuple[PublishedSource, str, str, str], ...] = (
    ("lufficc", "ssd300_vgg16", _LUFFICC, "vgg_ssd300_voc0712.pth"),
    ("lufficc", "ssd512_vgg16", _LUFFICC, "vgg_ssd512_voc0712.pth"),
    ("lufficc", "ssd300_vgg16_coco", _LUFFICC, "vgg_ssd300_coco_trainval35k.pth"),
    ("lufficc", "ssd512_vgg16_coco", _LUFFICC, "vgg_ssd512_coco_trainval35k.pth"),
    ("lufficc", "ssdlite320_mobilenet_v2", _LUFFICC, "mobilenet_v2_ssd320_voc0712_v2.pth"),
    ("qfgaohao", "ssd300_vgg16", _QFGAOHAO, "vgg16-ssd-mp-0_7726.pth"),
    ("qfgaohao", "ssd300_mobilenet_v1", _QFGAOHAO, "mobilenet-v1-ssd-mp-0_675.pth"),
    ("qfgaohao", "ssdlite300_mobilenet_v2", _QFGAOHAO, "mb2-ssd-lite-mp-0_686.pth"),
    ("nvidia", "ssd300_resnet50", _NVIDIA, "nvidia_ssdpyt_amp_200703.pt"),
)

UNPINNED: Mapping[str, Unpinned] = {
    f"{source}:{name}": Unpinned(f"{source}:{name}", source, where, file)
    for source, name, where, file in _BY_HAND
}


def is_published_name(text: str) -> bool:
    """Whether ``text`` reads like "project:model", and not like a path, drive letters included.

    A slip in the project's name is still a name: ``find_published`` says what was meant. A file
    that is called so is reached as ``./project:model``.
    """
    project, colon, model = text.partition(":")
    if not colon or not re.fullmatch("[A-Za-z]+", project) or not re.fullmatch(r"[\w.+-]*", model):
        return False
    return bool(difflib.get_close_matches(project.lower(), _SOURCES, n=1, cutoff=0.8))


def find_published(name: str) -> PublishedWeights:
    """The published weights of that name.

    Raises: InputError with the nearest names where there are none, and with the address and the
    command to use where the file is published without a hash.
    """
    if name in PUBLISHED:
        return PUBLISHED[name]
    if name in UNPINNED:
        by_hand = UNPINNED[name]
        raise InputError(
            f"{name}: published without a checksum, so it is not downloaded: fetch "
            f"{by_hand.where}{by_hand.file} yourself, then "
            f"multibox import {by_hand.file} --from {by_hand.source}"
        )
    known = (*PUBLISHED, *UNPINNED)
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(PUBLISHED)}"
    raise InputError(f"no weights are published as {name}; {hint}")

"""The published trainings: VOC07, VOC07+12 and COCO, each with SSD300, SSD512 and SSDLite.

Where the paper or Caffe SSD says how, they are followed; elsewhere the project that ``source``
names. The figures are those that were published, none was measured with this program.
"""

from typing import Any

from multibox.training.recipe_cards.card import Pace, RecipeCard
from multibox.training.recipe_cards.data_sets import COCO, VOC07, VOC0712
from multibox.training.recipes import Recipe, paper
from multibox.zoo import Published

_TRAINVAL_ON_TEST = {"train_split": "trainval", "val_split": "test"}
_FEATURES = "backbone:features"
_FC_LAYERS = "fc6 and fc7 start from Xavier, in Caffe from VGG-16's own, sub-sampled"

# The ports' habits where they are not Caffe's (docs/faithfulness.md).
_LUFFICC: dict[str, Any] = {
    "bias_rate_factor": 1.0,
    "decay_biases": True,
    "warmup_steps": 500,
    "train_difficult": False,
    "bipartite": "later-wins",
    "iou_epsilon": 1e-5,
    "least_overlap": -1.0,
    "negative_overlap": 1.0,
    "truncate_sizes": False,
    "crop_sampler": "torchvision",
    "random_interpolation": False,
    "hue_wraps": True,
}
_TORCHVISION: dict[str, Any] = {
    "bias_rate_factor": 1.0,
    "decay_biases": True,
    "bipartite": "later-wins",
    "least_overlap": -1.0,
    "negative_overlap": 1.0,
    "truncate_sizes": False,
    "crop_sampler": "torchvision",
    "random_interpolation": False,
    "hue_wraps": True,
}
_LUFFICC_DIFFERENCES = (
    "warm-up from 1/100 of the rate, there from 1/3",
    "crops are drawn as torchvision draws them, there without the one of IoU 0.5",
)
_LUFFICC_LITE_DIFFERENCES = (
    *_LUFFICC_DIFFERENCES,
    "torchvision's form of the detector; lufficc's has other taps, extra layers and box sizes",
    "ImageNet's mean and deviation, there Caffe's means",
)


def _recipe(name: str, **changes: Any) -> Recipe:
    """The paper's recipe under another name with some values changed; it has no length yet."""
    base = paper().model_copy(update={"name": name, "epochs": None})
    return base.changed(changes)


def _pace(pictures: int, seconds: float, what: str) -> Pace:
    return Pace(
        pictures / seconds,
        "8 V100",
        f"mmdetection's model zoo of 2018: {seconds} s for {pictures} pictures of its {what}",
    )


_VOC300_PACE = _pace(32, 0.189, "SSD300 on VOC")
_VOC512_PACE = _pace(32, 0.261, "SSD512 on VOC")
_COCO300_PACE = _pace(64, 0.286, "SSD300 on COCO")
_COCO512_PACE = _pace(64, 0.458, "SSD512 on COCO")

_VOC_METRIC, _COCO_METRIC = "VOC2007 test mAP (11-point)", "COCO val2017 AP"


def _voc07(size: int, value: float, pace: Pace) -> RecipeCard:
    # 1e-3 for 40,000 steps, then 1e-4 and 1e-5 for 10,000 each; before the zoom-out was found.
    name = f"voc07-ssd{size}"
    return RecipeCard(
        name=name,
        recipe=_recipe(name, steps=60_000, expand_probability=0.0, **_TRAINVAL_ON_TEST),
        model=f"ssd{size}_vgg16",
        default_boxes="voc",
        weights=_FEATURES,
        data=VOC07,
        source="paper, section 3.1",
        pace=pace,
        final=(Published(_VOC_METRIC, value, VOC07.title, "paper, table 1, without zoom-out"),),
        differences=(_FC_LAYERS,),
    )


PUBLISHED: tuple[RecipeCard, ...] = (
    _voc07(300, 0.680, _VOC300_PACE),
    _voc07(512, 0.716, _VOC512_PACE),
    RecipeCard(
        name="voc07-ssdlite",
        recipe=_recipe("voc07-ssdlite", steps=60_000, **_LUFFICC, **_TRAINVAL_ON_TEST),
        model="ssdlite320_mobilenet_v2",
        default_boxes="zoo",
        weights="backbone",
        data=VOC07,
        source="as voc0712-ssdlite, with the paper's 60,000 steps for VOC07",
        differences=_LUFFICC_LITE_DIFFERENCES,
    ),
    RecipeCard(
        name="voc0712-ssd300",
        recipe=_recipe("voc0712-ssd300", steps=120_000, evaluate_every=19, **_TRAINVAL_ON_TEST),
        model="ssd300_vgg16",
        default_boxes="voc",
        weights=_FEATURES,
        data=VOC0712,
        source="Caffe SSD, examples/ssd/ssd_pascal.py",
        pace=_VOC300_PACE,
        on_the_way=(
            (20_000, 0.696),
            (40_000, 0.726),
            (60_000, 0.738),
            (80_000, 0.766),
            (100_000, 0.7709),
        ),
        on_the_way_source="one run of ssd_keras, which took a tenth of the rate at 56,000 and "
        "76,000 steps already; another of its runs had 0.665 after 20,000",
        final=(
            Published(_VOC_METRIC, 0.772, VOC0712.title, "paper, table 6, with zoom-out"),
            Published(_VOC_METRIC, 0.777, VOC0712.title, "lufficc/SSD"),
            Published(_VOC_METRIC, 0.7711, VOC0712.title, "ssd_keras"),
        ),
        differences=(_FC_LAYERS,),
    ),
    RecipeCard(
        name="voc0712-ssd512",
        recipe=_recipe(
            "voc0712-ssd512", steps=120_000, batch_size=24, **_LUFFICC, **_TRAINVAL_ON_TEST
        ),
        model="ssd512_vgg16",
        default_boxes="voc",
        weights=_FEATURES,
        data=VOC0712,
        source="lufficc/SSD, configs/vgg_ssd512_voc0712.yaml",
        pace=_VOC512_PACE,
        final=(
            Published(_VOC_METRIC, 0.807, VOC0712.title, "lufficc/SSD"),
            Published(_VOC_METRIC, 0.798, VOC0712.title, "paper, table 6, with zoom-out"),
        ),
        differences=(_FC_LAYERS, *_LUFFICC_DIFFERENCES),
    ),
    RecipeCard(
        name="voc0712-ssdlite",
        recipe=_recipe("voc0712-ssdlite", steps=120_000, **_LUFFICC, **_TRAINVAL_ON_TEST),
        model="ssdlite320_mobilenet_v2",
        default_boxes="zoo",
        weights="backbone",
        data=VOC0712,
        source="lufficc/SSD, configs/mobilenet_v2_ssd320_voc0712.yaml",
        final=(Published(_VOC_METRIC, 0.689, VOC0712.title, "lufficc/SSD"),),
        differences=_LUFFICC_LITE_DIFFERENCES,
    ),
    RecipeCard(
        name="coco-ssd300",
        recipe=_recipe(
            "coco-ssd300",
            steps=400_000,
            milestones=(0.7, 0.9),
            train_difficult=False,
            metric="coco",
        ),
        model="ssd300_vgg16",
        default_boxes="coco",
        weights=_FEATURES,
        data=COCO,
        source="Caffe SSD, examples/ssd/ssd_coco.py",
        pace=_COCO300_PACE,
        final=(
            Published("COCO test-dev2015 AP", 0.251, "trainval35k", "paper, with zoom-out"),
            Published(_COCO_METRIC, 0.251, "train2017", "torchvision, its own recipe"),
            Published(_COCO_METRIC, 0.252, "trainval35k", "lufficc/SSD, minival2014"),
        ),
        differences=(_FC_LAYERS,),
    ),
    RecipeCard(
        name="coco-ssd512",
        recipe=_recipe(
            "coco-ssd512",
            steps=520_000,
            batch_size=24,
            milestones=(36 / 52, 48 / 52),
            metric="coco",
            **_LUFFICC,
        ),
        model="ssd512_vgg16",
        default_boxes="coco",
        weights=_FEATURES,
        data=COCO,
        source="lufficc/SSD, configs/vgg_ssd512_coco_trainval35k.yaml",
        pace=_COCO512_PACE,
        final=(
            Published(_COCO_METRIC, 0.290, "trainval35k", "lufficc/SSD, minival2014"),
            Published("COCO test-dev2015 AP", 0.288, "trainval35k", "paper, with zoom-out"),
        ),
        differences=(_FC_LAYERS, *_LUFFICC_DIFFERENCES),
    ),
    RecipeCard(
        name="coco-ssdlite",
        recipe=_recipe(
            "coco-ssdlite",
            epochs=660,
            batch_size=192,
            learning_rate=0.15,
            weight_decay=4e-5,
            schedule="cosine",
            warmup_steps=610,
            expand_probability=0.0,
            metric="coco",
            **_TORCHVISION,
        ),
        model="ssdlite320_mobilenet_v3_large",
        default_boxes="zoo",
        weights="none",
        data=COCO,
        source="torchvision, references/detection/README.md (8 GPUs x 24 pictures)",
        final=(Published(_COCO_METRIC, 0.213, "train2017", "torchvision"),),
        differences=(
            "colours are distorted, there they are not",
            "warm-up from 1/100 of the rate, there from 1/1000",
            "BatchNorm sees each process's share of the 192 pictures, there 24",
            "the 1,021 pictures without objects are seen, there they are left out",
        ),
    ),
)

"""What is in the data sets of the cards: pictures and objects, as their publishers count them."""

from multibox.importers import names
from multibox.training.recipe_cards.card import ExpectedData, Split

# The pictures and the objects that are not difficult stand in the challenges' database statistics
# (12,608, 27,450 and 12,032); the difficult ones are those marked so in the annotation files.
_VOC_SOURCE = "database statistics of the VOC2007 and VOC2012 challenges; annotation files"
_VOC07_TEST = Split("VOC2007 test", 4_952, 14_976, 2_944, "difficult")

VOC07 = ExpectedData(
    title="VOC07",
    example="VOCdevkit/VOC2007",
    classes=names.VOC,
    training=Split("VOC2007 trainval", 5_011, 15_662, 3_054, "difficult"),
    validation=_VOC07_TEST,
    source=_VOC_SOURCE,
)

VOC0712 = ExpectedData(
    title="VOC07+12",
    example="VOCdevkit/VOC2007+VOC2012",
    classes=names.VOC,
    training=Split("VOC2007 and VOC2012 trainval", 16_551, 47_223, 7_165, "difficult"),
    validation=_VOC07_TEST,
    source=_VOC_SOURCE,
)

ANIMALS = ExpectedData(
    title="VOC2012's animals",
    example="voc-animals",
    classes=("person", "cat", "dog", "horse", "cow", "sheep"),
    training=Split("docs/animals/train.txt", 2_708, 5_034, 466, "difficult"),
    validation=Split("docs/animals/val.txt", 400, 717, 46, "difficult"),
    source="the annotation files of VOC2012 for the pictures in docs/animals",
)

COCO = ExpectedData(
    title="COCO",
    example="coco",
    classes=names.COCO,
    training=Split("COCO train2017", 118_287, 860_001, 10_052, "crowds"),
    validation=Split("COCO val2017", 5_000, 36_781, 446, "crowds"),
    source="instances_train2017.json and instances_val2017.json (cocoapi issue 117)",
)

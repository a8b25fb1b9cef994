"""How the detector in the package was trained (docs/animals.md has what came out)."""

from multibox.training.recipe_cards.card import RecipeCard
from multibox.training.recipe_cards.data_sets import ANIMALS
from multibox.training.recipes import modern
from multibox.zoo import Published

# ``modern`` as it settles for these pictures, written out: another machine or a later default
# changes nothing.
ANIMALS_CARD = RecipeCard(
    name="animals",
    recipe=modern()
    .changed({"epochs": 19, "learning_rate": 4e-2, "backbone_rate": 0.15, "min_negatives": 0})
    .model_copy(update={"name": "animals"}),
    model="ssdlite320_mobilenet_v2",
    default_boxes="zoo",
    weights="backbone",
    data=ANIMALS,
    source="this project",
    final=(Published("VOC07 mAP on its val", 0.7264, "VOC2012's animals", "this project, seed 0"),),
    chosen_classes=True,
)

from typing import Any

import pytest

from multibox.errors import InputError
from multibox.training.recipes import (
    RECIPES,
    Recipe,
    default_epochs,
    default_rates,
    find_recipe,
)


def test_the_paper() -> None:
    recipe = find_recipe("paper")
    assert recipe.name == "paper"
    assert (recipe.learning_rate, recipe.batch_size) == (1e-3, 32)
    assert (recipe.momentum, recipe.weight_decay) == (0.9, 5e-4)
    assert (recipe.bias_rate_factor, recipe.decay_biases) == (2.0, False)
    assert (recipe.schedule, recipe.warmup_steps) == ("steps", 0)
    assert (recipe.match_threshold, recipe.least_positives, recipe.negative_ratio) == (0.5, 1, 3.0)
    assert (recipe.expand_probability, recipe.expand_ratio) == (0.5, 4.0)
    assert (recipe.ema, recipe.clip_gradient, recipe.accumulate) == (0.0, 0.0, 1)
    assert recipe.train_difficult
    assert not recipe.freeze_early_layers


def test_modern_differs_where_it_should() -> None:
    recipe = find_recipe("modern")
    assert recipe.name == "modern"
    assert recipe.schedule == "cosine"
    assert recipe.ema > 0
    assert recipe.warmup_steps > 0


@pytest.mark.parametrize(
    ("name", "hint"), [("papre", "did you mean paper?"), ("xyz", "there are: modern, paper")]
)
def test_an_unknown_recipe(name: str, hint: str) -> None:
    with pytest.raises(InputError, match=f"no recipe named {name}") as caught:
        find_recipe(name)
    assert hint in str(caught.value)


def test_changed_replaces_only_what_is_named() -> None:
    before = find_recipe("modern")
    after = before.changed({"learning_rate": 0.5, "epochs": 7})
    assert after == before.model_copy(update={"learning_rate": 0.5, "epochs": 7})
    assert before == find_recipe("modern")


@pytest.mark.parametrize(
    ("key", "hint"), [("learnin_rate", "did you mean learning_rate?"), ("batchsize", "batch_size?")]
)
def test_an_unknown_key_names_the_nearest(key: str, hint: str) -> None:
    with pytest.raises(InputError, match=f"no key named {key}") as caught:
        Recipe().changed({key: 1})
    assert hint in str(caught.value)


def test_the_name_is_not_an_option() -> None:
    with pytest.raises(InputError, match="no key named name"):
        Recipe().changed({"name": "mine"})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"learning_rate": -1}, "learning_rate = -1: Input should be greater than 0"),
        ({"batch_size": "many"}, "batch_size = 'many'"),
        ({"ema": 1.0}, "ema = 1.0"),
        ({"schedule": "linear"}, "'steps' or 'cosine'"),
        ({"epochs": 0}, "epochs = 0"),
        ({"learning_rate": float("nan")}, "learning_rate = nan"),
    ],
)
def test_a_bad_value_is_one_line(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        Recipe().changed(options)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_key_that_is_not_obvious_is_described() -> None:
    bare = {key for key, field in Recipe.model_fields.items() if not field.description}
    assert bare == {"name", "momentum", "weight_decay"}
    assert all(recipe.__doc__ for recipe in RECIPES.values())


def test_default_epochs_follow_from_the_size_of_the_data() -> None:
    sizes = [1, 10, 50, 200, 874, 3_000, 20_000, 120_000, 10_000_000]
    for accelerated in (False, True):
        epochs = [default_epochs(n, accelerated=accelerated) for n in sizes]
        assert epochs == sorted(epochs, reverse=True)
        assert epochs[-1] <= 2
        seen = [n * e for n, e in zip(sizes, epochs, strict=True)]
        assert seen[1:] == sorted(seen[1:])  # more data is never looked at less
    # What the docstring promises.
    assert default_epochs(200, accelerated=False) * 200 == pytest.approx(12_000, rel=0.01)
    assert default_epochs(3_000, accelerated=False) * 3_000 == pytest.approx(53_000, rel=0.05)
    assert default_epochs(200, accelerated=True) == 300
    # 120,000 steps of 32 on VOC07+12.
    assert (find_recipe("paper").epochs or 0) * 16_551 / 32 == pytest.approx(120_000, rel=0.01)


def test_a_network_without_norm_layers_gets_a_lower_rate() -> None:
    plain, share = default_rates(normalised=False, pretrained=True)
    assert share == 1
    assert plain < default_rates(normalised=True, pretrained=False)[0]


def test_what_a_backbone_has_learned_is_kept_by_a_lower_rate() -> None:
    rate, share = default_rates(normalised=True, pretrained=True)
    new, same = default_rates(normalised=True, pretrained=False)
    assert same == 1
    assert rate * share < new < rate

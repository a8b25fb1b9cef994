import pytest
import torch
from torch import nn

from multibox.ssd.model import build_ssd
from multibox.training.optimiser import build_optimiser, set_rate
from multibox.training.recipes import Recipe, find_recipe
from multibox.zoo import new_card

MODELS = ["tiny_plain", "tiny_lite", "ssdlite320_mobilenet_v2"]


def model_of(name: str) -> nn.Module:
    return build_ssd(new_card(name, ["a", "b"], image_size=(64, 64)))


def settings_by_name(model: nn.Module, recipe: Recipe) -> dict[str, tuple[float, float]]:
    """Rate and weight decay of each parameter, which must be in one group only."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    optimiser = build_optimiser(model, recipe)
    set_rate(optimiser, 1.0)
    found = [
        (names[id(parameter)], (group["lr"], group["weight_decay"]))
        for group in optimiser.param_groups
        for parameter in group["params"]
    ]
    assert len(found) == len(dict(found))
    return dict(found)


@pytest.mark.parametrize("name", MODELS)
def test_in_the_paper_biases_learn_twice_as_fast_without_decay(name: str) -> None:
    model = model_of(name)
    settings = settings_by_name(model, find_recipe("paper"))
    assert settings.keys() == dict(model.named_parameters()).keys()
    for owner, module in model.named_modules():
        for parameter, _ in module.named_parameters(recurse=False):
            if parameter == "bias":
                expected = (2e-3, 0.0)
            else:
                expected = (1e-3, 0.0 if isinstance(module, nn.BatchNorm2d) else 5e-4)
            assert settings[f"{owner}.{parameter}"] == expected


def test_other_recipes_may_treat_all_alike() -> None:
    recipe = Recipe(bias_rate_factor=1, decay_biases=True, learning_rate=0.5, weight_decay=0.25)
    assert set(settings_by_name(model_of("tiny_lite"), recipe).values()) == {(0.5, 0.25)}


@pytest.mark.parametrize("name", MODELS)
def test_the_backbone_may_learn_more_slowly(name: str) -> None:
    model = model_of(name)
    alike = settings_by_name(model, find_recipe("paper"))
    slower = settings_by_name(model, find_recipe("paper").changed({"backbone_rate": 0.25}))
    assert slower.keys() == alike.keys()
    for parameter, (rate, decay) in alike.items():
        factor = 0.25 if parameter.startswith("backbone.") else 1
        assert slower[parameter] == (rate * factor, decay)
    optimiser = build_optimiser(model, find_recipe("paper").changed({"backbone_rate": 0.25}))
    assert set_rate(optimiser, 0.5) == 5e-4  # what is reported is the new layers' rate


@pytest.mark.parametrize("name", MODELS)
def test_what_is_frozen_is_in_no_group(name: str) -> None:
    model = model_of(name)
    model.backbone.freeze_early_layers()  # type: ignore[union-attr, operator]
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    settings = settings_by_name(model, Recipe())
    assert frozen
    assert settings.keys() == dict(model.named_parameters()).keys() - frozen


def test_the_rate_follows_the_schedule() -> None:
    optimiser = build_optimiser(model_of("tiny_plain"), Recipe())
    assert set_rate(optimiser, 0.5) == 5e-4
    assert [group["lr"] for group in optimiser.param_groups] == [5e-4, 1e-3]
    assert set_rate(optimiser, 0.1) == pytest.approx(1e-4)


def test_a_step_is_sgd_with_momentum() -> None:
    model = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        model.weight.fill_(2.0)
        model.bias.fill_(3.0)  # type: ignore[union-attr]
    optimiser = build_optimiser(model, Recipe())
    set_rate(optimiser, 1.0)
    weight, bias, weight_speed, bias_speed = 2.0, 3.0, 0.0, 0.0
    for _ in range(3):
        model(torch.ones(1, 1, 1, 1)).sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        weight_speed = 0.9 * weight_speed + 1 + 5e-4 * weight
        bias_speed = 0.9 * bias_speed + 1
        weight -= 1e-3 * weight_speed
        bias -= 2e-3 * bias_speed
    assert model.weight.item() == pytest.approx(weight, rel=1e-6)
    assert model.bias.item() == pytest.approx(bias, rel=1e-6)  # type: ignore[union-attr]

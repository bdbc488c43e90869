import dataclasses

import pytest

from hashbench import recipes
from hashbench.datasets.loading.augment import augmentation
from hashbench.errors import HashbenchError
from hashbench.methods.crh import CRH
from hashbench.registry import BACKBONES


@pytest.mark.parametrize("name", [name for name in recipes.names() if name != "paper"])
def test_every_recipe_loads_and_names_what_exists(name):
    recipe = recipes.load(name, multi_label=False)
    assert recipe.backbone in BACKBONES
    assert augmentation(recipe.augment).name == recipe.augment
    assert recipes.summary(name)


def test_paper_recipe_is_the_methods_own():
    single = recipes.load("paper", paper=CRH.paper_recipe, multi_label=False)
    multi = recipes.load("paper", paper=CRH.paper_recipe, multi_label=True)
    assert (single.epochs, multi.epochs) == (300, 30)
    assert (single.precision, single.warmup_epochs) == ("fp32", 0.0)  # nothing of the other recipes comes along
    assert (single.betas, single.learning_rate, single.final_learning_rate) == ((0.5, 0.999), 1e-4, 1e-7)
    with pytest.raises(HashbenchError, match="states no published settings"):
        recipes.load("paper", paper={}, multi_label=False)


def test_unknown_names_get_a_suggestion():
    with pytest.raises(HashbenchError, match="Did you mean 'scratch'"):
        recipes.load("scrach", multi_label=False)
    with pytest.raises(HashbenchError, match="Did you mean 'epochs'"):
        recipes.load("scratch", overrides={"epoch": 1}, multi_label=False)


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": -1},
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": -1.0},
        {"epochs": 10**12},
        {"batch_size": 10**13},
        {"hidden": 10**11},
        {"size": 10**5},
        {"betas": (1.0, 0.9)},
        {"momentum": 1.0},
    ],
)
def test_impossible_values_are_refused(bad):
    with pytest.raises(HashbenchError, match=next(iter(bad))):
        recipes.load("scratch", overrides=bad, multi_label=False)


def test_cosine_falls_from_one_to_the_final_rate_after_warm_up():
    recipe = recipes.load("scratch", overrides={"epochs": 10, "final_learning_rate": 2e-4}, multi_label=False)
    factors = [recipe.learning_rate_factor(step, 8) for step in range(80)]
    assert factors[:8] == pytest.approx([(i + 1) / 8 for i in range(8)])
    assert factors[8] == pytest.approx(1.0)
    assert factors[8:] == sorted(factors[8:], reverse=True)
    assert recipe.learning_rate_factor(80, 8) == pytest.approx(2e-4 / recipe.learning_rate)


def test_step_schedule_drops_by_its_factor():
    recipe = dataclasses.replace(
        recipes.load("scratch", multi_label=False), schedule="step", step_epochs=2, step_factor=0.5, warmup_epochs=0.0
    )
    assert [recipe.learning_rate_factor(step, 1) for step in range(6)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    with pytest.raises(HashbenchError, match="step_epochs"):
        dataclasses.replace(recipe, step_epochs=0)

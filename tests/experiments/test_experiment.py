import dataclasses
import json

import pytest

import hashbench
from hashbench import recipes
from hashbench.errors import HashbenchError
from hashbench.experiments import resolving
from hashbench.experiments.experiment import Data, Experiment, grid, recipe_label, resolve_recipe
from hashbench.experiments.settings import parse_bits, parse_row, parse_settings, parse_value
from hashbench.methods.crh import CRH
from hashbench.recipes import Recipe

DATA = Data("toy", "small", "a" * 64, "b" * 64, "test", (1, 12, 12), 3, False, 60)
EXPERIMENT = Experiment(
    "crh", 1, {"margin": 0.2}, DATA, recipes.load("scratch", multi_label=False), None, "images", 32, 0
)


def test_identity_is_plain_and_comes_back():
    stored = json.loads(json.dumps(EXPERIMENT.identity))
    again = Experiment.from_identity(stored)
    assert again.id == EXPERIMENT.id
    assert again.data == DATA


@pytest.mark.parametrize(
    "change",
    [
        {"method_version": 2},
        {"fields": {"margin": 0.3}},
        {"data": dataclasses.replace(DATA, split_sha256="c" * 64)},
        {"data": dataclasses.replace(DATA, evaluated="validation")},
        {"recipe": dataclasses.replace(EXPERIMENT.recipe, precision="bf16")},
        {"weights": "resnet34-b627a593.pth"},
        {"inputs": "features"},
        {"bits": 16},
        {"seed": 1},
    ],
)
def test_whatever_changes_a_number_changes_the_id(change):
    assert dataclasses.replace(EXPERIMENT, **change).id != EXPERIMENT.id


def test_runs_of_one_cell_differ_in_the_seed_alone():
    assert dataclasses.replace(EXPERIMENT, seed=1).cell == EXPERIMENT.cell
    assert dataclasses.replace(EXPERIMENT, bits=16).cell != EXPERIMENT.cell


def test_a_recipes_name_is_no_part_of_the_identity():
    renamed = dataclasses.replace(EXPERIMENT.recipe, name="mine", summary="other words")
    assert dataclasses.replace(EXPERIMENT, recipe=renamed).id == EXPERIMENT.id


@pytest.mark.parametrize("text", ["0", "-8", "1e9", "abc", "", "16,,32", "16,", "2000", "16.0"])
def test_bad_bits_are_refused_naming_the_text(text):
    with pytest.raises(HashbenchError, match="--bits"):
        parse_bits(text)


def test_bits_keep_their_order_once_each():
    assert parse_bits("64, 16,64,12") == [64, 16, 12]


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("reassign", "false", False),
        ("reassign", "True", True),
        ("heads", "4", 4),
        ("heads", "none", None),
        ("margin", "1e-1", 0.1),
        ("solver", "hungarian", "hungarian"),
    ],
)
def test_values_take_the_type_of_their_field(field, text, value):
    parsed = parse_value(CRH, field, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("field", "text"), [("reassign", "maybe"), ("heads", "2.5"), ("margin", "nan"), ("solver", "magic")]
)
def test_values_of_another_type_are_refused(field, text):
    with pytest.raises(HashbenchError, match=f"'{text}' is not a value for {field}"):
        parse_value(CRH, field, text)


def test_pairs_are_parsed():
    assert parse_value(Recipe, "betas", "0.5,0.999") == (0.5, 0.999)


@pytest.mark.parametrize("text", ["crh", "crh.margin", "margin=1", ".margin=1", "crh.=1"])
def test_settings_of_another_form_are_refused(text):
    with pytest.raises(HashbenchError, match="not of the form"):
        parse_settings([text])


def resolved(**changes):
    arguments = {"data": DATA, "kind": "images", "paper": {}, "settings": {}, "backbone": None, "epochs": None}
    return resolve_recipe(None, **{**arguments, **changes})


def test_a_row_of_a_table_is_a_method_and_its_fields():
    assert parse_row("crh") == parse_row("crh ()") == ("crh", {})
    assert parse_row("crh (reassign=false)") == ("crh", {"reassign": "false"})
    assert parse_row("my/file.py:Loss( heads = 1,scale=2.5 )") == ("my/file.py:Loss", {"heads": "1", "scale": "2.5"})


@pytest.mark.parametrize("text", ["crh (,)", "crh (heads)", "crh (heads=)", "crh (=1)", "crh (heads=1,)"])
def test_a_row_of_another_form_is_refused(text):
    with pytest.raises(
        HashbenchError, match=r"is no row of a table; write for example 'crh \(heads=1, reassign=false\)'"
    ):
        parse_row(text)


def test_default_recipe_goes_by_size():
    assert resolved().name == "scratch"
    assert resolved(data=dataclasses.replace(DATA, shape=(3, 256, 256))).name == "finetune"
    assert resolved(data=dataclasses.replace(DATA, shape=(512,)), kind="vectors").backbone == "identity"


def test_label_tells_what_differs_from_the_recipe():
    plain, changed = resolved(), resolved(epochs=5, settings={"learning_rate": "0.01"}, backbone="resnet18")
    assert recipe_label(plain, paper={}, multi_label=False) == "scratch"
    assert recipe_label(changed, paper={}, multi_label=False) == "scratch(epochs=5, learning_rate=0.01)"


def test_grid_is_complete_and_ordered():
    cells = grid(["a", "b"], ["d"], [16, 32], 2)
    assert len(cells) == 8
    assert cells[0] == ("d", "a", 16, 0)
    assert cells[-1] == ("d", "b", 32, 1)
    with pytest.raises(HashbenchError, match="--seeds 0"):
        grid(["a"], ["d"], [16], 0)


def test_compiling_is_part_of_the_identity_only_where_it_is_done():
    assert "compile" not in EXPERIMENT.identity["recipe"]
    compiled = dataclasses.replace(EXPERIMENT, recipe=dataclasses.replace(EXPERIMENT.recipe, compile=True))
    assert compiled.identity["recipe"]["compile"] is True
    assert compiled.id != EXPERIMENT.id
    assert Experiment.from_identity(compiled.identity).recipe.compile
    assert not Experiment.from_identity(EXPERIMENT.identity).recipe.compile


def test_a_sweep_is_bounded_before_it_is_made():
    with pytest.raises(HashbenchError, match=r"This sweep has 10,000,000 runs, and 50,000 are planned at a time"):
        grid(["a"], ["d"], [16], 10**7)
    assert len(grid(["a"], ["d"], [16], 50_000)) == 50_000
    with pytest.raises(HashbenchError, match=r"The seed \d+ is not possible; give 0 to"):
        grid(["a"], ["d"], [16], 1, first_seed=2**63)


def test_one_run_plans_one_cell_whatever_its_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planned = []
    resolve = resolving._resolve
    monkeypatch.setattr(resolving, "_resolve", lambda *args: planned.append(args[3]) or resolve(*args))
    result = hashbench.run("lsh", "toy", bits=8, seed=10**8, progress=False)
    assert planned == [result.coords["seed"]] == [10**8]
    assert result.path.name.startswith("s100000000-")


def test_an_identity_of_no_experiment_is_one_sentence():
    for identity in ({}, {"recipe": []}, {"recipe": {"betas": 1}}, {"recipe": {"betas": [0, 0]}, "method": None}):
        with pytest.raises(HashbenchError, match=r"spec.json describes no experiment"):
            Experiment.from_identity(identity)

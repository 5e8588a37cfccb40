"""Recipes written into params.yaml."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from darkroom.errors import UserError
from darkroom.params import flatten, load_params
from darkroom.recipes import list_recipes, use_recipe

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    return path


def values_of(path: Path) -> dict[str, object]:
    return flatten(load_params(path))


def recipe(folder: Path, text: str, name: str = "mine") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(text)
    return folder


def test_the_recipes_that_are_promised_are_there_and_say_what_they_are_for() -> None:
    promised = {"digits", "mnist", "cifar10-fast", "cifar10-strong", "finetune-small"}
    promised |= {"finetune-large", "imagenet"}
    recipes = list_recipes(RECIPES)
    assert set(recipes) == promised
    assert all(about.endswith(".") and len(about) > 40 for about in recipes.values())


def test_what_one_recipe_sets_all_set_so_that_nothing_of_another_stays() -> None:
    """But for the data, which are the user's own in some."""
    loaded = {name: YAML(typ="safe").load(RECIPES / f"{name}.yaml") for name in NAMES}
    for section in ("prepare", "augment", "model", "train"):
        assert len({tuple(recipe[section]) for recipe in loaded.values()}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_each_recipe_goes_with_the_default_and_after_those_that_set_most(
    params: Path, name: str
) -> None:
    use_recipe(name, RECIPES, params)
    alone = values_of(params)
    wanted = YAML(typ="safe").load(RECIPES / f"{name}.yaml")
    for section, overlay in wanted.items():
        for key, value in overlay.items():
            got = alone[f"{section}.{key}"]
            assert got == value or [dict(entry) for entry in got] == value
    for other in ("cifar10-strong", "finetune-large"):
        use_recipe(other, RECIPES, params)
        load_params(params)
        use_recipe(name, RECIPES, params)
        after = values_of(params)
        overlaid = [f"{section}.{key}" for section, overlay in wanted.items() for key in overlay]
        assert {key: after[key] for key in overlaid} == {key: alone[key] for key in overlaid}


def test_only_what_the_recipe_names_changes_and_comments_stay(params: Path, tmp_path: Path) -> None:
    before, text = values_of(params), params.read_text()
    folder = recipe(tmp_path / "r", "# Faster.\ntrain: {lr: 0.125, epochs: 3}\nseed: 7\n")
    changes = use_recipe("mine", folder, params)
    assert changes == [
        (name, before[name], value)
        for name, value in (("seed", 7), ("train.epochs", 3), ("train.lr", 0.125))
    ]
    assert values_of(params) == {**before, "train.lr": 0.125, "train.epochs": 3, "seed": 7}
    old, new = text.splitlines(), params.read_text().splitlines()
    assert len(old) == len(new)
    changed = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    assert len(changed) == 3
    for line, other in changed:
        assert line.partition("#")[2] == other.partition("#")[2]
    assert use_recipe("mine", folder, params) == []


MISTAKES = {
    "train: {lrr: 0.1}": "train.lrr is not a parameter; did you mean train.lr?",
    "train: {lr: -1}": "train.lr: -1 is not allowed",
    "train: {optimizer: adamw}": "has no effect where train.optimizer is adamw",
    "train: {lr: 0.1": "mine.yaml:1: expected",
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.items())
def test_a_mistaken_recipe_is_refused_and_nothing_is_written(
    params: Path, tmp_path: Path, text: str, message: str
) -> None:
    before = params.read_text()
    with pytest.raises(UserError) as refused:
        use_recipe("mine", recipe(tmp_path / "r", text), params)
    assert message in str(refused.value)
    assert "mine.yaml" in str(refused.value)
    assert params.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml", "r"]


def test_an_unknown_recipe_is_answered_with_the_nearest(params: Path) -> None:
    with pytest.raises(UserError, match="cifar10-fats is no recipe; did you mean cifar10-fast"):
        use_recipe("cifar10-fats", RECIPES, params)

"""Recipes written into params.yaml."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from darkroom.commands.use import use
from darkroom.config.train import images_differ
from darkroom.errors import UserError
from darkroom.params import flatten, load_params
from darkroom.recipes import MADE_FOR, is_data_decision, list_recipes, use_recipe

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
    promised |= {"finetune-large", "distil", "imagenet", "probe", "breast_cancer", "camvid"}
    recipes = list_recipes(RECIPES)
    assert set(recipes) == promised
    assert all(about.endswith(".") and len(about) > 40 for about in recipes.values())


def test_what_one_recipe_sets_all_set_so_that_nothing_of_another_stays() -> None:
    loaded = {name: YAML(typ="safe").load(RECIPES / f"{name}.yaml") for name in NAMES}
    for section in ("prepare", "augment", "model", "train"):
        assert len({tuple(recipe[section]) for recipe in loaded.values()}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_recipe_can_follow_the_default_and_another_recipe(params: Path, name: str) -> None:
    use_recipe(name, RECIPES, params)
    alone = values_of(params)
    wanted = YAML(typ="safe").load(RECIPES / f"{name}.yaml")
    wanted.pop(MADE_FOR, None)
    for section, overlay in wanted.items():
        for key, value in overlay.items():
            got = alone[f"{section}.{key}"]
            assert got == value or [dict(entry) for entry in got] == value
    use_recipe("finetune-large" if name == "cifar10-strong" else "cifar10-strong", RECIPES, params)
    use_recipe(name, RECIPES, params)
    after = values_of(params)
    overlaid = [f"{section}.{key}" for section, overlay in wanted.items() for key in overlay]
    assert {key: after[key] for key in overlaid} == {key: alone[key] for key in overlaid}


@pytest.mark.parametrize("name", ["finetune-small", "probe"])
def test_recipes_for_cpus_compute_the_features_of_each_image_once(params: Path, name: str) -> None:
    use_recipe(name, RECIPES, params)
    given = load_params(params)
    assert given.train.freezes_backbone
    assert not images_differ(given.train, given.augment, None)


@pytest.mark.parametrize("name", ["finetune-small", "finetune-large", "distil", "probe"])
def test_recipes_for_any_photographs_keep_mirror_images_apart(params: Path, name: str) -> None:
    """A mirrored letter, sign or hand may be of another class."""
    use_recipe(name, RECIPES, params)
    augment = load_params(params).augment
    assert not augment.horizontal_flip
    assert not augment.vertical_flip
    assert augment.resized_crop is None or augment.resized_crop >= 0.5


def test_only_what_the_recipe_names_changes_and_comments_stay(params: Path, tmp_path: Path) -> None:
    before, text = values_of(params), params.read_text()
    folder = recipe(tmp_path / "r", "# Faster.\ntrain: {lr: 0.125, epochs: 3}\nseed: 7\n")
    changes = use_recipe("mine", folder, params).changes
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
    assert use_recipe("mine", folder, params).changes == []


OWN_DATA = {
    "data.fetch": [],
    "data.path": "data/mine",
    "data.class_name": "leaf",
    "data.manifest": "labels.csv",
    "data.path_column": "file",
    "data.label_column": "kind",
    "data.split_column": "part",
    "data.weight_column": "cost",
    "prepare.tiff": True,
    "prepare.on_bad_image": "skip",
    "prepare.split": "stable",
    "prepare.val_fraction": 0.21,
    "prepare.test_fraction": 0.22,
    "prepare.duplicates": "drop",
    "prepare.near_duplicates": None,
    "prepare.on_conflict": "drop",
}
"""Decisions of a user; none is a value of any recipe."""


@pytest.mark.parametrize("name", NAMES)
def test_no_recipe_changes_a_decision_about_the_data(params: Path, tmp_path: Path, name: str) -> None:
    use_recipe("cifar10-fast", RECIPES, params)
    yaml = YAML()
    document = yaml.load(params)
    for full_name, value in OWN_DATA.items():
        section, key = full_name.split(".")
        document[section][key] = value
    document["prepare"] |= {"image_size": 32, "channels": 3}  # as a stable split needs them
    yaml.dump(document, params)
    folder = tmp_path / "r"
    text = (RECIPES / f"{name}.yaml").read_text().replace("image_size: auto", "image_size: 32")
    used = use_recipe(name, recipe(folder, text.replace("channels: auto", "channels: 3"), name), params)
    after = values_of(params)
    assert {key: after[key] for key in OWN_DATA} == OWN_DATA
    assert not any(is_data_decision(changed) for changed, _, _ in used.changes)


def test_every_parameter_about_the_data_is_protected_and_no_other() -> None:
    names = set(values_of(ROOT / "params.yaml"))
    free = {"prepare.image_size", "prepare.channels", "prepare.resize", "prepare.storage"}
    expected = {name for name in names if name.split(".")[0] in ("data", "prepare")} - free
    assert {name for name in names if is_data_decision(name)} == expected


@pytest.mark.parametrize("name", sorted(name for name in OWN_DATA if name != "data.fetch"))
def test_a_recipe_that_would_decide_about_the_data_is_refused(
    params: Path, tmp_path: Path, name: str
) -> None:
    before = params.read_text()
    section, key = name.split(".")
    with pytest.raises(UserError, match=f"{name} is a decision about the data"):
        use_recipe("mine", recipe(tmp_path / "r", f"{section}: {{{key}: null}}\n"), params)
    assert params.read_text() == before


def test_what_a_recipe_was_made_for_is_returned_where_it_differs(params: Path, tmp_path: Path) -> None:
    text = "made_for: {data.path: data/CIFAR10, prepare.duplicates: group}\ntrain: {epochs: 3}\n"
    used = use_recipe("mine", recipe(tmp_path / "r", text), params)
    assert used.made_for == [("data.path", values_of(params)["data.path"], "data/CIFAR10")]
    for mistake, message in {
        "made_for: {data.paht: x}": "data.paht is not a parameter; did you mean data.path?",
        "made_for: {train.lr: 0.1}": "train.lr, which is not a decision about the data",
    }.items():
        with pytest.raises(UserError, match=message):
            use_recipe("mine", recipe(tmp_path / "r", mistake), params)


@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10-fast", "cifar10-strong", "imagenet"])
def test_recipes_of_named_sets_say_what_they_were_made_for(name: str) -> None:
    made_for = YAML(typ="safe").load(RECIPES / f"{name}.yaml")[MADE_FOR]
    assert {"data.fetch", "data.path"} <= set(made_for)


MISTAKES = {
    "train: {lrr: 0.1}": "train.lrr is not a parameter; did you mean train.lr?",
    "train: {lr: -1}": "train.lr: -1 is not allowed",
    "train: {optimizer: adamw}": "has no effect when train.optimizer is adamw",
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
    with pytest.raises(UserError, match="cifar10-fats is not a recipe; did you mean cifar10-fast"):
        use_recipe("cifar10-fats", RECIPES, params)


def test_a_project_without_recipes_says_so(params: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"probe is not a recipe\. There are none in .*empty$"):
        use_recipe("probe", tmp_path / "empty", params)


# the command


@pytest.fixture
def project(params: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shipped params.yaml and the recipes ``mine`` and ``other``."""
    recipe(params.parent / "recipes", "# For tests.\n# Fast.\ntrain: {epochs: 3, lr: 0.5}\n")
    made_for = "made_for: {data.fetch: [CIFAR10], prepare.fold: 1/5, data.path: data/fetched/digits}\n"
    recipe(params.parent / "recipes", f"# For others.\n{made_for}train: {{epochs: 3}}\n", "other")
    monkeypatch.chdir(params.parent)
    return params.parent


def test_use_without_a_recipe_lists_all_and_changes_nothing(project: Path) -> None:
    before = (project / "params.yaml").read_text()
    result = CliRunner().invoke(use, [])
    assert result.exit_code == 0
    described = list_recipes(RECIPES)
    assert result.stdout == "".join(f"{name}\n    {about}\n" for name, about in described.items())
    assert (project / "params.yaml").read_text() == before


def test_use_shows_each_value_that_it_changes(project: Path) -> None:
    result = CliRunner().invoke(use, ["recipes/mine.yaml"])
    assert result.exit_code == 0
    assert result.stdout == "train.epochs: 40 -> 3\ntrain.lr: 0.05 -> 0.5\n"
    assert result.stderr.splitlines()[0] == "params.yaml: 2 values changed"
    assert result.stderr.splitlines()[-1] == "next: dvc repro"
    assert values_of(project / "params.yaml")["train.lr"] == 0.5
    again = CliRunner().invoke(use, ["recipes/mine.yaml"])
    assert (again.stdout, again.stderr.splitlines()[0]) == ("", "params.yaml: 0 values changed")


def test_use_says_that_half_precision_needs_a_gpu(project: Path) -> None:
    (project / "recipes/half.yaml").write_text("train: {precision: bfloat16}")
    result = CliRunner().invoke(use, ["recipes/half.yaml"])
    assert "train.precision: bfloat16 needs a GPU; to train on a CPU" in result.stderr
    assert (
        "needs a GPU" not in CliRunner().invoke(use, ["recipes/mine.yaml"]).stderr.partition("next")[2]
    )


def test_use_names_the_data_that_a_recipe_was_made_for_as_they_are_set(project: Path) -> None:
    result = CliRunner().invoke(use, ["recipes/other.yaml"])
    assert result.stdout == "train.epochs: 40 -> 3\n"
    assert "params.yaml: 1 value changed\n" in result.stderr
    assert "  data.fetch: [CIFAR10]\n" in result.stderr
    assert "  prepare.fold: 1/5\n" in result.stderr
    assert "data.path" not in result.stderr  # it does not differ
    assert values_of(project / "params.yaml")["data.fetch"] == ["digits"]

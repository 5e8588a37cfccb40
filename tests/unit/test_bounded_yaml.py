"""YAML that would take for ever is refused, whatever it is for."""

import os
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from darkroom import bounded_yaml
from darkroom.bounded_yaml import MAX_BYTES, BadYaml, decode_text, load_yaml, read_text
from darkroom.errors import UserError
from darkroom.params import load_params
from darkroom.recipes import use_recipe
from darkroom.tracking.ledger.results import parse_results

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(
    [ROOT / "params.yaml", ROOT / "dvc.yaml", ROOT / "dvc.lock", *ROOT.glob("recipes/*.yaml")]
)


def laughs(depth: int, width: int, item: str = "[{}]", value: str = "x") -> str:
    """Lists of lists of lists, each named once and used often."""
    lines = [f"a0: &a0 {value}"]
    for level in range(1, depth):
        names = ", ".join([f"*a{level - 1}"] * width)
        lines.append(f"a{level}: &a{level} {item.format(names)}")
    return "\n".join(lines)


BOMBS = {
    "aliases": (laughs(10, 9), "over 100,000 values"),
    "aliases of merged maps": (laughs(30, 2, "{{<<: [{}]}}", "{k: 1}"), "over 100,000 values"),
    "a list that holds itself": ("a: &a [*a]", "contains itself"),
    "a map that holds itself": ("a: &a {b: {c: *a}}", "contains itself"),
    "lists in lists": ("[" * 500_000, "more than 100 deep"),
    "maps in maps": ("{a: " * 100_000, "more than 100 deep"),
    "dashes in dashes": ("- " * 100_000, "more than 100 deep"),
    "question marks": ("? " * 100_000, "more than 100 deep"),
    "many bytes": ("a: 1\n#" + "x" * MAX_BYTES, "over 1,048,576"),
    "a huge number": ("a: 0x" + "f" * 100_000, "integer of 400,000 bits"),
    "a huge decimal number": ("a: " + "9" * 10_000, "not YAML"),
    "a key twice": ("a: 1\na: 2", "duplicate key"),
    "an impossible date": ("a: 2001-99-99", "not YAML"),
    "a list as a key": ("[{[1]: 2}]: 3", "not YAML"),
    "a wrong boolean": ("!!bool zz", "not YAML"),
    "an unknown tag": ("a: !!python/object:os.system x", "could not determine a constructor"),
    "an unknown alias": ("a: *b", "found undefined alias"),
    "two documents": ("a: 1\n---\nb: 1", "expected a single document"),
    "a NUL": ("a: \0", "not YAML"),
}


@pytest.mark.parametrize(("text", "problem"), BOMBS.values(), ids=BOMBS)
def test_bombs_are_refused(text: str, problem: str) -> None:
    with pytest.raises(BadYaml) as refused:
        load_yaml(text)
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("text", "problem"), BOMBS.values(), ids=BOMBS)
def test_whatever_reads_yaml_names_the_file(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=r"params\.yaml(:\d+)?: ") as refused:
        load_params(tmp_path / "params.yaml")
    assert problem in str(refused.value)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/recipe.yaml").write_text(text)
    with pytest.raises(UserError, match=r"recipe\.yaml(:\d+)?: "):
        use_recipe("recipe", tmp_path / "recipes", ROOT / "params.yaml")
    with pytest.raises(UserError, match=r"dvc\.lock at abcdef0"):
        parse_results(text, "abcdef0123")


def test_the_bounds_are_far_from_what_is_ordinary() -> None:
    for path in SHIPPED:
        text = read_text(path)
        assert load_yaml(text) == YAML(typ="safe").load(text)
        assert len(text) < MAX_BYTES / 20


def test_aliases_that_stand_for_little_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    text = laughs(3, 9)
    assert load_yaml(text) == YAML(typ="safe").load(text)
    merged = "a: &a {x: 1}\nb: {<<: *a, y: [*a, *a]}"
    assert load_yaml(merged) == {"a": {"x": 1}, "b": {"x": 1, "y": [{"x": 1}, {"x": 1}]}}
    monkeypatch.setattr(bounded_yaml, "MAX_NODES", 1_000)
    for number in (500, 2_000):
        many = "a: &a x\nb: [" + ", ".join(["*a"] * number) + "]"
        if number < 1_000:
            assert len(load_yaml(many)["b"]) == number
        else:
            with pytest.raises(BadYaml, match="over 1,000 values"):
                load_yaml(many)


def test_values_beside_the_bounds_stay_as_they_are() -> None:
    text = "a: 1e-3\nb: 18446744073709551615\nc: '[[[['\nd: [[[[[1]]]]]\ne: *no"
    values = load_yaml(text.replace("*no", "'*no'"))
    assert values == {"a": 1e-3, "b": 2**64 - 1, "c": "[[[[", "d": [[[[[1]]]]], "e": "*no"}


def test_a_change_of_what_was_read_does_not_reach_the_next_reader() -> None:
    text = "a: {b: [1, 2]}\nc: &c [3]\nd: *c"
    values = load_yaml(text)
    values["a"]["b"].append(4)
    del values["c"]
    assert load_yaml(text) == {"a": {"b": [1, 2]}, "c": [3], "d": [3]}
    assert load_yaml(text.replace("3", "5"))["d"] == [5]


@pytest.mark.parametrize("b", ["*a", "[*a]", "[0,*a]", "{*a : 1}", '{"c":*a}', "\n- *a", "\n  ? *a"])
def test_an_alias_is_seen_wherever_one_may_begin(b: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_yaml, "MAX_NODES", 8)
    with pytest.raises(BadYaml, match="over 8 values where aliases are replaced"):
        load_yaml(f"a: &a [1, 2, 3]\nb: {b}")
    assert load_yaml("a: [layer4.*, b2*, c, d, e, 'x*y', f, g, h]  # a*b")["a"][:2] == [
        "layer4.*",
        "b2*",
    ]


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("pipe", "zero", "folder"):
        with pytest.raises(UserError, match=rf"{name}\.yaml: cannot be read"):
            read_text(tmp_path / f"{name}.yaml")
    with (tmp_path / "sparse.yaml").open("wb") as file:
        file.truncate(40 * 2**30)
    with pytest.raises(UserError, match="over 1,048,576 bytes"):
        read_text(tmp_path / "sparse.yaml")
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "none.yaml")


def test_other_encodings_are_refused() -> None:
    with pytest.raises(BadYaml, match="not UTF-8"):
        decode_text("a: ä".encode("latin-1"))
    assert decode_text("a: ä".encode()) == "a: ä"

"""The parts of which messages are made: names that can be told apart, what a library's error says."""

import pytest

from darkroom.errors import brief, counted, did_you_mean, listed


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["path", "label"], "path, label"),
        (["path", " label"], "path, ' label'"),
        (["path", "label "], "path, 'label '"),
        (["path", ""], "path, ''"),
        (["a, b", "c"], "'a, b', c"),
        (["two words", "Größe", "日本"], "two words, Größe, 日本"),
        (["two  blanks", "a\nb", "a\tb"], r"'two  blanks', 'a\nb', 'a\tb'"),
        (["it's", "(a)", "a|b"], '"it\'s", (a), a|b'),
        (["a/b.png", "torchvision:resnet18"], "a/b.png, torchvision:resnet18"),
        (["\x1b[31mred"], r"'\x1b[31mred'"),
    ],
)  # fmt: skip
def test_names_that_a_reader_could_not_tell_apart_are_quoted(names: list[str], text: str) -> None:
    assert listed(names) == text


def test_a_long_list_says_how_many_more_there_are() -> None:
    assert listed(map(str, range(1_234)), most=3) == "0, 1, 2 and 1,231 more"
    assert listed(["a", "b"], most=2) == "a, b"


def test_a_suggestion_shows_the_blanks_of_a_name() -> None:
    assert did_you_mean("label", ["path", " label"]) == "; did you mean ' label'?"
    assert did_you_mean("label", ["lable"]) == "; did you mean lable?"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such file."), "no such file"),
        (ValueError("\x1b[31mred\x1b[0m words\x1b]8;;link\x07 here"), "red words here"),
        (ValueError("these errors occurred:\n  - one\n  - two"), "these errors occurred"),
        (ValueError("\n\n  the second line says it"), "the second line says it"),
        (ValueError("many   blanks\tand tabs"), "many blanks and tabs"),
        (KeyError(), "KeyError"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        ("a text; ", "a text"),
        (ValueError("word " * 100), "word " * 59 + "word ..."),
    ],
)  # fmt: skip
def test_what_a_library_says_becomes_a_part_of_a_sentence(error: Exception | str, text: str) -> None:
    assert brief(error) == text


def test_a_number_of_things_is_singular_only_for_one() -> None:
    told = [counted(number, "image") for number in (0, 1, 2, 1_000)]
    assert told == ["0 images", "1 image", "2 images", "1,000 images"]

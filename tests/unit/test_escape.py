"""Names from data are shown as text, whatever they hold."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from jinja2 import Template

from darkroom.cli import main
from darkroom.escape import for_line, for_markdown, for_terminal
from darkroom.export import model_card
from darkroom.reporting.templates import load_template
from darkroom.tracking.notes import table

NASTY = (
    "<img src=x onerror=alert(1)>|**x**[a](javascript:1)`c`\x1b[31m\u202egnp.exe\r\n# title $y$ ~~z~~"
)

RUN = """
import sys
from darkroom.progress import progress_bar, spinner
from darkroom.terminal import make_console, safe_output
with safe_output(is_patient={patient}):
    print({text!r})
    print({text!r}, file=sys.stderr)
    make_console().print({text!r})
    with progress_bar({text!r}, 2) as bar, spinner({text!r}):
        bar.note({text!r})
        bar.advance(2)
    {more}
"""


def printed(text: str, more: str = "", patient: bool = False, **env: str) -> subprocess.CompletedProcess:
    code = RUN.format(text=text, more=more, patient=patient)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={"PYTHONPATH": ":".join(sys.path), **env}
    )


def test_control_characters_and_directions_are_visible() -> None:
    assert for_terminal("a\x1b[31mb\rc\x07\x9b\u202ed\n\te") == "a\\x1b[31mb\\rc\\x07\\x9b\\u202ed\n\te"
    assert for_line("a\nb\tc\x85\u2028") == "a\\nb\\tc\\x85\\u2028"
    assert for_terminal("\udcff") == "\\udcff"


@pytest.mark.parametrize("text", ["Äther", "日本語", "👩‍🔬", "a b", "naïve", "می‌خواهم", "C:\\x"])
def test_ordinary_text_stays(text: str) -> None:
    assert for_terminal(text) == for_line(text) == text


def test_markdown_is_text() -> None:
    escaped = for_markdown(NASTY)
    assert "\n" not in escaped
    for mark in ("<", "|", "**", "[a]", "`", "\x1b", "\u202e", "$", "~~"):
        plain = escaped.replace(f"\\{mark[0]}", "")
        assert mark not in plain, mark
    assert for_markdown("train.batch_size") == "train.batch_size"
    assert for_markdown("_em_ __init__") == "\\_em\\_ \\_\\_init\\_\\_"
    assert for_markdown("a\\|b") == "a\\\\\\|b"


def test_tables_of_markdown_keep_their_cells() -> None:
    lines = table({NASTY: NASTY, "b": 1}).splitlines()
    assert len(lines) == 4
    assert lines[2].replace("\\|", "").count("|") == 3
    template: Template = load_template(
        Path(model_card.__file__).with_name("model_card.md.j2"), autoescape=False
    )
    assert template.environment.filters["cell"](NASTY) == for_markdown(NASTY)


@pytest.mark.parametrize("env", [{}, {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "300"}])
def test_whatever_prints_escapes(env: dict[str, str]) -> None:
    text = "[red]a[/red] [/] x\x1b[31m\x07\u202ey"
    done = printed(text, **env)
    assert done.returncode == 0, done.stderr
    for output in (done.stdout.decode(), done.stderr.decode()):
        assert "[red]a[/red] [/] x\\x1b[31m\\x07\\u202ey" in output
        assert "\x1b[31m" not in output
        assert "\u202e" not in output


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_encoding_can_be_printed_to(encoding: str) -> None:
    done = printed("Äther 日本 \udcff", PYTHONIOENCODING=encoding, LANG="C")
    assert done.returncode == 0, done.stderr
    expected = "Äther 日本 \\udcff".encode(encoding, "backslashreplace")
    assert expected in done.stdout
    assert expected in done.stderr


def test_a_closed_standard_output_does_not_end_a_stage() -> None:
    more = "print('x' * 100_000); print('done', file=sys.stderr)"
    closed = f"import os; r, w = os.pipe(); os.dup2(w, 1); os.close(r); os.close(w); {more}"
    patient = printed("a", closed, patient=True)
    assert patient.returncode == 0, patient.stderr
    assert b"done" in patient.stderr
    assert b"Traceback" not in patient.stderr
    assert b"BrokenPipeError" in printed("a", closed).stderr


def test_commands_escape_what_they_print() -> None:
    result = CliRunner().invoke(main, ["params", "--file", "no\x1b[31m\u202e.yaml"])
    assert result.exit_code == 2
    assert "\\u202e.yaml" in result.stderr
    assert not {"\x1b", "\u202e"} & set(result.stderr)
    result = CliRunner().invoke(main, ["no\x1b[31m-command"])
    assert "\x1b" not in result.stderr

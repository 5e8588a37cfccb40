"""Links of the documentation to lines of code: each leads to the line that it names."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
TOOL = SimpleNamespace(**runpy.run_path(str(ROOT / "tools" / "code_links.py"), run_name="code_links"))


@pytest.mark.parametrize("page", TOOL.PAGES, ids=str)
def test_each_link_leads_to_the_line_of_what_it_names(page: Path) -> None:
    text = (ROOT / page).read_text()
    assert TOOL.renewed(text, ROOT / page.parent) == text, "run `make docs`"
    links = list(TOOL.LINK.finditer(text))
    assert len(links) == text.count("#L") > 100
    for link in links:
        line = (ROOT / page.parent / link[2]).read_text().splitlines()[int(link[3]) - 1]
        assert link[1].split(".")[-1].removesuffix("()") in line, link[0]


def test_a_line_that_moved_is_found_again_and_one_that_is_gone_is_named(tmp_path: Path) -> None:
    code = tmp_path / "a.py"
    code.write_text(
        '"""run."""\nVALUE: int = 1\nclass A:\n    def run(self):\n        def inner(): ...\n'
    )
    text = "[`A.run`](a.py#L1) [`A.run.inner`](a.py#L1) [`VALUE`](a.py#L9) [`def run(self)`](a.py#L9)"
    renewed = TOOL.renewed(text, tmp_path)
    assert renewed == (
        "[`A.run`](a.py#L4) [`A.run.inner`](a.py#L5) [`VALUE`](a.py#L2) [`def run(self)`](a.py#L4)"
    )
    code.write_text("\n" + code.read_text())
    assert "[`A.run`](a.py#L5)" in TOOL.renewed(renewed, tmp_path)
    code.write_text(code.read_text().replace("run", "start"))
    with pytest.raises(ValueError, match=r"a\.py does not contain A\.run"):
        TOOL.renewed(text, tmp_path)

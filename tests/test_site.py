"""The pages of the documentation that are made from conf/, docstrings and RESULTS.md."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from limbeck.catalog import choices, groups

TOP = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("pages", TOP / ".ci" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_a_docstring_says_of_its_paper(pages):
    text = """A line.

    Source: Song et al., "Denoising Diffusion
    Implicit Models", 2021, Eq. 12. Differs: exactly n steps.
    And a word more.

    Raises: UserError.

    Differs: no clipping.
    """
    source = 'Song et al., "Denoising Diffusion Implicit Models", 2021, Eq. 12.'
    assert pages.said(text) == (source, "exactly n steps. And a word more. no clipping.")
    assert pages.paper_of(source) == "Song et al., 2021"
    assert pages.paper_of("Kim & Yoo, AAAI 2025") == "Kim & Yoo, 2025"
    assert pages.paper_of("the released code") == ""


def test_every_difference_in_a_docstring_is_on_the_papers_page(pages):
    page = pages.papers_page()
    written = sum(len(re.findall(r"\bDiffers:", file.read_text())) for file in pages.SOURCE.rglob("*.py"))
    counted = sum(len(re.findall(r"\bDiffers:", str(pages.readings(file)))) for file in pages.SOURCE.rglob("*.py"))
    assert counted == 0  # all were taken out of the texts
    shown = page.count("**Differs:**")
    assert written * 0.9 <= shown <= written  # one docstring may have two
    assert "## Ho et al., 2020" in page


def test_rows_of_results_are_found_by_their_cells(pages):
    text = "# R\n\n## A\n\n| who | how | x |\n| --- | --- | ---: |\n| a | keep | 1 |\n| **a** | svs | 2 |\n\n## B\n"
    assert pages.table_rows(text, "A", ["a", "svs"]) == [
        "| who | how | x |",
        "| --- | --- | ---: |",
        "| **a** | svs | 2 |",
    ]
    assert len(pages.table_rows(text, "A", ["a"])) == 4
    for section, cells, told in (("A", ["b"], "holds"), ("B", ["a"], "holds"), ("C", ["a"], "no section")):
        with pytest.raises(KeyError, match=told):
            pages.table_rows(text, section, cells)


def test_every_choice_is_on_its_groups_page_with_what_was_measured(pages):
    results = (TOP / "RESULTS.md").read_text()
    for key in yaml.safe_load((TOP / "docs" / "measured.yaml").read_text()):
        group, _, name = key.rpartition("/")
        assert name in {choice.name for choice in choices(group)}
        assert pages.measured(group, name, results)[0].startswith("*Measured*")
    for group in groups():
        page = pages.group_page(group)
        assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == [c.name for c in choices(group)]
    assert "Chung et al." in pages.group_page("pruning")
    assert "| DCP | svs |" in pages.group_page("pruning")

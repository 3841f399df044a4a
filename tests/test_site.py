"""The pages that code writes, what of pages is run, and the example that comes with the package."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bmi_cdlm.cli import COMMANDS, main
from bmi_cdlm.names.errors import ParameterError
from bmi_cdlm.names.variables import VARIABLES
from bmi_cdlm.prepare.examples import find_example
from bmi_cdlm.processes.gr4j import routing_store_step_inverse
from bmi_cdlm.processes.muskingum import muskingum_coefficients

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def pages():
    """The package `pages`, which lies in the folder of the site."""
    sys.path.insert(0, str(DOCS))
    try:
        yield importlib.import_module("pages")
    finally:
        sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def runner():
    """The script that runs pages."""
    spec = importlib.util.spec_from_file_location("run_pages", DOCS / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain(markup: str) -> str:
    """MathML as text: a fraction is (a)/(b), a power ^(b)."""
    markup = re.sub(r"</mrow><mrow>", ")|(", markup)
    for tag, before, after in (("mfrac", "(", ")"), ("msup", "(", ")"), ("msqrt", "(", ")")):
        markup = markup.replace(f"<{tag}><mrow>", f"{tag}{before}").replace(f"</mrow></{tag}>", after)
    return re.sub(r"<[^>]+>", "", markup.replace("&#8901;", "*").replace("&#160;", " ").replace("−", "-"))


@pytest.mark.parametrize(("code", "expected"), [
    ("a - (b - c)", "a-(b-c)"), ("a - b - c", "a-b-c"), ("(a + b) * c", "(a+b)*c"), ("-(a + b)", "-(a+b)"),
    ("a / (b + c)", "mfrac(a)|(b+c)"), ("(a + b) ** n", "msup((a+b))|(n)"), ("fma(a, b, c) * d", "(a*b+c)*d"),
    ("power(a + b, n)", "msup((a+b))|(n)"), ("math.sqrt(a * b)", "msqrt(a*b)"), ("abs(a - b)", "|a-b|"),
    ("a * -b", "a*-b"), ("min(a, b)", "min(a,b)"),
])
def test_an_equation_keeps_its_brackets(pages, code, expected):
    import ast

    from pages.equations import expression

    assert plain(expression(ast.parse(code, mode="eval").body)[0]) == expected


def test_equations_of_steps(pages):
    from pages.equations import equations

    text = plain(equations(routing_store_step_inverse))
    assert "msqrt(r)" in text
    assert "give R,Q,exchange,F,AE1,AE2,Qr,Qd" in text
    text = plain(equations(muskingum_coefficients))
    assert "otherwise" in text
    assert "mfrac(seconds-2*K*x)|(D)" in text


def test_the_page_of_errors_has_each_message_and_the_reference_each_command_and_variable(pages):
    from pages.command_line import command_pages
    from pages.errors import error_page
    from pages.reference import reference_pages

    name, text = error_page()
    assert name == "reference/errors"
    assert f"\n{ParameterError.__doc__}\n" in text
    assert "snow is '‹snow›', and runoff '‹runoff›' has snow of its own" in text.replace("\\", "")
    found = dict(command_pages())
    assert set(re.findall(r"^## cdlm ([\w-]+)", found["reference/cdlm"], re.MULTILINE)) == set(COMMANDS)
    assert "## cdlm nextgen init" in found["reference/cdlm"]
    assert "## cdlm-train train" in found["reference/cdlm_train"]
    variables = dict(reference_pages())["reference/variables"]
    assert all(f"| `{one.short}` | `{one.name}` | {one.units} |" in variables for one in VARIABLES)


def test_links_among_texts_of_the_repository_lead_to_pages(pages):
    from pages.taken import mended_block

    text = "[skill](RESULTS.md), [keys](../cfg/README.md#scores), ![x](../examples/floods.png), [run](../Makefile)"
    found = mended_block(text, "training/README.md", "training")
    assert found == (
        "[skill](measured/skill.md), [keys](reference/scores.md#scores), ![x](pictures/floods.png), run (`Makefile`)"
    )
    with pytest.raises(ValueError, match="leads nowhere"):
        mended_block("[gone](gone.md)", "training/README.md", "training")


def test_what_of_a_page_is_run(runner, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "BUILD", tmp_path / "build")
    monkeypatch.setattr(runner, "DOCS", tmp_path)
    first, second = tmp_path / "first.md", tmp_path / "second.md"
    first.write_text(
        "```{code-block} yaml\n:caption: a/b.yaml\nx: 1\n```\n```console\nexit 1\n```\n```text\nno\n```\n"
        "```yaml\n# file: c.yaml\ny: 2\n```\n```sh\ncat a/b.yaml c.yaml > both.txt\n```\n", encoding="utf-8",
    )
    second.write_text(
        "<!-- continues: first -->\n"
        "```python\nassert open('both.txt').read() == 'x: 1\\n# file: c.yaml\\ny: 2\\n'\n```\n"
        "```sh\nfalse\ntrue\n```\n", encoding="utf-8",
    )
    found = {name: runner.read(tmp_path / f"{name}.md") for name in ("first", "second")}
    assert runner.chosen(found, ["second"], long=False) == [found["first"], found["second"]]
    runner.run(found["first"], found)
    with pytest.raises(runner.subprocess.CalledProcessError):
        runner.run(found["second"], found)


def test_every_page_of_the_site_can_be_read_and_the_readme_is_short(runner):
    found = runner.all_pages()
    assert {"README", "start/own_basin", "tutorials/train"} <= set(found)
    for page in found.values():
        assert runner.folder_of(page, found).is_relative_to(runner.BUILD)
    assert len((DOCS.parent / "README.md").read_text(encoding="utf-8").splitlines()) < 120


def test_the_demo_says_what_it_needs_and_its_files_come_along(monkeypatch):
    assert find_example("lez.yaml").read_text(encoding="utf-8").startswith("# The Lez")
    assert find_example("lez.safetensors").is_file()
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "smash" else there(name))
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 1
    assert "the demo needs hydro-smash, not installed here" in result.output
    assert 'pip install "bmi-cdlm[examples,plot]"' in result.output

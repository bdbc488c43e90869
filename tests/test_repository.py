"""What stands around the code: version, citation, constraints, templates, workflows, hooks, and the site's pages."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import hashbench
from hashbench.results.finding import finished_runs

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCS = ROOT / "docs"
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PUBLIC = ("hashbench", "hashbench.datasets", "hashbench.methods")


def parsed(path: str) -> dict:
    return yaml.safe_load((ROOT / path).read_text())


def test_the_version_stands_in_one_place_and_the_citation_agrees():
    assert "version" not in PROJECT["project"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "hashbench.__version__"}
    assert str(parsed("CITATION.cff")["version"]) == hashbench.__version__


@pytest.mark.slow
def test_constraints_are_the_versions_behind_the_results():
    lines = (ROOT / "constraints" / "results.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if not line.startswith("#")]
    constraints = {requirement.name: str(requirement.specifier) for requirement in pinned}
    results, problems = finished_runs(*sorted((ROOT / "results").rglob("*.zip")))
    assert len(results) > 3000
    assert not problems
    for result in results:
        stated = result.provenance["libraries"]
        assert {name: f"=={version}" for name, version in stated.items()} == constraints, result.path


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_issue_templates_are_forms(path):
    form = yaml.safe_load(path.read_text())
    if path.name == "config.yml":
        assert form == {"blank_issues_enabled": True}
        return
    assert form["name"]
    assert form["description"]
    asked = [field for field in form["body"] if field["type"] != "markdown"]
    names = [field["id"] for field in asked]
    assert len({*names}) == len(names) > 0
    for field in form["body"]:
        assert field["type"] in ("input", "textarea", "dropdown", "markdown")
        assert isinstance(field["attributes"]["value" if field["type"] == "markdown" else "label"], str)
        for text in (*field["attributes"].get("options", ()), field["attributes"].get("description", "")):
            assert isinstance(text, str)


def test_there_is_a_template_for_each_kind_of_issue():
    assert {path.stem for path in TEMPLATES} == {"bug", "config", "new-dataset", "new-method", "number"}


def test_the_workflow_calls_the_one_command():
    (job,) = parsed(".github/workflows/ci.yml")["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    assert PROJECT["project"]["requires-python"] == f">={min(job['strategy']['matrix']['python'])}"


def test_a_tag_is_released_without_a_token():
    text = (ROOT / ".github/workflows/release.yml").read_text()
    workflow = yaml.safe_load(text)
    assert workflow[True] == {"push": {"tags": ["v*"]}}  # YAML reads `on` as true
    assert workflow["jobs"]["publish"]["needs"] == "build"
    assert "secrets" not in text
    for command in ("twine check --strict", "python .ci/wheel.py", "hashbench list methods"):
        assert command in text


def test_hooks_run_what_ci_runs():
    (repository,) = parsed(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    commands = {hook["entry"].removesuffix(" --force-exclude") for hook in repository["hooks"]}
    assert commands == {"ruff format", "ruff check", "mypy"}
    lines = [line.strip() for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    for command in commands:
        assert any(line.split(" --")[0].removesuffix(" .") == command for line in lines), command


def pages(nav) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for item in (nav.values() if isinstance(nav, dict) else nav) for page in pages(item)]


def test_the_site_shows_every_page():
    site = parsed("mkdocs.yml")
    assert sorted(pages(site["nav"])) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    assert not {"exclude_docs", "draft_docs", "not_in_nav"} & {*site}
    assert site["theme"]["font"] is False


def test_the_index_leads_to_every_page():
    links = re.findall(r"\]\(([^)#]+)", (DOCS / "index.md").read_text())
    assert {*links} == {*pages(parsed("mkdocs.yml")["nav"])} - {"index.md"}


def test_the_api_pages_name_every_public_name_once():
    shown = [
        name for page in (DOCS / "api").glob("*.md") for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)
    ]
    assert len({*shown}) == len(shown)
    public = {f"{package}.{name}" for package in PUBLIC for name in importlib.import_module(package).__all__}
    public -= {"hashbench.__version__"}
    assert {*shown} <= public
    objects = {id(getattr(*split)) for split in map(owner_and_name, shown)}
    assert len(objects) == len(shown), "the same thing is shown twice"
    assert [name for name in sorted(public) if id(getattr(*owner_and_name(name))) not in objects] == []


def owner_and_name(full: str) -> tuple[object, str]:
    package, _, name = full.rpartition(".")
    return importlib.import_module(package), name


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_and_files_named_lead_somewhere(page):
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    files = re.findall(r"`([\w.-]+/[\w./-]*\.\w+|\.ci/\w+)`", text)
    assert links + files
    assert [path for path in links + files if not (ROOT / path).exists()] == []

"""README and docs: what they tell people to type works as written; on the toy, which is quicker."""

import re
import shlex
import textwrap
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import hashbench
from hashbench.cli import main
from hashbench.registry import BACKBONES

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS, *sorted((ROOT / "studies").rglob("*.md"))]


def test_readme_has_the_two_commands():
    text = (ROOT / "README.md").read_text()
    assert re.findall(r"^pip install .*$", text, re.MULTILINE) == [
        "pip install -e . && hashbench run --method crh --dataset fashion-mnist-10k --bits 16,32,64",
        "pip install -e '.[test]' && pytest -n auto --dist loadfile",
    ]


def test_the_first_command_of_the_readme_is_planned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = re.findall(r"^    hashbench (run .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)[0]
    ran = CliRunner().invoke(main, [*shlex.split(command), "--dry-run"])
    assert ran.exit_code == 0, ran.output
    assert "18 of 18" in ran.output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not link.startswith("http") and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_links_of_a_page_of_the_site_stay_within_the_site(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    paths = [(page.parent / link).resolve() for link in links if not link.startswith("http")]
    assert [path for path in paths if not path.is_relative_to(ROOT / "docs")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_anchors_are_headings(page):
    for link, anchor in re.findall(r"\]\((?!http)([^)#]*)#([^)]*)\)", page.read_text()):
        if link.startswith("api/"):  # the site makes these anchors of public names, and its strict build holds them
            continue
        headings = re.findall(r"^#+ (.*)$", (page.parent / (link or page.name)).read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_methods_of_the_guide_work(tmp_path, monkeypatch, fresh_methods):
    monkeypatch.setattr("hashbench.checks.verdict.BITS", (12,))
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "adding-a-method.md").read_text()
    files = re.findall(r"Save this as `(\w+\.py)`[^`]*```python\n(.*?)```", page, re.DOTALL)
    assert [name for name, _ in files] == ["tiny_hash.py", "pair_hash.py"]
    for name, code in files:
        Path(name).write_text(code)
    commands = re.findall(r"^    (hashbench .*)$", page, re.MULTILINE)
    assert [shlex.split(command)[1] for command in commands] == ["check", "run", "check"]
    for command in commands:
        ran = CliRunner().invoke(main, shlex.split(command.replace("fashion-mnist-10k", "toy"))[1:])
        assert ran.exit_code == 0, f"{command}\n{ran.output}"


@pytest.mark.parametrize("name", ["Tightened", "NestedHash"])
def test_the_other_methods_of_the_guide_keep_the_contract(tmp_path, monkeypatch, fresh_methods, name):
    monkeypatch.setattr("hashbench.checks.verdict.BITS", (12,))
    page = (ROOT / "docs" / "adding-a-method.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (code,) = (block for block in blocks if f"class {name}" in block)
    file = tmp_path / "guide.py"
    file.write_text(code)
    verdict = hashbench.check(f"{file}:{name}")
    assert verdict.ok, verdict.render()


def test_the_commands_about_backbones_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("_local", "_loaded"):
        monkeypatch.setattr(BACKBONES, name, dict(getattr(BACKBONES, name)))
    page = (ROOT / "docs" / "backbones.md").read_text()
    ((name, code),) = re.findall(r"Save this as `(\w+\.py)`[^`]*```python\n(.*?)```", page, re.DOTALL)
    Path(name).write_text(code)
    random = np.random.default_rng(0)
    np.savez("features.npz", features=random.normal(size=(120, 8)), labels=np.arange(120) % 3)
    commands = re.findall(r"^    (hashbench .*)$", page, re.MULTILINE)
    assert [shlex.split(command)[1] for command in commands] == ["list", "list", "run", "run"]
    for command in commands:
        short = command.replace("fashion-mnist-10k", "toy") + (" --epochs 1" if " run " in command else "")
        ran = CliRunner().invoke(main, shlex.split(short)[1:])
        assert ran.exit_code == 0, f"{command}\n{ran.output}"


@pytest.mark.parametrize("page", ["results-on-disk.md", "reproducing-a-paper.md"])
def test_the_commands_about_a_sweep_work_in_their_order(tmp_path, monkeypatch, page):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / page).read_text()
    for name, content in re.findall(r"Save this as `(\w+\.toml)`:\n\n```toml\n(.*?)```", text, re.DOTALL):
        Path(name).write_text(content.replace("fashion-mnist-10k", "toy"))
    Path("photos").mkdir()
    Image.new("RGB", (8, 8)).save("photos/a.jpg")
    section = text[text.index("\n## ") :]
    commands = re.findall(r"^    hashbench (.*)$", section, re.MULTILINE)
    assert "verify runs" in commands
    for command in commands:
        arguments = shlex.split(
            command.replace("fashion-mnist-10k@5k", "toy@small").replace("fashion-mnist-10k", "toy")
        )
        arguments = [str(next(Path().glob(part))) if "*" in part else part for part in arguments]
        ran = CliRunner().invoke(main, arguments)
        assert ran.exit_code == 0, f"{command}\n{ran.output}"
    for snippet in re.findall(r"^    import gzip.*?(?=\n\n\S)", text, re.MULTILINE | re.DOTALL):
        found = {}
        exec(textwrap.dedent(snippet), found)
        assert len(found["database"]) == 75


def test_the_commands_about_measuring_without_labels_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "without-labels.md").read_text()
    page = re.sub(r"\n## Both questions on CIFAR-10.*?(?=\n## )", "", page, flags=re.DOTALL)  # hours of real data
    commands = re.findall(r"^    hashbench (.*)$", page, re.MULTILINE)
    named = ["run", "evaluate-run", "evaluate-run", "compare", "verify", "search-cost"]
    assert [command.split()[0] for command in commands] == named
    for command in commands:
        ran = CliRunner().invoke(
            main, shlex.split(command.replace("fashion-mnist-10k", "toy").replace("--seeds 3", "--seeds 1"))
        )
        assert ran.exit_code == 0, f"{command}\n{ran.output}"
        if command.startswith("verify"):
            assert "40 runs: 40 as stored" in ran.output


def test_the_commands_about_using_the_codes_work_in_their_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "using-the-codes.md").read_text()
    for place, name in enumerate(("photos/a.jpg", "photos/b.png", "more-photos/c.jpg", "photo.jpg", "other.jpg")):
        Path(name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 9), (50 * place, 0, 0)).save(name)
    commands = re.findall(r"^    hashbench (.*)$", page, re.MULTILINE)
    inline = [f"index {words}" for words in re.findall(r"`hashbench index ([^`]+)`", page)]
    named = ["run", "index", "search", "search", "export", "export", "freeze", "verify"]
    assert [words.split()[0] for words in commands] == named
    assert inline == ["index shop.hashindex more-photos", "index shop.hashindex photos --kind multi-index"]
    for words in (*commands[:2], *inline, *commands[2:]):
        arguments = shlex.split(words.replace("fashion-mnist-10k@5k", "toy@small").replace("fashion-mnist-10k", "toy"))
        if arguments[0] == "run":
            arguments += ["--backbone", "toy-backbone"]
        arguments = [str(next(Path().glob(part))) if "*" in part else part for part in arguments]
        if arguments[-1].endswith(".onnx"):
            continue  # tests/networks/test_onnx_export.py does it
        ran = CliRunner().invoke(main, arguments)
        assert ran.exit_code == 0, f"{words}\n{ran.output}"
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code, {})


def test_the_commands_about_tuning_work_in_their_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "tuning.md").read_text().replace("fashion-mosaic@4k", "toy@small")
    for text, short in (("fashion-mosaic", "toy"), ("fashion-mnist-10k", "toy@searched"), ("trials 8", "trials 2"),
                        ("trials=8", "trials=2"),
                        ("epochs 3", "epochs 1"), ("epochs=3", "epochs=1"), ("seeds 3", "seeds 1"),
                        ("--bits 32", "--bits 8 --backbone toy-backbone"),
                        ("[32]", "[8], backbone='toy-backbone'")):  # fmt: skip
        page = page.replace(text, short)
    ((name, space),) = re.findall(r"Save this as `(\w+\.toml)`:\n\n```toml\n(.*?)```", page, re.DOTALL)
    Path(name).write_text(space)
    commands = re.findall(r"^    hashbench (.*)$", page, re.MULTILINE)
    commands += re.findall(r"`hashbench (export [^`]+)`", page)
    assert [words.split()[0] for words in commands] == ["tune", "run", "run", "compare", "run", "verify", "export"]
    for words in commands:
        ran = CliRunner().invoke(main, shlex.split(words))
        assert ran.exit_code == 0, f"{words}\n{ran.output}"
        if words == "compare runs":
            assert "dpsh (tuned)" in ran.output
            assert ": 2 trials at 8 bits for each row" in " ".join(ran.output.split())
            assert "Not tuned: csq." in " ".join(ran.output.split())
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code, {})


def test_the_dry_run_of_the_reproduction_page_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "reproducing-a-paper.md").read_text()
    (command,) = re.findall(r"^    hashbench (.*--dry-run)$", page, re.MULTILINE)
    ran = CliRunner().invoke(main, shlex.split(command))
    assert ran.exit_code == 0, ran.output
    assert "to do" in ran.output


def test_the_methods_of_other_suites_are_planned(tmp_path):
    rows = re.findall(
        r"^\| [\w-]+ \| `([^`]+)`", (ROOT / "docs" / "coming-from-other-suites.md").read_text(), re.MULTILINE
    )
    assert len(rows) == 35
    rows = [*dict.fromkeys(rows)]
    arguments = ["run", "--method", ",".join(rows), "--dataset", "toy", "--bits", "32", "--dry-run"]
    ran = CliRunner().invoke(main, [*arguments, "--runs-dir", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
    assert f"{len(rows)} of {len(rows)} runs to compute" in ran.output


def test_the_sweeps_of_the_page_on_many_machines_are_planned(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    pytest.importorskip("submitit")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")  # as on a login node of Slurm
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "many-machines.md").read_text().replace("\\\n", "")
    (config,) = re.findall(r"```toml\n(method.*?)```", page, re.DOTALL)
    Path("sweep.toml").write_text(config.replace("cifar100", "toy"))
    commands = re.findall(r"`?(hashbench run .*?)(?:`|$)", page, re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        arguments = shlex.split(re.sub("cifar100|fashion-mnist-10k", "toy", command))[1:]
        ran = CliRunner().invoke(main, [*arguments, "--dry-run"])
        assert ran.exit_code == 0, f"{command}\n{ran.output}"
        assert "runs to compute" in ran.output

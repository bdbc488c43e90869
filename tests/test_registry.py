"""Plug-ins of other distributions: found, shown, and kept from breaking anything; faked by folders on the path."""

import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import hashbench
from hashbench.cli import listing, main
from hashbench.errors import HashbenchError
from hashbench.methods.crh import CRH
from hashbench.registry import BACKBONES, CONDITIONS, DATASETS, EXECUTORS, METHODS, Registry

EXAMPLE = Path(__file__).parents[1] / "examples" / "hashbench-plugin"
METHOD = """
import hashbench

@hashbench.method("{name}", paper="arXiv:0000.00000", version=7)
class Method(hashbench.DeepMethod):
    def loss(self, out, batch):
        return {{"small": (out**2).mean()}}
"""


@pytest.fixture
def install(tmp_path, monkeypatch, fresh_methods):
    """Return a function that puts a module and its distribution's metadata on the path."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(name, *, entry, module, text, version="2.5", kind="methods"):
        (tmp_path / f"{module}.py").write_text(text)
        metadata = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (metadata / "entry_points.txt").write_text(f"[hashbench.{kind}]\n{entry}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return put


def listed(name):
    """Return the lines of `hashbench list methods` from that of `name` to the next name's, as one text."""
    lines = listing.methods().splitlines()
    start = next(at for at, line in enumerate(lines) if line.split()[:1] == [name])
    stop = next((at for at in range(start + 1, len(lines)) if not lines[at].startswith(" ")), len(lines))
    return " ".join(" ".join(lines[start:stop]).split())


def test_a_plugin_is_listed_with_version_origin_and_paper_and_runs(install, tmp_path):
    text = METHOD.format(name="theirs")
    install("their-hashing", entry="theirs = their_module:Method", module="their_module", text=text)
    assert "theirs" in METHODS
    assert "their_module" not in sys.modules  # found without being imported
    shown = listed("theirs")
    for part in ("their-hashing 2.5", "7", "arXiv:0000.00000"):
        assert part in shown
    result = hashbench.run("theirs", "toy", bits=16, epochs=1, progress=False, runs_dir=tmp_path / "runs")
    assert result.coords["method_version"] == 7
    assert result.provenance["plugin"] == {"distribution": "their-hashing", "version": "2.5"}


BROKEN = {
    "import": ("import nothing_like_it", "their_module:Method", "does not load: ModuleNotFoundError"),
    "leaves": ("raise SystemExit", "their_module:Method", "does not load: SystemExit"),
    "attribute": ("", "their_module:Method", "does not load: AttributeError"),
    "decorator": ("class Method: pass", "their_module:Method", "lacks the decorator @hashbench.method"),
    "other name": (METHOD.format(name="other"), "their_module:Method", "calls itself 'other'"),
    "taken name": (METHOD.format(name="crh"), "their_module:Method", "'crh' is taken by hashbench.methods.crh"),
    "no target": ("", "their module", "does not load"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_shown_as_broken_and_breaks_nothing(install, case):
    text, target, reason = BROKEN[case]
    install("their-hashing", entry=f"theirs = {target}", module="their_module", text=text)
    shown = listed("theirs")
    assert "their-hashing 2.5" in shown
    assert "unavailable" in shown
    assert reason in shown
    assert "arXiv:2511.12162" in listed("crh")
    assert METHODS.get("crh") is CRH
    with pytest.raises(HashbenchError, match=r"The method 'theirs' from their-hashing 2\.5"):
        METHODS.get("theirs")
    refused = CliRunner().invoke(main, ["run", "--method", "theirs", "--dataset", "toy", "--dry-run"])
    assert refused.exit_code == 2
    assert len(refused.stderr.strip().splitlines()) == 1


def test_the_built_in_wins_a_clash_and_the_loser_is_named(install, tmp_path):
    install("their-hashing", entry="crh = their_module:Method", module="their_module", text="raise SystemExit")
    assert METHODS.get("crh") is CRH
    assert "hashbench 0.1.0; not the one from their-hashing 2.5" in listed("crh")
    result = hashbench.run("crh", "toy", bits=16, epochs=1, progress=False, runs_dir=tmp_path / "runs")
    assert result.provenance["plugin"]["distribution"] == "hashbench"


def test_of_two_strangers_the_first_in_the_alphabet_wins(install):
    install("b-hashing", entry="theirs = b_module:Method", module="b_module", text=METHOD.format(name="theirs"))
    install("a-hashing", entry="theirs = a_module:Method", module="a_module", text=METHOD.format(name="theirs"))
    assert METHODS.get("theirs").__module__ == "a_module"
    assert "a-hashing 2.5; not the one from b-hashing 2.5" in listed("theirs")


def test_the_own_distributions_entry_points_count_as_built_in(install):
    install("a-hashing", entry="theirs = a_module:Method", module="a_module", text=METHOD.format(name="theirs"))
    install("hashbench", entry="theirs = own_module:Method", module="own_module", text=METHOD.format(name="theirs"))
    entry = METHODS.entries()["theirs"]
    assert entry.builtin
    assert entry.module == "own_module"


def test_other_kinds_have_groups_of_their_own(install):
    install("their-hashing", entry="theirs = their_module:Method", module="their_module", text="Method = 1")
    assert "theirs" not in Registry("backbone").entries()
    install(
        "a-hashing", entry="theirs = their_module:Method", module="their_module", text="Method = 1", kind="backbones"
    )
    assert Registry("backbone").get("theirs") == 1


def test_the_example_keeps_the_contract_under_the_name_in_its_project_file(monkeypatch, fresh_methods):
    import tomllib

    monkeypatch.syspath_prepend(EXAMPLE / "src")
    monkeypatch.setattr("hashbench.checks.verdict.BITS", (12,))
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    ((name, target),) = project["entry-points"]["hashbench.methods"].items()
    from hashbench.checks.verdict import check

    verdict = check(target)
    assert verdict.ok, verdict.render()
    assert verdict.title.startswith(f"{name} version 1")
    assert project["dependencies"] == ["hashbench"]


def test_what_was_renamed_is_found_by_its_former_names(fresh_methods, tmp_path):
    @hashbench.method("newname", former_names=("oldname", "oldername"))
    class Renamed(hashbench.DeepMethod):
        """A method that had other names."""

        def loss(self, out, batch):
            return {"small": (out**2).mean()}

    assert "oldname" in METHODS
    assert "oldname" not in METHODS.entries()
    with pytest.warns(FutureWarning, match="The method 'oldername' is called 'newname' now"):
        assert METHODS.get("oldername") is Renamed
    with pytest.warns(FutureWarning):
        result = hashbench.run("oldname", "toy", bits=8, epochs=1, runs_dir=tmp_path, progress=False)
    assert result.coords["method"] == "newname"
    with pytest.raises(HashbenchError, match=r"'oldname' is taken by .*test_registry"):
        METHODS.register("oldname", CRH)


def test_a_former_name_takes_no_other_methods_name(fresh_methods):
    with pytest.raises(HashbenchError, match="'crh' is taken by hashbench"):
        hashbench.method("mine", former_names=("crh",))(type("Mine", (hashbench.DeepMethod,), {}))
    assert METHODS.get("crh") is CRH


def test_a_plugin_may_leave_the_entry_point_of_a_former_name(install):
    renamed = METHOD.format(name="after").replace("version=7", "version=7, former_names=('before',)")
    install("renaming", entry="after = renaming:Method\nbefore = renaming:Method", module="renaming", text=renamed)
    assert METHODS.get("before").info.name == "after"
    with pytest.raises(HashbenchError, match="calls itself 'after'"):
        raise HashbenchError(METHODS.accepts("other", METHODS.get("after")))


def test_builtin_things_may_have_former_names():
    registry = Registry("thing", builtin={"now": "hashbench.methods.crh:CRH"}, former={"then": "now"})
    with pytest.warns(FutureWarning, match="The thing 'then' is called 'now' now"):
        assert registry.get("then") is CRH
    assert [*registry] == ["now"]


def test_a_backbone_is_in_an_identity_by_its_present_name(tmp_path, monkeypatch):
    monkeypatch.setitem(BACKBONES._former, "tiny", "toy-backbone")
    run = {
        "recipe": "frozen",
        "epochs": 1,
        "runs_dir": tmp_path,
        "progress": False,
        "overrides": {"recipe": {"size": "0"}},
    }
    with pytest.warns(FutureWarning, match="'tiny' is called 'toy-backbone' now"):
        result = hashbench.run("lsh", "toy", bits=8, backbone="tiny", **run)
    assert result.id == hashbench.run("lsh", "toy", bits=8, backbone="toy-backbone", **run).id


RUDE = {
    "an exit": "raise SystemExit(3)",
    "a library that is not there": "import ctypes\nctypes.CDLL('libnothing.so')",
    "an exception of another kind": "class Rude(BaseException): pass\nraise Rude",
    "no end": "def f(): f()\nf()",
    "no Python": "def (",
    "a thing without manners": "class T:\n    def __getattr__(self, name): raise ZeroDivisionError\nMethod = T()",
    "an info that is none": "class Method: info = None",
    "several lines": "raise ValueError('one\\ntwo')",
}


@pytest.mark.parametrize("kind", ["methods", "datasets", "backbones", "executors", "conditions", "measures"])
@pytest.mark.parametrize("case", RUDE)
def test_whatever_a_plugin_does_it_is_named_and_the_others_are_shown(install, monkeypatch, case, kind):
    for registry in (METHODS, DATASETS, BACKBONES, EXECUTORS, CONDITIONS):
        monkeypatch.setattr(registry, "_loaded", dict(registry._loaded))
    install("their-hashing", entry="theirs = their_module:Method", module="their_module", text=RUDE[case], kind=kind)
    ran = CliRunner().invoke(main, ["list", kind], catch_exceptions=False)
    assert ran.exit_code == 0
    assert "theirs" in ran.stdout
    assert re.search(r"unavailable|does not load|cannot be used", ran.stdout) or (kind, case) in USABLE
    ours = {"methods": "crh", "datasets": "cifar10", "backbones": "resnet18", "executors": "slurm",
            "conditions": "blur", "measures": "mAP@all"}  # fmt: skip
    assert ours[kind] in ran.stdout


USABLE = [("backbones", "an info that is none")]  # a class may be a backbone's factory


def test_an_interrupt_stops_whatever_a_plugin_is_at(install):
    text = "raise KeyboardInterrupt"
    install("their-hashing", entry="theirs = their_module:Method", module="their_module", text=text)
    assert CliRunner().invoke(main, ["list", "methods"]).exit_code == 130


def test_who_asks_for_a_name_that_two_give_hears_of_the_other(install):
    install("their-hashing", entry="crh = their_module:Method", module="their_module", text="")
    METHODS._loaded.pop("crh", None)
    with pytest.warns(UserWarning, match=r"method 'crh' is the one from hashbench .*, not .* from their-hashing 2\.5"):
        METHODS.get("crh")


def test_a_distribution_without_a_name_is_no_hindrance(install, tmp_path):
    install("their-hashing", entry="theirs = their_module:Method", module="their_module", text="")
    (tmp_path / "their_hashing-2.5.dist-info" / "METADATA").write_text("")
    assert "unavailable" in listed("theirs")
    assert str(METHODS.entries()["theirs"].origin) == "an unnamed distribution"

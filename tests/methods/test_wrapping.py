"""A method around a method: its settings, its identity, what it trains, saves and loads, and what is refused."""

import hashlib
import json

import pytest
import torch
from method_cases import make_task

import hashbench
from hashbench.errors import HashbenchError
from hashbench.experiments import phases
from hashbench.experiments.experiment import Experiment
from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan
from hashbench.methods.contract import DeepMethod, Method, base_method, defines, method, option
from hashbench.methods.crh import CRH
from hashbench.methods.wrapping import changed_fields, construct, resolve, unsupported
from hashbench.results.runs import RunDirectory
from hashbench.results.tables.blocks import row_label
from hashbench.system.provenance import source_sha256
from hashbench.training import preparation


@pytest.fixture
def tight(fresh_methods):
    """A wrapper that adds a quantization term to what its base learns, with a parameter of its own."""

    @method("tight")
    class Tight(DeepMethod):
        base: DeepMethod = base_method("csq", "the method whose outputs are tightened")
        weight: float = option(0.1, "weight of the added term")

        def setup(self, task, prepared):
            self.base.setup(task, prepared)
            self.scale = torch.nn.Parameter(torch.ones(task.bits))

        def loss(self, out, batch):
            gap = (self.scale * out).abs() - 1
            return {**self.base.loss(out, batch), "tight": self.weight * gap.square().mean()}

    return Tight


@pytest.fixture
def settings(tmp_path):
    return {"runs_dir": tmp_path / "runs", "epochs": 2, "progress": False}


def identity_of(row, overrides=None, **more):
    (run,) = plan([row], ["toy"], [16], settings=Settings(overrides=overrides or {}, **more)).runs
    return run.experiment.identity["method"], run.experiment.id


def test_the_base_is_in_the_identity_with_all_its_fields(tight):
    described, id = identity_of("tight")
    base = described["fields"]["base"]
    assert (base["name"], base["version"]) == ("csq", 1)
    assert base["fields"] == {
        "quantization": 1e-4,
        "quantization_term": "squared",
        "center_draws": 20,
        "head_layers": 1,
    }
    others = [
        identity_of("tight (base=crh)"),
        identity_of("tight (base=crh, base.margin=0.3)"),
        identity_of("tight (base.quantization=0.5)"),
        identity_of("tight", {"tight": {"weight": 1}}),
    ]
    assert len({id, *(other for _, other in others)}) == 5
    assert others[1][0]["fields"]["base"]["fields"]["margin"] == 0.3
    assert identity_of("tight (base=csq)")[1] == id
    typed = identity_of("tight", {"tight": {"base": "crh", "base.margin": "0.3"}})
    assert typed == others[1]


def test_another_version_of_the_base_is_another_run(tight, monkeypatch):
    _, id = identity_of("tight (base=crh)")
    monkeypatch.setattr(CRH, "info", CRH.info.__class__("crh", "", 2))
    assert identity_of("tight (base=crh)")[1] != id


def test_a_method_without_a_base_says_nothing_of_one(settings):
    result = hashbench.run("csq", "toy", bits=16, **settings)
    spec = RunDirectory(result.path).read_spec()["identity"]
    assert "base" not in json.dumps(spec["method"])
    assert "base_version" not in result.coords
    assert "base" not in result.provenance


def test_a_wrapped_run_is_trained_saved_loaded_and_told(tight, settings):
    plain, wrapped = (hashbench.run(name, "toy", bits=16, **settings) for name in ("csq", "tight"))
    free = hashbench.run("tight", "toy", bits=16, overrides={"tight": {"weight": 0}}, **settings)
    assert wrapped.metrics["mAP@all"] > 0.5
    one, two = (RunDirectory(result.path).read_arrays("codes") for result in (plain, free))
    assert (one["database"] == two["database"]).all(), "without its own term it trains what its base does"
    assert "tight" in RunDirectory(wrapped.path).read_log()[-1]["loss"]
    assert wrapped.diagnostics == plain.diagnostics  # end_epoch is the base's
    assert (wrapped.path / "centers.npz").is_file()
    state = torch.load(wrapped.path / "model.pt", weights_only=True)["method"]
    assert {*state} == {"scale", "base.centers", "base.ties"}
    assert not torch.equal(state["scale"], torch.ones(16)), "its own parameter is optimised"
    model = hashbench.load(wrapped.path)
    images = torch.rand(7, 1, 12, 12)
    assert model.encode(images).shape == (7, 16)
    assert isinstance(model.method.base, Method)
    identity = RunDirectory(wrapped.path).read_spec()["identity"]
    assert Experiment.from_identity(identity).id == wrapped.id


def test_the_loaded_base_has_the_fields_of_its_run(tight, settings):
    result = hashbench.run("tight (base=crh, base.margin=0.3)", "toy", bits=16, **settings)
    assert hashbench.load(result.path).method.base.margin == 0.3
    assert result.coords["fields"] == {"base": "crh", "base.margin": 0.3}
    assert row_label(result) == "tight (base=crh, base.margin=0.3)"
    again = hashbench.run(row_label(result), "toy", bits=16, **settings)
    assert again.id == result.id
    assert "classes_moved" in result.diagnostics, "crh re-assigns inside the wrapper as outside"


def test_tables_tell_versions_of_the_base_apart(tight, settings, monkeypatch):
    hashbench.run("tight (base=crh)", "toy", bits=16, **settings)
    monkeypatch.setattr(CRH, "info", CRH.info.__class__("crh", "", 2))
    hashbench.run("tight (base=crh)", "toy", bits=16, **settings)
    (table,) = hashbench.compare(settings["runs_dir"], measures=["mAP@all"]).tables
    assert [row.label for row in table.rows] == ["tight (base=crh, base v1)", "tight (base=crh, base v2)"]


def test_changed_fields_are_those_that_make_the_row_again(tight):
    for given in ({}, {"base": "crh"}, {"base": "crh", "base.margin": 0.3, "weight": 1.0}, {"base.quantization": 1.0}):
        assert changed_fields(tight, resolve(tight, given)) == given


def test_the_command_line_sets_a_base(tight, cli, tmp_path):
    arguments = ["run", "--method", "tight", "--dataset", "toy", "--bits", 16, "--epochs", 1, "--quiet"]
    shown = cli(*arguments, "--set", "tight.base=crh", "--set", "tight.base.margin=0.3").output
    assert "tight (base=crh, base.margin=0.3)" in shown
    (tmp_path / "sweep.toml").write_text("[set]\ntight.base.quantization = 0.5\n")
    assert "tight (base.quantization=0.5)" in cli(*arguments, "--config", "sweep.toml").output
    compared = cli("compare").output
    assert "tight (base=crh, base.margin=0.3)" in compared
    assert "toy@small/tight/16b  2" in cli("status").output
    assert "2 runs: 2 as stored" in cli("verify").output
    listed = [line.split()[:2] for line in cli("list", "methods", "--fields", "tight").output.splitlines()]
    assert ["base", "csq"] in listed
    assert ["weight", "0.1"] in listed


def test_the_checks_construct_a_wrapper_with_its_default_base(tight, monkeypatch):
    monkeypatch.setattr("hashbench.checks.verdict.BITS", (12,))
    verdict = hashbench.check(tight)
    assert verdict.ok, verdict.render()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("tight (base=lsh)", "tight.base=lsh is not possible: lsh is fitted in one call"),
        ("tight (base=tight)", "tight.base=tight is not possible: tight wraps a method itself"),
        ("tight (base=cqs)", "Unknown method 'cqs'. Did you mean 'csq'"),
        ("tight (base.margn=1)", "Unknown field of csq 'margn'"),
        ("tight (base=crh, base.margn=1)", "Unknown field of crh 'margn'. Did you mean 'margin'"),
        ("tight (base=crh, base.margin=wide)", "'wide' is not a value for margin, which takes a number"),
        ("crh (base=csq)", "Unknown field of crh 'base'"),
        ("crh (base.margin=1)", "Unknown field of crh 'base.margin'"),
    ],
)
def test_what_cannot_be_a_base_is_one_sentence(tight, row, said):
    with pytest.raises(HashbenchError) as raised:
        identity_of(row)
    assert said in str(raised.value)


def test_a_base_that_refuses_the_task_skips_its_cell_alone(tight):
    made = plan(["tight", "lsh"], ["toy"], [1, 16], settings=Settings(overrides={"tight": {"base": "crh"}}))
    assert [run.skipped is None for run in made.runs] == [False, True, True, True]
    assert made.runs[0].skipped.startswith("its base crh: 1 bits give 2 words, which cannot hold 3 classes")


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("training_step", "its base steps has a training_step of its own, which tight does not call."),
        ("parameter_groups", "its base steps has a parameter_groups of its own, which tight does not call."),
        ("supports", "its supports() failed: ValueError: no idea"),
    ],
)
def test_a_hook_that_cannot_be_passed_on_is_a_reason(tight, hook, said):
    def own(self, *arguments):
        raise ValueError("no idea")

    method("steps")(type("Steps", (DeepMethod,), {hook: own, "__module__": __name__}))
    (run,) = plan(["tight (base=steps)"], ["toy"], [16], settings=Settings()).runs
    assert run.skipped == said


def test_declarations_of_a_base_are_taken_over_or_a_reason(tight):
    class Remembers(DeepMethod):
        keeps_samples = ("memory",)

        def loss(self, out, batch):
            return {"all": out.square().mean()}

    method("remembers")(Remembers)
    row = {"base": "remembers"}
    assert construct(tight, resolve(tight, row)).keeps_samples == ("base.memory",)
    Remembers.views = 2
    (run,) = plan(["tight (base=remembers)"], ["toy"], [16], settings=Settings()).runs
    assert run.skipped == "its base remembers has views = 2; tight has to declare the same."
    tight.views = 2
    assert unsupported(construct(tight, resolve(tight, row)), make_task()) is None


def test_an_unsupervised_wrapper_cannot_have_a_supervised_base(tight):
    tight.supervised = False
    (run,) = plan(["tight"], ["toy"], [16], settings=Settings()).runs
    assert run.skipped == "its base csq learns from labels, which an unsupervised method is not given."


def test_a_wrapper_that_is_written_wrongly_is_refused(fresh_methods):
    with pytest.raises(HashbenchError, match="call the field base"):

        @method("other-name")
        class OtherName(DeepMethod):
            inner: DeepMethod = base_method("csq", "under another name")

    with pytest.raises(HashbenchError, match=r"derive it from hashbench\.DeepMethod"):

        @method("fitted-wrapper")
        class Fitted(Method):
            base: DeepMethod = base_method("csq", "of a method without a network")


def test_a_wrapper_whose_default_base_is_missing_ends_in_a_sentence(fresh_methods):
    @method("orphan")
    class Orphan(DeepMethod):
        base: DeepMethod = base_method("nobody", "a method that is not installed")

    with pytest.raises(HashbenchError, match="Unknown method 'nobody'"):
        identity_of("orphan")
    (line,) = hashbench.check(Orphan).lines
    assert "Unknown method 'nobody'" in str(line)
    with pytest.raises(HashbenchError, match="wraps another method"):
        hashbench.as_loss("orphan")


def test_a_run_whose_base_is_gone_ends_in_a_sentence(tight, settings):
    from hashbench.registry import METHODS

    method("mine")(type("Mine", (CRH,), {"__module__": __name__}))
    result = hashbench.run("tight (base=mine)", "toy", bits=16, **settings)
    del METHODS._local["mine"]
    METHODS._loaded.pop("mine", None)
    with pytest.raises(HashbenchError, match="trained by tight around 'mine', which is not there"):
        hashbench.load(result.path)


def test_the_source_of_the_base_makes_a_run_stale(tight, settings, monkeypatch):
    result = hashbench.run("tight", "toy", bits=16, **settings)
    both = hashlib.sha256((source_sha256(tight) + source_sha256(type(tight().base))).encode()).hexdigest()
    assert result.provenance["source_sha256"] == both
    assert result.provenance["base"]["distribution"] == "hashbench"
    computed = []
    compute = phases.compute
    monkeypatch.setattr(
        "hashbench.experiments.execution.compute", lambda *a, **k: computed.append(1) or compute(*a, **k)
    )
    hashbench.run("tight", "toy", bits=16, **settings, rerun="stale")
    assert computed == []
    monkeypatch.setattr("hashbench.experiments.resolving.source_sha256", lambda *classes: f"{len(classes)}" * 64)
    (run,) = plan(["tight"], ["toy"], [16], settings=Settings(**settings)).runs
    assert run.source_sha256 == "2" * 64
    hashbench.run("tight", "toy", bits=16, **settings, rerun="stale")
    assert computed == [1]


def test_hooks_that_a_wrapper_does_not_define_are_its_bases(tight):
    forwarded = {hook for hook in vars(DeepMethod) if hasattr(getattr(tight, hook, None), "forwarded")}
    assert forwarded >= {"prepare", "head", "after_step", "epoch_sums", "wants_fresh_pass", "end_epoch", "codes"}
    assert not forwarded & {"setup", "loss", "training_step", "parameter_groups", "fit", "encode"}
    assert defines(tight, "loss")
    assert not defines(tight, "end_epoch")
    wrapper = construct(tight, resolve(tight, {"base": "crh", "base.code_source": "fresh"}))
    assert wrapper.wants_fresh_pass.__func__ is not DeepMethod.wants_fresh_pass
    assert [name for name, _ in wrapper.named_children()] == ["base"]
    wrapper.base.resumes = lambda: "it forgets."
    assert wrapper.resumes() == "it forgets."


@pytest.fixture
def prepared(monkeypatch):
    """The keys of preparations, in the order in which they are asked for."""
    keys, cache_key = [], preparation._cache_key

    def noted(*arguments):
        keys.append(cache_key(*arguments))
        return keys[-1]

    monkeypatch.setattr(preparation, "_cache_key", noted)
    return keys


def test_what_a_base_prepares_is_shared_with_the_base_itself(tight, settings, prepared):
    plain = hashbench.run("shc", "toy", bits=16, **settings)
    wrapped = hashbench.run("tight (base=shc)", "toy", bits=16, **settings)
    assert len(set(prepared)) == 1
    assert (plain.provenance["prepared_from_cache"], wrapped.provenance["prepared_from_cache"]) == (False, True)
    assert not hashbench.run("tight", "toy", bits=16, **settings).provenance["prepared_from_cache"]
    assert len(prepared) == 2, "csq prepares nothing"


def test_what_a_wrapper_prepares_knows_the_fields_of_its_base(fresh_methods, settings, prepared):
    @method("readies")
    class Readies(DeepMethod):
        base: DeepMethod = base_method("csq", "what it readies")
        weight: float = option(1.0, "of no influence")

        def prepare(self, task, data, tools):
            return {"base_margin": torch.tensor(self.base.quantization), **self.base.prepare(task, data, tools)}

    for row in ("readies", "readies (weight=2)", "readies (base.quantization=0.5)", "readies (base=shc)"):
        hashbench.run(row, "toy", bits=16, **settings)
    first, same, other_field, other_base = prepared
    assert first == same
    assert len({first, other_field, other_base}) == 3


def test_the_papers_fields_may_name_the_base_and_its_fields(tight, monkeypatch):
    monkeypatch.setattr(tight, "paper_recipe", {"backbone": "toy-backbone", "epochs": 2})
    monkeypatch.setattr(tight, "paper_fields", {"base": "crh", "base.margin": 0.4, "weight": 0.5})
    fields = identity_of("tight", recipe="paper")[0]["fields"]
    assert (fields["weight"], fields["base"]["name"], fields["base"]["fields"]["margin"]) == (0.5, "crh", 0.4)
    assert identity_of("tight (base.margin=0.1)", recipe="paper")[0]["fields"]["base"]["fields"]["margin"] == 0.1
    other = identity_of("tight (base=csq)", recipe="paper")[0]["fields"]
    assert (other["weight"], other["base"]["name"]) == (0.5, "csq")

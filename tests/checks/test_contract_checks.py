"""Views, twins, memories on two ranks, wrappers and prefixes, chance of every library: what check finds of each."""

import copy
from pathlib import Path

import contract_methods
import pytest
import torch

import hashbench
from hashbench.checks import method_checks, toy_runs, verdict
from hashbench.checks.verdict import check
from hashbench.errors import HashbenchError
from hashbench.interop.targets import resolve_method
from hashbench.system import seeds

pytestmark = pytest.mark.usefixtures("fresh_methods")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(verdict, "BITS", (12,))
    monkeypatch.setattr(method_checks, "BITS", (12,))


def line_of(found, what):
    return next(line for line in found.lines if line.what.startswith(what))


def registered(cls, name="made"):
    return hashbench.method(name)(type("Made", (cls,), {**vars(cls), "__module__": __name__}))


# chance


@pytest.mark.parametrize("name", ["low-rank", "draws"])
def test_what_draws_from_global_generators_fails_where_nobody_seeds_them(name, inputs, monkeypatch):
    inputs("first")
    contract_methods.register(name)
    assert check(name).ok
    monkeypatch.setattr(seeds, "seed_globals", lambda *purpose, **given: None)
    assert line_of(check(name), "one seed gives one result").state == "FAILED"


# views


class LooksAtViews(contract_methods.TwoViews):
    def training_step(self, network, batch):
        assert len(batch.views) == 2
        if batch.index.device.type == "cpu":  # where a step may look
            assert not torch.equal(*batch.views)
        return super().training_step(network, batch)


def test_a_method_of_two_views_is_given_two_that_differ():
    found = check(registered(LooksAtViews))
    assert found.ok, found.render()
    assert line_of(found, "single-label vectors at 12 bits, multi-label vectors at 12 bits").state == "skipped"


# twins


class TwinInAttribute(contract_methods.Twin):
    def attach(self, network, task):
        vars(self)["twin"] = copy.deepcopy(network).requires_grad_(False)


class NetworkAsTwin(contract_methods.Twin):
    def attach(self, network, task):
        self.twin = network


def test_a_twin_is_saved_and_resumed_and_one_out_of_sight_is_found(inputs):
    inputs("first")
    found = check(registered(contract_methods.Twin))
    assert found.ok, found.render()
    assert line_of(found, "a resumed training").state == "ok"
    assert line_of(check(registered(TwinInAttribute)), "a resumed training").state == "FAILED"
    line = line_of(check(registered(NetworkAsTwin)), "loss terms")
    assert "made.twin is a part of the network" in line.reason


# memories


MEMORY = """
import torch
import hashbench


class Kept(hashbench.DeepMethod):
    keeps_samples = ("outputs",)

    def setup(self, task, prepared):
        self.register_buffer("outputs", torch.zeros(task.num_train, task.bits))

    def loss(self, out, batch):
        self.latest = out.detach()
        return {"pull": (out - self.outputs.mean(dim=0)).square().mean() - out.square().mean().sqrt()}

    def after_step(self, network, batch):
        self.outputs[batch.index] = self.latest


@hashbench.method("whole")
class Whole(Kept):
    pass


@hashbench.method("half")
class Half(Kept):
    def after_step(self, network, batch):
        self.outputs[batch.index[:8]] = self.latest[:8]


@hashbench.method("beside")
class Beside(Kept):
    def after_step(self, network, batch):
        self.outputs[(batch.index + 1) % len(self.outputs)] = self.latest


@hashbench.method("undeclared")
class Undeclared(Kept):
    def setup(self, task, prepared):
        super().setup(task, prepared)
        self.register_buffer("norms", torch.zeros(task.num_train))

    def after_step(self, network, batch):
        super().after_step(network, batch)
        self.norms[batch.index] = self.latest.norm(dim=1)


@hashbench.method("rank-fails")
class RankFails(Kept):
    def after_step(self, network, batch):
        if len(batch.index) != batch.whole:
            raise KeyError("share")  # here
        super().after_step(network, batch)


@hashbench.method("around")
class Around(hashbench.DeepMethod):
    base: hashbench.DeepMethod = hashbench.base_method("whole", "what is wrapped")
"""
ROWS, WHOLE = "a step writes the memory's rows", "two ranks make the memory whole"


@pytest.fixture
def memories(tmp_path):
    file = tmp_path / "memories.py"
    file.write_text(MEMORY)
    return file


def case_of(memories, name):
    return toy_runs.Case(resolve_method(f"{memories}:{name}"), 12, multi_label=False, inputs="images")


@pytest.mark.slow
def test_a_memory_of_a_base_is_whole_on_two_ranks_too(memories, inputs):
    inputs("first")
    found = check(f"{memories}:Around")
    assert found.ok, found.render()
    assert line_of(found, ROWS).state == line_of(found, WHOLE).state == "ok"


@pytest.mark.slow
def test_what_a_share_leaves_out_is_found(memories):
    reason = method_checks.memory_is_whole(case_of(memories, "Half"))
    assert reason.startswith("two ranks write other rows of 'outputs' than one process")


@pytest.mark.slow
def test_a_memory_that_is_not_declared_is_found(memories):
    reason = method_checks.memory_is_whole(case_of(memories, "Undeclared"))
    assert reason == "two ranks write other rows of 'norms' than one process; declare it in keeps_samples."


def test_what_is_written_beside_is_found(memories):
    reason = method_checks.writes_its_rows(case_of(memories, "Beside"))
    assert reason == "a step writes rows of 'outputs' whose samples are not in its batch."
    assert method_checks.writes_its_rows(case_of(memories, "Half")) is None


@pytest.mark.slow
def test_a_rank_that_fails_says_where(memories):
    with pytest.raises(HashbenchError) as raised:
        method_checks.memory_is_whole(case_of(memories, "RankFails"))
    number = MEMORY[: MEMORY.index("# here")].count("\n") + 1
    assert str(raised.value) == f"trained by 2 ranks: KeyError: 'share' (line {number} of {memories})"


def test_a_class_that_no_file_has_is_skipped_and_no_memory_is_no_line(cli, inputs):
    inputs("first")
    assert "no other process finds its class" in line_of(check(registered(contract_methods.Memory)), WHOLE).reason
    shown = cli("check", "csq").stdout
    assert "memory" not in shown


# wrappers and prefixes


@pytest.mark.slow
def test_one_of_each_by_the_command_line(cli, memories, inputs):
    inputs("first")
    Path("mine.py").write_text(
        "import hashbench\n"
        "@hashbench.method('tight')\n"
        "class Tight(hashbench.DeepMethod):\n"
        "    base: hashbench.DeepMethod = hashbench.base_method('csq', 'what is wrapped')\n"
        "    def loss(self, out, batch):\n"
        "        return {**self.base.loss(out, batch), 'corner': (out.abs() - 1).square().mean()}\n"
        "@hashbench.method('nested')\n"
        "class Nested(hashbench.DeepMethod):\n"
        "    prefixes = True\n"
        "    def setup(self, task, prepared):\n"
        "        assert len(task.lengths) in (1, 2) and task.lengths[-1] == task.bits\n"
        "        self.lengths = task.lengths\n"
        "    def loss(self, out, batch):\n"
        "        return {str(bits): (out[:, :bits].abs() - 1).square().mean() for bits in self.lengths}\n"
    )
    for name in ("Tight", "Nested"):
        shown = cli("check", f"mine.py:{name}").stdout
        assert "FAILED" not in shown
        assert ("ok       it trains for one code length as for several" in shown) == (name == "Nested")
    assert "ok       two ranks make the memory whole" in cli("check", f"{memories}:Whole").stdout


def test_text_is_sparse():
    case = toy_runs.Case(contract_methods.Features, 12, multi_label=False, inputs="text")
    contract_methods.register("features")
    dense = case.data().features()
    assert 0.02 < float((dense != 0).float().mean()) < 0.5
    assert bool((dense != 0).any(dim=1).all())
    assert torch.equal(torch.cat([batch.inputs for batch in case.data().fresh()]), dense)
    assert type(case.data()._inputs).__name__ == "csr_matrix"

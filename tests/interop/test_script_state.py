"""What a loss class leaves to the script of its file is found in its source and reaches the user; nothing else does."""

import json
import logging
from pathlib import Path

import pytest

import hashbench
from hashbench.checks.gpu_pass import missing_device
from hashbench.checks.verdict import check
from hashbench.interop.loss_as_method import remarks
from hashbench.interop.targets import resolve_method
from hashbench.registry import METHODS
from hashbench.results.runs import RunDirectory

pytestmark = pytest.mark.usefixtures("fresh_methods")

#: In the shape of HashNet: the scale grows by what the script sets, which is not run here.
CONTINUED = """
import torch

def get_config():
    return {"step_continuation": 2, "epoch": 4, "info": "[Continued]"}

class ContinuedLoss(torch.nn.Module):
    def __init__(self, config, bit):
        super(ContinuedLoss, self).__init__()
        self.scale = 1
        self.bit, (self.low, self.high) = bit, (-1, 1)
        self.register_buffer("weights", torch.ones(bit))
        self.fc = torch.nn.Linear(bit, config["n_class"])
        self.centers = torch.zeros(config["n_class"], bit)

    def forward(self, u, y, ind, config):
        u = torch.tanh(self.scale * u) * self.weights
        return (u - y @ self.targets()).pow(2).mean() + 0 * self.fc(u).sum()

    def targets(self):
        return self.centers.to(next(self.parameters()).device)

    def update(self):
        self.centers = -self.centers

def train_val(config, bit):
    net = torch.nn.Linear(4, bit).to(config["device"])
    net.scale = 3
    criterion = ContinuedLoss(config, bit).to(config["device"])
    for epoch in range(config["epoch"]):
        criterion.scale = (epoch // config["step_continuation"] + 1) ** 0.5
        criterion.train()
        if epoch > 1:
            criterion.update()
        loss = criterion(net, None, None, config)

if __name__ == "__main__":
    train_val(get_config(), 16)
"""


def line_of(part):
    return next(number for number, line in enumerate(CONTINUED.splitlines(), 1) if part in line)


SET_AT = line_of("criterion.scale =")
SETS = f"it reads self.scale, which the script of its file sets (line {SET_AT}) and nobody sets here: "
CALLS = (
    f"the script of its file calls update() (line {line_of('criterion.update()')}, if epoch > 1) and nobody calls it "
    f"here; call it in begin_epoch(self, epoch)."
)


def said(text, name="ContinuedLoss"):
    Path("loss.py").write_text(text)
    return remarks(resolve_method(f"loss.py:{name}"))


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_what_the_script_sets_and_calls_is_found_and_nothing_else():
    kept = "it keeps the value that __init__ gives it; set it in begin_epoch(self, epoch)."
    assert said(CONTINUED) == [SETS + kept, CALLS]


def test_without_a_first_value_it_has_none():
    without = CONTINUED.replace("        self.scale = 1\n", "        pass\n")
    assert said(without)[0] == SETS + "it has no value; set it in begin_epoch(self, epoch)."


def test_what_begin_epoch_sets_is_set():
    begins = "    def begin_epoch(self, epoch):\n        self.scale = epoch\n        self.update()\n\n"
    begun = CONTINUED.replace("    def update(self):", f"{begins}    def update(self):")
    assert said(begun) == []
    assert said(begun.replace("criterion.update()", "criterion.begin_epoch(epoch)")) == []


READ = CONTINUED.split("def train_val")[0].replace("def update", "def updated")  # no script

UNSET = {
    "an attribute": ("self.bit,", "self.size = self.margin; self.bit,", "margin"),
    "in a nested function": ("return self.centers", "(lambda: self.margin); return self.centers", "margin"),
    "of a class within": (
        "    def updated(self):", "    def updated(self):\n        class A:\n            def b(self):\n"
        "                return self.margin", None,
    ),
    "by another's name": ("self.bit,", "other = config; other.margin = 1; self.bit,", None),
}  # fmt: skip


@pytest.mark.parametrize("what", UNSET)
def test_an_attribute_that_nobody_sets_is_named(what):
    old, new, name = UNSET[what]
    found = said(READ.replace(old, new))
    assert [sentence.split(" (")[0] for sentence in found] == ([] if name is None else [f"it reads self.{name}"])


#: Ways to set or to ask for an attribute that leave nothing to say, or not enough to say it.
TOLD = {
    "setattr": "setattr(self, 'margin', 1)",
    "a loop": "[setattr(self, name, 1) for name in ('margin',)]",
    "hasattr": "hasattr(self, 'margin')",
    "the dict": "self.__dict__['margin'] = 1",
    "vars": "vars(self).update(margin=1)",
    "self given away": "config['prepare'](self)",
    "an alias": "other = self; other.margin = 1",
    "with": "exec('pass')\n        for self.margin in range(3): pass",
    "a caught error": "try: self.margin\n        except AttributeError: pass",
    "a parameter": "self.register_parameter(name='margin', param=None)",
}


@pytest.mark.parametrize("way", TOLD)
def test_what_may_be_set_is_not_named(way):
    assert said(READ.replace("self.bit,", "self.size = self.margin; self.bit,"))
    assert said(READ.replace("self.bit,", f"{TOLD[way]}\n        self.size = self.margin; self.bit,")) == []


def test_of_a_base_without_source_nothing_is_said():
    text = READ.replace("self.bit,", "self.size = self.margin; self.bit,")
    made = "Base = type('Made', (torch.nn.Module,), {'__init__': lambda self: torch.nn.Module.__init__(self)})"
    assert said(text)
    assert said(text.replace("class ContinuedLoss(torch.nn.Module)", f"{made}\n\nclass ContinuedLoss(Base)")) == []


def test_attributes_of_classes_and_bases_are_set():
    text = READ.replace(
        "class ContinuedLoss(torch.nn.Module):",
        "class Base(torch.nn.Linear):\n    low: int\n    margin = 1\n    @property\n    def twice(self):\n"
        "        return 2 * self.margin\n\nclass ContinuedLoss(Base):",
    )
    text = text.replace("super(ContinuedLoss, self).__init__()", "Base.__init__(self, 2, 3)")
    uses = "self.margin, self.twice, self.in_features, self.weight, self.training, self.low, self.bias"
    assert said(text.replace("return self.centers", f"{uses}; return self.centers")) == []
    assert len(said(text.replace("return self.centers", f"{uses}, self.lost; return self.centers"))) == 1


@pytest.mark.parametrize("name", list(METHODS))
def test_our_methods_leave_nothing(name):
    assert remarks(METHODS.get(name)) == []


def test_a_class_without_source_says_nothing():
    scope = {"hashbench": hashbench, "__name__": "nowhere"}
    exec("@hashbench.method('lost')\nclass Lost(hashbench.DeepMethod):\n    def loss(self, out, batch):\n"
         "        return {'a': self.margin * out.mean()}", scope)  # fmt: skip
    assert remarks(scope["Lost"]) == []


def test_check_says_it_and_passes(monkeypatch):
    monkeypatch.setattr("hashbench.checks.verdict.BITS", (12,))
    Path("loss.py").write_text(CONTINUED)
    verdict = check("loss.py:ContinuedLoss")
    assert verdict.ok, verdict.render()
    lines = [line for line in verdict.lines if line.state == "warning"]
    assert [line.reason.split(";")[0] for line in lines] == [
        SETS + "it keeps the value that __init__ gives it", CALLS.split(";")[0]
    ]  # fmt: skip
    assert f"\nwarning  its class works without a script of its own: {SETS}" in verdict.render()
    on_a_gpu = "13 ok, 2 warning, 2 skipped." if missing_device() is None else "12 ok, 2 warning, 3 skipped."
    assert verdict.render().endswith(on_a_gpu)


def test_a_run_says_it_once_on_stderr_and_in_its_log(caplog):
    Path("loss.py").write_text(CONTINUED)
    settled = {"epochs": 2, "progress": False, "bits": 12}
    with caplog.at_level(logging.WARNING):
        result = hashbench.run("loss.py:ContinuedLoss", "toy", **settled)
        hashbench.run("loss.py:ContinuedLoss", "toy", **settled)  # is loaded
    told = [record.getMessage() for record in caplog.records]
    assert [sentence.split(" (line")[0] for sentence in told] == [
        "ContinuedLoss: it reads self.scale, which the script of its file sets",
        "ContinuedLoss: the script of its file calls update()",
    ]
    log = [json.loads(line) for line in (result.path / "log.jsonl").read_text().splitlines()]
    assert [line["warning"] for line in log if "warning" in line] == told


def test_a_resumed_run_has_it_in_its_log_once(monkeypatch):
    Path("loss.py").write_text(CONTINUED)
    settled = {"epochs": 3, "progress": False, "bits": 12}
    append = RunDirectory.append_log

    def killed(self, line):
        if line.get("epoch") == 1:
            raise OSError("killed")
        append(self, line)

    with monkeypatch.context() as patched:
        patched.setattr("hashbench.results.runs.RunDirectory.append_log", killed)
        with pytest.raises(hashbench.HashbenchError, match="killed"):
            hashbench.run("loss.py:ContinuedLoss", "toy", **settled)
    result = hashbench.run("loss.py:ContinuedLoss", "toy", **settled)
    log = [json.loads(line) for line in (result.path / "log.jsonl").read_text().splitlines()]
    assert len([line for line in log if "warning" in line]) == 2
    assert [line["epoch"] for line in log if "epoch" in line] == [0, 1, 2]

"""A method of pairs keeps its contract; one that breaks a part of it fails that check; sweeps over images skip it."""

import numpy as np
import pytest
import scipy.sparse
import torch

import hashbench
from hashbench.checks.pair_checks import NUM_COLUMNS, NUM_ROWS, PairCase, pairs
from hashbench.checks.verdict import check
from hashbench.errors import HashbenchError
from hashbench.experiments.planned import Settings
from hashbench.experiments.planning import plan
from hashbench.methods import PairMethod, PairTask

pytestmark = pytest.mark.usefixtures("fresh_methods")


class Projected(PairMethod):
    """Signs of a random projection of the other side's random vectors, summed over the pairs."""

    def fit(self, task, pairs):
        columns = torch.randn(task.num_columns, task.bits, generator=task.generator("columns"))
        rows = torch.from_numpy(np.asarray(pairs @ columns.numpy()))
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)

    def row_codes(self):
        return self.rows >= 0

    def column_codes(self):
        return self.columns >= 0


def registered(base, name="projected"):
    return hashbench.method(name)(type("Made", (base,), {"__module__": __name__, **vars(base)}))


def test_a_sound_method_passes():
    verdict = check(registered(Projected))
    assert verdict.ok, verdict.render()
    assert verdict.render().endswith("6 ok.")
    assert "ok       an empty row and column do no harm" in verdict.render()


class GlobalChance(Projected):
    def fit(self, task, pairs):
        super().fit(task, pairs)
        self.columns += torch.randn(task.num_columns, task.bits)


class RowAttribute(Projected):
    def fit(self, task, pairs):
        super().fit(task, pairs)
        self.offset = 3.0

    def row_codes(self):
        return self.rows >= self.offset


class FloatCodes(Projected):
    def column_codes(self):
        return self.columns


class Transposed(Projected):
    def row_codes(self):
        return self.columns >= 0


class Normalised(Projected):
    def fit(self, task, pairs):
        super().fit(task, pairs)
        counts = torch.from_numpy(np.asarray(pairs.sum(axis=1)))
        self.rows /= counts


class ChangesPairs(Projected):
    def fit(self, task, pairs):
        pairs.data /= 2
        super().fit(task, pairs)


class NoBuffer(Projected):
    def fit(self, task, pairs):
        object.__setattr__(self, "rows", torch.ones(task.num_rows, task.bits))
        object.__setattr__(self, "columns", torch.ones(task.num_columns, task.bits))


class Undefined(PairMethod):
    pass


class OnlyShort(Projected):
    def supports(self, task):
        return "it has too few words." if task.bits > 16 else None


BROKEN = {
    GlobalChance: ("one seed gives one result", "task.generator"),
    RowAttribute: ("the saved state", "'Made' object has no attribute 'offset'"),
    FloatCodes: ("codes of rows and columns", "column_codes are torch.float32"),
    Transposed: ("codes of rows and columns", f"row_codes are torch.bool of shape ({NUM_COLUMNS}, 12)"),
    Normalised: ("an empty row", "'rows' is not finite"),
    ChangesPairs: ("it fits pairs", "fit changed the matrix"),
    NoBuffer: ("it fits pairs", "fit left no buffer"),
    Undefined: ("it fits pairs", "Made must define fit(task, pairs)"),
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_method_fails_its_check(broken):
    what, reason = BROKEN[broken]
    verdict = check(registered(broken))
    failed = [line for line in verdict.lines if line.state == "FAILED"]
    assert any(line.what.startswith(what) and reason in line.reason for line in failed), verdict.render()
    assert "pairs at 12 bits" in failed[0].reason


def test_what_is_not_supported_is_skipped():
    verdict = check(registered(OnlyShort))
    assert verdict.ok
    assert "skipped  pairs at 48 and 64 bits: not supported: it has too few words." in verdict.render()


def test_the_toy_has_two_communities_and_an_empty_row_where_asked():
    dense = pairs().toarray()
    assert dense.shape == (NUM_ROWS, NUM_COLUMNS)
    assert dense[::2, ::2].mean() > 5 * dense[::2, 1::2].mean() > 0
    assert dense.sum(axis=1).min() > 0
    assert pairs(empty=True).toarray().sum(axis=1).min() == 0
    assert pairs(empty=True).toarray().sum(axis=0).min() == 0


def test_a_task_has_streams_of_its_seed():
    task = PairTask(8, 3, 2, seed=5, device=torch.device("cpu"))
    one, two = (torch.randn(3, generator=task.generator("a")) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, torch.randn(3, generator=task.generator("b")))


class Shifted(Projected):
    shift: float = hashbench.option(1.0, "of the threshold")

    def row_codes(self):
        return self.rows >= self.shift


def test_its_fields_and_codes_are_of_the_pairs():
    method = registered(Shifted)(shift=0.0)
    given = scipy.sparse.csr_matrix(np.array([[1, 0], [0, 1], [0, 0]], dtype=np.float32))
    method.fit(PairTask(6, 3, 2, 0, torch.device("cpu")), given)
    assert torch.equal(method.row_codes()[:2], method.column_codes())  # the row's only pair is that column
    assert PairCase(type(method), 6).new().shift == 1.0


def test_a_sweep_over_images_skips_it_with_the_reason(tmp_path):
    registered(Projected)
    made = plan(["projected", "lsh"], ["toy"], [12], settings=Settings(runs_dir=tmp_path))
    assert [run.skipped and run.skipped[:22] for run in made.runs] == ["it learns from pairs o", None]
    with pytest.raises(
        HashbenchError, match="projected on toy@small, 12 bits, seed 0: it learns from pairs of two kinds"
    ):
        hashbench.run("projected", "toy", bits=12, runs_dir=tmp_path)
    with pytest.raises(HashbenchError, match="projected is no loss"):
        hashbench.as_loss("projected")


def test_a_file_with_one_is_a_target_and_the_list_says_what_it_learns_from(cli):
    from pathlib import Path

    Path("mine.py").write_text(
        "import hashbench\n@hashbench.method('mine')\nclass Mine(hashbench.PairMethod):\n"
        "    def fit(self, task, pairs):\n        raise KeyError('a')\n"
        "class Bare(hashbench.PairMethod):\n    pass\n"
    )
    shown = cli("check", "mine.py:Mine", code=1).stdout
    assert "FAILED   it fits pairs, and keeps its state in buffers: pairs at 12 bits: KeyError: 'a' (line 5 of" in shown
    assert "Bare lacks the decorator" in cli("check", "mine.py:Bare", code=2).stderr
    listed = {line.split()[0]: line for line in cli("list", "methods").stdout.splitlines()}
    assert "pairs" in listed["mine"].split()
    assert "batches" in listed["crh"].split()
    assert "features" in listed["lsh"].split()

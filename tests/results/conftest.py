import pytest

from hashbench.results.runs import RunDirectory


@pytest.fixture
def stored(tmp_path):
    """Store a result below tmp_path / "runs" and return it as it is read back."""

    def store(result, runs=tmp_path / "runs", **arrays):
        coords = result.coords
        run = RunDirectory.at(
            runs,
            dataset=f"{coords['dataset']}@{coords['protocol']}",
            method=coords["method"],
            bits=coords["bits"],
            seed=coords["seed"],
            id=result.id,
        )
        with run.lock():
            if arrays:
                run.write_arrays("histograms", **arrays)
            run.write_result(result)
        return run.read_result()

    return store

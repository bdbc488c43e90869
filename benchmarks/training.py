"""The training loop against a bare step: same network, loss and optimiser, one batch that is there, nothing logged.

python benchmarks/training.py
python benchmarks/training.py --device cuda --steps 60
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # before torch is there, as the command line does

import click
import torch
from steps import Workload, ratio, seconds
from tabulate import tabulate

from hashbench import recipes
from hashbench.networks.model import true_float32


def parts(work: Workload) -> dict[str, Callable[[], object]]:
    """The loop, the bare step, and what the loop does beyond it, each alone, for as many steps."""
    batches = work.loader.steps_per_epoch
    batch = next(work.loader.epoch(0))
    with torch.no_grad():
        out = work.network(batch.inputs)

    def load() -> None:
        for _ in work.loader.epoch(0):
            pass

    def hooks() -> None:
        sums: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            for _ in range(batches):
                work.method.after_step(work.network, batch)
                for name, value in work.method.epoch_sums(out, batch).items():
                    sums[name] = sums[name] + value if name in sums else value
            work.method.end_epoch(work.task.epochs, sums)

    return {
        "loop": work.whole_loop(), "bare": work.bare_steps(), "loader": load, "method's hooks": hooks,
    }  # fmt: skip


@click.command(help=__doc__)
@click.option("--device", default="cpu", help="cpu or cuda.")
@click.option("--recipe", "names", default="scratch,frozen,finetune", help="Recipes.")
@click.option("--method", default="crh")
@click.option("--batch-size", type=int, help="Instead of the recipe's; default on a CPU for finetune: 16.")
@click.option("--steps", default=30, help="Steps in an epoch; finetune on a CPU takes a tenth.")
@click.option("--rounds", default=7, help="Times that everything takes its turn.")
@click.option("--compile", "compiled", is_flag=True, help="The network through torch.compile, in both.")
@true_float32()
def main(device: str, names: str, method: str, batch_size: int | None, steps: int, rounds: int, compiled: bool) -> None:
    on = torch.device(device)
    rows = []
    for name in names.split(","):
        slow = name == "finetune" and on.type == "cpu"
        overrides: dict[str, object] = {"compile": compiled}
        if batch_size or slow:
            overrides["batch_size"] = batch_size or 16
        recipe = recipes.load(name, overrides=overrides, multi_label=False)
        work = Workload.of(recipe, method=method, side=32, steps=max(2, steps // 10) if slow else steps, device=on)
        found = seconds(parts(work), rounds=rounds, device=on)
        images = work.task.num_train
        bare, loop = found.pop("bare"), found.pop("loop")
        shares = [100 * ratio(part, bare) for part in found.values()]
        whole = 100 * ratio(loop, bare)
        rows.append(
            [
                name,
                recipe.batch_size,
                f"{images / statistics.median(bare):,.0f}",
                f"{images / statistics.median(loop):,.0f}",
                f"{100 * 100 / whole:.1f}%",
                *(f"{share:.1f}%" for share in (*shares, whole - 100 - sum(shares))),
            ]
        )
    head = ["recipe", "batch", "bare, images/s", "loop, images/s", "loop of bare", *found, "all else"]
    click.echo(tabulate(rows, headers=head, disable_numparse=True))
    click.echo(
        "The last columns, in per cent of the bare steps: the loader and the hooks alone, and what is left of the loop "
        "(schedule, logging, sums of terms; below 0 where a GPU does two things at once)."
    )


if __name__ == "__main__":
    main()

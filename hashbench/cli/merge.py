"""`hashbench merge`: the measures of a database that was counted in shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hashbench.cli.base import command
from hashbench.cli.measuring import check_output, hashbench_errors, measure_options, print_scores


@command("hashbench merge part-1.npz part-2.npz --measure mAP@1000/R")
@click.argument("parts", nargs=-1, required=True, metavar="PART...", type=click.Path(path_type=Path))
@measure_options
def merge(parts: tuple[Path, ...], per_query: Path | None, **choices: Any) -> None:
    """Measure a database that `evaluate --shard` counted in parts, to the digit as if it had been counted whole."""
    from hashbench.metrics.evaluation import evaluate_shards
    from hashbench.metrics.large.shard_counts import ShardCounts

    if per_query is not None:
        check_output(per_query, parts)
    with hashbench_errors():
        read = {str(path): ShardCounts.read(path) for path in parts}
        scores = evaluate_shards(read, bounds=True, per_query=per_query is not None, **choices)
    print_scores(scores, per_query)

"""`hashbench encode`: a folder of images to codes."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hashbench.cli.base import command, warn


@command(
    "hashbench encode runs/fashion-mnist-10k@5k/crh/32b/s0-* photos --output codes.npz",
    "hashbench encode runs/fashion-mnist-10k@5k/crh/32b/s0-* photos --skip-broken",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), default=Path("codes.npz"), help="The file to write.")
@click.option("--skip-broken", is_flag=True,
              help="Leave out images that cannot be decoded, and list them beside the codes.")  # fmt: skip
@click.option("--follow-links", is_flag=True, help="Follow links to folders.")
@click.option("--method", metavar="TARGET", help="The class of RUN's method, where it is in a module or file.")
@click.option("--backbone", metavar="TARGET", help="The factory of RUN's backbone, where it is in a file.")
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
def encode(
    run: Path,
    folder: Path,
    output: Path,
    skip_broken: bool,
    follow_links: bool,
    method: str | None,
    backbone: str | None,
    device: str,
) -> None:
    """Encode the images in FOLDER with the model of RUN, a run or its bundle, into packed codes and file names (.npz).

    An interrupted encoding goes on with the same command. Hidden files, such as the `._` files of macOS, are passed
    over.
    """
    from hashbench.evaluation.folders import encode_folder
    from hashbench.experiments import runner
    from hashbench.results.sweeps.estimates import plural

    model, result, changed = runner.load_with_result(run, method=method, backbone=backbone, device=device)
    warn(changed)
    encoded = encode_folder(
        model,
        folder,
        output,
        run=result.id,
        skip_broken=skip_broken,
        follow_links=follow_links,
        progress=sys.stderr.isatty(),
    )
    for note in encoded.notes:
        click.echo(note, err=True)
    if encoded.skipped:
        count = len(encoded.skipped)
        warn([f"{count:,} {plural('image', count)} could not be decoded; {encoded.listed} lists what was left out."])
    resumed = f" {encoded.resumed:,} of them were encoded before an interruption." if encoded.resumed else ""
    click.echo(f"{output}: codes of {encoded.images:,} {plural('image', encoded.images)}.{resumed}")

"""`hashbench encode`: a folder of images to codes."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hashbench.cli.base import command


@command("hashbench encode runs/fashion-mnist-10k@5k/crh/32b/s0-* photos --output codes.npz")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), default=Path("codes.npz"), help="The file to write.")
@click.option("--method", metavar="TARGET", help="The class of RUN's method, where it is in a module or file.")
@click.option("--backbone", metavar="TARGET", help="The factory of RUN's backbone, where it is in a file.")
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
def encode(run: Path, folder: Path, output: Path, method: str | None, backbone: str | None, device: str) -> None:
    """Encode the images in FOLDER with the model of RUN into packed codes and file names (.npz)."""
    from hashbench.evaluation.folders import encode_folder
    from hashbench.experiments import runner

    model = runner.load(run, method=method, backbone=backbone, device=device)
    count = encode_folder(model, folder, output, progress=sys.stderr.isatty())
    click.echo(f"{output}: codes of {count:,} images.")

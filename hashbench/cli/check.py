"""`hashbench check`: the contract of a method, on toy data."""

from __future__ import annotations

import sys

import click

from hashbench.cli.base import command


@command("hashbench check crh", "hashbench check my_package.my_module:MyMethod", "hashbench check my_file.py:MyLoss")
@click.argument("target")
def check(target: str) -> None:
    """Check that TARGET, a method or loss class, keeps the contract: on toy data, in seconds.

    TARGET is a registered name, or a class in a module or a file, whose code is then run.
    """
    from hashbench.checks.verdict import check as check_method

    verdict = check_method(target)
    click.echo(verdict.render())
    if not verdict.ok:
        sys.exit(1)

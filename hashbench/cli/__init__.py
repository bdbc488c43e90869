"""The command line: a file per command; what a command needs is imported inside it, so that --help is quick."""

from hashbench.cli import (
    check,
    compare,
    encode,
    evaluate,
    evaluate_run,
    export,
    export_split,
    list,
    merge,
    plot,
    prepare,
    report,
    run,
    search_cost,
    show,
    status,
    verify,
)
from hashbench.cli.base import main

__all__ = [
    "check",
    "compare",
    "encode",
    "evaluate",
    "evaluate_run",
    "export",
    "export_split",
    "list",
    "main",
    "merge",
    "plot",
    "prepare",
    "report",
    "run",
    "search_cost",
    "show",
    "status",
    "verify",
]

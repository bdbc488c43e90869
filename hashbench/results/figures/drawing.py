"""Drawing a kind of figure: one for each block of results that may share it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashbench.errors import HashbenchError, unknown
from hashbench.results.figures import KINDS, UNMEASURED
from hashbench.results.result import Result
from hashbench.results.tables.blocks import Block, blocks, differences
from hashbench.results.tables.conditions import condition_blocks
from hashbench.results.tables.rows import averaged_block

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """A figure of one block of results, the description of the block, and warnings about its runs."""

    block: Block
    words: str
    figure: Figure
    problems: tuple[str, ...] = ()

    def _repr_png_(self) -> bytes:
        """Return the figure for notebooks."""
        from hashbench.results.figures.style import write  # needs matplotlib

        file = io.BytesIO()
        write(self.figure, file, "png")
        return file.getvalue()


def draw(
    kind: str, results: Sequence[Result] | Block, *, measure: str | None = None
) -> tuple[list[Drawing], list[HashbenchError]]:
    """Return the figure of each block of `results` in which the kind can be drawn, and why not in each of the others.

    Of a row's runs at one code length that differ in more than the seed, the newest and those like it are drawn; the
    drawing's `problems` say so. A kind that is not about the queries leaves out what runs gave under conditions, unless
    there is nothing else.

    Raises HashbenchError for an unknown kind, and for a measure given to a kind that has none.
    """
    if kind not in KINDS:
        raise unknown("kind of figure", kind, KINDS)
    if measure is not None and not KINDS[kind].measured:
        measured = " and ".join(name for name, other in KINDS.items() if other.measured)
        raise HashbenchError(f"A figure of kind '{kind}' shows no measure; {measured} do.")
    function = KINDS[kind].load()
    drawings, refusals = list[Drawing](), list[HashbenchError]()
    if not KINDS[kind].of_queries and not isinstance(results, Block):
        results = [result for result in results if not result.condition] or results
    found = condition_blocks(results) if KINDS[kind].across else blocks(results)
    if not found and results:
        refusals.append(
            HashbenchError(f"None of these runs was measured under a condition that changes its queries; {UNMEASURED}")
        )
    for block, apart in zip(found, differences(found), strict=True):
        block, problems = averaged_block(block)
        members = block.results if KINDS[kind].across else block  # a block across conditions is none of its own
        try:
            figure = function(members, measure=measure) if KINDS[kind].measured else function(members)
        except HashbenchError as error:
            refusals.append(error)
        else:
            words = ", ".join(part for part in (block.name, block.describe(), apart) if part)
            drawings.append(Drawing(block, words, figure, tuple(problems)))
    return drawings, refusals

"""Exact bounds for a share of a finite population, and for all strata at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Cell:
    """Rows of one stratum that share their fate, and a simple random sample of them.

    Attributes:
        n_all: rows.
        n_drawn: of these, how many were drawn and looked at.
        n_wrong: of the drawn, how many are wrong.
        n_unsure: of the drawn, how many nobody could decide; not among `n_wrong`.
    """

    n_all: int
    n_drawn: int
    n_wrong: int
    n_unsure: int = 0

    @property
    def share(self) -> float:
        """Share of wrong rows among those that could be decided; 0 where none could."""
        decided = self.n_drawn - self.n_unsure
        return self.n_wrong / decided if decided else 0.0

    def decided(self, *, unsure_is_wrong: bool) -> Cell:
        """Return the cell with every undecided row counted as wrong, or as right."""
        return Cell(self.n_all, self.n_drawn, self.n_wrong + (self.n_unsure if unsure_is_wrong else 0))


@lru_cache(maxsize=4096)  # ratios ask for the same bounds again and again
def lower_count(cell: Cell, alpha: float) -> int:
    """Return the lower bound, with error at most `alpha`, of how many rows of the cell are wrong.

    The smallest number of wrong rows under which drawing `n_wrong` or more has a probability above `alpha`: the
    bound of Clopper and Pearson (1934) with the hypergeometric distribution, since rows are drawn without
    replacement. Undecided rows count as right.
    """
    from scipy.stats import hypergeom  # noqa: PLC0415 - SciPy's distributions take a second to import

    if cell.n_wrong == 0:
        return 0

    def plausible(n_wrong_all: int) -> bool:
        tail = hypergeom.sf(cell.n_wrong - 1, cell.n_all, n_wrong_all, cell.n_drawn)
        return bool(tail > alpha)

    return _first(plausible, cell.n_wrong, cell.n_all - cell.n_drawn + cell.n_wrong)


def upper_count(cell: Cell, alpha: float) -> int:
    """Return the upper bound, with error at most `alpha`, of how many rows of the cell are wrong.

    See `lower_count`: what is not wrong is right, and the bounds mirror each other.
    """
    mirrored = Cell(cell.n_all, cell.n_drawn, cell.n_drawn - cell.n_wrong)
    return cell.n_all - lower_count(mirrored, alpha)


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Return the smallest number in [low, high] that holds; `holds` is monotone and true at `high`."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def joint_bounds(cells: Sequence[Cell], *, alpha: float = ALPHA) -> list[tuple[int, int]]:
    """Return the bounds of each cell's number of wrong rows that hold all at the same time with 1 - alpha.

    The cells are drawn independently, so each gets the error 1 - (1 - alpha)^(1/cells) (Sidak 1967), half of it on
    either side. Whatever rises or falls in each cell's number alone has its exact interval at two corners of this box;
    nothing is approximated, also where a cell is small, drawn nearly whole, or held no wrong row.

    Undecided rows are not taken for missing at random: the lower bound counts them as right, the upper one as wrong
    (Manski, "Partial Identification of Probability Distributions", 2003).
    """
    each = 1.0 - (1.0 - alpha) ** (1.0 / max(1, len(cells)))
    return [
        (
            lower_count(cell.decided(unsure_is_wrong=False), each / 2),
            upper_count(cell.decided(unsure_is_wrong=True), each / 2),
        )
        for cell in cells
    ]


def share_interval(n_hits: int, n: int, *, alpha: float = ALPHA) -> tuple[float, float]:
    """Return the exact interval of a share of an unlimited population (Clopper and Pearson 1934); (0, 1) at n = 0."""
    from scipy.stats import beta  # noqa: PLC0415 - as above

    if n == 0:
        return 0.0, 1.0
    low = 0.0 if n_hits == 0 else float(beta.ppf(alpha / 2, n_hits, n - n_hits + 1))
    high = 1.0 if n_hits == n else float(beta.ppf(1 - alpha / 2, n_hits + 1, n - n_hits))
    return low, high

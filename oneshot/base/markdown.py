"""Markdown tables for pages."""

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table with its cells as they are: the caller has to escape any `|` in them. A head may be empty."""
    head = " ".join(["|", *(f"{each} |".lstrip() for each in heads)])
    return "\n".join([head, f"|{'---|' * len(heads)}", *(f"| {' | '.join(map(str, row))} |" for row in rows)])

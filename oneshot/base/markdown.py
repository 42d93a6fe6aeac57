"""Tables of pages, as Markdown."""

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table, its cells as they are: a `|` in one is for the caller to escape. A head may be empty."""
    head = " ".join(["|", *(f"{each} |".lstrip() for each in heads)])
    return "\n".join([head, f"|{'---|' * len(heads)}", *(f"| {' | '.join(map(str, row))} |" for row in rows)])

"""Tables are written as Markdown tables."""

from oneshot.base.markdown import table


def test_a_table_has_a_line_under_its_heads_and_one_for_each_row() -> None:
    assert table(("", "trials", "%"), [("within", 400, "97.5"), ("between", "", "99.1")]).split("\n") == [
        "| | trials | % |",
        "|---|---|---|",
        "| within | 400 | 97.5 |",
        "| between |  | 99.1 |",
    ]
    assert table(["alone"], []) == "| alone |\n|---|"

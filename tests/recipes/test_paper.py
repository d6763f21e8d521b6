"""The paper's tables as data: what can be recomputed is."""

from statistics import mean

import pytest

from vitrail.core.errors import BadInput
from vitrail.models.variants import variant
from vitrail.recipes.paper import NAMES, PaperTable, paper
from vitrail.recipes.pretraining import TABLE3, TUNED

FIVE = ("ImageNet", "CIFAR-10", "CIFAR-100", "Oxford-IIIT Pets", "Oxford Flowers-102")

# Average-5 of figure 5, from the same source as the table, rounded there to 0.01.
AVERAGE5 = (
    *(92.50, 94.08, 94.27, 95.12, 95.44, 95.82),
    *(89.33, 92.01, 91.67, 92.41, 94.01, 94.24, 95.09),
    *(94.27, 94.68, 94.85, 95.17, 95.36),
)


@pytest.mark.parametrize("name", NAMES)
def test_every_table_can_be_read_and_is_a_rectangle(name: str) -> None:
    table = paper(name)
    assert table.name == name
    assert table.title
    assert table.rows
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_another_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(BadInput, match="table6"):
        paper("table66")
    with pytest.raises(BadInput, match="exaFLOPs"):
        paper("table6").column("exaflops")


def test_table_1_holds_the_sizes_of_the_models() -> None:
    for row in paper("table1").records():
        config = variant({"ViT-Base": "B/16", "ViT-Large": "L/16", "ViT-Huge": "H/14"}[row["model"]])
        assert (config.depth, config.width, config.mlp, config.heads) == tuple(
            row[name] for name in ("layers", "width", "mlp", "heads")
        )


def test_table_3_is_that_of_the_recipes() -> None:
    """A row of the paper's may stand for several models and lengths."""
    rates = {row["base rate"] for row in paper("table3").records()}
    assert rates == {row.lr for row in TABLE3}
    assert {row["weight decay"] for row in paper("table3").records()} == {row.decay for row in TABLE3}


def test_average_5_of_table_6_is_that_of_figure_5() -> None:
    """To 0.01; the largest difference is 0.005, by rounding."""
    found = [mean(row[name] for name in FIVE) for row in paper("table6").records()]
    assert found == pytest.approx(AVERAGE5, abs=0.0101)


def test_table_6_is_what_the_recipes_name_as_reached() -> None:
    rows = {(row["variant"], row["epochs"]): row["ImageNet"] for row in paper("table6").records()}
    for key, accuracy in TUNED.items():
        assert rows[key] == accuracy


def test_averages_of_table_7_are_means_of_its_rows() -> None:
    _means_are_right(paper("table7"), "average", paper("table7").columns[1:])


def test_table_7_and_table_6_agree_on_the_same_runs() -> None:
    seven = {row["data set"]: row for row in paper("table7").records()}
    six = {(row["variant"], row["epochs"]): row for row in paper("table6").records()}
    for name in FIVE:
        assert seven[name]["R50x1 Adam"] == six["R50x1", 7][name]
        assert seven[name]["R152x2 Adam"] == six["R152x2", 7][name]


def test_means_of_table_9_are_means_of_its_tasks() -> None:
    """The paper prints one decimal: within half of 0.1, and the rounding of the tasks."""
    _means_are_right(paper("table9"), "mean", paper("table9").columns[2:], within=0.06)


def test_means_of_table_9_are_those_of_table_2() -> None:
    two = {(r["model"], r["pre-training"]): r["accuracy"] for r in paper("table2").records() if r["data set"] == "VTAB"}
    nine = paper("table9").records()[-1]
    assert nine["ViT-H/14 (JFT-300M)"] == pytest.approx(two["ViT-H/14", "JFT-300M"], abs=0.051)
    assert nine["ViT-L/16 (JFT-300M)"] == pytest.approx(two["ViT-L/16", "JFT-300M"], abs=0.051)
    assert nine["ViT-L/16 (ImageNet-21k)"] == pytest.approx(two["ViT-L/16", "ImageNet-21k"], abs=0.051)


def test_groups_of_table_9_have_7_4_and_8_tasks() -> None:
    groups = paper("table9").column("group")
    assert [groups.count(name) for name in ("natural", "specialized", "structured")] == [7, 4, 8]


def test_table_8_says_what_none_costs() -> None:
    rows = {row["positions"]: row["stem"] for row in paper("table8").records()}
    assert rows["1-D"] - rows["none"] == pytest.approx(2.824)


def _means_are_right(table: PaperTable, last: str, columns: tuple[str, ...], within: float = 0.0101) -> None:
    *parts, whole = table.records()
    assert whole[table.columns[0]] == last
    for name in columns:
        assert mean(row[name] for row in parts) == pytest.approx(whole[name], abs=within), name

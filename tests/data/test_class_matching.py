"""Which class of the data is which of the model: the right one in every case, and said."""

import json
from pathlib import Path

import pytest

from vitrail.core.errors import BadInput
from vitrail.data.catalog.imagenet_classes import imagenet_classes, imagenet_indices
from vitrail.data.class_matching import ClassMatch, match_classes

IMAGENET = [f"LABEL_{i}" for i in range(1000)]


def match(data: list[str], model: list[str], how: str | None = None, unnamed: bool | None = None) -> ClassMatch:
    return match_classes(data, model, data_name="photos", model_name="tiny", how=how, unnamed=unnamed)


def places(found: ClassMatch) -> list[int]:
    """The model's class of each class of the data."""
    return [found.columns[label][0] for label in found.labels]


@pytest.mark.parametrize("form", ["{}", "LABEL_{}"])
@pytest.mark.parametrize("first", [0, 1])
def test_numbered_folders_are_taken_by_number_from_0_or_1(first: int, form: str) -> None:
    data = sorted(str(i) for i in range(first, first + 12))  # as a folder lists them: 1, 10, 11, 2
    found = match(data, [form.format(i) for i in range(12)])
    assert places(found) == [int(name) - first for name in data]
    (sentence,) = found.sentences
    assert "in the order of number" in sentence
    assert f"{first} = class 0, {first + 1} = class 1, {first + 2} = class 2" in sentence
    assert "--classes folders-by-text" in sentence


def test_the_order_of_text_can_be_asked_for() -> None:
    data = sorted(map(str, range(12)))
    assert places(match(data, [str(i) for i in range(12)], "folders-by-text")) == list(range(12))
    assert places(match(data, [str(i) for i in range(12)], "folders-by-number")) == [int(name) for name in data]


def test_padded_numbers_and_numbers_of_few_classes_are_numbers() -> None:
    assert places(match(["007", "010", "9"], [str(i) for i in range(12)])) == [7, 10, 9]


def test_numbers_that_are_names_of_a_model_of_ours_are_names() -> None:
    found = match(["1", "0"], ["0", "1", "2"], unnamed=False)
    assert places(found) == [1, 0]
    assert not found.sentences


def test_equal_names_need_no_word_and_may_be_fewer() -> None:
    found = match(["cat", "ant"], ["ant", "bee", "cat"])
    assert (places(found), found.names, found.sentences) == ([2, 0], ("ant", "bee", "cat"), ())
    assert found.unchanged(["ant", "bee", "cat"])


def test_case_unicode_and_separators() -> None:
    found = match(["cafe\u0301", "Polar_Bear"], ["polar bear", "caf\u00e9"])
    assert places(found) == [1, 0]
    assert "Polar_Bear = polar bear" in found.sentences[0]


def test_names_that_differ_in_case_alone_stay_two() -> None:
    assert places(match(["Turkey", "turkey"], ["turkey", "Turkey"])) == [1, 0]


def test_two_classes_of_one_name_are_judged_as_one_and_said() -> None:
    found = match(["kite", "crane"], ["crane", "crane", "kite"])
    assert (found.names, found.columns, found.labels) == (("crane", "kite"), ((0, 1), (2,)), (1, 0))
    assert "tiny calls 2 classes 'crane' (numbers 0, 1)" in found.sentences[0]


def test_the_table_of_imagenet() -> None:
    rows = imagenet_classes()
    assert [row.number for row in rows] == list(range(1000))
    assert [row.synset for row in rows] == sorted({row.synset for row in rows})
    assert (rows[0].synset, rows[0].names[0], rows[999].names[0]) == ("n01440764", "tench", "toilet tissue")
    assert imagenet_indices("Goldfish") == imagenet_indices("n01443537") == (1,)
    assert imagenet_indices("crane") == (134, 517)
    assert imagenet_indices("goldfisch") == ()


IMAGENETTE = ["n01440764", "n02102040", "n02979186", "n03000684", "n03028079", "n03394916", "n03417042", "n03425413",
              "n03445777", "n03888257"]  # fmt: skip


@pytest.mark.parametrize("model", ["LABEL", "names"])
def test_synsets_find_imagenet_and_fewer_classes_are_judged_over_their_own(model: str) -> None:
    named = [", ".join(row.names) for row in imagenet_classes()]
    found = match(IMAGENETTE, IMAGENET if model == "LABEL" else named)
    assert places(found) == [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
    assert found.names[0].startswith("tench")
    assert len(found.names) == 10
    assert "over its own 10 of 1,000 classes" in found.sentences[0]
    assert "n01440764 = class 0, n02102040 = class 217" in found.sentences[0]


def test_names_find_imagenet() -> None:
    assert places(match(["goldfish", "tabby_cat", "Egyptian cat"], IMAGENET)) == [1, 281, 285]


def test_a_model_of_other_thousand_classes_is_not_imagenet() -> None:
    with pytest.raises(BadInput, match="has the class 'n01440764', which tiny does not know"):
        match(IMAGENETTE, [f"plant {chr(65 + i % 26)}{i}" for i in range(1000)])


def test_files_of_names_and_of_pairs(tmp_path: Path) -> None:
    text, pairs, few = tmp_path / "names.txt", tmp_path / "pairs.json", tmp_path / "few.json"
    text.write_text("ant\nbee\ncat\n", encoding="utf-8")
    pairs.write_text(json.dumps({"Ameise": 0, "Katze": "LABEL_2"}))
    few.write_text(json.dumps(["ant", "bee"]))
    model = ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert places(match(["cat", "ant"], model, str(text))) == [2, 0]
    assert places(match(["Katze", "Ameise"], model, str(pairs))) == [2, 0]
    with pytest.raises(BadInput, match="names 2 classes; tiny has 3"):
        match(["ant"], model, str(few))
    with pytest.raises(BadInput, match="says nothing of the class 'Biene'"):
        match(["Biene"], model, str(pairs))
    with pytest.raises(BadInput, match="neither a file nor one of .*; did you mean 'folders-by-text'"):
        match(["ant"], model, "folder-by-text")


def test_what_cannot_be_known_is_refused() -> None:
    with pytest.raises(BadInput, match="has the class 'cta', which tiny does not know; did you mean 'cat'"):
        match(["cta"], ["ant", "cat"])
    with pytest.raises(BadInput, match="has the class 'ant', which tiny does not know"):
        match(["ant", "bee"], ["LABEL_0", "LABEL_1", "LABEL_2"])
    with pytest.raises(BadInput, match="has the class 'ant', which is no number"):
        match(["ant", "1"], ["0", "1"], "folders-by-number")

"""Labels of other forms than 0 and 1: what the message says, and that its line of NumPy works."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from craters.data import check_labels, explain_labels, meaning_of, read_patches
from craters.errors import DataError

LABELS = np.array([0, 1, 1, 0, 1])


def words(no: object, yes: object) -> np.ndarray:
    return np.where(LABELS == 1, yes, no)


def hint_of(labels: np.ndarray) -> str:
    with pytest.raises(DataError) as caught:
        check_labels(labels, 5, "labels.npy")
    assert str(caught.value).startswith("labels.npy: ")
    assert "\n" not in str(caught.value)
    assert "expected" in caught.value.message
    return caught.value.hint


def run_line(hint: str, labels: np.ndarray) -> np.ndarray:
    """Run the line of NumPy that a hint ends with."""
    line = re.search(r"(?:onvert them|threshold): (.*)\.$", hint)
    assert line is not None, hint
    return eval(line[1], {"numpy": np, "Y": labels})


@pytest.mark.parametrize(
    "labels",
    [
        words("none", "crater"),
        words("dune", "Crater"),
        words("without crater", "with crater"),
        words("False", "True"),
        words("0", "1"),
        words("0.0", "1.0"),
        words(b"0", b"1"),
        words("no_crater", "craters").astype(object),
        np.array(["0", "true", "1", "no crater", "crater"]),
    ],
)
def test_words_of_certain_meaning_come_with_the_line_that_converts_them(labels: np.ndarray) -> None:
    hint = hint_of(labels)
    assert hint.startswith("Convert them: ")
    assert check_labels(run_line(hint, labels), 5, "Y").tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("labels", "question"),
    [
        (words(1, 2), "Which value means crater?"),
        (words(1.0, 2.0), "Which value means crater?"),
        (words(0, 255), "Which value means crater?"),
        (words("0", "2"), "Which value means crater?"),
        (words("1", "2"), "Which value means crater?"),
        (words("a", "b"), "Which value means crater?"),
        (np.stack([1 - LABELS, LABELS], 1), "They are one-hot: which column means crater?"),
        (np.array([0.2, 0.9, 0.95, 0.3, 0.9]), "Are they probabilities?"),
        (np.stack([1 - words(0.2, 0.9), words(0.2, 0.9)], 1), "Are they probabilities of two"),
        (LABELS[None], "Convert them: Y.ravel()"),
        (words(-1, 1), "If -1 means 'without crater'"),
    ],
)
def test_values_of_unknown_meaning_are_asked_about(labels: np.ndarray, question: str) -> None:
    hint = hint_of(labels)
    assert hint.startswith(question)
    assert "Xtrain1_extra" not in hint
    hint = hint.partition(" If it means 'unlabeled'")[0]
    assert check_labels(run_line(hint, labels), 5, "Y").tolist() == LABELS.tolist()


def test_rows_without_a_label_are_separated() -> None:
    labels = np.array([0, 1, np.nan, 0, 1])
    assert "known = numpy.isfinite(Y), keep X[known] and Y[known]" in hint_of(labels)
    assert "known = Y >= 0, keep X[known]" in hint_of(np.array([0, 1, -1, 0, 1]))
    assert "known = Y >= 0" in hint_of(np.array([0, -1, -1, 0, -1]))


@pytest.mark.parametrize("labels", [np.arange(5), np.array(list("abcab"))])
def test_several_values_are_listed(labels: np.ndarray) -> None:
    assert hint_of(labels).startswith("Which values mean crater? Convert them: numpy.isin(Y, [VAL")


def test_labels_saved_as_objects_are_not_sent_to_an_astype_that_fails(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", np.arange(5 * 64).reshape(5, 8, 8) % 250)
    np.save(tmp_path / "Y.npy", words("none", "crater").astype(object), allow_pickle=True)
    with pytest.raises(DataError, match=r"never unpickled. .* labels as 0 and 1, such as \(Y =="):
        read_patches(tmp_path / "X.npy", tmp_path / "Y.npy")


def test_the_meaning_of_single_words() -> None:
    assert [meaning_of(word) for word in (" TRUE ", "non-crater", "none", "2", 1.0)] == [
        1, 0, None, None, 1,
    ]  # fmt: skip
    assert explain_labels([2]) == (
        "Which value means crater? If 2 does, convert them: (Y == 2).astype('int8')."
    )

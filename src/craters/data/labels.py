"""Validate the labels and groups of patches, and explain labels of other forms.

Labels are 0 (without crater) and 1 (with crater). Other forms are refused: which of two values
means a crater is the user's knowledge.
"""

from __future__ import annotations

import re
import reprlib
from typing import Any

import numpy as np

from craters.errors import DataError

_CRATER = (
    "1", "1.0", "true", "yes", "positive", "crater", "craters", "with crater", "with craters",
)  # fmt: skip
_NO_CRATER = (
    "0", "0.0", "false", "no", "negative", "background", "no crater", "no craters",
    "without crater", "without craters", "not crater", "not a crater", "not craters", "non crater",
    "non craters", "noncrater", "noncraters",
)  # fmt: skip
_SHOWN = 6  # values listed in a message


def check_labels(labels: np.ndarray, count: int, source: str) -> np.ndarray:
    """Return labels as (N,) int8 of 0 and 1.

    Parameters
    ----------
    labels : ndarray, shape (N,) or (N, 1)
        0 or 1 as integers, booleans or floats.
    count : int
        Number of patches.
    source : str
        Name of the labels in messages.

    Raises
    ------
    DataError
        If they are invalid; the hint says how to convert them, if their meaning is certain.
    """
    labels = np.asarray(labels)
    column = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if column.ndim != 1:
        raise DataError(
            f"{source}: labels have shape {labels.shape}, expected (N,) or (N, 1)",
            explain_shape(labels),
        )
    if len(column) != count:
        raise DataError(
            f"{source}: found {len(column)} labels for {count} images, expected as many",
            "Are both files from the same set?",
        )
    if column.dtype.kind not in "biuf" or not np.isin(column, (0, 1)).all():
        values = _distinct(column)
        listed = ", ".join(map(_shown, values[:_SHOWN]))
        raise DataError(
            f"{source}: found labels {listed}{', ...' if len(values) > _SHOWN else ''}, "
            "expected 0 (without crater) and 1 (with crater)",
            explain_labels(values),
        )
    return column.astype(np.int8)


def meaning_of(value: Any) -> int | None:
    """Return the label that a value certainly means: 1, 0, or None if that is unknown.

    Examples
    --------
    >>> meaning_of("Non-crater"), meaning_of("True"), meaning_of("2"), meaning_of("-1")
    (0, 1, None, None)
    """
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    word = " ".join(re.sub(r"(?<=\w)-", " ", text.lower().replace("_", " ")).split())
    return 1 if word in _CRATER else 0 if word in _NO_CRATER else None


def convert_labels(labels: np.ndarray, positive: str | None, source: str) -> np.ndarray:
    """Convert labels of any two values to 0 and 1.

    Parameters
    ----------
    labels : ndarray, shape (N,), (N, 1) or (N, 2)
        Numbers or texts; (N, 2): one-hot.
    positive : str or None
        The value that means 'with crater', or the column of one-hot labels. None: only values whose
        meaning is certain are converted.
    source : str
        Name of the labels in messages.

    Returns
    -------
    ndarray, shape (N,), int8

    Raises
    ------
    DataError
        If the meaning is not certain, or there are other than two values.

    Examples
    --------
    >>> convert_labels(np.array([1, 2, 2]), "2", "y").tolist()
    [0, 1, 1]
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and positive in ("0", "1") and _are_one_hot(labels):
        return labels[:, int(positive)].astype(np.int8)
    if labels.ndim != 1:
        raise DataError(
            f"{source}: labels have shape {labels.shape}, expected (N,) or (N, 1)",
            "Are they one-hot? Give the column that means crater: --positive 1."
            if _are_one_hot(labels)
            else "Write one label per row.",
        )
    texts = np.array([_text(value) for value in labels.tolist()], dtype=object)
    values = sorted(set(texts.tolist()))
    listed = ", ".join(values[:_SHOWN]) + (", ..." if len(values) > _SHOWN else "")
    if positive is not None:
        if positive not in values:
            raise DataError(
                f"{source}: found labels {listed}, but --positive is {positive!r}",
                "Give one of them.",
            )
        if len(values) > 2:
            raise DataError(
                f"{source}: found {len(values)} labels, {listed}, expected two",
                "Join those of patches without crater.",
            )
        return (texts == positive).astype(np.int8)
    meanings = [meaning_of(value) for value in values]
    if None in meanings:
        raise DataError(
            f"{source}: found labels {listed}, of which it is not certain which means a crater",
            "Give the one that does: --positive NAME.",
        )
    known = dict(zip(values, meanings, strict=True))
    return np.array([known[text] for text in texts.tolist()], np.int8)


def _are_one_hot(labels: np.ndarray) -> bool:
    """Return whether labels are two columns, one of which is 1 and the other 0."""
    is_pair = labels.ndim == 2 and labels.shape[1] == 2 and labels.dtype.kind in "biuf"
    return is_pair and bool(np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all())


def _text(value: Any) -> str:
    """Return a label as text: whole numbers without fraction."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def explain_labels(values: list[Any], name: str = "Y") -> str:
    """Explain how to convert labels of other values to 0 and 1.

    Parameters
    ----------
    values : list
        The distinct labels.
    name : str
        Name of the array in the line of NumPy.

    Returns
    -------
    str
        A line of NumPy if the meaning of the values is certain, else a question.

    Examples
    --------
    >>> explain_labels(["crater", "dune"])
    "Convert them: (Y == 'crater').astype('int8')."
    >>> explain_labels([1, 2])
    "Which value means crater? If 2 does, convert them: (Y == 2).astype('int8')."
    """
    numbers = [value for value in values if isinstance(value, int | float)]
    if any(value != value for value in numbers):  # noqa: PLR0124
        return (
            "Have the rows with NaN no label? Leave them out: with "
            f"known = numpy.isfinite({name}), keep X[known] and {name}[known]."
        )
    if -1 in numbers and set(numbers) <= {-1, 1}:
        return (
            f"If -1 means 'without crater', convert them: ({name} == 1).astype('int8'). "
            "If it means 'unlabeled', labels of patches without a crater are needed too."
        )
    if -1 in numbers and set(numbers) <= {-1, 0, 1}:
        return (
            f"-1 means unlabeled: with known = {name} >= 0, keep X[known] and {name}[known]; the "
            "other patches belong to the unlabeled ones (Xtrain1_extra of a data folder)."
        )
    return _explain_values(values, name)


def _explain_values(values: list[Any], name: str) -> str:
    """Explain how to convert labels none of which is missing."""
    texts = [value for value in values if not isinstance(value, int | float)]
    craters = [value for value in texts if meaning_of(value) == 1]
    is_known = all(meaning_of(value) is not None for value in texts)
    is_named = any("crater" in str(value).lower() for value in craters)
    if len(texts) == len(values) and craters and (is_known or (is_named and len(values) == 2)):
        if len(craters) == 1:
            return f"Convert them: ({name} == {craters[0]!r}).astype('int8')."
        return f"Convert them: numpy.isin({name}, {craters!r}).astype('int8')."
    if len(values) <= 2:
        example = _shown(values[-1])
        return (
            f"Which value means crater? If {example} does, convert them: "
            f"({name} == {example}).astype('int8')."
        )
    if all(isinstance(value, int | float) and 0 <= value <= 1 for value in values):
        return f"Are they probabilities? Choose a threshold: ({name} >= 0.5).astype('int8')."
    return (
        f"Which values mean crater? Convert them: numpy.isin({name}, [VALUE, ...]).astype('int8')."
    )


def explain_shape(labels: np.ndarray, name: str = "Y") -> str:
    """Explain how to bring labels to one dimension, such as one-hot labels."""
    if labels.ndim == 2 and labels.shape[0] == 1:
        return f"Convert them: {name}.ravel()."
    if _are_one_hot(labels):
        return (
            "They are one-hot: which column means crater? If the second does, convert them: "
            f"{name}[:, 1]."
        )
    numbers = labels.ndim == 2 and labels.shape[1] == 2 and labels.dtype.kind in "biuf"
    if numbers and (labels >= 0).all() and np.allclose(labels.sum(axis=1), 1):
        return (
            "Are they probabilities of two classes? If the second means crater, convert them: "
            f"({name}[:, 1] >= 0.5).astype('int8')."
        )
    return "Write one label per row."


def _distinct(column: np.ndarray) -> list[Any]:
    """Return the distinct values as Python values, sorted where they can be."""
    if column.dtype.kind == "O":
        return list(dict.fromkeys(column.tolist()))
    return np.unique(column).tolist()


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else reprlib.repr(value)


def check_groups(groups: np.ndarray, count: int, source: str) -> np.ndarray:
    """Return group ids as (N,) str; raise DataError if they are invalid."""
    column = groups[:, 0] if groups.ndim == 2 and groups.shape[1] == 1 else groups
    if column.shape == (count,) and column.dtype.kind == "f":
        holds_nan = bool(np.isnan(column).any())
        raise DataError(
            f"{source}: groups are {column.dtype}{' and hold NaN' if holds_nan else ''}, expected "
            "whole numbers or names",
            "Give rows without a source image a group of their own, and write integers or names."
            if holds_nan
            else "Write integers or names, e.g. groups.astype('int64').",
        )
    if column.ndim != 1 or len(column) != count or column.dtype.kind not in "USiu":
        raise DataError(
            f"{source}: groups are {groups.dtype} of shape {groups.shape}, expected one name or "
            f"number for each of {count} images",
            "Write the source image of each row, or remove the groups file.",
        )
    if column.dtype.kind == "S":
        return np.char.decode(column, "utf-8")
    return column.astype(str)

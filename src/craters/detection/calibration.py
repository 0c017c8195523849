"""Calibrate a detector: probabilities and errors of diameters, by circles with known truth."""

from __future__ import annotations

import numpy as np

from craters.errors import DataError
from craters.evaluation import sigmoid
from craters.models import Calibration

_LEAST = 20  # candidates of each kind
_WEAK = 1e-3  # keeps the slope finite where craters and others do not overlap
_FEWEST_GROUPS = 3  # with some information, to measure their scatter
_LEVEL = 0.6827  # of a normal distribution, within one standard deviation


def fit_calibration(logits: np.ndarray, is_crater: np.ndarray, groups: np.ndarray) -> Calibration:
    """Fit the probability of candidates by logistic regression on their logit (Platt 2000).

    Parameters
    ----------
    logits : ndarray, shape (N,)
        Of candidates in images that the network was not trained on.
    is_crater : ndarray of bool, shape (N,)
    groups : ndarray of str, shape (N,)
        The scene of each candidate, such as a region, over which the calibration may differ.

    Raises
    ------
    DataError
        With fewer than 20 craters or other candidates.
    """
    from sklearn.linear_model import LogisticRegression

    is_crater = np.asarray(is_crater, bool)
    least = min(int(is_crater.sum()), int((~is_crater).sum()))
    if least < _LEAST:
        raise DataError(
            f"{int(is_crater.sum())} craters and {int((~is_crater).sum())} other candidates are "
            f"too few for a calibration, expected {_LEAST} of each"
        )
    model = LogisticRegression(C=1 / _WEAK).fit(np.asarray(logits, float)[:, None], is_crater)
    slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
    return Calibration(
        slope=slope,
        offset=offset,
        share=float(is_crater.mean()),
        candidates=len(is_crater),
        scatter=_scatter(slope * np.asarray(logits, float) + offset, is_crater, groups),
    )


def _scatter(expected: np.ndarray, is_crater: np.ndarray, groups: np.ndarray) -> float:
    """Return the standard deviation over groups of the error of the logit, without sampling noise.

    In each group, one step of Newton's method gives the offset that the expected logits lack, and
    its variance (DerSimonian & Laird 1986 take the noise out of the spread of such estimates).
    """
    offsets, variances = [], []
    for group in np.unique(groups):
        inside = groups == group
        probability = sigmoid(expected[inside])
        information = float((probability * (1 - probability)).sum())
        if information > 1:
            offsets.append(float((is_crater[inside] - probability).sum()) / information)
            variances.append(1 / information)
    if len(offsets) < _FEWEST_GROUPS:
        return 0.0
    weights = 1 / np.array(variances)
    mean = float(np.average(offsets, weights=weights))
    spread = float((weights * (np.array(offsets) - mean) ** 2).sum())
    scale = float(weights.sum() - (weights**2).sum() / weights.sum())
    return float(np.sqrt(max(spread - (len(offsets) - 1), 0.0) / scale))


def fit_error_scale(errors: np.ndarray, expected: np.ndarray) -> float:
    """Return the factor that makes errors one standard deviation: 68 % of the truth within them.

    Parameters
    ----------
    errors : ndarray, shape (N,)
        Of diameters: measured minus true.
    expected : ndarray, shape (N,)
        Errors that the network expects, above 0.
    """
    return float(np.quantile(np.abs(errors) / expected, _LEVEL))

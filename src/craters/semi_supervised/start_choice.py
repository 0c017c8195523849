"""Decide by cross-fitting how far fine-tuned weights may move from the pretrained model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from craters.evaluation import LEAST_PATCHES, fit_temperature
from craters.training import FINE_TUNED, HALFWAY, KEPT

SHARES = (KEPT, HALFWAY, FINE_TUNED)


@dataclasses.dataclass(frozen=True)
class StartChoice:
    """How far the kept network moves from the pretrained model, and the evidence.

    Parameters
    ----------
    share : float
        Share of the way from the pretrained to the trained weights: one of `SHARES`.
    gain, error : float
        Log loss of the pretrained model minus that of the fine-tuned networks on labels that they
        were not trained on, mean over the labels, each at its best temperature; its standard error.
    n_labels : int
    """

    share: float
    gain: float
    error: float
    n_labels: int

    @property
    def keeps_start(self) -> bool:
        """Whether the pretrained model is kept as it is."""
        return self.share == KEPT

    @property
    def sentence(self) -> str:
        """The choice as a sentence, with the numbers."""
        words = {
            FINE_TUNED: "The fine-tuned network is kept",
            HALFWAY: "A network halfway between the pretrained and the fine-tuned one is kept",
            KEPT: "The pretrained model is kept as it is",
        }[self.share]
        change = "lowers" if self.gain > 0 else "raises"
        return (
            f"{words}: fine-tuning {change} the log loss on held-out labels by "
            f"{abs(self.gain):.3f} (standard error {self.error:.3f}; {self.n_labels} labels)."
        )


def choose_share(labels: np.ndarray, logits: Mapping[float, np.ndarray]) -> StartChoice:
    """Choose between the pretrained model, the fine-tuned network and the middle.

    The fine-tuned network needs a loss that is lower by more than a standard error, the pretrained
    model one that is lower by as much; otherwise the middle is chosen.

    Parameters
    ----------
    labels : ndarray, shape (N,)
    logits : dict of {float: ndarray of shape (N,)}
        Out-of-fold logits, by the share of the way; at least of `KEPT` and `FINE_TUNED`.
    """
    gains = _losses(labels, logits[KEPT]) - _losses(labels, logits[FINE_TUNED])
    gain, error = float(gains.mean()), float(gains.std() / np.sqrt(len(gains)))
    share = FINE_TUNED if gain > error else KEPT if gain < -error else HALFWAY
    return StartChoice(share=share, gain=gain, error=error, n_labels=len(labels))


def _losses(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return the log loss of each label, at the best temperature if enough labels can fit it."""
    can_fit = len(labels) >= LEAST_PATCHES and len(np.unique(labels)) == 2
    scaled = logits.astype(np.float64) / (fit_temperature(labels, logits) if can_fit else 1.0)
    return np.logaddexp(0, scaled) - labels * scaled


def cross_fit_share(
    labels: np.ndarray, folds: Sequence[np.ndarray], logits: Mapping[float, np.ndarray]
) -> np.ndarray:
    """Return the logits of each fold at the share that the labels of the other folds choose.

    So the choice itself is measured on labels that it did not see.

    Parameters
    ----------
    labels : ndarray, shape (N,)
    folds : sequence of ndarray of int
        Held-out rows of each fold.
    logits : dict of {float: ndarray of shape (N,)}
        Out-of-fold logits of all `SHARES`.

    Returns
    -------
    ndarray, shape (N,), float32
    """
    chosen = np.full(len(labels), np.nan, np.float32)
    for rows in folds:
        others = np.setdiff1d(np.arange(len(labels)), rows)
        choice = choose_share(labels[others], {key: each[others] for key, each in logits.items()})
        chosen[rows] = logits[choice.share][rows]
    return chosen

"""What the peers of `job` share: the split that a script would draw."""

from __future__ import annotations

import numpy as np


def draw_validation(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a fifth of each class at random.

    Returns
    -------
    train, validation : ndarray of int
        Row numbers, ascending.
    """
    random = np.random.default_rng(seed)
    chosen = []
    for label in (0, 1):
        rows = random.permutation(np.flatnonzero(labels == label))
        chosen.append(rows[: len(rows) // 5])
    validation = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), validation), validation

"""scikit-learn's self-training over histograms of gradients and a support vector machine.

    python sklearn_job.py DATA THREADS SEED OUT.npy

For `job`. HOG (Dalal & Triggs 2005) by scikit-image; the machine's probabilities are calibrated by
five folds; SelfTrainingClassifier adds what it is sure about by 0.95, of both classes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from skimage.feature import hog
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.svm import SVC


def describe(images: np.ndarray) -> np.ndarray:
    """Return the features of each patch."""
    settings = {"orientations": 9, "pixels_per_cell": (8, 8), "cells_per_block": (2, 2)}
    return np.stack([hog(image, **settings) for image in images.reshape(-1, 48, 48)])


def main(data: Path, threads: int, seed: int, out: Path) -> None:
    """Train on the labels and the pool, and save the predictions for the test set."""
    base = make_pipeline(StandardScaler(), SVC(C=10, random_state=seed))
    calibrated = CalibratedClassifierCV(base, cv=5, ensemble=False, n_jobs=threads)
    model = SelfTrainingClassifier(calibrated, threshold=0.95)
    labeled, pool = np.load(data / "Xtrain1.npy"), np.load(data / "Xtrain1_extra.npy")
    labels = np.load(data / "Ytrain1.npy").reshape(-1).astype(int)
    features = np.concatenate([describe(labeled), describe(pool)])
    model.fit(features, np.concatenate([labels, np.full(len(pool), -1)]))
    np.save(out, model.predict_proba(describe(np.load(data / "Xtest1.npy")))[:, 1])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))

"""Find craters with PyCDA; runs in an environment of its own, without craters.

    python pycda_detect.py IMAGES.npz CIRCLES.npz

IMAGES.npz holds 8-bit images by name; CIRCLES.npz gets arrays (K, 4) of row, column, diameter and
likelihood by the same names. PyCDA 0.1.16 uses names of
scikit-image that have moved since.
"""

import sys

import numpy as np
import skimage.measure
import skimage.morphology
import skimage.segmentation

_label = skimage.measure.label


def label(image, neighbors=None, **options):
    """Label regions; 4 neighbours are now a connectivity of 1."""
    if neighbors == 4:
        options["connectivity"] = 1
    return _label(image, **options)


skimage.measure.label = label
skimage.morphology.watershed = skimage.segmentation.watershed

from pycda import CDA  # noqa: E402


def main(source, target):
    """Search every image of a file."""
    detector = CDA()
    classify = detector.classifier.predict
    # Its last batch may be empty, which TensorFlow refuses.
    detector.classifier.predict = lambda batch: classify(batch) if len(batch) else []
    found = {}
    with np.load(source) as images:
        for name in images.files:
            proposals = detector.get_prediction(images[name], verbose=False).proposals
            columns = ["lat", "long", "diameter", "likelihood"]
            found[name] = proposals[columns].to_numpy(float).reshape(-1, 4)
            detector.predictions.clear()
    np.savez(target, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""One network in the two forms that `cold_predict` compares.

    python cold_models.py FOLDER

writes FOLDER/model (a model folder) and FOLDER/model.h5 (a Keras file). The weights are drawn, not
trained: what is measured does not depend on them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from craters.models import (
    ModelDescription,
    OriginalNet,
    initialize,
    network_to_onnx,
    network_weights,
    write_keras_h5,
    write_model,
)


def main(folder: Path) -> None:
    """Write both."""
    network = OriginalNet(48)
    initialize(network, 0)
    write_keras_h5(folder / "model.h5", network)
    write_model(
        folder / "model",
        onnx=network_to_onnx(network, 48),
        weights=network_weights(network),
        description=ModelDescription("original", {}, 48),
        force=True,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

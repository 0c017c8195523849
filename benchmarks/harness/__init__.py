"""What every benchmark needs: rows that are kept, measured processes, summaries, shared inputs.

The process that imports it stays small, without torch: the kernel never counts a child's peak
memory as less than its parent's memory at the moment it was started.
"""

from harness.base import FOLDER, MODEL, RESULTS, ROOT, WORK, Bench, BenchError, Row
from harness.inputs import (
    REGION_FOLDS,
    data_hash,
    find_data,
    held_out_regions,
    nanedi_file,
    read_probabilities,
    write_arrays,
    write_image,
    write_models,
)
from harness.peers import pycda_python, scikit_python, tensorflow_python, tensorflow_versions
from harness.processes import Usage, measure_process, usable_cpus
from harness.results import (
    contender,
    read_result,
    result,
    spread,
    summarize,
    write_result,
)
from harness.rows import (
    Keys,
    Rows,
    RowStore,
    by_contender,
    hardware,
    made,
    measure_missing,
    row_key,
    train_missing,
    versions,
)

__all__ = [
    "FOLDER",
    "MODEL",
    "REGION_FOLDS",
    "RESULTS",
    "ROOT",
    "WORK",
    "Bench",
    "BenchError",
    "Keys",
    "Row",
    "RowStore",
    "Rows",
    "Usage",
    "by_contender",
    "contender",
    "data_hash",
    "find_data",
    "hardware",
    "held_out_regions",
    "made",
    "measure_missing",
    "measure_process",
    "nanedi_file",
    "pycda_python",
    "read_probabilities",
    "read_result",
    "result",
    "row_key",
    "scikit_python",
    "spread",
    "summarize",
    "tensorflow_python",
    "tensorflow_versions",
    "train_missing",
    "usable_cpus",
    "versions",
    "write_arrays",
    "write_image",
    "write_models",
    "write_result",
]

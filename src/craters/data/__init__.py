"""Patches, labels and data folders, their splits, copies and augmentation.

Interface: `PatchSet`, `read_patches`, `read_dataset`, `validation_split`, `search_copies`.
This package neither trains nor evaluates, and does not need torch.
"""

from craters.data import dataset, patches, pictures, splits
from craters.data.augment import (
    SYMMETRIES,
    SymmetryReport,
    choose_symmetry,
    compose,
    measure_light,
    measure_symmetry,
    pad_for_shifts,
    shift_and_flip,
    transform,
    transform_places,
)
from craters.data.conversion import (
    Conversion,
    arrays_of,
    convert_dataset,
    is_archive,
    read_dataset,
    recorded_arrays,
)
from craters.data.copies import COPY_CORRELATION, CopySearch, search_copies
from craters.data.dataset import (
    JobData,
    find_array,
    lacks_labels,
    read_job_data,
    read_unlabeled_data,
)
from craters.data.labels import (
    check_groups,
    check_labels,
    explain_labels,
    explain_shape,
    meaning_of,
)
from craters.data.looks import LOOKS, LookRange, measure_looks
from craters.data.patches import (
    CLASS_NAMES,
    UNLABELED,
    PatchSet,
    as_squares,
    check_two_classes,
    class_counts,
    make_patch_set,
    normalize,
    read_array,
    read_patches,
)
from craters.data.pictures import Picture
from craters.data.pixels import ROUNDING, PixelRecord, differences, to_8bit
from craters.data.splits import validation_split

__all__ = [
    "CLASS_NAMES",
    "COPY_CORRELATION",
    "LOOKS",
    "ROUNDING",
    "SYMMETRIES",
    "UNLABELED",
    "Conversion",
    "CopySearch",
    "JobData",
    "LookRange",
    "PatchSet",
    "Picture",
    "PixelRecord",
    "SymmetryReport",
    "arrays_of",
    "as_squares",
    "check_groups",
    "check_labels",
    "check_two_classes",
    "choose_symmetry",
    "class_counts",
    "compose",
    "convert_dataset",
    "dataset",
    "differences",
    "explain_labels",
    "explain_shape",
    "find_array",
    "is_archive",
    "lacks_labels",
    "make_patch_set",
    "meaning_of",
    "measure_light",
    "measure_looks",
    "measure_symmetry",
    "normalize",
    "pad_for_shifts",
    "patches",
    "pictures",
    "read_array",
    "read_dataset",
    "read_job_data",
    "read_patches",
    "read_unlabeled_data",
    "recorded_arrays",
    "search_copies",
    "shift_and_flip",
    "splits",
    "to_8bit",
    "transform",
    "transform_places",
    "validation_split",
]

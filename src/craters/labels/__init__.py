"""Labels of reviewers: the label store, consensus, merging into a job's arrays, tables.

Interface: `LabelStore`, `Tally`, `merge_labels`, `export_labels`, `read_answers`.
The review page is in `review`; training is in `training`.
"""

from craters.labels.consensus import RULE, Tally
from craters.labels.merge import (
    DRAWN,
    EXTRA,
    LABELED,
    SCAN,
    answered_start,
    in_random_part,
    merge_labels,
    random_place,
    write_snapshot,
)
from craters.labels.store import (
    ANSWERS,
    CRATER,
    NOT,
    WHYS,
    Answer,
    Entry,
    LabelStore,
    Patch,
    check_key,
    check_reviewer,
)
from craters.labels.tables import (
    add_answers,
    agreement_lines,
    agreement_summary,
    export_labels,
    read_answers,
)

__all__ = [
    "ANSWERS",
    "CRATER",
    "DRAWN",
    "EXTRA",
    "LABELED",
    "NOT",
    "RULE",
    "SCAN",
    "WHYS",
    "Answer",
    "Entry",
    "LabelStore",
    "Patch",
    "Tally",
    "add_answers",
    "agreement_lines",
    "agreement_summary",
    "answered_start",
    "check_key",
    "check_reviewer",
    "export_labels",
    "in_random_part",
    "merge_labels",
    "random_place",
    "read_answers",
    "write_snapshot",
]

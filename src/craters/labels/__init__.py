"""Labels of reviewers: the label store, consensus, merging into a job's arrays, tables.

Interface: `LabelStore`, `Tally`, `merge_labels`, `export_labels`; `CircleLabels`, `CircleTally`.
The review page is in `review`; training is in `training`.
"""

from craters.labels.circle_tables import (
    circle_answers_csv,
    circles_csv,
    import_circle_answers,
    import_key,
    is_circle_answers,
    reviewed_craters,
)
from craters.labels.circles import (
    COMPLETE,
    DRAWN_CIRCLE,
    FIELD,
    FOUND,
    Circle,
    CircleAnswer,
    CircleEntry,
    CircleLabels,
    CircleTally,
    LabeledCircle,
    Place,
    same_crater,
)
from craters.labels.consensus import RULE, Tally
from craters.labels.database import check_key, check_reviewer
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
    "COMPLETE",
    "CRATER",
    "DRAWN",
    "DRAWN_CIRCLE",
    "EXTRA",
    "FIELD",
    "FOUND",
    "LABELED",
    "NOT",
    "RULE",
    "SCAN",
    "WHYS",
    "Answer",
    "Circle",
    "CircleAnswer",
    "CircleEntry",
    "CircleLabels",
    "CircleTally",
    "Entry",
    "LabelStore",
    "LabeledCircle",
    "Patch",
    "Place",
    "Tally",
    "add_answers",
    "agreement_lines",
    "agreement_summary",
    "answered_start",
    "check_key",
    "check_reviewer",
    "circle_answers_csv",
    "circles_csv",
    "export_labels",
    "import_circle_answers",
    "import_key",
    "in_random_part",
    "is_circle_answers",
    "merge_labels",
    "random_place",
    "read_answers",
    "reviewed_craters",
    "same_crater",
    "write_snapshot",
]

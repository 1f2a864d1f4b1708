"""Masks against raters: the metrics of the paper's Tables 2 and 3, comparisons, and where a human stands."""

from keras_scgm.evaluation.challenge import (
    CHALLENGE_METRICS,
    FCN_METRICS,
    Comparison,
    MeasuredMask,
    challenge_metrics,
    fcn_metrics,
)
from keras_scgm.evaluation.comparison import (
    AgainstRaters,
    Ceiling,
    PairedTest,
    compare_models,
    inter_rater_ceiling,
)
from keras_scgm.evaluation.scores import Evaluation, Score, evaluate
from keras_scgm.evaluation.summary import Summary
from keras_scgm.evaluation.tables import (
    Table,
    published,
    summary_text,
    table1,
    table2,
    table3,
    tables_text,
    write_evaluation,
)

__all__ = [
    "CHALLENGE_METRICS",
    "FCN_METRICS",
    "AgainstRaters",
    "Ceiling",
    "Comparison",
    "Evaluation",
    "MeasuredMask",
    "PairedTest",
    "Score",
    "Summary",
    "Table",
    "challenge_metrics",
    "compare_models",
    "evaluate",
    "fcn_metrics",
    "inter_rater_ceiling",
    "published",
    "summary_text",
    "table1",
    "table2",
    "table3",
    "tables_text",
    "write_evaluation",
]

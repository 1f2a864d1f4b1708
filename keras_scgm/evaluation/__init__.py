"""Evaluation of masks against raters: the metrics of Tables 2 and 3 of the paper, tests, and inter-rater agreement."""

from keras_scgm.evaluation.challenge import (
    CHALLENGE_METRICS,
    FCN_METRICS,
    Comparison,
    MeasuredMask,
    challenge_metrics,
    fcn_metrics,
)
from keras_scgm.evaluation.evaluator import evaluate, evaluate_tissues
from keras_scgm.evaluation.inter_rater import InterRaterAgreement, ModelAgreement, inter_rater_agreement
from keras_scgm.evaluation.output_files import write_evaluation
from keras_scgm.evaluation.paired_tests import PairedTest, compare_models
from keras_scgm.evaluation.paper_tables import published, table1
from keras_scgm.evaluation.scores import Evaluation, Score
from keras_scgm.evaluation.summary import Summary
from keras_scgm.evaluation.table import Table
from keras_scgm.evaluation.tables import summary_text, table2, table3, tables_text

__all__ = [
    "CHALLENGE_METRICS",
    "FCN_METRICS",
    "Comparison",
    "Evaluation",
    "InterRaterAgreement",
    "MeasuredMask",
    "ModelAgreement",
    "PairedTest",
    "Score",
    "Summary",
    "Table",
    "challenge_metrics",
    "compare_models",
    "evaluate",
    "evaluate_tissues",
    "fcn_metrics",
    "inter_rater_agreement",
    "published",
    "summary_text",
    "table1",
    "table2",
    "table3",
    "tables_text",
    "write_evaluation",
]

"""Inter-rater agreement and the models beside it."""

import numpy as np
import pytest

from keras_scgm import evaluate
from keras_scgm.evaluation import (
    inter_rater_agreement,
)


def test_inter_rater_agreement(result, drawn_study):
    agreement = next(agreement for agreement in inter_rater_agreement(result) if agreement.metric == "DSC")
    means = {
        name: np.mean([s.challenge["DSC"] for s in result.rater_scores if s.annotator == name])
        for name in ("r1", "r2", "r3")
    }
    assert agreement.rater_means == pytest.approx(means)
    assert agreement.bounds == pytest.approx((min(means.values()), max(means.values())))
    good, poor = agreement.models["good"], agreement.models["poor"]
    assert good.mean == pytest.approx(np.mean([s.challenge["DSC"] for s in result.of_model("good")]))
    assert good.n_raters_reached == 3
    assert good.cases_in_range == 1
    assert good.interval[0] > 0
    assert (poor.n_raters_reached, poor.cases_in_range) == (0, 0)
    assert poor.interval[1] < 0
    distances = next(agreement for agreement in inter_rater_agreement(result) if agreement.metric == "HSD")
    assert distances.bounds[0] > distances.bounds[1]
    assert distances.models["poor"].n_raters_reached == 0
    one_rater = drawn_study / "raters" / "site1-sc01-mask-r1.nii.gz"
    assert inter_rater_agreement(evaluate(drawn_study / "good", one_rater)) == []

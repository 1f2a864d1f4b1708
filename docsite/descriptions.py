"""Meaning of the columns and keys that no class of the package describes.

`tests/site/test_site_reference.py` holds each of these against the files that the program writes.
"""

from keras_scgm.evaluation.output_files import metric_column

RECORD = {
    "program": "Name and version of the program",
    "runtime": "Program that computed the network, with its version and precision",
    "weights": "Weights of each network",
    "weights[].name": "Name of the weights",
    "weights[].sha256": "SHA-256 of the weights",
    "cord_weights": "Weights of the network that segmented the cord, if they are others",
    "cord_sha256": "SHA-256 of the mask of the cord, if one was given",
    "settings": "Settings of the segmentation, as in the next table",
    "tissues": "What was segmented",
    "threshold": "Probability above which a voxel is gray matter",
    "cord_threshold": "Probability above which a voxel is cord",
    "slices": "Spacing and size of the windows that the network sees",
    "slices.spacing_mm": "Spacing of their pixels, mm",
    "slices.window_px": "Height and width, pixels",
    "input": "The image",
    "input_sha256": "SHA-256 of its file",
    "shape": "Number of voxels along each axis of the file",
    "spacing_mm": "Voxel spacing along each axis of the file, mm",
    "orientation": "Direction in the patient of each axis of the file, such as LAS",
    "axial_axis": "Axis along which the axial slices are counted, from 0",
    "window_moved": "Whether the windows were moved onto the cord",
    "intensity_mean": "Mean brightness in the windows, in the unit of the image",
    "intensity_std": "Standard deviation of the brightness in the windows, in the unit of the image",
    "gray_matter_volume_mm3": "Volume of gray matter, mm³",
    "white_matter_volume_mm3": "Volume of white matter, mm³",
    "cord_volume_mm3": "Volume of the cord, gray and white matter together, mm³",
    "removed_away_from_cord_mm3": "Volume of what was removed since it lay away from the cord, mm³",
    "quality": "Verdict on the image",
    "quality.verdict": "pass, review or fail",
    "quality.predicted_dsc": "Predicted Dice coefficient with a reference mask, 0 to 1; null for masks edited by hand",
    "quality.reason": "Reason of a verdict other than pass",
    "quality.contrast": "Brightness of the gray matter less that of its rim, in the unit of the image",
    "quality.noise": "Standard deviation of the noise around the gray matter, in the unit of the image",
    "quality.slices": "Indices of the slices of each verdict",
    "quality.slices.pass": "Slices to use",
    "quality.slices.review": "Slices to look at first",
    "quality.slices.fail": "Slices to discard",
    "quality.reasons": "Indices of the slices of each reason",
    "started": "When the segmentation began, UTC",
    "seconds": "Duration, s",
    "warnings": "What may make the result wrong",
    "output": "What the files hold: mask or probabilities",
    "output_tissues": "Tissues that were written: all or gm",
    "files": "Files of the result",
    "masks": "Masks as they were written, by which a later change of them is noticed",
    "masks[].file": "File of the mask",
    "masks[].sha256": "SHA-256 of that file",
    "masks[].edited": "Whether a person edited it",
}
"""Keys of `NAME_gmseg.json`; `[]` stands for each of several."""

REGIONS = {
    "region": "Slices that were pooled: all; slices such as slices 3:8; a vertebral level such as 3; or levels such as "
    "2:3; both ends included",
    "levels": "Vertebral levels of its slices with gray matter, or with cord if that alone was measured",
}

_OVERLAP = {
    "DSC": "Dice coefficient, 0 to 1",
    "MSD": "Mean distance between the contours",
    "HSD": "Largest distance between the contours (Hausdorff)",
    "SHD": "Largest distance between the skeletons, mean over slices",
    "SMD": "Larger median distance between the skeletons that is not 0, mean over slices",
    "TPR": "True positive rate: share of the reference that was found",
    "TNR": "True negative rate: share of the rest that was left out",
    "PPV": "Positive predictive value: share of the prediction that is in the reference",
    "JI": "Jaccard index, 0 to 1",
    "CC": "Conformity coefficient, 1 - (FP + FN) / TP",
}

_TABLE_3 = {
    "dice": "Dice coefficient, 0 to 1",
    "mean_accuracy": "Mean over gray matter and background of the share that was found, 0 to 1",
    "pixel_accuracy": "Share of the voxels that are right, 0 to 1",
    "recall": "Share of the reference that was found, 0 to 1",
    "precision": "Share of the prediction that is in the reference, 0 to 1",
    "fw_iu": "Jaccard index of gray matter and background, weighted by their sizes, 0 to 1",
    "mean_iu": "Mean of both Jaccard indices, 0 to 1",
}

_PAIR = {
    "model": "Name of the model",
    "case": "Name of the volume",
    "site": "Site, if it is known",
    "rater": "Rater whose mask is the reference",
}

_COUNTS = {
    "TP": "Number of voxels in both masks",
    "FP": "Number of voxels in the prediction alone",
    "FN": "Number of voxels in the reference alone",
    "TN": "Number of voxels in neither",
}

_WITH_UNITS = {metric_column(name): text for name, text in _OVERLAP.items()}

CASES = {
    **_PAIR,
    **_WITH_UNITS,
    **_TABLE_3,
    **_COUNTS,
    "HSD_2d_mm": "Largest distance between the outlines of a slice, mean over slices",
    "MSD_2d_mm": "Mean distance between the outlines of a slice, mean over slices",
    "MSD_prediction_to_reference_mm": "Mean distance from the prediction's contour to the reference's",
    "MSD_reference_to_prediction_mm": "Mean distance from the reference's contour to the prediction's",
    "HSD_prediction_to_reference_mm": "Largest distance from the prediction's contour to the reference's",
    "HSD_reference_to_prediction_mm": "Largest distance from the reference's contour to the prediction's",
    "n_slices_compared": "Number of slices that were compared",
    "n_slices_left_out": "Number of slices that were left out, with --annotated-slices",
    "n_slices": "Number of slices in which one of the masks has something",
    "n_slices_without_surface_distance": "Number of these without a distance of outlines, since one mask is empty",
    "n_slices_without_skeleton_distance": "Number of these without a distance of skeletons",
    "volume_prediction_mm3": "Volume of the prediction",
    "volume_reference_mm3": "Volume of the reference",
    "mean_area_prediction_mm2": "Mean area of the prediction over the slices in which it has something",
    "mean_area_reference_mm2": "Mean area of the reference over the slices in which it has something",
}
"""Columns of `cases.csv`."""

SLICES = {
    **_PAIR,
    "slice_from_inferior": "Number of the slice, from 0 at the inferior end",
    **_WITH_UNITS,
    **_TABLE_3,
    **_COUNTS,
    "area_prediction_mm2": "Area of the prediction",
    "area_reference_mm2": "Area of the reference",
}
"""Columns of `slices.csv`; distances of contours are those of outlines in the plane of the slice."""

SUMMARY_JSON = {
    "tissue": "Tissue that was compared: gm, wm or cord",
    "models.NAME.n_cases": "Number of cases of a model",
    "models.NAME.parameters": "Number of its parameters, if it was given",
    "models.NAME.table2": "Mean, standard deviation (n - 1), number and number of undefined values of each metric of "
    "Table 2, over pairs of case and rater",
    "models.NAME.table3": "The same of each metric of Table 3, over slices",
    "models.NAME.sites": "Table 2 of each site",
    "models.NAME.raters": "Table 2 of each rater",
    "models.NAME.areas_mm2": "Number of slices, mean reference, bias, limits of agreement (low, high) of areas, mm²",
    "models.NAME.volumes_mm3": "The same of volumes, mm³",
    "inter_rater": "Agreement of raters and models for each metric",
    "comparisons": "Paired tests of the models",
    "published": "Values of the paper, for gray matter",
    "annotated_only": "Whether slices without annotation were left out",
    "warnings": "What was left out, and doubtful headers",
    "errors": "What could not be used",
}
"""Keys of `summary.json`; NAME stands for each model."""

CALIBRATION = {
    "threshold": "Threshold of the probability, 0 to 1",
    "dsc": "Mean Dice coefficient with it, 0 to 1",
    "precision": "Mean precision, 0 to 1",
    "recall": "Mean recall, 0 to 1",
    "area_bias_mm2": "Mean area of the slices less that of the raters",
}
"""Columns of `calibration.csv`."""

LOG = {
    "epoch": "Number of finished epochs",
    "loss": "Mean loss of the epoch's batches",
    "learning_rate": "Learning rate at the end of the epoch",
    "val_dsc": "Mean Dice coefficient of the validation volumes, 0 to 1",
    "seconds": "Duration of the epoch",
}
"""Columns of `log.csv` of a training."""

CHANGES = {
    "scan": "Name of the image",
    "slice": "Index along the axial axis of the file, from 0",
    "area_mm2_before": "Area of the gray matter with the weights that were started from",
    "area_mm2_after": "Area of the gray matter with the adapted weights",
    "cord_area_mm2_before": "Likewise of the cord, if the weights know it",
    "cord_area_mm2_after": "Likewise of the cord, if the weights know it",
    "predicted_dsc_before": "Predicted Dice coefficient with the weights that were started from, 0 to 1",
    "predicted_dsc_after": "Predicted Dice coefficient with the adapted weights, 0 to 1",
    "dsc_between": "Dice coefficient of the masks before and after, 0 to 1",
}
"""Columns of `changes.csv` of an adaptation."""

JUDGEMENT = {
    "accepted": "Whether all questions passed",
    "checks": "Questions of the guard",
    "checks[].name": "What is measured",
    "checks[].before": "Value of the weights that were started from",
    "checks[].after": "Value of the adapted weights",
    "checks[].limit": "Lowest or highest value that passes",
    "checks[].passed": "Whether it does",
}
"""Keys of `guard.json` of an adaptation."""

SUGGESTED = {
    "rank": "Place in the order in which to label, from 1",
    "image": "The image",
    "slice": "Index along the axial axis of the file, from 0",
    "uncertainty": "Variation of the probabilities over predictions of the slightly changed image",
    "distance": "Distance to the nearest slice above it, in standard deviations of the features; inf for the first",
}
"""Columns of `suggested.csv` of an adaptation."""

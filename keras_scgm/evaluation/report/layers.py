"""Names and colours of the models and raters in the report."""

from __future__ import annotations

from dataclasses import dataclass

from keras_scgm.evaluation.scores import Evaluation

MODEL_COLOURS = ("#ff4d5a", "#ffb000", "#c77dff", "#ff8fab", "#f4f1de")
RATER_COLOURS = ("#4cc9f0", "#80ed99", "#72a0ff", "#2ec4b6", "#b8f2e6")

DASHES = ("none", "6 3", "2 2")
"""Dash patterns of contours in pixels, which distinguish layers of the same colour."""


@dataclass(frozen=True)
class Layer:
    """Contours of one model or rater, which can be hidden in the report.

    Args:
        number: Number of the layer, from 0.
        name: Name of the model or rater.
        is_rater: Whether the masks are those of a rater.
        colour: Colour of the contours.
        dash: Dash pattern of the contours, as in SVG.
    """

    number: int
    name: str
    is_rater: bool
    colour: str
    dash: str

    @property
    def label(self) -> str:
        if self.is_rater:
            return f"rater {self.name}"
        return f"model {self.name}" if self.name.startswith("rater ") else self.name


def layers_of(evaluation: Evaluation) -> list[Layer]:
    """Models in the order given, then raters by name."""
    raters = sorted({rater for case in evaluation.cases for rater in case.references})
    layers: list[Layer] = []
    for names, palette, is_rater in (
        (evaluation.models, MODEL_COLOURS, False),
        (raters, RATER_COLOURS, True),
    ):
        for position, name in enumerate(names):
            dash = DASHES[position // len(palette) % len(DASHES)]
            layers.append(Layer(len(layers), name, is_rater, palette[position % len(palette)], dash))
    return layers

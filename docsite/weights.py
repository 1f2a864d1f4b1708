"""Reference of the weights that are known by name, from their cards."""

from __future__ import annotations

from docsite.markdown import cell, table

INTRODUCTION = """# Weights

The weights that `--weights NAME` knows, from their cards. A card is the JSON file beside the weights; its keys are in
[Tables and JSON files](tables.md). `synthetic` is the default. Weights that are not in the package are downloaded once,
to `$KERAS_SCGM_HOME` (by default `~/.keras/keras_scgm`), and checked against their SHA-256.
"""


def weights_page() -> str:
    """The page of all weights."""
    from keras_scgm.pretrained import WeightsCard, list_weights, weights_card

    def section(card: WeightsCard) -> str:
        kwargs = ", ".join(f"{name}={value}" for name, value in card.model_kwargs.items())
        rows = [
            ("Network", f"`{card.architecture}({kwargs})`"),
            ("Tissues", ", ".join(card.tissues).replace("_", " ")),
            ("Contrasts", ", ".join(card.contrasts)),
            ("Training data", cell(card.data)),
            (
                "Slices",
                f"{card.slices.window_px} x {card.slices.window_px} pixels of {card.slices.spacing_mm} mm",
            ),
            (
                "Threshold",
                f"{card.threshold} on the image's grid; order of steps of the paper: {card.paper_threshold}",
            ),
            ("Limits", cell(card.limits)),
            ("Licence", cell(card.licence)),
            ("Citation", cell(card.citation)),
            ("File", f"`{card.file}`, " + (f"from <{card.url}>" if card.url else "in the package")),
            ("SHA-256", f"`{card.sha256}`"),
        ]
        scores = [
            (cell(score["image"]), cell(score["metric"]), f"{score['value']:.3f}", cell(score["pipeline"]))
            for score in card.scores
        ]
        parts = [f"## {card.name}", "", table(("", ""), rows), ""]
        if scores:
            parts += [table(("Measured on", "Metric", "Value", "With"), scores), ""]
        return "\n".join(parts)

    return "\n".join([INTRODUCTION, *(section(weights_card(name)) for name in list_weights())])

"""Model cards as people and the Hugging Face Hub read them: YAML metadata and Markdown, from the weights' card."""

from __future__ import annotations

from typing import Any

from keras_scgm import checks
from keras_scgm.pretrained.card import BRIGHT, CORD, WeightsCard

_TISSUES = {1: "gray matter", 2: "gray matter, white matter and the cord"}
_SPDX = {"MIT": "mit"}


def model_card(card: WeightsCard) -> str:
    """The card as Markdown with YAML metadata before it.

    The sections are those of Mitchell et al., "Model cards for model reporting" (2019); the metadata are those of the
    Hugging Face Hub.

    Args:
        card: Card of any weights, known by name or beside a file.

    Raises:
        keras_scgm.errors.InputError: It is no card.

    >>> from keras_scgm.pretrained import weights_card
    >>> model_card(weights_card("synthetic")).splitlines()[:2]
    ['---', 'license: mit']
    """
    # Slow to import.
    import yaml

    checks.instance(WeightsCard)("card", card)
    metadata = yaml.safe_dump(_metadata(card), sort_keys=False, allow_unicode=True, width=100)
    spacing_mm, window_px = card.slices.spacing_mm, card.slices.window_px
    arguments = ", ".join(f"{name}={value!r}" for name, value in card.model_kwargs.items())
    contrasts = " or ".join(card.contrasts)
    bright_only = card.contrasts == (BRIGHT,)
    tissue = _TISSUES[len(card.tissues)]
    results = "\n".join(
        f"| {score['image']} | {score['metric']} | {score['value']} | {score['pipeline']} |"
        for score in card.scores
    )
    table = f"| image | metric | value | how |\n|---|---|---|---|\n{results}" if results else "Not measured."
    return f"""---
{metadata}---

# {card.name}

`{card.architecture}({arguments})` for axial MR images of the spinal cord.

## Intended use

Research: masks of {tissue}, in images with {contrasts}{", such as T2*-weighted ones" if bright_only else ""}.
Input are axial slices of {spacing_mm:g} mm pixels, {window_px:g} x {window_px:g}, with the z-score of a volume;
`keras_scgm` makes them from any NIfTI image:

```
keras-scgm segment t2s.nii.gz --weights {card.name}
```

## Not intended

Diagnosis, or any decision about a patient; this is not a medical device. {_sentence(card.limits)}

## Training data

{_sentence(card.data)}

## Results

{table}

## Citation

{_sentence(card.citation)}
"""


def _metadata(card: WeightsCard) -> dict[str, Any]:
    results = [
        {
            "task": {"type": "image-segmentation"},
            "dataset": {"name": score["image"], "type": "nifti"},
            "metrics": [{"type": "dice", "name": score["metric"], "value": score["value"]}],
        }
        for score in card.scores
    ]
    known = _SPDX.get(card.licence.split(" ")[0])
    tissues = ["gray-matter", *(["white-matter"] if CORD in card.tissues else [])]
    return {
        **({"license": known} if known else {"license": "other", "license_name": card.licence}),
        "library_name": "keras",
        "pipeline_tag": "image-segmentation",
        "tags": ["medical", "mri", "spinal-cord", *tissues, "nifti"],
        "model-index": [{"name": card.name, "results": results}],
    }


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."

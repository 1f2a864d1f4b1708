"""`keras-scgm weights`: lists the weights that are known by name, and describes those of one."""

from __future__ import annotations

from textwrap import shorten
from typing import Annotated

import typer

from keras_scgm_cli.completion import known_weights
from keras_scgm_cli.say import say
from keras_scgm_cli.stderr import import_keras_scgm

LONGEST_DATA = 200
"""Letters of the training data in the list; the model card has all."""


def weights(
    name: Annotated[
        str | None,
        typer.Argument(autocompletion=known_weights, help="Known name; its model card is printed."),
    ] = None,
) -> None:
    """List the weights that are known by name, with the place of their files and their training data.

    The model card is Markdown with the metadata that the Hugging Face Hub reads.

    \b
    Examples:
      keras-scgm weights
      keras-scgm weights synthetic
    """
    import_keras_scgm()
    from keras_scgm.pretrained import cache_folder, list_weights, model_card, weights_card, weights_status

    if name is not None:
        typer.echo(model_card(weights_card(name)), nl=False)
        return
    for card in map(weights_card, list_weights()):
        filters = card.model_kwargs.get("filters")
        width = f" {filters} filters," if filters else ""
        say(f"{card.name}  ({card.architecture},{width} {weights_status(card)})")
        say(f"    data: {shorten(card.data, LONGEST_DATA, placeholder=' ...')}")
        say(f"    licence: {card.licence}")
        if card.url:
            say(f"    file: {cache_folder() / card.file}")
            say(f"    from: {card.url}")

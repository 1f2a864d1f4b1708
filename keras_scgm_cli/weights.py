"""`keras-scgm weights`: lists the weights that are known by name."""

import typer

from keras_scgm_cli.stderr import import_keras_scgm


def weights() -> None:
    """List the weights that are known by name, with the place of their files and their training data.

    \b
    Example:
      keras-scgm weights
    """
    import_keras_scgm()
    from keras_scgm.pretrained import cache_folder, list_weights, weights_card, weights_status

    for card in map(weights_card, list_weights()):
        filters = card.model_kwargs.get("filters")
        typer.echo(f"{card.name}  ({card.architecture}, {filters} filters, {weights_status(card)})")
        typer.echo(f"    data: {card.data}")
        typer.echo(f"    licence: {card.licence}")
        if card.url:
            typer.echo(f"    file: {cache_folder() / card.file}")
            typer.echo(f"    from: {card.url}")

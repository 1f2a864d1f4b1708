"""The program: one thin command per verb."""

import gc
import sys

import typer

from keras_scgm.errors import InputError, no_memory
from keras_scgm_cli.adapt import adapt
from keras_scgm_cli.areas import areas
from keras_scgm_cli.augment_preview import augment_preview
from keras_scgm_cli.calibrate import calibrate
from keras_scgm_cli.cite import cite
from keras_scgm_cli.config_file import default_map, find_defaults
from keras_scgm_cli.demo import demo
from keras_scgm_cli.evaluate import evaluate
from keras_scgm_cli.export import export
from keras_scgm_cli.from_sct import counterpart
from keras_scgm_cli.help import Command, expands_home
from keras_scgm_cli.phantom import phantom
from keras_scgm_cli.say import say
from keras_scgm_cli.segment import segment
from keras_scgm_cli.serve import serve
from keras_scgm_cli.study import study
from keras_scgm_cli.train import train
from keras_scgm_cli.tune import tune
from keras_scgm_cli.weights import weights

app = typer.Typer(
    help="Segment the spinal cord gray matter in MR images (Perone et al. 2018). For research use.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    segment,
    study,
    weights,
    demo,
    phantom,
    areas,
    evaluate,
    calibrate,
    train,
    tune,
    adapt,
    augment_preview,
    export,
    serve,
    cite,
):
    app.command(cls=Command)(expands_home(command))


@app.callback(invoke_without_command=True)
def _before_every_command(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Show the version and stop."),
) -> None:
    if version:
        from importlib.metadata import version as installed_version

        say(f"keras_scgm {installed_version('keras_scgm')}", "to cite it: keras-scgm cite")
        raise typer.Exit
    if found := find_defaults():
        source, tables = found
        context.default_map = default_map(source, tables, context.command.commands)  # type: ignore[attr-defined]
        if options := context.default_map.get(context.invoked_subcommand or ""):
            say(f"defaults from {source}: {', '.join(options)}", err=True)


def main() -> None:
    """Run the command; input errors are one line and exit code 2."""
    try:
        if hint := counterpart(sys.argv[1:]):
            raise InputError(hint)
        app(prog_name="keras-scgm")
    except InputError as error:
        say(f"error: {error}", err=True)
        sys.exit(2)
    except MemoryError as error:
        say(f"error: {no_memory(error)}", err=True)
        sys.exit(2)
    except (ImportError, ValueError) as error:
        if not _is_of_backend(error):
            raise
        say(
            f"error: Keras cannot use its backend ({error}); install it, or set KERAS_BACKEND=tensorflow",
            err=True,
        )
        sys.exit(2)
    finally:
        # Python collects garbage once more before it ends: 0.1 s of the 1.7 s of a usual volume.
        gc.freeze()


def _is_of_backend(error: ImportError | ValueError) -> bool:
    """Whether Keras could not import the backend that KERAS_BACKEND or its own settings name."""
    module = (isinstance(error, ImportError) and error.name) or ""
    return module.startswith(("jax", "torch")) or str(error).startswith("Unable to import backend")

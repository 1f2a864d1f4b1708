"""One adaptation, from unlabelled scans to weights that the guard has accepted or refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras

from keras_scgm import checks
from keras_scgm.adaptation.batches import AdaptationBatches
from keras_scgm.adaptation.config import AdaptationConfig, GuardConfig
from keras_scgm.adaptation.guard import Compared, Judgement, compare
from keras_scgm.adaptation.mean_teacher import MeanTeacher
from keras_scgm.adaptation.normalization import adapt_statistics
from keras_scgm.adaptation.record import SETTINGS, AdaptationRecord
from keras_scgm.adaptation.report import write_report
from keras_scgm.adaptation.scans import Scans, read_real_slices
from keras_scgm.datasets import AnnotatedVolume, find_challenge, load_slices
from keras_scgm.datasets.phantom import SITES, DomainConfig, write_challenge_dataset
from keras_scgm.errors import InputError
from keras_scgm.files import check_inputs_stay
from keras_scgm.models import load_network
from keras_scgm.prediction import Ensemble
from keras_scgm.pretrained import DEFAULT_WEIGHTS, WeightsCard, card_path
from keras_scgm.training import TrainingConfig, fine_tuned, train
from keras_scgm.training.checkpoint import BEST, LAST, check_start, save_weights, write_card
from keras_scgm.training.network import build_network, check_window

ADAPTED, DRAWN = "adapted.weights.h5", "synthetic"
SYNTHETIC_SEED = 310
"""Of the synthetic subjects of the guard, which no training has seen."""


@dataclass(frozen=True)
class AdaptationResult:
    """Result of an adaptation.

    Args:
        last: Weights after the last step; their card says whether they were accepted.
        adapted: The same weights to segment with, if they were accepted; None if they were refused.
        judgement: Verdict of the guard.
        compared: Results on the scans that were held back, before and after.
        warnings: What was left out, one line each.
        stopped: Reason of an early end, or None.
    """

    last: Path
    adapted: Path | None
    judgement: Judgement
    compared: tuple[Compared, ...]
    warnings: tuple[str, ...] = ()
    stopped: str | None = None


def adapt(
    scans: Scans,
    folder: str | Path,
    weights: str = DEFAULT_WEIGHTS,
    config: AdaptationConfig | None = None,
    guard: GuardConfig | None = None,
    *,
    domain: DomainConfig | None = None,
    resume: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
) -> AdaptationResult:
    """Adapt weights to the scanner of unlabelled images, and keep them only if the guard accepts them.

    The mean teacher of Tarvainen and Valpola 2017, taken to unlabelled scanners by Perone et al. 2019, beside synthetic
    slices with masks. With labelled slices the loss on them is added. An adaptation that was killed goes on from its
    last finished epoch with `resume`, and on a CPU ends with the same weights. Nothing is written if the settings, the
    images or the folder are refused.

    Args:
        scans: Result of `find_scans`.
        folder: Folder of the results; it is made if missing.
        weights: Known name or file of the weights to start from.
        config: Settings of the adaptation.
        guard: Limits of the guard.
        domain: Distribution of the synthetic slices; None for that of `keras_scgm.training.SyntheticBatches`.
        resume: Whether to continue the adaptation in the folder, if there is one. The limits of the guard may change.
        callbacks: Further callbacks of the training.
        verbose: As in `keras_scgm.training.train`.

    Raises:
        InputError: The folder, the weights or an image cannot be used.
    """
    checks.instance(Scans, "what find_scans returned")("scans", scans)
    folder, weights = checks.path("folder", folder), checks.text("weights", weights)
    config = checks.settings(AdaptationConfig)("config", config)
    guard = checks.settings(GuardConfig)("guard", guard)
    checks.optional(checks.instance(DomainConfig))("domain", domain)
    resume = checks.flag("resume", resume)
    learned, held_back = scans.split(config.held_back, config.seed)
    networks = Ensemble(weights)
    card = networks.cards[0]
    training = training_config(config, weights, card)
    record = AdaptationRecord.of(config, guard, scans)
    check_inputs_stay([Path(weights)], [folder / ADAPTED])
    record.check_start(folder, resume)
    check_start(folder, training, resume)
    real = read_real_slices(learned, networks)
    labelled = load_slices(scans.labelled, networks.config, "mean") if scans.labelled else None
    batches = AdaptationBatches(config, real, labelled, networks.config.spacing_mm, domain)
    check_window(card.architecture, batches.crop_px)
    record.write(folder / SETTINGS)
    stopped = None
    if config.statistics_only:
        network = build_network(training)
        adapt_statistics(network, real.images, config.statistics_share)
        save_weights(folder / LAST, network, card)
    else:
        method = MeanTeacher(config, real.images)
        stopped = train(
            training, batches, folder, method=method, resume=resume, callbacks=callbacks, verbose=verbose
        ).stopped
        # The lowest loss tells nothing here, because the weight of the consistency rises.
        _remove_weights(folder / BEST)
    last = folder / LAST
    if not last.exists():
        raise InputError(
            f"{folder}: the adaptation ended before its first epoch ({stopped}); change the settings"
        )
    last_card = adapted_card(card, folder, batches.what, training, config)
    write_card(last, last_card)
    judgement, compared = compare(
        weights, str(last), held_back, scans.rescans, synthetic_subjects(folder, guard), guard
    )
    write_report(folder, judgement, compared)
    verdict = (
        "accepted by the guard"
        if judgement.accepted
        else f"refused by the guard: {'; '.join(judgement.reasons)}"
    )
    last_card = replace(last_card, limits=verdict)
    write_card(last, last_card)
    adapted = folder / ADAPTED
    is_kept = judgement.accepted and not stopped
    if is_kept:
        save_weights(adapted, load_network(last)[0], last_card)
    else:
        _remove_weights(adapted)
    return AdaptationResult(
        last,
        adapted if is_kept else None,
        judgement,
        compared,
        (*real.warnings, *(labelled.warnings if labelled else ())),
        stopped,
    )


def training_config(config: AdaptationConfig, weights: str, card: WeightsCard) -> TrainingConfig:
    """The settings of the training that an adaptation is."""
    base = TrainingConfig(
        # Statistics of batch normalization stay as they are, so dropout would shift what later layers see.
        model_kwargs={"dropout": 0.0},
        tissues=card.tissues,
        spacing_mm=card.slices.spacing_mm,
        window_px=card.slices.window_px,
        epochs=config.epochs,
        steps_per_epoch=config.steps_per_epoch,
        batch_size=config.synthetic_slices,
        learning_rate=config.learning_rate,
        rate_per="step",
        cross_entropy_weight=10.0,
        augmentation=config.augmentation,
        threshold_objective=None,
        seed=config.seed,
    )
    return fine_tuned(base, weights)


def adapted_card(
    card: WeightsCard, folder: Path, data: str, training: TrainingConfig, config: AdaptationConfig
) -> WeightsCard:
    """Card of adapted weights: thresholds, contrasts and terms are those of the weights that were started from."""
    settings = {**json.loads(training.to_json()), "adaptation": json.loads(config.to_json())}
    return replace(
        card,
        name=folder.name or "adapted",
        url=None,
        data=f"{card.name} ({card.data}); adapted on {data}",
        training=settings,
        scores=(),
        limits="not yet judged by the guard",
    )


def synthetic_subjects(folder: Path, guard: GuardConfig) -> tuple[AnnotatedVolume, ...]:
    """The synthetic subjects of the guard, drawn into the folder."""
    place, count = folder / DRAWN, guard.synthetic_subjects
    sites = dict(list(SITES.items())[:count])
    per_site = -(-count // len(sites))
    write_challenge_dataset(
        place, subjects_per_site=per_site, seed=SYNTHETIC_SEED, raters=1, sites=sites, force=True
    )
    volumes = sorted(find_challenge(place), key=lambda volume: (volume.subject_id[-2:], volume.subject_id))
    return tuple(volumes[:count])


def _remove_weights(path: Path) -> None:
    for file in (path, card_path(path)):
        file.unlink(missing_ok=True)

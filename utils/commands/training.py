"""Verbs that make models: train head, train encoder, train network, ablation, ship."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .. import settings
from ..faces.backbones import REGISTRY
from .shared import (
    BACKBONE,
    PRECISION,
    changed,
    embeddings_of,
    open_with_backbone,
    verbosity,
)
from .values import learning_rate, new_file, seed, whole
from .verbs import DATA, Result, option, output, verb

if TYPE_CHECKING:
    from ..training.models import TrainedModel

HEAD_BYTES = 4_000_000  # of a head on the shortest embeddings, with what its optimizer remembers
LAYERS = ("none", "last-3", "upper-half", "all-but-last-3", "all")

FOLD = option("--fold", type=whole(0, 4), default=0, help="fold to watch, 0 to 4 (default: 0)")
SEED = option("--seed", type=seed, default=settings.SEED, help=f"default: {settings.SEED}")
PAIRS = option(
    "--pairs",
    type=whole(2),
    help="kin pairs a step, each of another family, 2 at least (default: 64)",
)
TRAINABLE = option("--trainable", choices=LAYERS, help="layers that train (default: all)")


def out_option(name: str):
    """Where the model goes: ``models/NAME`` if nothing else is said."""
    return output(
        "--out",
        type=new_file(),
        default=settings.writable(settings.MODELS) / name,
        help=f"default: models/{name}",
    )


@verb(
    "train head",
    "train a small network on the embeddings of a fixed encoder (a minute)",
    ["train head --fold 0 --out head.keras"],
    [
        DATA,
        BACKBONE,
        FOLD,
        SEED,
        out_option("kinship_head.keras"),
        option("--epochs", type=whole(1), help="at most (default: 40)"),
        option("--learning-rate", type=learning_rate, help="default: 3e-4"),
    ],
    room=HEAD_BYTES,
)
def train_head(options: argparse.Namespace) -> Result:
    """Train the head and save it."""
    from ..training import callbacks, models
    from ..training.head import HeadSettings, fit_head

    models.keras_path(options.out)  # a name that does not fit is told before, not after
    with callbacks.training_into(options.out):
        dataset, backbone = open_with_backbone(options)
        model, history = fit_head(
            dataset,
            embeddings_of(dataset, backbone),
            backbone,
            options.fold,
            options.seed,
            changed(HeadSettings(), epochs=options.epochs, learning_rate=options.learning_rate),
            verbose=verbosity(options, 2),
        )
        return _saved(model, history, options)


@verb(
    "train encoder",
    "fine-tune an encoder, so that relatives are near each other (ten minutes)",
    ["train encoder", "train encoder --precision mixed_bfloat16 --fold 1 --out fold1.keras"],
    [
        DATA,
        BACKBONE,
        FOLD,
        SEED,
        out_option("kinship_encoder.keras"),
        option(
            "--loss",
            choices=["contrastive", "pairs", "families"],
            help="default: contrastive",
        ),
        TRAINABLE,
        PAIRS,
        option(
            "--steps",
            type=whole(100, step=50),
            help="in all, a multiple of 50, 100 at least (default: 400)",
        ),
        option("--learning-rate", type=learning_rate, help="default: 3e-5"),
        PRECISION,
    ],
)
def train_encoder(options: argparse.Namespace) -> Result:
    """Fine-tune an encoder and save it; a run that was killed goes on where it was."""
    from ..training import callbacks, models
    from ..training.encoder import FinetuneSettings, fit_encoder

    models.keras_path(options.out)
    run = options.out.with_suffix(".run")  # what a killed run needs lies beside the model
    with callbacks.training_into(options.out):
        dataset, backbone = open_with_backbone(options, for_training=True)
        # the settings of the course, but for what was asked for
        finetuning = changed(
            FinetuneSettings(),
            loss=options.loss,
            trainable=options.trainable,
            pairs=options.pairs,
            steps=options.steps,
            learning_rate=options.learning_rate,
            precision=options.precision,
        )
        model, history = fit_encoder(
            dataset,
            backbone,
            options.fold,
            options.seed,
            finetuning,
            run=run,
            verbose=verbosity(options),
        )
        return _saved(model, history, options)


@verb(
    "train network",
    "train the article's network on one or two backbones (hours without a GPU)",
    ["train network --backbones facenet vggface-resnet50"],
    [
        DATA,
        option(
            "--backbones",
            nargs="+",
            metavar="NAME",
            choices=REGISTRY,
            required=True,
            help=f"one or two of {', '.join(REGISTRY)}",
        ),
        FOLD,
        SEED,
        out_option("facenet_vgg.keras"),
        option(
            "--variant",
            choices=["symmetric", "article"],
            default="symmetric",
            help="features of a pair (default: symmetric)",
        ),
        TRAINABLE,
        option("--epochs", type=whole(1), help="at most (default: 50)"),
        option("--steps", type=whole(1), help="batches an epoch (default: 200)"),
        option("--learning-rate", type=learning_rate, help="default: 1e-5"),
        option("--h5", action="store_true", help="also write it as .h5, as the article does"),
    ],
)
def train_network(options: argparse.Namespace) -> Result:
    """Train the article's network and save it; a run that was killed goes on where it was."""
    from ..data import open_data
    from ..faces import backbones
    from ..training import callbacks, models, networks
    from ..training.pair_network import NetworkSettings, fit_network

    models.keras_path(options.out)
    run = options.out.with_suffix(".run")
    # the article's settings, but for what was asked for
    network_settings = changed(
        NetworkSettings(options.variant),
        trainable=options.trainable,
        epochs=options.epochs,
        steps=options.steps,
        learning_rate=options.learning_rate,
    )
    towers = [backbones.get(name) for name in options.backbones]
    # what is wrong with them is told before the photos are read
    networks.check_towers(towers)
    for tower in towers:
        tower.weights_path()
    # fixed towers embed each photo once and need no photos afterwards
    fixed = network_settings.trainable == "none"
    sizes = [] if fixed else [tower.input_size for tower in towers]
    with callbacks.training_into(options.out):
        model, history = fit_network(
            open_data(options.data, sizes=sizes),
            towers,
            options.fold,
            options.seed,
            network_settings,
            run=run,
            verbose=verbosity(options),
        )
        # the file of the course, and the article's format beside it
        result = _saved(model, history, options)
        if options.h5:
            model.export_h5(options.out.with_suffix(".h5"))
        return result


def _saved(
    model: "TrainedModel", history: dict[str, list[float]], options: argparse.Namespace
) -> Result:
    """Write the model, and say where and how good it is; a training that ended early failed."""
    model.save(options.out)
    auc = model.facts["val_auc"]
    facts = {**model.facts, "history": history, "out": str(options.out)}
    text = f"{options.out}: AUC {auc:.3f} on fold {options.fold}"
    return Result(facts, text, failed="stopped" in facts)


@verb(
    "ablation",
    "measure what each choice in fine-tuning is worth, on inner folds",
    ["ablation --data recognizing-faces-in-the-wild.zip --out ablation.json"],
    [
        DATA,
        BACKBONE,
        output(
            "--out",
            type=new_file(),
            required=True,
            help="JSON file; what it holds already is not run again",
        ),
        option("--rows", nargs="+", metavar="ROW", help="of the table (default: all)"),
        option("--seeds", nargs="+", type=seed, default=[0, 1, 2], help="default: 0 1 2"),
        PAIRS,
        option("--steps", type=whole(51), help="of a training, 51 at least (default: 400)"),
        PRECISION,
    ],
)
def ablation(options: argparse.Namespace) -> Result:
    """Run what is not measured yet, and print the table."""
    from ..training import ablation
    from ..training.encoder import FinetuneSettings

    ablation.check_rows(options.rows)  # a wrong name is told before, not after
    dataset, backbone = open_with_backbone(options, for_training=True)
    # the settings that every row but one thing has in common
    base = changed(
        FinetuneSettings(),
        pairs=options.pairs,
        steps=options.steps,
        precision=options.precision,
    )
    measured = ablation.run(
        dataset,
        backbone,
        options.out,
        options.rows,
        base,
        tuple(options.seeds),
        verbose=verbosity(options, 2),
    )
    return Result(measured, ablation.table(measured).to_string())


@verb(
    "ship",
    "make one small model of fine-tuned encoders, and measure it on held-out families",
    ["ship fold0.keras fold1.keras --out kinship.npz"],
    [
        DATA,
        option(
            "encoders", nargs="+", type=Path, metavar="ENCODER", help="files of: train encoder"
        ),
        output("--out", type=new_file(".npz"), required=True, metavar="NPZ"),
        option("--name", default="kinship", help="what answers shall call it (default: kinship)"),
        option(
            "--side-by-side",
            action="store_true",
            help="keep all encoders and average their scores, instead of averaging their weights",
        ),
    ],
)
def ship(options: argparse.Namespace) -> Result:
    """Join encoders, calibrate and measure them, and write one file."""
    from .. import files
    from ..data import open_data
    from ..training import models, shipping

    # threshold, probabilities and error rates are measured before anything is written
    dataset = open_data(options.data)
    given = [models.load_encoder(path) for path in options.encoders]
    kept = given if options.side_by_side else given[:1]
    files.check_output(options.out, sum(map(models.shipped_bytes, kept)))
    encoders, facts, cohort = shipping.assemble(
        dataset, given, options.name, averaged=not options.side_by_side
    )
    models.save_shipped(encoders, facts, options.out, cohort)
    # its size and what it is worth
    size = options.out.stat().st_size
    auc, before = facts["report"]["auc"]["value"], facts["before_rounding"]["auc"]
    text = (
        f"{options.out}: {size / 1e6:.1f} MB, AUC {auc:.3f} on held-out families "
        f"({before:.3f} before rounding to half precision)"
    )
    return Result({**facts, "out": str(options.out), "bytes": size}, text)

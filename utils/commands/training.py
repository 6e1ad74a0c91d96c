"""Verbs that make models: train, ablation, crossvalidate, ship."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .. import settings
from ..faces.backbones import DEFAULT, REGISTRY
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
    from ..data.datasets import Dataset
    from ..training.models import TrainedModel
    from ..training.out_of_fold import FoldEmbeddings

HEAD_BYTES = 4_000_000  # of a head on the shortest embeddings, with what its optimizer remembers
TASKS = ("pairs", "parents", "retrieval")  # of `crossvalidate`, as RFIW has three tracks
LAYERS = ("none", "last-3", "upper-half", "all-but-last-3", "all")

FOLD = option("--fold", type=whole(0, 4), default=0, help="fold to watch, 0 to 4 (default: 0)")
SEED = option("--seed", type=seed, default=settings.SEED, help=f"default: {settings.SEED}")
PAIRS = option(
    "--pairs",
    type=whole(2),
    help="kin pairs a step, each of another family, 2 at least (default: 64)",
)
STRATEGY = option(
    "--strategy",
    choices=("auto", "one", "mirrored", "workers"),
    default="auto",
    help="devices that train: one, all GPUs (mirrored), or all workers of TF_CONFIG "
    "(default: what there is)",
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
        STRATEGY,
    ],
)
def train_encoder(options: argparse.Namespace) -> Result:
    """Fine-tune an encoder and save it; a run that was killed goes on where it was."""
    from ..training import callbacks, distribution, models
    from ..training.encoder import FinetuneSettings, fit_encoder

    models.keras_path(options.out)
    run = options.out.with_suffix(".run")  # what a killed run needs lies beside the model
    strategy = distribution.choose(options.strategy)
    is_first = distribution.is_first(strategy)
    with callbacks.training_into(options.out, is_first):
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
            strategy=strategy,
        )
        return _saved(model, history, options, is_first)


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
        STRATEGY,
        option("--h5", action="store_true", help="also write it as .h5, as the article does"),
    ],
)
def train_network(options: argparse.Namespace) -> Result:
    """Train the article's network and save it; a run that was killed goes on where it was."""
    from ..data import open_data
    from ..faces import backbones
    from ..training import callbacks, distribution, models, networks
    from ..training.pair_network import NetworkSettings, fit_network

    models.keras_path(options.out)
    run = options.out.with_suffix(".run")
    # with fixed towers, one device is enough for what is left to train
    fixed = options.trainable == "none"
    strategy = distribution.choose("one" if fixed else options.strategy)
    is_first = distribution.is_first(strategy)
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
    sizes = [] if fixed else [tower.input_size for tower in towers]
    with callbacks.training_into(options.out, is_first):
        model, history = fit_network(
            open_data(options.data, sizes=sizes),
            towers,
            options.fold,
            options.seed,
            network_settings,
            run=run,
            verbose=verbosity(options),
            strategy=strategy,
        )
        # the file of the course, and the article's format beside it
        result = _saved(model, history, options, is_first)
        if options.h5 and is_first:
            model.export_h5(options.out.with_suffix(".h5"))
        return result


def _saved(
    model: "TrainedModel",
    history: dict[str, list[float]],
    options: argparse.Namespace,
    writes: bool = True,
) -> Result:
    """Write the model, and say where and how good it is; a training that ended early failed.

    Args:
        model: what was trained.
        history: of the training.
        options: with ``out`` and ``fold``.
        writes: whether this program writes it; of several workers only the first does.
    """
    if writes:
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
    "train folds",
    "fine-tune the encoders that ship, of each backbone for each fold (hours; can be stopped)",
    ["train folds --data recognizing-faces-in-the-wild.zip", "train folds --backbones edgeface"],
    [
        DATA,
        option(
            "--backbones",
            nargs="+",
            metavar="NAME",
            choices=REGISTRY,
            help="default: those of the shipped model, each by its own recipe",
        ),
        option(
            "--folds",
            nargs="+",
            type=whole(0, 4),
            metavar="FOLD",
            default=[0, 1, 2, 3, 4],
            help="default: 0 1 2 3 4",
        ),
        output(
            "--out",
            type=Path,
            default=settings.writable(settings.MODELS) / "folds",
            metavar="DIR",
            help="folder of the encoders; those in it are not trained again "
            "(default: models/folds)",
        ),
    ],
)
def train_folds(options: argparse.Namespace) -> Result:
    """Train what the folder lacks; a run that was killed goes on where it was."""
    from ..data import open_data
    from ..faces import backbones
    from ..training import encoder

    chosen = [backbones.get(name) for name in options.backbones or encoder.SHIPPED]
    for backbone in chosen:
        backbone.weights_path()  # weights that are missing are told before the photos are read
    dataset = open_data(options.data, sizes=[backbone.input_size for backbone in chosen])
    aucs = encoder.fit_folds(
        dataset, chosen, options.folds, options.out, verbose=verbosity(options)
    )
    lines = [f"{path}: AUC {auc:.3f}" for path, auc in aucs.items()]
    return Result({"out": str(options.out), "aucs": aucs}, "\n".join(lines))


@verb(
    "crossvalidate",
    "measure encoders on every family, each scored by those that never saw it",
    [
        "crossvalidate models/folds/*.keras --data recognizing-faces-in-the-wild.zip",
        "crossvalidate models/folds/*.keras --task parents --out parents.json",
    ],
    [
        DATA,
        option("encoders", nargs="+", type=Path, metavar="ENCODER", help="files of: train folds"),
        option(
            "--task",
            choices=TASKS,
            default="pairs",
            help="pairs (default); parents: two parents and a child, with the constants that "
            "kin --parents takes; retrieval: who of a gallery is a relative, who the same person",
        ),
        option("--frozen", action="store_true", help="also the encoders as they were published"),
        output("--out", type=new_file(), help="write the numbers to this JSON file"),
    ],
)
def crossvalidate(options: argparse.Namespace) -> Result:
    """Numbers of one task; of pairs a row for each backbone, and for all as one."""
    from ..data import open_data
    from ..faces import backbones
    from ..files import write_json
    from ..training import models, out_of_fold

    # what is wrong with the encoders is told before the photos are read
    encoders = [models.load_encoder(path) for path in options.encoders]
    groups = out_of_fold.by_backbone(encoders)
    # the default tells people apart in searches, the best one that is here says who is near
    frozen = [DEFAULT, backbones.at_hand()[0]]
    if options.frozen:
        frozen += groups
        for name in groups:
            backbones.get(name).weights_path()
    dataset = open_data(options.data)
    folds = out_of_fold.embed_folds(dataset, encoders, list(dict.fromkeys(frozen)))
    measured, text = _TASKS[options.task](dataset, folds, list(groups))
    if options.out:
        write_json(options.out, measured)
    return Result(measured, text)


def _measure_pairs(
    dataset: "Dataset", folds: "list[FoldEmbeddings]", names: list[str]
) -> tuple[dict, str]:
    """A row for each backbone, and for all as one."""
    from ..training import out_of_fold

    measured = {}
    for name, members in out_of_fold.combinations(folds).items():
        measured[name] = out_of_fold.measure(folds, members)
    return measured, out_of_fold.table(measured).to_string()


def _measure_parents(
    dataset: "Dataset", folds: "list[FoldEmbeddings]", names: list[str]
) -> tuple[dict, str]:
    """The combination of both sides, and what it is worth beside either."""
    from ..training import parents

    measured = parents.calibrate(dataset, folds, names)
    return measured, parents.table(measured)


def _measure_retrieval(
    dataset: "Dataset", folds: "list[FoldEmbeddings]", names: list[str]
) -> tuple[dict, str]:
    """How high relatives, and the same person, stand in a list of people."""
    from ..training import retrieval

    measured = retrieval.measure(dataset, folds, names)
    return measured, retrieval.table(measured).to_string()


_TASKS = {
    "pairs": _measure_pairs,
    "parents": _measure_parents,
    "retrieval": _measure_retrieval,
}


@verb(
    "ship",
    "make one small model of fine-tuned encoders, and measure it on held-out families",
    ["ship models/folds/*.keras --out kinship.npz"],
    [
        DATA,
        option("encoders", nargs="+", type=Path, metavar="ENCODER", help="files of: train folds"),
        output("--out", type=new_file(".npz"), required=True, metavar="NPZ"),
        option("--name", default="kinship", help="what answers call it (default: kinship)"),
    ],
)
def ship(options: argparse.Namespace) -> Result:
    """Join encoders, calibrate and measure them, and write one file."""
    from .. import files
    from ..data import open_data
    from ..training import ensemble, models, shipping

    # threshold, probabilities and error rates are measured before anything is written
    encoders = [models.load_encoder(path) for path in options.encoders]
    files.check_output(options.out, ensemble.bytes_of(encoders))
    model = shipping.assemble(open_data(options.data), encoders, options.name)
    ensemble.save(model, options.out)
    # its size and what it is worth
    size, facts = options.out.stat().st_size, model.facts
    auc, every = facts["report"]["auc"]["value"], facts["out_of_fold"]["auc"]["value"]
    text = (
        f"{options.out}: {size / 1e6:.1f} MB, AUC {every:.3f} on all families, each scored by "
        f"encoders that never saw it, {auc:.3f} on held-out families "
        f"({facts['before_rounding']['auc']:.3f} before rounding to 8 bits)"
    )
    return Result({**facts, "out": str(options.out), "bytes": size}, text)

"""Verbs that score models and distances: evaluate, submit, relations, calibrate."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import settings
from .shared import BACKBONE, embeddings_of, open_with_backbone
from .values import new_file
from .verbs import DATA, Result, option, output, verb

if TYPE_CHECKING:
    import pandas as pd

    from ..data.datasets import Dataset
    from ..faces.backbones import Backbone

MODEL = option(
    "--model",
    type=Path,
    default=settings.writable(settings.MODELS) / "kinship_head.keras",
    help="file of: train, ship (default: models/kinship_head.keras)",
)


@dataclass(frozen=True)
class Scorer:
    """A trained model of any kind, as what scores pairs of photos.

    Attributes:
        kind: what it is called in reports.
        facts: what it was trained on, and its threshold.
        score: from paths of photos a and b to probabilities of kin ``(n,)``.
    """

    kind: str
    facts: dict
    score: Callable[[Sequence[Path], Sequence[Path]], np.ndarray]

    def score_table(self, dataset: "Dataset", table: "pd.DataFrame") -> np.ndarray:
        """Probability of kin for each row of a table with photo_a and photo_b: ``(n,)``."""
        return self.score(dataset.paths(table["photo_a"]), dataset.paths(table["photo_b"]))


def scorer(path: Path, backbone: "Backbone") -> Scorer:
    """The model in a file: a head, an encoder, a pair network, or the shipped model.

    Args:
        path: the file; ``.npz`` is what ``ship`` wrote.
        backbone: what a head was trained on; the other kinds name their own.

    Raises:
        ModelError: the file is missing, damaged, or a head of another backbone.
    """
    from ..faces.embeddings import embed_photos
    from ..training import ensemble, models, shipping

    # the shipped model
    if path.suffix == ".npz":
        shipped = ensemble.load(path)

        def score_as_users(a: Sequence[Path], b: Sequence[Path]) -> np.ndarray:
            # it takes photos as users have them, and finds the faces
            return shipped.probability(shipping.similarities(shipped, a, b))

        return Scorer("kinship model", shipped.facts, score_as_users)
    # what a training wrote: its file says what it is
    kind = models.kind_of(path)
    if kind == "head":
        head = models.load_head(path, backbone)

        def score_embeddings(a: Sequence[Path], b: Sequence[Path]) -> np.ndarray:
            return head.score(embed_photos(backbone, a), embed_photos(backbone, b))

        return Scorer(kind, head.facts, score_embeddings)
    if kind == "network":
        network = models.load_network(path)
        return Scorer(kind, network.facts, network.score_photos)
    encoder = models.load_encoder(path)
    return Scorer(kind, encoder.facts, encoder.score_photos)


@verb(
    "evaluate",
    "score the frozen encoder and the trained model on the held-out families",
    ["evaluate --model head.keras --json"],
    [
        DATA,
        BACKBONE,
        MODEL,
        option("--protocol", type=Path, help="CSV of pairs (default: the held-out F09 families')"),
    ],
)
def evaluate(options: argparse.Namespace) -> Result:
    """Frozen cosine and trained model on the same protocol."""
    from ..data import protocols
    from ..scoring import evaluation, metrics

    dataset, backbone = open_with_backbone(options)
    trained = scorer(options.model, backbone)
    if options.protocol:
        protocol = protocols.read_protocol(options.protocol, dataset)
    else:
        protocol = protocols.protocol_for(dataset)
    # the frozen encoder, with a threshold from training families
    embeddings = embeddings_of(dataset, backbone)
    a, b = protocols.photo_rows(protocol, dataset)  # (pairs,) each
    cosines = metrics.cosine(embeddings[a], embeddings[b])
    threshold = evaluation.cosine_threshold(dataset, embeddings)
    frozen_report = evaluation.evaluate("frozen cosine", protocol, cosines, threshold)
    # the trained model, with its own
    scores = trained.score_table(dataset, protocol)
    trained_report = evaluation.evaluate(
        f"trained {trained.kind}",
        protocol,
        scores,
        trained.facts["threshold"],
        probabilities=True,
    )
    # the gain, with an interval over families
    families = protocols.pair_families(protocol)
    gain = metrics.auc_gain(protocol["is_related"], scores, cosines, *families)
    reports = [frozen_report, trained_report]
    facts = {
        "protocol": str(options.protocol or "held-out F09 families"),
        "data": protocols.data_name(dataset),
        "reports": [report.to_dict() for report in reports],
        "gain": gain.to_dict(),
    }
    return Result(facts, f"{evaluation.table(reports).T.to_string()}\ngain in AUC  {gain}")


@verb(
    "submit",
    "write a Kaggle submission",
    ["submit --out face_vgg.csv"],
    [
        DATA,
        BACKBONE,
        MODEL,
        output(
            "--out",
            type=new_file(),
            default=Path("face_vgg.csv"),
            help="default: face_vgg.csv",
        ),
        option(
            "--near-photos",
            action="store_true",
            help="also write OUT with -near in its name, where each photo is averaged over those "
            "of the list that look like the same person's (with a file of: ship; best after: "
            "weights edgeface)",
        ),
    ],
)
def submit(options: argparse.Namespace) -> Result:
    """Score the test pairs and write the submission."""
    from ..data import open_data, synthetic, unreadable
    from ..faces import backbones
    from ..scoring import evaluation

    dataset = open_data(options.data, readable=False)
    # a score a pair, in the order of the sample submission
    pairs = evaluation.submission_pairs(dataset)
    a, b = (dataset.paths(pairs[side]) for side in ("photo_a", "photo_b"))
    usable = unreadable.readable_pairs(a, b, options.data or dataset.root)
    lines: list[str] = []
    facts: dict[str, Any] = {}
    if options.near_photos:
        scored, identity = _near_scores(options, dataset, pairs[usable])
        best = backbones.IDENTITY[0]
        better = f" (better: {best}; run: kincourse weights {best})" if identity != best else ""
        lines.append(f"Photos of one person were found by {identity}{better}.")
        facts["near_photos_by"] = identity
    else:
        trained = scorer(options.model, backbones.get(options.backbone))
        scored = {options.out: trained.score_table(dataset, pairs[usable])}

    # synthetic families come with the answers that Kaggle keeps
    truth = dataset.root / synthetic.TRUTH
    left_out, written = int((~usable).sum()), {}
    for out, probabilities in scored.items():
        # Kaggle wants a score for the others too: one that puts them neither first nor last
        scores = np.full(len(pairs), np.median(probabilities))
        scores[usable] = probabilities
        path = evaluation.write_submission(dataset, scores, out)
        auc = evaluation.score_submission(path, truth) if truth.is_file() else None
        written[str(path)] = auc
        note = f"; AUC against the known answers {auc:.3f}" if auc is not None else ""
        if left_out:
            note += f"; {left_out} of them, with photos that cannot be read, have the median score"
        lines.append(f"{path}: {len(pairs)} pairs{note}")
    facts |= {"pairs": len(pairs), "left_out": left_out, "written": written}
    first, auc = next(iter(written.items()))
    return Result({"out": first, "auc": auc, **facts}, "\n".join(lines))


def _near_scores(
    options: argparse.Namespace, dataset: "Dataset", pairs: "pd.DataFrame"
) -> tuple[dict[Path, np.ndarray], str]:
    """Probabilities of pairs as they are, and averaged over near photos, by the file to write.

    Args:
        options: of ``submit``.
        dataset: the data.
        pairs: those that are scored, with photo_a and photo_b.

    Returns:
        They, and the name of the encoder that says which photos show one person.
    """
    from .. import files
    from ..training import ensemble, shipping

    second = options.out.with_name(f"{options.out.stem}-near{options.out.suffix}")
    files.check_output(second)
    model = ensemble.load(options.model)
    a, b = (dataset.paths(pairs[side]) for side in ("photo_a", "photo_b"))
    plain, near = shipping.near_similarities(model, a, b)
    scored = {options.out: model.probability(plain), second: model.probability(near)}
    return scored, shipping.near_photos(model)[0]


@verb(
    "relations",
    "score pairs with a relation type: KinFaceW, or a list of RFIW",
    ["relations KinFaceW-I.zip", "relations test.csv --photos FIDs"],
    [
        option(
            "pairs",
            type=Path,
            metavar="PAIRS",
            help="KinFaceW archive or folder, or a list of RFIW",
        ),
        option(
            "--photos",
            type=Path,
            metavar="DIR",
            help="the folder that the paths in a list of RFIW start from",
        ),
        option("--model", type=Path, help="file of: ship (default: models/kinship.npz)"),
    ],
)
def score_relations(options: argparse.Namespace) -> Result:
    """AUC and accuracy by relation."""
    from ..data import relations, unreadable
    from ..scoring import evaluation
    from ..training import ensemble, shipping

    encoder = ensemble.load(options.model or settings.KINSHIP)
    # pairs with their relation, from either kind of list
    if options.photos:
        listed = relations.load_rfiw(options.pairs, options.photos)
    else:
        listed = relations.load_kinfacew(options.pairs)
    usable = unreadable.readable_pairs(
        listed.paths("photo_a"), listed.paths("photo_b"), options.pairs
    )
    listed = relations.RelationPairs(listed.root, listed.pairs[usable].reset_index(drop=True))
    a, b = listed.paths("photo_a"), listed.paths("photo_b")
    scores = encoder.probability(shipping.similarities(encoder, a, b))
    # accuracy at the model's own threshold, and by the published folds
    threshold = encoder.facts["threshold"]
    tables = {"at its threshold": evaluation.by_relation(listed.pairs, scores, threshold)}
    if not options.photos:  # lists of RFIW have no folds
        tables["by the folds"] = evaluation.by_relation(listed.pairs, scores)
    # the same tables for programs and for people
    facts: dict[str, object] = {
        "pairs": str(options.pairs),
        "model": encoder.facts["name"],
        "left_out": int((~usable).sum()),
    }
    texts = []
    for name, table in tables.items():
        facts[name] = table.round(4).to_dict("index")
        texts.append(f"accuracy {name}\n{table.round(3).to_string()}")
    return Result(facts, "\n\n".join(texts))


@verb(
    "calibrate",
    "choose thresholds for verify on training families, and measure them",
    ["calibrate --data recognizing-faces-in-the-wild.zip --out data/calibration/dlib-resnet.json"],
    [
        DATA,
        BACKBONE,
        output("--out", type=new_file(), help="write the calibration to this JSON file"),
    ],
)
def calibrate(options: argparse.Namespace) -> Result:
    """Thresholds and error rates of a backbone's distances."""
    from ..scoring import calibration

    dataset, backbone = open_with_backbone(options)
    measured = calibration.calibrate(dataset, backbone)
    if options.out:
        calibration.save(measured, options.out)
    # a table of policies, then a line against each kind of other people
    lines = [measured.table().to_string()]
    for other in calibration.OTHERS:
        equal, auc = measured.equal_error[other], measured.auc[other]
        error = measured.calibration_error[other]
        lines.append(
            f"equal error rate against {other}: {equal}, AUC {auc}, calibration error {error:.3f}"
        )
    rates = {name: measured.rates(name).to_dict() for name in measured.thresholds}
    return Result({**measured.to_dict(), "rates": rates}, "\n".join(lines))

"""The command line: ``python -m utils VERB``. Each verb is a few lines over the rooms below."""

import argparse
import json
import sys
import time
from pathlib import Path

from . import __version__, settings
from .errors import CourseError

DEFAULT_MODEL = settings.MODELS / "kinship_head.keras"
DEFAULT_NETWORK = settings.MODELS / "facenet_vgg.keras"
DEFAULT_ENCODER = settings.MODELS / "kinship_encoder.keras"
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
EXAMPLE = "example:\n  python -m utils "


def main(arguments: list[str] | None = None) -> int:
    """Run one verb. 0: done; 2: something that the user can mend, said in one sentence."""
    options = build_parser().parse_args(arguments)
    try:
        result = options.run(options)
    except (CourseError, OSError) as error:  # OSError: no room, no permission; it names the file
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; what was finished is kept", file=sys.stderr)
        return 130
    failed = bool(result.get("failed"))
    _show(result, options.json)
    return 2 if failed else 0


def _show(result: dict, as_json: bool) -> None:
    """Print a verb's result: JSON, or its ``text`` (a table or a sentence)."""
    text = result.pop("text")
    print(json.dumps(result, indent=2, ensure_ascii=False) if as_json else text)


def build_parser() -> argparse.ArgumentParser:
    """All verbs with their options."""
    parser = argparse.ArgumentParser(
        prog="python -m utils", description="Kinship and identity from faces: data, training, answers.",
        epilog="Without --data (or KIN_DATA) everything runs on the synthetic families.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    verb = _verb(verbs, families, "make a dataset of synthetic families",
                 "families --families 40 --seed 1 --out my_families", data=False)
    verb.add_argument("--out", type=Path, help="folder to make (default: data/families, kept if there)")
    verb.add_argument("--families", type=int, default=120, help="number of families (default: 120)")
    verb.add_argument("--children", type=_span, default=(1, 4), metavar="LEAST-MOST",
                      help="children of a family (default: 1-4)")
    verb.add_argument("--photos", type=_span, default=(1, 7), metavar="LEAST-MOST",
                      help="photos of a person (default: 1-7)")
    verb.add_argument("--seed", type=int, default=settings.SEED, help="the same seed gives the same bytes")

    verb = _verb(verbs, audit, "say what the data really holds",
                 "audit --data recognizing-faces-in-the-wild.zip --json")
    verb.add_argument("--figures", type=Path, metavar="DIR", help="also write the figures as PNG")

    verb = _verb(verbs, embed, "embed all training photos into the cache", "embed --out embeddings.npz")
    _backbone(verb)
    verb.add_argument("--out", type=Path, help="also write paths and embeddings to this .npz file")

    verb = _verb(verbs, train, "train the kinship head on frozen embeddings, fine-tune an encoder, or train the "
                 "article's network", "train --fold 0 --out head.keras\n  python -m utils train --finetune\n"
                 "  python -m utils train --network facenet vggface-resnet50")
    _backbone(verb)
    verb.add_argument("--fold", type=int, default=0, help="fold to watch, 0 to 4 (default: 0)")
    verb.add_argument("--seed", type=int, default=settings.SEED)
    verb.add_argument("--out", type=Path, help="default: models/kinship_head.keras, models/kinship_encoder.keras, "
                                               "or models/facenet_vgg.keras")
    instead = verb.add_mutually_exclusive_group()
    instead.add_argument("--finetune", action="store_true", help="fine-tune the encoder instead of the head")
    instead.add_argument("--network", nargs="+", metavar="NAME", choices=_backbones(),
                         help="train the article's network on one or two backbones instead of the head")
    verb.add_argument("--loss", choices=["contrastive", "pairs", "families"],
                      help="for --finetune (default: contrastive)")
    verb.add_argument("--precision", choices=PRECISIONS,
                      help="for --finetune (default: float32); half precision is faster where the machine has it")
    verb.add_argument("--variant", choices=["symmetric", "article"], default="symmetric",
                      help="features of a pair, for --network (default: symmetric)")
    verb.add_argument("--trainable", choices=["none", "last-3", "upper-half", "all-but-last-3", "all"],
                      help="layers of the backbones that train (default: all)")
    verb.add_argument("--epochs", type=int, help="at most (default: 40, or 50 for --network)")
    verb.add_argument("--steps", type=int, help="batches an epoch, for --network (default: 200), or in all, for "
                                                "--finetune (default: 400)")
    verb.add_argument("--learning-rate", type=float, help="default: 3e-4, 3e-5 for --finetune, 1e-5 for --network")
    verb.add_argument("--h5", action="store_true", help="also write the network as .h5, as the article does")

    verb = _verb(verbs, ablation, "measure what each choice in fine-tuning is worth, on inner folds",
                 "ablation --data recognizing-faces-in-the-wild.zip --out ablation.json")
    _backbone(verb)
    verb.add_argument("--out", type=Path, required=True, help="JSON file; what it holds already is not run again")
    verb.add_argument("--rows", nargs="+", metavar="ROW", help="of the table (default: all)")
    verb.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    verb.add_argument("--steps", type=int, help="of a training (default: 400)")
    verb.add_argument("--precision", choices=PRECISIONS, help="default: float32")

    verb = _verb(verbs, ship, "make one small model of fine-tuned encoders, and measure it on held-out families",
                 "ship fold0.keras fold1.keras --out kinship.npz")
    verb.add_argument("encoders", nargs="+", type=Path, metavar="ENCODER", help="files of: train --finetune")
    verb.add_argument("--out", type=Path, required=True, metavar="NPZ")
    verb.add_argument("--name", default="kinship", help="what answers shall call it (default: kinship)")
    verb.add_argument("--side-by-side", action="store_true",
                      help="keep all encoders and average their scores, instead of averaging their weights")

    verb = _verb(verbs, relations, "score pairs with a relation type: KinFaceW, or a list of RFIW",
                 "relations KinFaceW-I.zip\n  python -m utils relations test.csv --photos FIDs", data=False)
    verb.add_argument("pairs", type=Path, metavar="PAIRS", help="KinFaceW archive or folder, or a list of RFIW")
    verb.add_argument("--photos", type=Path, metavar="DIR",
                      help="the folder that the paths in a list of RFIW start from")
    verb.add_argument("--model", type=Path, help="file of: ship (default: models/kinship.npz)")

    verb = _verb(verbs, evaluate, "score the frozen encoder and the trained model on the held-out families",
                 "evaluate --model head.keras --json")
    _backbone(verb)
    verb.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="default: models/kinship_head.keras")
    verb.add_argument("--protocol", type=Path, help="CSV of pairs (default: the held-out F09 families')")

    verb = _verb(verbs, submit, "write a Kaggle submission", "submit --out face_vgg.csv")
    _backbone(verb)
    verb.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="default: models/kinship_head.keras")
    verb.add_argument("--out", type=Path, default=Path("face_vgg.csv"), help="default: face_vgg.csv")

    verb = _verb(verbs, protocol, "draw the evaluation pairs and the folds anew",
                 "protocol --data recognizing-faces-in-the-wild.zip --out data/protocols")
    verb.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the three CSV files")

    verb = _verb(verbs, build_eigenfaces, "build the face model of the synthetic families from real photos",
                 "eigenfaces --data recognizing-faces-in-the-wild.zip --out eigenfaces.npz", name="eigenfaces")
    verb.add_argument("--out", type=Path, default=settings.EIGENFACES)
    verb.add_argument("--components", type=int, default=200)

    verb = _verb(verbs, weights, "fetch the weights of other face networks, or list them",
                 "weights facenet vggface-resnet50", data=False)
    verb.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(_backbones())}; none: list them")

    verb = _verb(verbs, detect, "find the faces in photos", "detect holiday.jpg party.png --out faces", data=False)
    verb.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    verb.add_argument("--out", type=Path, metavar="DIR",
                      help="write each photo with its faces drawn, each face by itself, and faces.json")
    verb.add_argument("--min-face", type=_pixels, default=20, metavar="PIXELS",
                      help="about the smallest face to look for (default: 20)")

    verb = _verb(verbs, verify, "say whether two photos show the same person", "verify a.jpg b.jpg --json",
                 data=False)
    _two_photos(verb)
    verb.add_argument("--threshold", default="relatives", metavar="POLICY",
                      help="relatives (default), strangers, strict, article, or a cosine distance such as 0.09")
    _backbone(verb)

    verb = _verb(verbs, kin, "say whether the people in two photos are related", "kin mother.jpg child.jpg --json",
                 data=False)
    _two_photos(verb)
    verb.add_argument("--model", type=Path, help="file of: ship (default: models/kinship.npz)")
    verb.add_argument("--figure", type=Path, metavar="PNG", help="also draw which regions carry the answer")

    verb = _verb(verbs, calibrate, "choose thresholds for verify on training families, and measure them",
                 "calibrate --data recognizing-faces-in-the-wild.zip --out data/calibration/dlib-resnet.json")
    verb.add_argument("--out", type=Path, help="write the calibration to this JSON file")
    _backbone(verb)

    verb = _verb(verbs, quality, "measure the synthetic families, and how private they are",
                 "quality --real recognizing-faces-in-the-wild.zip")
    _backbone(verb)
    verb.add_argument("--real", type=Path, help="real data to compare with (privacy, expected figures)")
    verb.add_argument("--picture", type=Path, help="also write a picture of five families (JPEG)")
    return parser


def _verb(verbs, run, summary: str, example: str, data: bool = True, name: str | None = None):
    verb = verbs.add_parser(name or run.__name__, help=summary, description=summary.capitalize() + ".",
                            epilog=EXAMPLE + example, formatter_class=argparse.RawDescriptionHelpFormatter)
    verb.set_defaults(run=run)
    verb.add_argument("--json", action="store_true", help="print JSON")
    if data:
        verb.add_argument("--data", type=Path, help="Kaggle archive or folder (default: KIN_DATA, "
                                                    "else the synthetic families)")
    return verb


def _two_photos(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("a", type=Path, metavar="A")
    verb.add_argument("b", type=Path, metavar="B")
    verb.add_argument("--faces", nargs=2, type=int, default=(1, 1), metavar="N",
                      help="which face of A and of B, where there are several (default: 1 1, the largest)")


def _backbone(verb) -> None:
    from .faces.backbones import DEFAULT

    verb.add_argument("--backbone", default=DEFAULT, choices=_backbones(), help=f"default: {DEFAULT}")


def _backbones() -> list[str]:
    from .faces.backbones import REGISTRY

    return list(REGISTRY)


def _pixels(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of pixels such as 40")
    return int(text)


def _span(text: str) -> tuple[int, int]:
    least, _, most = text.partition("-")
    try:
        return int(least), int(most or least)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no span such as 1-4") from error


# --- verbs --------------------------------------------------------------------------------------


def families(options) -> dict:
    """Make synthetic families; the default folder is left alone when it is there."""
    from .data import datasets, synthetic

    out = options.out or settings.families_dir()
    start = time.perf_counter()
    made = bool(options.out) or not out.exists()
    if made:
        synthetic.generate(out, options.families, options.children, options.photos, options.seed)
    dataset = datasets.load(out)
    facts = {"folder": str(out), "families": len(dataset.families), "people": len(dataset.people),
             "photos": len(dataset.photos), "kin_pairs": len(dataset.kin), "test_pairs": len(dataset.sample)}
    note = f"made in {time.perf_counter() - start:.1f} s" if made else "there already"
    return {**facts, "text": f"{out}: {facts['families']} families, {facts['people']} people, "
                             f"{facts['photos']} photos, {facts['kin_pairs']} kin pairs ({note})"}


def audit(options) -> dict:
    """Count what the data holds."""
    from tqdm import tqdm

    from . import plots
    from .data import audit as room
    from .data import synthetic

    dataset = synthetic.open_data(options.data)
    with tqdm(total=len(dataset.photos) + len(dataset.test_photos), desc="Scanning", unit="photo") as bar:
        found = room.audit(dataset, advance=bar.update)
    if options.figures:
        plots.save(plots.audit_overview(found, dataset), options.figures / "audit.png")
        largest = dataset.kin["family"].value_counts().index[0]
        plots.save(plots.family(dataset, largest), options.figures / "family.png")
    return {**found.to_dict(), "text": found.table().to_string(index=False)}


def embed(options) -> dict:
    """Fill the embedding cache."""
    import numpy as np

    from . import files

    dataset, backbone = _opened(options)
    embeddings = _embedded(dataset, backbone)
    if options.out:
        with files.atomic(options.out) as temporary, open(temporary, "wb") as file:
            np.savez(file, path=dataset.photos["path"].to_numpy(str), embedding=embeddings)
    facts = {"photos": len(embeddings), "backbone": backbone.name, "embedding_size": backbone.embedding_size,
             "out": str(options.out) if options.out else None}
    return {**facts, "text": f"{facts['photos']} photos embedded with {backbone.name}"}


def train(options) -> dict:
    """Train the head, the encoder or the network, and save it."""
    from .training import models

    fit, default = ((_train_network, DEFAULT_NETWORK) if options.network else
                    (_train_encoder, DEFAULT_ENCODER) if options.finetune else (_train_head, DEFAULT_MODEL))
    out = models.keras_path(options.out or default)
    model, history = fit(options, out)
    model.save(out)
    if options.network and options.h5:
        model.export_h5(out.with_suffix(".h5"))
    return {**model.facts, "history": history, "out": str(out),
            "text": f"{out}: AUC {model.facts['val_auc']:.3f} on fold {options.fold}"}


def _train_head(options, out: Path):
    from .training import training

    dataset, backbone = _opened(options)
    how = _changed(training.HeadSettings(), epochs=options.epochs, learning_rate=options.learning_rate)
    return training.fit_head(dataset, _embedded(dataset, backbone), backbone, options.fold, options.seed, how,
                             verbose=0 if options.json else 2)


def _train_encoder(options, out: Path):
    """A run that was killed goes on where it was: its state is kept beside the model."""
    from .training import training

    dataset, backbone = _opened(options)
    how = _changed(training.FinetuneSettings(), trainable=options.trainable, loss=options.loss,
                   steps=options.steps, learning_rate=options.learning_rate, precision=options.precision)
    return training.fit_encoder(dataset, backbone, options.fold, options.seed, how, out.with_suffix(".run"),
                                verbose=0 if options.json else "auto")


def _train_network(options, out: Path):
    """A run that was killed goes on where it was: its state is kept beside the model."""
    from .data import datasets, synthetic
    from .faces import backbones
    from .training import training

    dataset = datasets.readable(synthetic.open_data(options.data))
    chosen = [backbones.get(name) for name in options.network]
    how = _changed(training.NetworkSettings(options.variant), trainable=options.trainable, epochs=options.epochs,
                   steps=options.steps, learning_rate=options.learning_rate)
    return training.fit_network(dataset, chosen, options.fold, options.seed, how, out.with_suffix(".run"),
                                verbose=0 if options.json else "auto")


def _changed(how, **options):
    """Settings with those options that were given."""
    import dataclasses

    return dataclasses.replace(how, **{name: value for name, value in options.items() if value is not None})


def ablation(options) -> dict:
    """Run what is not measured yet, and print the table."""
    from .training import ablation as room
    from .training import training

    dataset, backbone = _opened(options)
    how = _changed(training.FinetuneSettings(), steps=options.steps, precision=options.precision)
    result = room.run(dataset, backbone, options.out, options.rows, how, tuple(options.seeds),
                      verbose=0 if options.json else 2)
    return {**result, "text": room.table(result).to_string()}


def ship(options) -> dict:
    """Join encoders, calibrate and measure them, and write one file."""
    from .answers import kinship
    from .data import datasets, synthetic
    from .training import models

    dataset = datasets.readable(synthetic.open_data(options.data))
    encoders = [models.load_encoder(path) for path in options.encoders]
    kept, facts, cohort = kinship.assemble(dataset, encoders, options.name, not options.side_by_side)
    models.save_shipped(kept, facts, options.out, cohort)
    size = options.out.stat().st_size
    return {**facts, "out": str(options.out), "bytes": size,
            "text": f"{options.out}: {size / 1e6:.1f} MB, AUC {facts['report']['auc']['value']:.3f} on held-out "
                    f"families ({facts['before_rounding']['auc']:.3f} before rounding to half precision)"}


def relations(options) -> dict:
    """AUC and accuracy by relation."""
    from .answers.kinship import Kinship, similarities
    from .data import datasets
    from .scoring import evaluation

    encoder = Kinship.load(options.model).encoder
    listed = (datasets.load_rfiw(options.pairs, options.photos) if options.photos
              else datasets.load_kinfacew(options.pairs))
    scores = encoder.probability(similarities(encoder, listed.paths("photo_a"), listed.paths("photo_b")))
    found = {"at its threshold": evaluation.by_relation(listed.pairs, scores, encoder.facts["threshold"])}
    if not options.photos:  # lists of RFIW have no folds
        found["by the folds"] = evaluation.by_relation(listed.pairs, scores)
    tables = {name: table.round(4).to_dict("index") for name, table in found.items()}
    return {"pairs": str(options.pairs), "model": encoder.facts["name"], **tables,
            "text": "\n\n".join(f"accuracy {name}\n{table.round(3).to_string()}"
                                for name, table in found.items())}


def evaluate(options) -> dict:
    """Frozen cosine and trained head on the same protocol."""
    from .data import pairs
    from .scoring import evaluation, metrics
    from .training import training

    dataset, backbone = _opened(options)
    kind, facts, score = _trained(options, backbone)
    protocol = (pairs.read_protocol(options.protocol, dataset) if options.protocol
                else pairs.protocol_for(dataset))
    embeddings = _embedded(dataset, backbone)
    frozen = metrics.cosine(*(embeddings[rows] for rows in pairs.photo_rows(protocol, dataset)))
    trained = score(*(dataset.paths(protocol[column]) for column in ("photo_a", "photo_b")))
    threshold = training.cosine_threshold(dataset, embeddings)
    reports = [evaluation.evaluate("frozen cosine", protocol, frozen, threshold),
               evaluation.evaluate(f"trained {kind}", protocol, trained, facts["threshold"], probabilities=True)]
    gain = metrics.auc_gain(protocol["is_related"], trained, frozen, *pairs.pair_families(protocol))
    return {"protocol": str(options.protocol or "held-out F09 families"), "data": _data_name(dataset),
            "reports": [report.to_dict() for report in reports], "gain": gain.to_dict(),
            "text": f"{evaluation.table(reports).T.to_string()}\ngain in AUC  {gain}"}


def submit(options) -> dict:
    """Score the test pairs and write the submission."""
    from .data import synthetic
    from .faces import backbones
    from .scoring import evaluation

    dataset = synthetic.open_data(options.data)
    _, _, score = _trained(options, backbones.get(options.backbone))
    wanted = evaluation.submission_pairs(dataset)
    path = evaluation.write_submission(dataset, score(*(dataset.paths(wanted[c]) for c in wanted)), options.out)
    truth = dataset.root / synthetic.TRUTH
    auc = evaluation.score_submission(path, truth) if truth.is_file() else None
    note = f"; AUC against the known answers {auc:.3f}" if auc is not None else ""
    return {"out": str(path), "pairs": len(wanted), "auc": auc, "text": f"{path}: {len(wanted)} pairs{note}"}


def protocol(options) -> dict:
    """Draw the committed evaluation files."""
    from .data import datasets, pairs, synthetic

    dataset = synthetic.open_data(options.data)
    train_families, test_families = datasets.split_families(dataset)
    drawn = pairs.make_protocol(dataset, test_families)
    folds = datasets.make_folds(dataset, train_families)
    identity = pairs.make_identity_protocol(dataset, test_families)
    for table, path in ((drawn, pairs.F09_PAIRS), (folds, pairs.FOLDS), (identity, pairs.F09_IDENTITY)):
        pairs.write_csv(table, options.out / path.name)
    facts = {"pairs": len(drawn), "same_photo_pairs": int(drawn["same_photo"].sum()), "families": len(folds),
             "identity_pairs": len(identity)}
    return {**facts, "text": f"{options.out}: {len(drawn)} pairs ({facts['same_photo_pairs']} of one photograph), "
                             f"{len(folds)} families in folds, {len(identity)} pairs to verify identity on"}


def build_eigenfaces(options) -> dict:
    """Fit and write the face model."""
    from .data import eigenfaces
    from .data import synthetic as room

    model, facts = room.build_eigenfaces(room.open_data(options.data), options.components)
    eigenfaces.save(model, options.out)
    return {**facts, "out": str(options.out),
            "text": f"{options.out}: {facts['components']} components of {facts['used']} faces, "
                    f"{100 * facts['variance_share']:.1f} % of the variance"}


def weights(options) -> dict:
    """Download and verify the named networks' weights; without a name, say which are here."""
    from . import files
    from .errors import WeightsError
    from .faces import backbones

    chosen = [backbones.get(name) for name in options.names or _backbones()]
    rows = []
    for backbone in chosen:
        try:
            path = backbone.fetch(not options.json) if options.names else backbone.weights_path()
            rows.append({"name": backbone.name, "file": str(path), "sha256": files.sha256(path)})
        except WeightsError as error:
            if options.names:
                raise
            rows.append({"name": backbone.name, "file": None, "problem": str(error)})
    return {"weights": rows, "text": "\n".join(f"{row['name']:18}{row['file'] or row['problem'].partition(';')[0]}"
                                                 for row in rows)}


def detect(options) -> dict:
    """Faces of each photo; one that cannot be read is named, and does not stop the others."""
    from tqdm import tqdm

    from . import files, images
    from .faces import detection

    rows, names = [], _names(options.photos, options.out)
    for path, name in zip(tqdm(options.photos, unit="photo", desc="Detecting", disable=len(names) == 1), names,
                          strict=True):
        try:
            photo = images.read(path)
        except CourseError as error:
            rows.append({"photo": str(path), "error": str(error)})
            continue
        found = detection.detect(photo, options.min_face)
        rows.append({"photo": str(path), "faces": [face.to_dict() for face in found]})
        if options.out:
            rows[-1]["files"] = _write_faces(options.out, name, photo, found)
    result = {"photos": rows, "failed": sum("error" in row for row in rows)}
    if options.out:
        files.write_json(options.out / "faces.json", result)
    return {**result, "text": "\n".join(_faces_line(row) for row in rows)}


def _names(photos: list[Path], out: Path | None) -> list[str]:
    """What each photo's files begin with: its stem, with a number where that is taken.

    Taken is what another photo has, and what would write over a photo that is still to be read.
    """
    names: list[str] = []
    kept = [path.stem for path in photos if out and path.resolve().parent == out.resolve()]
    for path in photos:
        name, number = path.stem, 2
        while name in names or any(stem.startswith(f"{name}_face") for stem in kept):
            name, number = f"{path.stem}-{number}", number + 1
        names.append(name)
    return names


def _write_faces(folder: Path, name: str, photo, found) -> list[str]:
    """The annotated photo, and each face 224×224, as JPEG."""
    from . import files, images, plots
    from .faces import detection

    pictures = {f"{name}_faces.jpg": plots.faces(photo, found)}
    pictures |= {f"{name}_face{number}.jpg": detection.crop(photo, face, 224)
                 for number, face in enumerate(found, start=1)}
    for file, picture in pictures.items():
        files.write_bytes(folder / file, images.to_jpeg(picture))
    return list(pictures)


def _faces_line(row: dict) -> str:
    if "error" in row:
        return f"error: {row['error']}"
    boxes = [f"  {number}. {face['box'][2]:.0f}×{face['box'][3]:.0f} pixels at ({face['box'][0]:.0f}, "
             f"{face['box'][1]:.0f}), confidence {face['confidence']:.3f}"
             for number, face in enumerate(row["faces"], start=1)]
    counted = {0: "no face", 1: "1 face"}.get(len(boxes), f"{len(boxes)} faces")
    return "\n".join([f"{row['photo']}: {counted}", *boxes])


def verify(options) -> dict:
    """Distance, decision and what it is worth."""
    from .answers import verification

    answer = verification.verify(options.a, options.b, options.backbone, options.threshold, options.faces)
    return {**answer.to_dict(), "text": "\n".join([answer.verdict, *answer.explanation])}


def kin(options) -> dict:
    """Probability, decision, what it is worth and what it rests on."""
    from .answers.kinship import Kinship

    answer = Kinship.load(options.model).predict(options.a, options.b, faces=options.faces)
    if options.figure:
        from . import plots

        plots.save(plots.regions(answer.crops, answer.regions), options.figure)
    return {**answer.to_dict(), "text": "\n".join([answer.verdict, *answer.explanation])}


def calibrate(options) -> dict:
    """Thresholds and error rates of a backbone's distances."""
    from .scoring import calibration

    dataset, backbone = _opened(options)
    found = calibration.calibrate(dataset, backbone)
    if options.out:
        calibration.save(found, options.out)
    equal = [f"equal error rate against {other}: {found.equal_error[other]}, AUC {found.auc[other]}, "
             f"calibration error {found.calibration_error[other]:.3f}" for other in calibration.OTHERS]
    return {**found.to_dict(), "rates": {name: found.rates(name).to_dict() for name in found.thresholds},
            "text": "\n".join([found.table().to_string(), *equal])}


def quality(options) -> dict:
    """Figures for the synthetic families, and for the real data beside them."""
    import pandas as pd

    from . import files, images, plots
    from .data import datasets, synthetic
    from .faces import backbones
    from .scoring import quality as room

    backbone = backbones.get(options.backbone)
    made = datasets.readable(synthetic.open_data(options.data))
    result = {"synthetic": room.measure(made, backbone)}
    if options.real:
        real = datasets.load(options.real)
        result |= {"real": room.measure(real, backbone), "privacy": room.privacy(made, real, backbone)}
    if options.picture:
        shown = made.families[20:25] or made.families[:5]
        files.write_bytes(options.picture, images.to_jpeg(plots.families(made, shown)))
    text = pd.DataFrame({name: result[name] for name in ("synthetic", "real") if name in result}).to_string()
    privacy = [f"{name}: {value}" for name, value in result.get("privacy", {}).items()]
    return {**result, "text": "\n".join([text, *privacy])}


def _opened(options):
    """The data without unreadable photos, and the backbone."""
    from .data import datasets, synthetic
    from .faces import backbones

    return datasets.readable(synthetic.open_data(options.data)), backbones.get(options.backbone)


def _trained(options, backbone):
    """Kind and facts of the model that the options name, and its scores of pairs of photos by path."""
    from .faces.embeddings import embed_photos
    from .training import models

    if options.model.suffix == ".npz":
        from .answers.kinship import similarities  # it takes photos as users have them, and finds the faces

        model = models.load_shipped(options.model)
        return "kinship model", model.facts, lambda a, b: model.probability(similarities(model, a, b))
    kind = models.kind_of(options.model)
    if kind == "head":
        head = models.load(options.model, backbone)
        return kind, head.facts, lambda a, b: head.score(embed_photos(backbone, a), embed_photos(backbone, b))
    model = {"network": models.load_network, "encoder": models.load_encoder}[kind](options.model)
    return kind, model.facts, model.score_photos


def _embedded(dataset, backbone):
    """The embedding of every training photo."""
    from .faces.embeddings import embed_photos

    return embed_photos(backbone, dataset.paths(dataset.photos["path"]))


def _data_name(dataset) -> str:
    from .data import pairs

    return "kaggle" if pairs.is_kaggle(dataset) else "synthetic"


if __name__ == "__main__":
    sys.exit(main())

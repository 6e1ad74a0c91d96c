"""Seconds and memory of the article's two-network model against the course's models.

Plain: each of the four inputs goes through its tower by itself, batch normalisation uses and updates
the statistics of the batch, all layers train, and a step holds all pairs in memory. Ours:
`models.pair_network` in `training.PairTrainer`, all layers training too, a few pairs in memory at a
time. Both have the article's features. The fine-tuned encoder: the one small network that
`training.EncoderTrainer` fine-tunes, as many pairs a step, and that scores a photo and its mirror image.
All have random weights, which take as long as trained ones. In the two photographs (synthetic walls of
1280×720 pixels) the same MTCNN finds the faces for every version. Each version has a process of its own,
because a process has one peak of memory; they take turns, and the others wait meanwhile. A first step of
each, which builds the graph, is not counted.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time

import numpy as np
import side_by_side

from utils import settings
from utils.data import scenes
from utils.faces import detection, embeddings
from utils.faces.backbones import DEFAULT, REGISTRY

PLAIN, OURS, TUNED = "plain, as published", "ours", "fine-tuned encoder"
FIGURES = ("seconds", "cpu_seconds", "peak_gb")
WORK = ("pair of crops", "pair of photographs", "prediction", "training step")  # the first two: of one pair


def plain(backbones, micro_batch):
    """Functions that predict on crops, and train on (crops, labels), as the article's model does."""
    import keras

    from utils.training import models

    inputs, embeddings = [], []
    for backbone in backbones:
        tower = backbone.build(None)
        for _ in "ab":
            inputs.append(keras.Input((backbone.input_size, backbone.input_size, 3)))
            embeddings.append(tower(inputs[-1]))
    head = models.pair_head({b.layer_name: b.embedding_size for b in backbones}, "article")
    model = keras.Model(inputs, head(embeddings))
    model.compile(keras.optimizers.Adam(1e-5), "binary_crossentropy")

    def preprocessed(crops):
        return [backbones[number // 2].preprocess(faces) for number, faces in enumerate(crops)]

    return (lambda crops: model.predict_on_batch(preprocessed(crops)),
            lambda crops, labels: model.train_on_batch(preprocessed(crops), labels))


def ours(backbones, micro_batch):
    """The same with the course's model and trainer."""
    import keras

    from utils.training import models, training

    how = training.NetworkSettings(micro_batch=micro_batch, batch_size=micro_batch or 16).for_this_machine()
    network = models.PairNetwork(models.pair_network(backbones, "article", "all", None), {}, backbones)
    trainer = training.PairTrainer(network, how.micro_batch)
    trainer.compile(keras.optimizers.Adam(1e-5))

    def train(crops, labels):
        inputs = [backbones[number // 2].preprocess(faces) for number, faces in enumerate(crops)]
        trainer.train_on_batch(tuple(inputs), labels)

    return lambda crops: network.score(crops[0::2], crops[1::2]), train


def tuned(backbones, micro_batch):
    """The same with an encoder that is fine-tuned by a contrastive loss."""
    import keras

    from utils.training import losses, models, training

    (backbone,) = backbones
    encoder = models.KinshipEncoder(backbone.build(None), {"logistic": (0, 1)}, backbone)
    loss = losses.get("contrastive", 0, 0.05)
    trainer = training.EncoderTrainer(encoder.model, backbone.build(None), loss, averaging=0.98)
    trainer.compile(keras.optimizers.Adam(1e-5))

    def score(crops):
        return encoder.score(*np.split(encoder.embed(np.concatenate(crops)), 2))

    def train(crops, labels):
        trainer.train_on_batch(tuple(backbone.preprocess(faces) for faces in crops), np.arange(len(labels)))

    return score, train


def faces_of(photos, backbones):
    """The largest face of each photograph, aligned for each backbone."""
    found = [(photo, detection.largest(detection.detect(photo), "the photo")) for photo in photos]
    return [embeddings.align(backbone, *each)[None] for backbone in backbones for each in found]


def child(pipe, version: str, names: list[str], pairs: int, micro_batch: int | None) -> None:
    """Do the work that comes through the pipe; answer with seconds, CPU seconds, and the peak so far in GB."""
    import keras

    from utils.faces import backbones

    keras.utils.set_random_seed(settings.SEED)
    chosen = [backbones.get(name) for name in names]
    rng = np.random.default_rng(settings.SEED)
    crops = [rng.integers(0, 256, (pairs, b.input_size, b.input_size, 3), np.uint8) for b in chosen for _ in "ab"]
    labels = np.arange(pairs, dtype=np.float32) % 2
    score, train = {PLAIN: plain, OURS: ours, TUNED: tuned}[version](chosen, micro_batch)
    walls = [scenes.family_wall(seed=seed)[0] for seed in (0, 1)]
    functions = dict(zip(WORK, (
        lambda: score([faces[:1] for faces in crops]), lambda: score(faces_of(walls, chosen)),
        lambda: score(crops), lambda: train(crops, labels)), strict=True))
    while (work := pipe.recv()) is not None:
        start, cpu = time.perf_counter(), time.process_time()
        functions[work]()
        spent = time.perf_counter() - start, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
        pipe.send((*spent, peak))


def measure(names: list[str], pairs: int, micro_batch: int | None, repeats: int) -> dict:
    """Median seconds of each kind of work, and peak memory after it, of all versions."""
    context, pipes, processes = multiprocessing.get_context("spawn"), {}, []
    for version in (PLAIN, OURS, TUNED):
        pipes[version], theirs = context.Pipe()
        arguments = (theirs, version, [DEFAULT] if version == TUNED else names, pairs, micro_batch)
        processes.append(context.Process(target=child, args=arguments, daemon=True))
        processes[-1].start()
        theirs.close()

    def ask(version: str, work: str) -> tuple[float, float, float]:
        pipes[version].send(work)
        return pipes[version].recv()

    found = {}
    for work in WORK:  # training comes last: it takes the most memory
        rounds = [{version: ask(version, work) for version in pipes} for _ in range(repeats + 1)][1:]
        found[work] = {version: {"seconds": statistics.median(answers[version][0] for answers in rounds),
                                 "cpu_seconds": statistics.median(answers[version][1] for answers in rounds),
                                 "peak_gb": rounds[-1][version][2]} for version in pipes}
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(None)
        process.join()
    return found


def run(options) -> dict:
    """Measure all versions; ``text`` is the table."""
    found = measure(options.backbones, options.pairs, options.micro_batch, options.repeats)
    rows = {}
    for work, versions in found.items():
        for version, figures in versions.items():
            rows[f"{work}, {version}"] = [
                *(f"{figures[name]:.2f}" for name in FIGURES),
                *(f"{figures[name] / versions[PLAIN][name]:.2f}×" for name in FIGURES)]
    text = "\n".join([f"{' + '.join(options.backbones)}, {options.pairs} pairs, median of {options.repeats} "
                      "repetitions in turns",
                      side_by_side.table(["s", "CPU s", "peak GB", "time", "CPU time", "memory"], rows)])
    return {"backbones": options.backbones, "pairs": options.pairs, "repeats": options.repeats, **found,
            "text": text}


def build_parser():
    """The options of this benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python benchmarks/two_networks.py --repeats 3 --json")
    parser.add_argument("--backbones", nargs="+", choices=list(REGISTRY), default=["facenet", "vggface-resnet50"])
    parser.add_argument("--pairs", type=side_by_side.count, default=16, metavar="N", help="a batch (default: 16)")
    parser.add_argument("--micro-batch", type=side_by_side.count, metavar="N",
                        help="pairs in memory at a time, ours (default: the course's)")
    parser.add_argument("--repeats", type=side_by_side.count, default=5, metavar="N",
                        help="repetitions, of which the median counts (default: 5)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    sys.exit(side_by_side.main(run, build_parser().parse_args()))

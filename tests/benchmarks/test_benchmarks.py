"""The benchmarks at tiny size: figures are finite and positive, the article's generator is what it says."""

import importlib
import io
import itertools
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose

from utils.answers.kinship import Kinship
from utils.faces import backbones
from utils.faces.backbones import Backbone
from utils.faces.detection import Face

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
ON_FAMILIES = {"generator": ["--batches", "2"], "encoder": ["--faces", "2"]}  # name: options of a tiny run


@pytest.fixture(scope="module")
def load():
    """Imports a benchmark by name, as a script in its folder would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module


@pytest.fixture(scope="module")
def generator(load):
    return load("generator")


@pytest.fixture(scope="module")
def encoder(load):
    return load("encoder")


@pytest.fixture(scope="module")
def two_networks(load):
    return load("two_networks")


@pytest.fixture(scope="module")
def side_by_side(load):
    return load("side_by_side")


@pytest.fixture(scope="module")
def results(load, families_root):
    """What the benchmarks that run on families give, by name. Each runs once."""
    found = {}
    for name, size in ON_FAMILIES.items():
        arguments = ["--data", str(families_root), "--repeats", "1", *size]
        with pytest.warns(UserWarning, match="cannot be read"):
            found[name] = load(name).run(load(name).build_parser().parse_args(arguments))
    return found


def all_positive(values):
    return all(np.isfinite(value) and value > 0 for value in values)


# --- the generator ------------------------------------------------------------------------------


def article_batches(generator, dataset, views, count):
    return list(itertools.islice(generator.ArticleGenerator(dataset, views), count))


def people_of(sides):
    return [tuple(Path(path).parent.relative_to(Path(path).parents[2]).as_posix() for path in pair)
            for pair in zip(*sides, strict=True)]


def test_article_generator_gives_four_images_a_pair(generator, families):
    views = [generator.facenet_view, generator.vggface_view]
    [(images, labels)] = article_batches(generator, families, views, 1)
    assert [image.shape for image in images] == [(16, 160, 160, 3)] * 2 + [(16, 224, 224, 3)] * 2
    assert labels.tolist() == [1] * 8 + [0] * 8


def test_article_generator_labels_kin_by_the_relationships_in_either_order(generator, families):
    kin = {frozenset(pair) for pair in families.kin[["p1", "p2"]].itertuples(index=False)}
    for sides, labels in article_batches(generator, families, [list], 20):
        people = people_of(sides)
        assert [float(frozenset(pair) in kin) for pair in people] == labels.tolist()
        assert all(a != b for a, b in people)


def test_article_generator_reads_photos_of_the_dataset(generator, families):
    known = set(map(str, families.paths(families.photos["path"])))
    [(sides, _)] = article_batches(generator, families, [list], 1)
    assert {path for side in sides for path in side} <= known


def test_facenet_view_standardises_each_image(generator, families):
    images = generator.facenet_view(list(map(str, families.paths(families.photos["path"][:3]))))
    assert_allclose(images.mean((1, 2, 3)), 0, atol=1e-9)
    assert_allclose(images.std((1, 2, 3)), 1, rtol=1e-9)


def test_like_for_like_view_shows_the_network_what_the_pipeline_shows(generator, families, backbone):
    from utils import images

    paths = families.paths(families.photos["path"][:4])
    ours = backbone.preprocess(images.read_many(paths, backbone.input_size)).numpy()
    article = generator.backbone_view(backbone)(list(map(str, paths)))
    assert article.shape == ours.shape and article.dtype == ours.dtype
    assert np.abs(article - ours).mean() < 3 / 256  # resized with another filter; swapped channels differ by more
    assert np.abs(article[..., ::-1] - ours).mean() > 10 / 256


def test_generator_benchmark_gives_positive_rates_and_their_ratios(generator, results):
    found = results["generator"]
    rate = found["pairs_per_second"]
    assert len(rate) == 5 and all_positive(rate.values()) and all_positive(found["cpu_ms_a_pair"].values())
    assert found["ratio_like_for_like"] == rate[generator.PREPROCESSED] / rate[generator.LIKE]
    assert found["ratio_to_published"] == rate[generator.PREPROCESSED] / rate[generator.PUBLISHED]


# --- the encoder --------------------------------------------------------------------------------


def test_chips_are_crops_of_the_families_and_as_many_of_noise(encoder, families):
    faces = encoder.chips(families, 2)
    assert faces.shape == (4, 150, 150, 3) and faces.dtype == np.uint8


def test_encoder_benchmark_gives_positive_times_and_agreement(results):
    found = results["encoder"]
    figures = [found[name] for name in ("ms_a_face", "cpu_ms_a_face", "ratio")]
    assert all_positive(itertools.chain(*map(dict.values, figures)))
    assert max(found["largest_difference"].values()) < 1e-5


# --- the two-network model ----------------------------------------------------------------------


class Toy(Backbone):
    """A dense layer on the mean colour of a 20×20 crop."""

    name, input_size, embedding_size, preprocessing, weights_id = "toy", 20, 6, "unit", "0123456789abcdef"
    template = np.array([(7.0, 8), (13, 8), (10, 11), (8, 14), (12, 14)])

    def standardise(self, faces):
        return faces / 255

    def architecture(self):
        inputs = keras.Input((20, 20, 3))
        average = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(inputs))
        return keras.Model(inputs, keras.layers.Dense(6)(average), name="toy")

    def load_pretrained(self, model):
        raise NotImplementedError

    def weights_path(self):
        raise NotImplementedError


class Orders:
    """A pipe that asks for the given work and keeps the answers."""

    def __init__(self, *work):
        self.work, self.answers = [*work, None], []

    def recv(self):
        return self.work.pop(0)

    def send(self, answer):
        self.answers.append(answer)


@pytest.mark.parametrize("version", ["PLAIN", "OURS", "TUNED"])
def test_each_version_does_the_work_it_is_asked_for(two_networks, monkeypatch, version):
    monkeypatch.setattr(backbones, "get", lambda name: Toy())
    monkeypatch.setattr(two_networks.detection, "detect",
                        lambda photo: [Face((80.0, 60.0, 100.0, 120.0), 0.9, 9 * Toy.template)])
    pipe = Orders(*two_networks.WORK, "training step")
    two_networks.child(pipe, getattr(two_networks, version), ["toy"], pairs=4, micro_batch=2)
    assert len(pipe.answers) == 5 and all_positive(itertools.chain(*pipe.answers))
    peaks = [peak for *_, peak in pipe.answers]
    assert peaks == sorted(peaks)


def test_two_networks_table_compares_with_the_plain_version(two_networks, monkeypatch):
    figures = {two_networks.PLAIN: {"seconds": 2.0, "cpu_seconds": 4.0, "peak_gb": 6.0},
               two_networks.TUNED: {"seconds": 1.0, "cpu_seconds": 3.0, "peak_gb": 1.5}}
    monkeypatch.setattr(two_networks, "measure", lambda *options: {work: figures for work in two_networks.WORK})
    text = two_networks.run(two_networks.build_parser().parse_args([]))["text"]
    assert text.splitlines()[0].startswith("facenet + vggface-resnet50, 16 pairs, median of 5")
    figures = ["1.00", "3.00", "1.50", "0.50×", "0.75×", "0.25×"]
    assert text.splitlines()[-1].split() == ["training", "step,", "fine-tuned", "encoder", *figures]


# --- detection ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faces_benchmark(load):
    return load("detection")


def square(x, y, side, shift=0):
    landmarks = np.array([(x, y), (x + 10, y), (x + 5, y + 5), (x, y + 9), (x + 10, y + 9)], float)
    return Face((x, y, side, side), 0.9, landmarks + (shift, 0))


def test_agreement_matches_faces_and_measures_how_far_they_lie_apart(faces_benchmark):
    full = [[square(0, 0, 20), square(100, 100, 20)], [square(50, 50, 10)], []]
    bounded = [[square(105, 100, 20, shift=2), square(0, 0, 20, shift=1)], [], [square(5, 5, 9)]]
    found = faces_benchmark.agreement(full, bounded)
    assert found["faces"] == {"full_size": 3, "bounded": 3, "both": 2}
    assert_allclose([found["iou_least"], found["iou_median"]], [300 / 500, (1 + 300 / 500) / 2])
    assert_allclose([found["landmark_error_median"], found["landmark_error_most"]], [0.4, 0.7])


def test_photos_are_enlarged_to_four_megapixels_and_larger_ones_left_alone(faces_benchmark):
    assert faces_benchmark.enlarge(np.zeros((300, 400, 3), np.uint8)).shape == (1732, 2309, 3)
    large = np.zeros((2000, 2500, 3), np.uint8)
    assert faces_benchmark.enlarge(large) is large


def test_detection_benchmark_finds_the_same_faces_in_each_way(faces_benchmark):
    found = faces_benchmark.measure(faces_benchmark.find_photos(None, 1), 1)
    assert found["agreement"]["faces"] == {"full_size": 6, "bounded": 6, "both": 6}
    assert found["agreement"]["iou_least"] == 1 and found["agreement"]["landmark_error_most"] == 0
    assert all_positive([*found["s_a_photo"].values(), *found["ratio"].values()])
    assert "faces: 6 at full size, 6 bounded, 6 of them the same" in faces_benchmark._text("", found, 1)


def test_folder_without_photos_is_one_sentence(faces_benchmark, side_by_side, tmp_path, capsys):
    options = faces_benchmark.build_parser().parse_args(["--photos", str(tmp_path)])
    assert side_by_side.main(faces_benchmark.run, options) == 2
    assert "holds no photos; name a folder" in capsys.readouterr().err


# --- what they share ----------------------------------------------------------------------------


def test_contenders_take_turns_and_the_first_turn_is_a_warm_up(side_by_side):
    order = []

    def contender(name):
        return lambda: (order.append(name) for _ in range(2))

    timings = side_by_side.interleaved({"a": contender("a"), "b": contender("b")}, items=2, repeats=2)
    assert order == ["a", "a", "b", "b"] * 3
    assert all_positive(timing.wall for timing in timings.values())


def test_table_lines_up(side_by_side):
    assert side_by_side.table(["ms"], {"a": ["1.0"], "long": ["12.5"]}) == "        ms\na      1.0\nlong  12.5"


@pytest.mark.parametrize("name", ON_FAMILIES)
def test_benchmark_prints_a_table_or_json(load, side_by_side, results, capsys, name):
    def printed(*arguments):
        options = load(name).build_parser().parse_args(arguments)
        assert side_by_side.main(lambda options: dict(results[name]), options) == 0
        return capsys.readouterr().out

    assert json.loads(printed("--json"))["repeats"] == 1
    assert "×" in printed()


@pytest.mark.parametrize("name", ["generator", "encoder", "two_networks", "detection"])
def test_help_has_an_example(load, name):
    assert f"python benchmarks/{name}.py" in load(name).build_parser().format_help()


def test_data_that_is_not_there_is_one_sentence(generator, side_by_side, tmp_path, capsys):
    options = generator.build_parser().parse_args(["--data", str(tmp_path / "absent.zip")])
    assert side_by_side.main(generator.run, options) == 2
    assert "absent.zip does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "many"])
def test_sizes_below_one_are_refused(generator, text, capsys):
    with pytest.raises(SystemExit):
        generator.build_parser().parse_args([f"--batches={text}"])
    assert "no number from 1 up" in capsys.readouterr().err


# --- serving ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def serving(load):
    return load("serving")


def test_each_server_is_asked_and_whose_answers_came_back_is_counted(serving, shipped, monkeypatch):
    monkeypatch.setitem(serving.ENVIRONMENT, "KIN_APP_MODEL", str(shipped))
    pairs = serving.draw_pairs(6)
    assert len(set(pairs)) == 6
    expected = serving.answers_of(Kinship.load(shipped), pairs)
    found = serving.load("course", pairs, [*expected[:5], expected[5] + 0.1], clients=3)
    assert (found["requests"], found["wrong"], found["failed"]) == (6, 1, 0)  # the last was expected to be another
    assert 0 < found["p50"] <= found["p95"] <= found["seconds"] and found["megabytes"] > 200
    assert_allclose(found["a_second"], 6 / found["seconds"])


def test_the_published_app_answers_for_the_first_two_files_of_its_folder(load, shipped, monkeypatch):
    monkeypatch.setattr("utils.settings.KINSHIP", shipped)
    published, pairs = load("article_app"), load("serving").draw_pairs(3)
    first, _, third = load("serving").answers_of(Kinship.load(shipped), pairs)
    client = published.app.test_client()
    texts = [client.post("/upload", data={"file1": (io.BytesIO(a), f"{name}1.jpg"),
                                          "file2": (io.BytesIO(b), f"{name}2.jpg")}).text
             for name, (a, b) in zip(("anna", "ben", "aaron"), pairs, strict=True)]
    assert texts == [f"{first:.4f}", f"{first:.4f}", f"{third:.4f}"]


def test_batches_and_threads_work_on_photos_of_the_sizes_they_say(serving, shipped):
    pairs, model = serving.draw_pairs(2), Kinship.load(shipped)
    assert {photo.shape for photo in serving.photos_of(pairs, mixed=False)} == {(224, 224, 3)}
    assert len({photo.shape for photo in serving.photos_of(pairs, mixed=True)}) == 4
    found = serving.batching(model, pairs[:1], repeats=1)
    assert list(found) == ["224×224", "many sizes"]
    assert all(len(ways) == 5 and all_positive(ways.values()) for ways in found.values())

"""The benchmarks at tiny size: numbers are positive, the article's generator is what it says."""

import importlib
import io
import itertools
import json
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose

from utils import images, settings
from utils.answers.kinship import Kinship
from utils.errors import CourseError
from utils.faces import backbones
from utils.faces.alignment import CROP_LANDMARKS
from utils.faces.backbones import Backbone
from utils.faces.detection import Face

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
# name: options of a tiny run
ON_FAMILIES = {"generator": ["--batches", "1"], "encoder": ["--faces", "1"]}


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
def serving(load):
    return load("serving")


@pytest.fixture(scope="module")
def results(load, families_root):
    """What the benchmarks that run on families give, by name. Each runs once."""
    results = {}
    for name, size in ON_FAMILIES.items():
        arguments = ["--data", str(families_root), "--repeats", "1", *size]
        with pytest.warns(UserWarning, match="cannot be read"):
            results[name] = load(name).run(load(name).build_parser().parse_args(arguments))
    return results


def all_positive(values):
    return all(np.isfinite(value) and value > 0 for value in values)


# --- the generator ------------------------------------------------------------------------------


def article_batches(generator, dataset, views, count):
    return itertools.islice(generator.ArticleGenerator(dataset, views), count)


def person_of(path):
    """F0001/MID1 of .../F0001/MID1/P00001_face0.jpg."""
    return "/".join(Path(path).parts[-3:-1])


def test_article_generator_gives_four_images_a_pair(generator, families):
    views = [generator.facenet_view, generator.vggface_view]
    [(inputs, labels)] = article_batches(generator, families, views, 1)
    assert [image.shape for image in inputs] == [(16, 160, 160, 3)] * 2 + [(16, 224, 224, 3)] * 2
    assert labels.tolist() == [1] * 8 + [0] * 8


def test_article_generator_labels_kin_by_the_relationships_in_either_order(generator, families):
    kin = {frozenset(pair) for pair in families.kin[["p1", "p2"]].itertuples(index=False)}
    photos = set(map(str, families.paths(families.photos["path"])))
    for (first, second), labels in article_batches(generator, families, [list], 20):
        assert photos >= {*first, *second}
        for a, b, label in zip(first, second, labels, strict=True):
            pair = frozenset([person_of(a), person_of(b)])
            assert len(pair) == 2 and (pair in kin) == label


def test_facenet_view_standardises_each_image(generator, families):
    faces = generator.facenet_view(list(map(str, families.paths(families.photos["path"][:3]))))
    assert_allclose(faces.mean((1, 2, 3)), 0, atol=1e-9)
    assert_allclose(faces.std((1, 2, 3)), 1, rtol=1e-9)


def test_like_for_like_view_shows_the_network_what_the_pipeline_shows(
    generator, families, backbone
):
    paths = families.paths(families.photos["path"][:4])
    ours = backbone.preprocess(images.read_many(paths, backbone.input_size)).numpy()
    article = generator.backbone_view(backbone)(list(map(str, paths)))
    assert article.shape == ours.shape and article.dtype == ours.dtype
    # resized with another filter; swapped channels differ by more
    assert np.abs(article - ours).mean() < 3 / 256
    assert np.abs(article[..., ::-1] - ours).mean() > 10 / 256


def test_generator_benchmark_gives_positive_rates_and_their_ratios(generator, results):
    result = results["generator"]
    rate = result["pairs_per_second"]
    assert len(rate) == 5
    assert all_positive(rate.values()) and all_positive(result["cpu_ms_a_pair"].values())
    assert result["ratio_like_for_like"] == rate[generator.PREPROCESSED] / rate[generator.LIKE]
    assert result["ratio_to_published"] == rate[generator.PREPROCESSED] / rate[generator.PUBLISHED]


# --- the encoder --------------------------------------------------------------------------------


def test_chips_are_crops_of_the_families_and_as_many_of_noise(encoder, families):
    faces = encoder.chips(families, 2)
    assert faces.shape == (4, 150, 150, 3) and faces.dtype == np.uint8


def test_encoder_benchmark_gives_positive_times_and_agreement(results):
    result = results["encoder"]
    for name in ("ms_a_face", "cpu_ms_a_face", "ratio"):
        assert all_positive(result[name].values())
    assert max(result["largest_difference"].values()) < 1e-5


# --- ports of ONNX files ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["edgeface", "mobilefacenet", "sface"])
def test_port_without_its_weights_is_one_sentence(load, side_by_side, capsys, name):
    parity = load("onnx_parity")
    options = parity.build_parser().parse_args(["--backbone", name])
    assert side_by_side.main(parity.run, options) == 2
    assert f"{name} are not here; run: kincourse weights {name}" in capsys.readouterr().err


def test_table_of_a_port_says_by_how_much_the_two_differ(load, families_root, monkeypatch):
    def noise(seed):
        def embed(faces):
            shapes.append(faces.shape)
            return np.random.default_rng(seed).normal(size=(len(faces), 128))

        return embed

    parity, shapes = load("onnx_parity"), []
    monkeypatch.setattr(
        parity, "contenders", lambda name: {parity.KERAS: noise(1), parity.ONNX: noise(2)}
    )
    monkeypatch.setattr(type(backbones.get("sface")), "weights_path", lambda self: None)
    options = ["--data", str(families_root), "--faces", "1", "--repeats", "1"]
    with pytest.warns(UserWarning, match="cannot be read"):
        result = parity.run(parity.build_parser().parse_args(options))
    assert set(shapes) == {(2, 112, 112, 3)}
    one, other = (np.random.default_rng(seed).normal(size=(2, 128)) for seed in (1, 2))
    assert result["largest_difference"] == np.abs(one - other).max()
    last = f"the 128 numbers: {result['largest_difference']:.1e} (the largest of them: "
    assert last in result["text"].splitlines()[-1]


# --- the two-network model ----------------------------------------------------------------------


class Toy(Backbone):
    """A dense layer on the mean colour of a 20×20 crop."""

    name, preprocessing, weights_id = "toy", "unit", "0123456789abcdef"
    input_size, embedding_size = 20, 6
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

    def __init__(self, work):
        self.work, self.answers = [*work, None], []

    def recv(self):
        return self.work.pop(0)

    def send(self, answer):
        self.answers.append(answer)


@pytest.mark.parametrize("version", ["PLAIN", "OURS", "TUNED"])
def test_each_version_does_the_work_it_is_asked_for(two_networks, monkeypatch, version):
    face = Face((80.0, 60.0, 100.0, 120.0), 0.9, 9 * Toy.template)
    monkeypatch.setattr(backbones, "get", lambda name: Toy())
    monkeypatch.setattr(two_networks.detection, "detect", lambda photo: [face])
    pipe = Orders(two_networks.WORK)
    two_networks.child(pipe, getattr(two_networks, version), ["toy"], pairs=4, micro_batch=2)
    seconds, cpu_seconds, peaks = zip(*pipe.answers, strict=True)
    assert len(seconds) == 4 and all_positive([*seconds, *cpu_seconds, *peaks])
    assert list(peaks) == sorted(peaks)


def test_shipped_model_answers_and_does_not_train(two_networks, monkeypatch, shipped):
    face = Face((80.0, 60.0, 100.0, 120.0), 0.9, 3 * CROP_LANDMARKS * 100)
    monkeypatch.setattr(settings, "KINSHIP", shipped)
    monkeypatch.setattr(two_networks.detection, "detect", lambda photo: [face])
    pipe = Orders(two_networks.WORK[:3])
    two_networks.child(pipe, two_networks.SHIPPED, [], pairs=2, micro_batch=None)
    assert len(pipe.answers) == 3
    assert two_networks.versions_of("training step") == [
        "plain, as published",
        "ours",
        "fine-tuned encoder",
    ]
    assert two_networks.versions_of("prediction") == list(two_networks.VERSIONS)


def test_two_networks_table_compares_with_the_plain_version(two_networks, monkeypatch):
    figures = {
        two_networks.PLAIN: {"seconds": 2.0, "cpu_seconds": 4.0, "peak_gb": 6.0},
        two_networks.TUNED: {"seconds": 1.0, "cpu_seconds": 3.0, "peak_gb": 1.5},
    }
    result = dict.fromkeys(two_networks.WORK, figures)
    monkeypatch.setattr(two_networks, "measure", lambda *options: result)
    text = two_networks.run(two_networks.build_parser().parse_args([]))["text"]
    assert text.startswith("facenet + vggface-resnet50, 16 pairs, median of 5")
    numbers = ["1.00", "3.00", "1.50", "0.50×", "0.75×", "0.25×"]
    *name, last = text.splitlines()[-1].rsplit("encoder", 1)
    assert name == ["training step, fine-tuned "] and last.split() == numbers


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
    agreement = faces_benchmark.agreement(full, bounded)
    assert agreement["faces"] == {"full_size": 3, "bounded": 3, "both": 2}
    overlaps = [agreement["iou_least"], agreement["iou_median"]]
    errors = [agreement["landmark_error_median"], agreement["landmark_error_most"]]
    assert_allclose(overlaps, [300 / 500, (1 + 300 / 500) / 2])
    assert_allclose(errors, [0.4, 0.7])


def test_photos_are_enlarged_to_four_megapixels_and_larger_ones_left_alone(faces_benchmark):
    assert faces_benchmark.enlarge(np.zeros((300, 400, 3), np.uint8)).shape == (1732, 2309, 3)
    large = np.zeros((2000, 2500, 3), np.uint8)
    assert faces_benchmark.enlarge(large) is large


def test_detection_benchmark_finds_the_same_faces_in_each_way(faces_benchmark):
    result = faces_benchmark.measure(faces_benchmark.find_photos(None, 1), 1)
    assert result["agreement"]["faces"] == {"full_size": 6, "bounded": 6, "both": 6}
    assert result["agreement"]["iou_least"] == 1
    assert result["agreement"]["landmark_error_most"] == 0
    assert all_positive([*result["s_a_photo"].values(), *result["ratio"].values()])
    sentence = "faces: 6 at full size, 6 bounded, 6 of them the same"
    assert sentence in faces_benchmark.report("", result, 1)


def test_folder_without_photos_is_one_sentence(faces_benchmark, side_by_side, tmp_path, capsys):
    options = faces_benchmark.build_parser().parse_args(["--photos", str(tmp_path)])
    assert side_by_side.main(faces_benchmark.run, options) == 2
    assert "is a folder without photos" in capsys.readouterr().err


def test_meant_faces_are_timed_and_compared_in_both_ways(faces_benchmark, monkeypatch):
    monkeypatch.setattr(faces_benchmark, "answer", lambda photos, search: 0.25)
    photos = [faces_benchmark.scene(0), faces_benchmark.scenes.two_photos()[0]]  # one face each
    monkeypatch.setattr(faces_benchmark, "SELFIE", 250_000)
    result = faces_benchmark.measure_meant(photos, 1, 1)
    assert list(result["times"]) == ["with one face, as they are", "of 12 megapixels, a wide face"]
    answers = [times["photos"] for times in result["times"].values()]
    assert answers == [2, 1] and result["scenes"]["photos"] == 1
    for same in (result["photos"], result["scenes"]):
        assert same["same_largest"] == same["same_faces"] == same["faces"] == same["photos"]
        assert same["landmarks_most"] < 0.03
    text = faces_benchmark.report_meant(result, 1)
    assert "answers: 0.250, 0.250" in text and "2 photos with 2 faces: the same" in text


def test_other_faces_and_other_orders_are_counted(faces_benchmark, monkeypatch):
    a, b = square(0, 0, 40), square(100, 100, 30)
    searches = iter([[a, b], [a, b], [a], []])
    monkeypatch.setattr(faces_benchmark, "search_whole", lambda photo: next(searches))
    others = iter([[a, b], [b, a], [a, b], [a]])
    monkeypatch.setattr(faces_benchmark.detection, "prominent", lambda photo: next(others))
    same = faces_benchmark.compare_meant(range(4))
    assert [same["same_largest"], same["same_faces"], same["faces"]] == [2, 1, 5]


# --- serving ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(shipped):
    return Kinship.load(shipped)


@pytest.fixture(scope="module")
def pairs(serving):
    return serving.draw_pairs(3)


@pytest.fixture(scope="module")
def expected(serving, model, pairs):
    return serving.answers_of(model, pairs)


def test_each_server_is_asked_and_whose_answers_came_back_is_counted(
    serving, shipped, pairs, expected, monkeypatch
):
    monkeypatch.setitem(serving.ENVIRONMENT, "KIN_APP_MODEL", str(shipped))
    *right, last = expected
    rounds = serving.load(serving.COURSE, pairs, [*right, last + 0.1], clients=[1, 3])
    assert list(rounds) == [1, 3]
    for result in rounds.values():
        assert [result[name] for name in ("requests", "wrong", "failed")] == [3, 1, 0]
        assert 0 < result["p50"] <= result["p95"] <= result["seconds"]
        assert result["megabytes"] > 200
        assert_allclose(result["a_second"], 3 / result["seconds"])
    assert "course, 3 at once" in serving.load_table({"course": rounds})


def test_a_server_that_ends_is_not_waited_for(serving):
    broken = serving.Server(["-c", "exit(3)"], "/", float)
    with pytest.raises(RuntimeError, match="ended with status 3"):
        serving.load(broken, [], [], clients=[1])


def test_photos_of_visitors_have_many_sizes(serving, pairs):
    sizes = set()
    for pair in serving.on_grounds(pairs):
        sizes |= {images.read(photo).shape for photo in pair}
    assert len(sizes) == 6


def test_an_earlier_version_is_checked_out_and_removed(serving, tmp_path, monkeypatch):
    def git(*arguments):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    # a repository of two versions
    git("init")
    for text in ("old", "new"):
        (tmp_path / "app.py").write_text(text)
        git("add", "app.py")
        git("commit", "-m", text)
    monkeypatch.setattr(serving, "ROOT", tmp_path)
    with serving.earlier("HEAD~1") as server:
        assert (server.root / "app.py").read_text() == "old"
    assert not server.root.exists() and (tmp_path / "app.py").read_text() == "new"
    no_such_commit = pytest.raises(CourseError, match="The commit 0123abc is not here; clone")
    with no_such_commit, serving.earlier("0123abc"):
        pass


def test_the_published_app_answers_for_the_first_two_files_of_its_folder(
    load, shipped, pairs, expected, monkeypatch
):
    monkeypatch.setattr("utils.settings.KINSHIP", shipped)
    client = load("article_app").app.test_client()
    texts = []
    for name, pair in zip(("anna", "ben", "aaron"), pairs, strict=True):
        a, b = map(io.BytesIO, pair)
        files = {"file1": (a, f"{name}1.jpg"), "file2": (b, f"{name}2.jpg")}
        texts.append(client.post("/upload", data=files).text)
    first, _, third = expected
    assert texts == [f"{first:.4f}", f"{first:.4f}", f"{third:.4f}"]


def test_batches_and_threads_work_on_photos_of_the_sizes_they_say(serving, model, pairs):
    assert {photo.shape for photo in serving.photos_of(pairs, mixed=False)} == {(224, 224, 3)}
    assert len({photo.shape for photo in serving.photos_of(pairs, mixed=True)}) == 6
    result = serving.batching(model, pairs[:1], repeats=1, threads=[2], batches=[4])
    assert list(result) == ["224×224", "many sizes"]
    for milliseconds in result.values():
        assert list(milliseconds) == ["2 at a time", "batches of 4"]
        assert all_positive(milliseconds.values())
    assert "batches of 4" in serving.batching_table(result)


# --- search -------------------------------------------------------------------------------------


def test_crowd_has_the_covariances_of_the_people_it_was_measured_on(load):
    search, rng = load("search"), np.random.default_rng(0)
    spread = np.array([3.0, 1.0, 0.5])
    people = 5 + spread * rng.normal(size=(20_000, 3))
    first, second = (people + 0.4 * rng.normal(size=people.shape) for _ in range(2))
    crowd = search.Crowd.of(first, second)
    drawn = crowd.draw(20_000, rng)
    assert_allclose(drawn.mean(0), 5, atol=0.1)
    assert_allclose(np.cov(drawn.T), np.diag(spread**2), atol=0.3)
    noise = rng.standard_normal((20_000, 3), np.float32) @ crowd.photos
    assert_allclose(np.cov(noise.T), 0.16 * np.eye(3), atol=0.02)


def test_search_is_timed_against_the_exact_one(
    load, families_root, shipped, monkeypatch, tmp_path
):
    pytest.importorskip("faiss")
    search, small = load("search"), Kinship.load(shipped)
    monkeypatch.setattr(search.Kinship, "load", lambda: small)
    arguments = ["--data", families_root, "--vectors", 900, "--photos", 40, "--questions", 6]
    arguments += ["--repeats", 1, "--scratch", tmp_path, "--graph"]
    with pytest.warns(UserWarning, match="cannot be read"):
        result = search.run(search.build_parser().parse_args(list(map(str, arguments))))
    assert (result["vectors"], result["numbers"], result["questions"]) == (900, 128, 6)
    assert all_positive(result["milliseconds"].values()) and result["times_faster"] > 0
    assert result["recall_at_building"] >= 0.95 and result["recall"]["exact"] == 1
    assert 0.5 < result["recall"]["inexact"] <= 1 and 0.5 < result["recall"]["graph"] <= 1
    assert 1 <= result["lists_read"] <= result["lists"] == 22
    assert "recall at 10" in result["text"] and not list(tmp_path.iterdir())


# --- an archive ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scale(load):
    return load("scale")


def test_rates_and_what_follows_from_them_are_positive(scale, shipped, monkeypatch):
    monkeypatch.setattr("utils.settings.KINSHIP", shipped)
    monkeypatch.setattr(scale, "VECTORS", 100)
    sizes = ["--count", "1", "--faces", "1", "--pairs", "2", "--megapixels", "1"]
    sizes += ["--repeats", "1"]
    result = scale.run(scale.build_parser().parse_args(sizes))
    for name in ("rates", "cpu_seconds"):
        assert {"reading", "detection", "dlib-resnet", "kinship model", "pairs"} < set(
            result[name]
        )
        assert all_positive(result[name].values())
    assert [archive["faces"] for archive in result["archives"]] == [10**6, 10**8]
    assert all(all_positive(archive.values()) for archive in result["archives"])
    assert "crops/s" in result["text"] and "100,000,000 faces" in result["text"]


def test_an_archive_is_reckoned_from_the_rates(scale):
    cpu = {
        "reading": 0.1,
        "detection": 0.8,
        "dlib-resnet": 0.01,
        "kinship model": 0.09,
        "pairs": 0.2,
    }
    sizes = {"dlib-resnet": 128, "kinship model": 384}
    archive = scale.reckoned({**cpu, "exact search": 2e-6}, sizes, 700.0, faces=1_000_000)
    # 400,000 photos at 0.9 s, and a million faces at 0.1 s
    assert archive["core_hours"] == pytest.approx((360_000 + 100_000) / 3600)
    assert archive["cost_usd"] == pytest.approx(0.05 * archive["core_hours"])
    assert archive["hours_on_64_cores"] == pytest.approx(archive["core_hours"] / 64)
    assert archive["index_gb"] == pytest.approx(512 * 4 / 1000)
    assert archive["graph_index_gb"] == pytest.approx((512 * 4 + 2 * 256) / 1000)
    assert archive["cache_in_memory_gb"] == pytest.approx(0.7)
    assert archive["exact_search_s"] == pytest.approx(2)
    assert archive["all_pairs_core_hours"] == pytest.approx(1e6 / 3600)
    # it grows with the faces, and what compares all of them with their square
    larger = scale.reckoned({**cpu, "exact search": 2e-6}, sizes, 700.0, faces=10_000_000)
    assert larger["core_hours"] == pytest.approx(10 * archive["core_hours"])
    assert larger["all_pairs_core_hours"] == pytest.approx(100 * archive["all_pairs_core_hours"])


def test_encoders_without_weights_are_left_out_and_named(scale, capsys):
    assert list(scale.encoders_at_hand()) == ["dlib-resnet"]
    error = capsys.readouterr().err
    assert "edgeface is left out" in error and "mobilefacenet is left out" in error


def test_the_cache_takes_more_memory_than_its_vectors(scale):
    assert 4 * 128 < scale.bytes_in_memory(128) < 4 * 128 + 600


# --- what they share ----------------------------------------------------------------------------


def test_contenders_take_turns_and_the_first_turn_is_a_warm_up(side_by_side):
    order = []

    def contender(name):
        return lambda: (order.append(name) for _ in range(2))

    contenders = {name: contender(name) for name in "ab"}
    timings = side_by_side.interleaved(contenders, items=2, repeats=2)
    assert order == ["a", "a", "b", "b"] * 3
    assert all_positive(timing.wall for timing in timings.values())


def test_table_lines_up(side_by_side):
    table = side_by_side.table(["ms"], {"a": ["1.0"], "long": ["12.5"]})
    assert table == "        ms\na      1.0\nlong  12.5"


@pytest.mark.parametrize("name", ON_FAMILIES)
def test_benchmark_prints_a_table_or_json(load, side_by_side, results, capsys, name):
    def printed(*arguments):
        options = load(name).build_parser().parse_args(arguments)
        assert side_by_side.main(lambda options: dict(results[name]), options) == 0
        return capsys.readouterr().out

    assert json.loads(printed("--json"))["repeats"] == 1
    assert "×" in printed()


SCRIPTS = [
    "generator",
    "encoder",
    "onnx_parity",
    "two_networks",
    "detection",
    "serving",
    "search",
    "scale",
]


@pytest.mark.parametrize("name", SCRIPTS)
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
    assert "is not a whole number from 1 up" in capsys.readouterr().err

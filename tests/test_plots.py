"""Every figure is drawn, says on its axes what it shows, and shows what it was given."""

import dataclasses
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from utils import plots
from utils.answers import explanation
from utils.data import audit
from utils.faces import backbones, detection
from utils.scoring import metrics
from utils.training import networks

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def scores():
    """Labels, and probabilities that know something."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    return labels, 1 / (1 + np.exp(-rng.normal(size=200) - 2 * labels + 1))


def assert_drawn_and_labelled(figure):
    figure.canvas.draw()
    for axis in figure.axes:
        assert axis.get_xlabel() and axis.get_ylabel()


def legend(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def segments(axis):
    """The ends of each line of the one collection of lines."""
    (lines,) = (artist for artist in axis.collections if hasattr(artist, "get_segments"))
    return lines.get_segments()


# --- photos and families ------------------------------------------------------------------------


def test_photos_fill_a_grid_and_leave_the_rest_empty(families):
    grey = np.full((50, 40, 3), 9, np.uint8)
    pictures = [*families.paths(families.photos["path"][:4]), grey]
    figure = plots.photos(pictures, titles=list("abcde"), columns=3)
    figure.canvas.draw()
    assert [axis.get_title() for axis in figure.axes] == [*"abcde", ""]
    assert [len(axis.images) for axis in figure.axes] == [1] * 5 + [0]
    assert (figure.axes[4].images[0].get_array() == 9).all()


def test_fewer_photos_than_columns_make_one_row():
    assert len(plots.photos([np.zeros((20, 20, 3), np.uint8)] * 2, columns=6).axes) == 2


def test_no_photos_make_an_empty_figure():
    plots.photos([]).canvas.draw()


def test_pair_gallery_shows_both_photos_of_a_pair_side_by_side(families):
    names = families.photos["path"].to_numpy()
    table = pd.DataFrame({"photo_a": names[:4], "photo_b": names[4:8]})
    figure = plots.pair_gallery(families, table, titles=["kin"] * 4)
    figure.canvas.draw()
    pictures = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert [picture.shape for picture in pictures] == [(112, 228, 3)] * 4
    assert not np.array_equal(pictures[0][:, :112], pictures[0][:, -112:])


def test_family_graph_shows_every_person_and_every_kin_pair(families):
    name = families.kin["family"].value_counts().index[0]
    part = families.of_families([name])
    figure = plots.family(families, name)
    figure.canvas.draw()
    (axis,) = figure.axes
    names = sorted(person.partition("/")[2] for person in part.people)
    assert sorted(text.get_text() for text in axis.texts) == names
    assert len(axis.images) == len(part.people)
    assert len(segments(axis)) == len(part.kin)
    assert name in axis.get_title()


def test_family_rows_show_each_person_with_photos_and_listed_kin(families):
    name = families.kin["family"].value_counts().index[0]
    part = families.of_families([name])
    figure = plots.family_rows(families, name, photos_each=2)
    figure.canvas.draw()
    words = [[text.get_text() for text in axis.texts] for axis in figure.axes if axis.texts]
    assert [member for member, _ in words] == [p.partition("/")[2] for p in sorted(part.people)]
    relatives = sum(len(re.findall(r"\d+", kin)) for _, kin in words)
    assert relatives == 2 * len(part.kin)  # both of a pair name the other
    drawn = sum(len(axis.images) for axis in figure.axes)
    assert drawn == part.photos["person"].value_counts().clip(upper=2).sum()


def test_family_rows_of_one_person_without_kin(families):
    person = families.photos["person"][0]
    rows = families.photos["person"] == person
    alone = dataclasses.replace(families, photos=families.photos[rows])
    figure = plots.family_rows(alone, person.partition("/")[0])
    assert [text.get_text() for text in figure.axes[0].texts][1] == "kin of nobody"


def test_families_stand_one_in_a_row_with_white_where_photos_end(families):
    names = families.families[:3]
    picture = plots.families(families, names, photos_each=1, columns=10)
    assert picture.shape == (3 * 112, 10 * 112, 3) and picture.dtype == np.uint8
    for row, name in enumerate(names):
        tiles = np.split(picture[row * 112 : (row + 1) * 112], 10, axis=1)
        shown = sum((tile < 255).any() for tile in tiles)
        assert shown == len(families.of_families([name]).people)


def test_audit_overview_counts_everybody_once(families):
    figure = plots.audit_overview(audit.audit(families), families)
    assert_drawn_and_labelled(figure)
    counted = [sum(bar.get_height() for bar in axis.patches) for axis in figure.axes]
    people, kin = len(families.people), families.kin
    assert counted == [people, len(families.families), kin["family"].nunique(), len(kin)]
    assert figure.get_suptitle() == f"{len(families.photos)} photos of {people} people"


# --- faces in a photo ---------------------------------------------------------------------------


def some_face(x, y, width, height, confidence=0.987):
    """A face in this box, its landmarks spread over the middle."""
    places = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)])
    return detection.Face((x, y, width, height), confidence, places * (width, height) + (x, y))


def changed(photo, faces):
    """Where drawing the faces changed the photo."""
    return (plots.faces(photo, faces) != photo).any(axis=-1)


@pytest.fixture
def blue():
    return np.full((240, 320, 3), (20, 30, 200), np.uint8)


def test_faces_are_drawn_on_a_copy_of_the_same_size(blue):
    before = blue.copy()
    drawn = plots.faces(blue, [some_face(100.0, 90.0, 80.0, 100.0)])
    assert drawn.shape == blue.shape and drawn.dtype == np.uint8
    assert_array_equal(blue, before)
    assert (drawn != blue).any()
    assert_array_equal(plots.faces(blue, []), blue)


def test_faces_are_drawn_around_their_boxes_and_nowhere_else(blue):
    where = changed(blue, [some_face(100.0, 90.0, 80.0, 100.0)])
    assert where[90:191, 100].all() and where[90:191, 180].all()  # the sides
    assert where[90, 100:181].all() and where[190, 100:181].all()  # top and bottom
    near = np.zeros_like(where)
    near[90 - 25 : 192, 98:182] = True  # with the label above
    assert not (where & ~near).any()
    assert where[70:89, 100:150].mean() > 0.5 and not where[:65].any()


def test_each_landmark_is_a_white_dot(blue):
    face = some_face(100.0, 90.0, 80.0, 100.0)
    drawn = plots.faces(blue, [face])
    for x, y in face.landmarks.round().astype(int):
        assert tuple(drawn[y, x]) == (255, 255, 255)
    assert tuple(drawn[115, 140]) == (20, 30, 200)  # between the eyes nothing


def test_every_face_is_numbered_with_its_confidence(blue):
    places = [(20.0, 60.0, 60.0, 70.0), (120.0, 60.0, 60.0, 70.0), (220.0, 60.0, 60.0, 70.0)]
    picture = plots.faces(blue, [some_face(*place) for place in places])
    first, second, third = (picture[35:60, x : x + 60] for x in (20, 120, 220))  # 1, 2, 3
    assert (first != second).any() and (second != third).any()
    unsure = plots.faces(blue, [some_face(*places[0], 0.5)])
    assert (unsure[35:60, 20:80] != first).any()


@pytest.mark.parametrize(
    "box",
    [
        (0.0, 0.0, 320.0, 240.0),
        (0.0, 0.0, 15.0, 12.0),
        (300.0, 225.0, 20.0, 15.0),
        (-0.0, 200.5, 30.2, 39.5),
    ],
)
def test_face_at_the_border_is_drawn_as_far_as_there_is_a_photo(blue, box):
    drawn = plots.faces(blue, [some_face(*box)])
    assert drawn.shape == blue.shape and (drawn != blue).any()


def test_lines_are_wider_in_a_larger_photo():
    def width(factor):
        photo = np.full((240 * factor, 320 * factor, 3), 40, np.uint8)
        box = np.array((100.0, 90.0, 80.0, 100.0)) * factor
        return changed(photo, [some_face(*box)])[150 * factor, : 120 * factor].sum()

    assert width(6) >= 2 * width(2) >= 2


# --- scores -------------------------------------------------------------------------------------


def test_roc_names_each_curve_with_its_auc(scores):
    labels, good = scores
    figure = plots.roc({"good": scores, "bad": (labels, -good)})
    assert_drawn_and_labelled(figure)
    auc = metrics.roc_auc(*scores)
    names = [f"good: AUC {auc:.3f}", f"bad: AUC {1 - auc:.3f}", "guessing"]
    assert legend(figure.axes[0]) == names
    assert legend(figure.axes[1]) == ["good", "bad"]


def test_score_histogram_tells_kin_from_strangers_and_shows_the_threshold(scores):
    figure = plots.score_histogram(*scores, threshold=0.5, xlabel="probability of kin")
    assert_drawn_and_labelled(figure)
    (axis,) = figure.axes
    assert legend(axis) == ["strangers", "kin", "threshold 0.50"]
    assert axis.lines[0].get_xdata()[0] == 0.5
    centres = []
    for bars in axis.containers:
        heights = [bar.get_height() for bar in bars]
        centres.append(np.average([bar.get_x() for bar in bars], weights=heights))
    assert centres[0] + 0.1 < centres[1]


def test_score_histogram_draws_on_the_axis_it_is_given(scores):
    figure, axes = plt.subplots(1, 2)
    assert plots.score_histogram(*scores, axis=axes[1]) is figure
    assert axes[1].patches and not axes[0].patches


def test_reliability_draws_the_table_and_names_the_error(scores):
    figure = plots.reliability({"model": scores})
    assert_drawn_and_labelled(figure)
    (axis,) = figure.axes
    assert_allclose(axis.lines[1].get_xydata(), metrics.reliability(*scores)[:, :2])
    assert legend(axis) == ["perfect", f"model: error {metrics.calibration_error(*scores):.3f}"]


# --- explanations -------------------------------------------------------------------------------


@pytest.fixture
def explained():
    """Two grey faces of which each region is a square, and what the regions carry."""
    masks = np.zeros((2, 6, 30, 30), np.float32)
    for number in range(6):
        masks[0, number, 5 * number : 5 * number + 5, :10] = 1
        masks[1, number, 5 * number : 5 * number + 5, 20:] = 0.5
    values = dict(zip(explanation.REGIONS, [0.8, -0.4, 0.2, 0.0, -0.8, 0.1], strict=True))
    spread = dict(zip(explanation.REGIONS, [0.05, 0.1, 0.02, 0.03, 0.2, 0.01], strict=True))
    return np.full((2, 30, 30, 3), 102, np.uint8), explanation.Regions(values, spread, masks)


def test_regions_are_drawn_on_both_faces_and_as_bars(explained):
    crops, regions = explained
    figure = plots.regions(crops, regions)
    figure.canvas.draw()
    first, second, bars = figure.axes
    for axis, picture in zip((first, second), plots.region_pictures(crops, regions), strict=True):
        assert_array_equal(axis.images[0].get_array(), picture)
        assert not axis.axison
    assert bars.get_xlabel() and not bars.images
    # from the bottom up
    names = [label.get_text() for label in bars.get_yticklabels()][::-1]
    assert names == list(explanation.REGIONS)
    widths = [bar.get_width() for bar in bars.patches][::-1]
    assert_allclose(widths, list(regions.carried.values()))
    colours = [bar.get_facecolor()[:3] for bar in bars.patches][::-1]
    assert [colours[place] for place in (0, 2, 5)] == [to_rgb(plots.KIN)] * 3
    assert [colours[place] for place in (1, 4)] == [to_rgb(plots.STRANGER)] * 2
    # twice the error to either side
    errors = [np.ptp(segment[:, 0]) for segment in segments(bars)][::-1]
    assert_allclose(errors, [4 * spread for spread in regions.spread.values()])


def covered(colour, cover):
    """Grey under a colour that covers a share of it."""
    return 0.4 + cover * (np.array(to_rgb(colour)) - 0.4)


def test_regions_colour_a_face_under_their_masks_alone_and_the_stronger_the_more(explained):
    first, second = plots.region_pictures(*explained) / 255
    assert_allclose(first[:, 10:], 0.4)
    assert_allclose(second[:, :20], 0.4)
    shares = [1, 0.5, 0.25, 0, 1, 0.125]
    colours = [plots.KIN, plots.STRANGER, plots.KIN, plots.KIN, plots.STRANGER, plots.KIN]
    for number, (share, colour) in enumerate(zip(shares, colours, strict=True)):
        rows = slice(5 * number, 5 * number + 5)
        for square, cover in ((first[rows, :10], 0.75), (second[rows, 20:], 0.375)):
            expected = np.broadcast_to(covered(colour, cover * share), (5, 10, 3))
            assert_allclose(square, expected, atol=0.5 / 255)


def test_regions_that_carry_next_to_nothing_stay_pale(explained):
    crops, regions = explained
    weak = {name: value / 16 for name, value in regions.carried.items()}
    pictures = plots.region_pictures(crops, dataclasses.replace(regions, carried=weak))
    assert_allclose(pictures[0, 0, 0] / 255, covered(plots.KIN, 0.75 * 0.2), atol=0.5 / 255)


# --- training -----------------------------------------------------------------------------------


def test_history_counts_epochs_from_one():
    figure = plots.history({"training": [3, 2, 1], "validation": [3, 2.5]}, ylabel="loss")
    assert_drawn_and_labelled(figure)
    (axis,) = figure.axes
    assert_allclose(axis.lines[0].get_xydata(), [(1, 3), (2, 2), (3, 1)])
    assert axis.get_ylabel() == "loss" and axis.get_xlabel() == "epoch"


def test_pair_network_is_drawn_with_the_sizes_that_it_has():
    encoder = backbones.get("dlib-resnet")
    figure = plots.pair_network(networks.pair_network([encoder], "article", weights=None))
    words = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    assert words == [
        "photo a\n150×150",
        "a: 128",
        "photo b\n150×150",
        "b: 128",
        "dlib_resnet\n5.6 million",
        "6 features\nof the pair",
        "768 numbers\n500\n100\n25",
        "p(kin)",
    ]


def test_saved_figure_is_a_picture_in_a_new_folder_and_is_closed(tmp_path):
    figure = plots.history({"loss": [2, 1]}, ylabel="loss")
    plots.save(figure, tmp_path / "new" / "loss.png")
    with Image.open(tmp_path / "new" / "loss.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 200
    assert not plt.fignum_exists(figure.number)


# --- for lessons --------------------------------------------------------------------------------


class Screen:
    """What a notebook's output would show: the first figure, the slider, and later figures."""

    def __init__(self):
        self.shown, self.updates = [], []

    def display(self, thing, display_id=False):
        self.shown.append(thing)
        return self if display_id else None

    def update(self, figure):
        self.updates.append(figure.axes[0].get_title())


@pytest.fixture
def screen(monkeypatch):
    screen = Screen()
    monkeypatch.setattr("IPython.display.display", screen.display)
    return screen


def titled(value):
    figure, axis = plt.subplots()
    axis.set_title(f"at {value}")
    return figure


def test_slider_shows_a_figure_and_draws_it_anew_for_each_value(screen):
    plots.slider(titled, (0.1, 0.5, 0.9), "threshold")
    figure, control = screen.shown
    assert figure.axes[0].get_title() == "at 0.5" and control.description == "threshold"
    control.value = 0.9
    control.value = 0.1
    assert screen.updates == ["at 0.9", "at 0.1"]
    assert not plt.get_fignums()  # or the cell would show each a second time


def test_slider_starts_where_it_is_told(screen):
    plots.slider(titled, (1, 2, 3), "blur", start=1)
    assert screen.shown[0].axes[0].get_title() == "at 1" and screen.shown[1].value == 1


def test_map_of_the_course_has_each_lesson_and_marks_one():
    figure = plots.course_map("05")
    sources = sorted((ROOT / "notebooks" / "source").glob("[0-9]*.py"))
    numbers = [text.get_text() for text in figure.axes[0].texts if text.get_text().isdigit()]
    assert numbers == [path.name[:2] for path in sources]
    colours = [patch.get_facecolor()[:3] for patch in figure.axes[0].patches]
    marked = [number for number, c in zip(numbers, colours, strict=True) if c == to_rgb(plots.KIN)]
    assert marked == ["05"]


def page_of_a_test():
    import numpy as np
    import streamlit as st

    st.title("Faces")
    st.text_input("Name", "Ada")
    st.file_uploader("A photo")
    left, right = st.columns(2)
    left.image(np.zeros((9, 9, 3), np.uint8), "as it came")
    right.image(np.zeros((9, 9, 3), np.uint8), "marked")
    st.success("The same person")
    st.button("again")
    st.write("word " * 40)
    st.dataframe([{"face": 1}])


def test_page_shows_its_elements_in_order_and_columns_side_by_side():
    from streamlit.testing.v1 import AppTest

    visitor = AppTest.from_function(page_of_a_test, default_timeout=20).run()
    figure = plots.page(visitor, [np.full((6, 9, 3), 200, np.uint8)])
    [axis] = figure.axes
    texts = {text.get_text(): text.get_position() for text in axis.texts}
    words = [
        "Faces",
        "Name",
        "Ada",
        "A photo",
        "drop a file here",
        "as it came",
        "The same person",
    ]
    heights = [texts[word][1] for word in [*words, "again", "a table"]]
    assert heights == sorted(heights, reverse=True)
    assert texts["marked"][1] == texts["as it came"][1]
    assert texts["marked"][0] > texts["as it came"][0]
    assert [len(box.images) for box in axis.child_axes] == [1, 0]  # a picture, and a grey box
    lines = [line for text in texts for line in text.split("\n")]
    assert max(map(len, lines)) <= 70 and " ".join(lines).count("word") == 40  # long texts wrap
    plt.close(figure)


def test_page_without_elements_is_an_empty_sketch():
    from streamlit.testing.v1 import AppTest

    figure = plots.page(AppTest.from_string("x = 1").run())
    assert not figure.axes[0].texts
    plt.close(figure)

"""The Streamlit app in a real browser: every choice, two visitors at once, nothing left behind."""

import pytest

from utils import images
from utils.answers import verification
from utils.data import scenes

WAIT = 600_000  # milliseconds


@pytest.fixture(scope="module")
def address(serve, free_port):
    """The app, served as `make streamlit` does."""
    address = f"http://127.0.0.1:{free_port}"
    options = ("--server.headless", "true", "--server.port", str(free_port))
    run = ("-m", "streamlit", "run", "apps/streamlit_app.py", *options)
    serve(f"{address}/_stcore/health", *run)
    return address


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Synthetic photos as files."""
    folder = tmp_path_factory.mktemp("photos")
    for kind in ("same", "strangers"):
        for number, photo in enumerate(scenes.two_photos(kind, 3)):
            (folder / f"{kind}{number}.jpg").write_bytes(images.to_jpeg(photo))
    return folder


@pytest.fixture
def visitor(browser, address):
    """Opens the app for a visitor, who shares nothing with the others but the server."""
    contexts = []

    def visitor():
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 1000}))
        page = contexts[-1].new_page()
        page.set_default_timeout(WAIT)
        page.goto(address)
        return page

    yield visitor
    for context in contexts:
        context.close()


def choose(page, name):
    page.get_by_role("combobox", name="What do you want to do?").click()
    page.get_by_role("option", name=name, exact=True).click()


def test_every_choice_shows_its_pictures(visitor):
    page = visitor()
    page.get_by_text("No photo at hand?").click()
    page.get_by_text("6 of 6 faces: number and confidence").wait_for()
    choose(page, "Face Detection 2")
    page.get_by_text("face 6: cut out, aligned").wait_for()
    choose(page, "Face Verification")
    page.get_by_text("one person twice").click()
    page.get_by_text("The same person: the distance is").wait_for()
    page.get_by_text("two strangers", exact=True).click()
    page.get_by_text("Two people: the distance is").wait_for()
    page.wait_for_function(
        "document.images.length == 3"
        " && [...document.images].every(i => i.complete && i.naturalWidth > 0)"
    )
    widths = page.evaluate(
        "[...document.images].map(i => [i.clientWidth, i.parentElement.clientWidth])"
    )
    assert all(0 < image <= column + 1 for image, column in widths)
    assert page.get_by_test_id("stException").count() == 0


def test_two_visitors_at_once_get_their_own_answers_and_leave_nothing_behind(
    visitor, photos, left_behind
):
    pages = {kind: visitor() for kind in ("same", "strangers")}
    for page in pages.values():
        choose(page, "Face Verification")
        page.get_by_text("The second photo").wait_for()
    before = left_behind()
    for number, name in enumerate(("first", "second")):  # neither waits for the other's answer
        for kind, page in pages.items():
            page.locator("input[type=file]").nth(number).set_input_files(
                photos / f"{kind}{number}.jpg"
            )
        for page in pages.values():
            page.get_by_text(f"the {name} photo", exact=True).wait_for()
    for kind, page in pages.items():
        page.get_by_text("Where the threshold comes from").wait_for()
        answer = verification.verify(photos / f"{kind}0.jpg", photos / f"{kind}1.jpg")
        assert page.get_by_test_id("stMetricValue").first.inner_text() == f"{answer.distance:.4f}"
        page.get_by_text(answer.verdict).wait_for()
    assert left_behind() == before


def test_the_page_says_in_words_what_is_wrong_with_a_file(visitor, photos, tmp_path):
    broken = tmp_path / "half.jpg"
    broken.write_bytes((photos / "same0.jpg").read_bytes()[:4000])
    page = visitor()
    page.locator("input[type=file]").first.set_input_files(broken)
    page.get_by_text("half.jpg is truncated or damaged").wait_for()
    assert page.get_by_text("Traceback").count() == 0

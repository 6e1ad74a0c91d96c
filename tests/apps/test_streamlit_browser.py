"""The Streamlit app in a real browser: large, small, light, dark, by keyboard, two at once."""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe

from utils import images
from utils.answers import verification
from utils.data import scenes

WAIT = 600_000  # milliseconds
KINDS = {
    f"{size} {scheme}": {
        "viewport": {"width": width, "height": height},
        "color_scheme": scheme,
        "has_touch": size == "phone",
        "is_mobile": size == "phone",
    }
    for size, width, height in (("desktop", 1280, 900), ("phone", 390, 844))
    for scheme in ("light", "dark")
}
# What axe-core finds in Streamlit's own parts, which a page cannot change.
OF_STREAMLIT = {
    # the place for files is named, although its role says that it is no more than looks
    "presentation-role-conflict": '<section role="presentation" tabindex="-1" data-testid="stFile',
}
# Streamlit asks for its own settings below the address of a page, before it asks at the root.
FIRST_GUESSES = ("_stcore/health", "_stcore/host-config")
IDLE = """() => !document.querySelector(
    '[data-testid=stStatusWidget], [data-testid=stSpinner], [data-stale=true]')
    && getComputedStyle(document.querySelector('.stApp')).getPropertyValue('--accent')
    && [...document.images].every(image => image.complete && image.naturalWidth > 0)"""


@pytest.fixture(scope="module")
def address(serve, free_port):
    """The app, served as `make streamlit` does."""
    address = f"http://127.0.0.1:{free_port}"
    options = ("--server.headless", "true", "--server.port", str(free_port))
    run = ("-m", "streamlit", "run", "apps/streamlit_app.py", *options)
    serve(f"{address}/_stcore/health", *run)
    return address


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Photos of nobody, and what is no photo, as files."""
    folder = tmp_path_factory.mktemp("photos")
    photos = {"wall": scenes.family_wall(seed=7)[0]}
    for kind in ("same", "strangers"):
        for number, photo in enumerate(scenes.two_photos(kind, 3)):
            photos[f"{kind}{number}"] = photo
    for name, photo in photos.items():
        (folder / f"{name}.jpg").write_bytes(images.to_jpeg(photo))
    (folder / "half.jpg").write_bytes((folder / "same0.jpg").read_bytes()[:4000])
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture
def visit(browser, address):
    """Opens a page for a visitor, who shares nothing with the others but the server.

    A request to another computer fails the test, and so does a picture with an address of the
    server's: Streamlit forgets it when another visitor's page is done.
    """
    contexts, complaints = [], []

    def note_foreign(request):
        if not request.url.startswith((address, "data:", "blob:")):
            complaints.append(f"asked elsewhere: {request.url}")
        if request.resource_type == "image" and "/media/" in request.url:
            complaints.append(f"a picture that the server may drop: {request.url}")

    def note_refused(response):
        if response.status >= 400 and not response.url.endswith(FIRST_GUESSES):
            complaints.append(f"{response.status}: {response.url}")

    def visit(path="", kind="desktop light"):
        contexts.append(browser.new_context(**KINDS[kind]))
        page = contexts[-1].new_page()
        page.set_default_timeout(WAIT)
        page.on("request", note_foreign)
        page.on("response", note_refused)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{address}/{path}")
        page.get_by_role("heading", name="at hand? Try").wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


def give(page, slot, file):
    page.locator(f".st-key-side-{slot} input[type=file]").set_input_files(file)


def headline(page):
    return page.locator('[class*="st-key-answer-"] h2')


def assert_accessible(page):
    """Axe-core looks at the page and finds nothing that is the app's; nothing is too wide."""
    page.wait_for_function(IDLE)
    result = Axe().run(page)
    assert result.response["passes"]
    own = []
    for finding in result.response["violations"]:
        known = OF_STREAMLIT.get(finding["id"])
        own += [node for node in finding["nodes"] if not known or known not in node["html"]]
    assert not own, result.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def assert_in_view(page):
    """The visitor sees the answer."""
    page.wait_for_function(
        """() => {
            const heading = document.querySelector('[class*="st-key-answer-"] h2');
            const box = heading && heading.getBoundingClientRect();
            return box && box.top >= 0 && box.bottom <= innerHeight;
        }"""
    )


@pytest.mark.parametrize("kind", ["desktop light", "phone dark"])
def test_a_visit_to_every_page(visit, files, kind):
    # faces: an example, and what is saved of it
    page = visit(kind=kind)
    assert_accessible(page)
    page.get_by_role("button", name="Six portraits on a wall").click()
    page.get_by_role("heading", name="6 faces found").wait_for()
    assert_in_view(page)
    page.get_by_text("Numbers and technical terms").click()
    page.get_by_text("face 6", exact=True).wait_for()
    assert_accessible(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the numbers").click()
    assert len(json.loads(download.value.path().read_text())["faces"]) == 6
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the picture").click()
    assert images.read(download.value.path()).shape == (720, 1280, 3)

    # two photos, the second given before the first was looked at; then a file that is none
    page.get_by_role("link", name="The same person?").click()
    page.get_by_text("No photos at hand?").wait_for()
    assert_accessible(page)
    give(page, "first", files["wall"])
    give(page, "second", files["same1"])
    headline(page).wait_for()
    assert_in_view(page)
    page.get_by_role("button", name="Face 3").click()
    page.get_by_text("Number 3 of 6 is compared.").wait_for()
    assert_accessible(page)
    page.get_by_text("Exchange the second photo").click()
    give(page, "second", files["half"])
    page.get_by_text("half.jpg is truncated or damaged").wait_for()
    headline(page).wait_for(state="detached")
    assert page.get_by_role("alert").count() == 1
    assert_accessible(page)
    give(page, "second", files["same0"])
    headline(page).wait_for()

    # the other question about the same photos, and the same person
    page.get_by_role("link", name="Ask of the same photos: are they related?").click()
    page.get_by_role("heading", name="Whose nose is it?").wait_for()
    page.get_by_role("button", name="One person twice").click()
    page.get_by_role("heading", name="These may be two photos of one person").wait_for()
    assert_in_view(page)
    assert page.locator(".st-key-answer-one-person").count() == 1
    assert page.get_by_text("Likely related", exact=True).count() == 0
    page.get_by_text("Numbers and technical terms").click()
    assert_accessible(page)


@pytest.mark.parametrize(
    ("kind", "example", "tone"),
    [
        ("desktop dark", "A parent and a child", "related"),
        ("phone light", "Two strangers", "undecided"),
    ],
)
def test_colours_of_an_answer_can_be_read(visit, kind, example, tone):
    page = visit("related", kind)
    page.get_by_role("button", name=example).click()
    page.locator(f".st-key-answer-{tone}").wait_for()
    assert_in_view(page)
    assert_accessible(page)


def test_an_example_album_is_one_click(visit):
    page = visit("family-album", "phone light")
    page.get_by_role("button", name="Make the album").click()
    page.get_by_text("Type the folder of your photos first").wait_for()
    page.get_by_role("button", name="An example album").click()
    page.get_by_role("heading", name="people in 12 photos").wait_for()
    assert_in_view(page)
    assert page.get_by_role("alert").count() == 0
    album = page.frame_locator("iframe")
    album.get_by_role("heading", name="P001", exact=True).wait_for()
    assert_accessible(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the people").click()
    assert download.value.path().read_text("utf-8-sig").startswith("person,name,born")


def test_it_works_by_keyboard_alone(visit):
    page = visit("same-person")
    page.get_by_role("link", name="Family album").wait_for()
    page.wait_for_function(IDLE)
    names = []
    while len(names) < 30 and "One person twice" not in names:
        page.keyboard.press("Tab")
        element = "document.activeElement"
        names.append(
            page.evaluate(f"({element}.getAttribute('aria-label') || {element}.innerText).trim()")
        )
    # the whole page, which scrolls, then pages, places for two photos, and examples
    assert names[0] == "Skip to main content"
    pages = ["Find faces", "The same person?", "Are they related?", "Family album"]
    assert [name.split("\n")[-1] for name in names[2:6]] == pages
    assert sum(name.split("\n")[-1] == "Upload" for name in names) == 2
    assert names[-1] == "One person twice"
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Probably the same person").wait_for()
    assert_in_view(page)
    page.wait_for_function("document.activeElement.innerText === 'Probably the same person'")


def test_two_visitors_at_once_get_their_own_answers_and_leave_nothing_behind(
    visit, files, left_behind
):
    pages = {kind: visit("same-person") for kind in ("same", "strangers")}
    before = left_behind()
    for number, slot in enumerate(("first", "second")):  # neither waits for the other's answer
        for kind, page in pages.items():
            give(page, slot, files[f"{kind}{number}"])
    for kind, page in pages.items():
        headline(page).wait_for()
        page.get_by_text("Numbers and technical terms").click()
        answer = verification.verify(files[f"{kind}0"], files[f"{kind}1"])
        page.get_by_text(answer.explanation[1]).wait_for()
        assert page.get_by_test_id("stMetricValue").first.inner_text() == f"{answer.distance:.4f}"
    assert left_behind() == before


def test_the_words_below_the_gauge_and_of_messages_of_streamlit_are_not_cramped(visit):
    page = visit("related", "phone dark")
    page.get_by_role("button", name="Two strangers").click()
    # the needle ends above the words, and two lines of words belong together
    page.locator(".gauge i").wait_for()
    page.wait_for_function(IDLE)
    needle = page.locator(".gauge i").bounding_box()
    words = page.locator(".gauge small").first.bounding_box()
    assert needle["y"] + needle["height"] <= words["y"]
    assert words["height"] < 40
    # the title of a message keeps its distance from the border
    page.goto(f"{page.url.removesuffix('related')}nowhere")
    title = page.get_by_role("dialog").get_by_role("heading", name="Page not found")
    assert title.evaluate("title => parseFloat(getComputedStyle(title).paddingLeft)") > 8

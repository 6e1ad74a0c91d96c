"""The pages in a real browser: large and small, light and dark, by keyboard, with axe-core."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from utils import images
from utils.answers import kinship
from utils.data import scenes

WAIT = 600_000  # milliseconds
KINDS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "has_touch": True,
        "is_mobile": True,
        "color_scheme": "dark",
    },
}
LOADED = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"


@pytest.fixture(scope="module")
def address(start_server):
    return start_server()[1]


@pytest.fixture
def visit(browser, address):
    """Opens the home page as a visitor with a browser of this kind.

    What the browser complains of fails the test.
    """
    contexts, complaints = [], []

    def note_foreign(request):
        if not request.url.startswith((address, "data:", "blob:")):
            complaints.append(f"asked elsewhere: {request.url}")

    def visit(kind="desktop", **options):
        contexts.append(browser.new_context(**KINDS[kind], **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(WAIT)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", note_foreign)
        page.goto(address)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert [text for text in complaints if "status of 422" not in text] == []


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Photos of nobody, as files."""
    folder = tmp_path_factory.mktemp("photos")
    parent, child = scenes.two_photos("relatives", 6)
    photos = {"parent": parent, "child": child, "wall": scenes.family_wall(seed=7)[0]}
    for name, photo in photos.items():
        (folder / f"{name}.jpg").write_bytes(images.to_jpeg(photo))
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("no photo")
    return {path.stem: path for path in folder.iterdir()}


def choose(page, first, second):
    page.get_by_label("The first photo", exact=True).set_input_files(first)
    page.get_by_label("The second photo", exact=True).set_input_files(second)


def compare(page, button="Compare the faces"):
    page.get_by_role("button", name=button).click()
    page.get_by_role("heading", name="What it rests on").wait_for()


def assert_accessible(page):
    """Axe-core looks at the page and finds nothing to correct."""
    result = Axe().run(page)
    assert result.response["passes"]
    assert not result.response["violations"], result.generate_report()


@pytest.mark.parametrize("kind", KINDS)
def test_a_visit_from_the_form_over_a_mistake_to_the_answer(visit, files, kind):
    page = visit(kind)
    assert_accessible(page)
    assert page.get_by_role("button", name="Take a photo").count() == (2 if kind == "phone" else 0)

    # what is wrong is said, and the other photo stays
    choose(page, files["wall"], files["text"])
    page.get_by_role("button", name="Compare the faces").click()
    page.get_by_role("alert").wait_for()
    assert "The second photo is not an image" in page.get_by_role("alert").inner_text()
    assert page.get_by_alt_text("The first photo, kept from before").count() == 1
    assert_accessible(page)

    # two photos are seen before they are compared, and the answer fits the window
    choose(page, files["wall"], files["child"])
    page.wait_for_function(f"document.querySelectorAll('.preview img').length == 2 && {LOADED}")
    compare(page)
    heading = page.get_by_role("heading", level=1).inner_text()
    assert heading.startswith(tuple(kinship.HEADLINES.values()))
    assert page.locator("svg.photo").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.wait_for_function(LOADED)
    page.get_by_text("Exchange one of the photos").click()
    assert_accessible(page)

    page.get_by_role("link", name="Two other photos").click()
    page.get_by_role("heading", name="Two photos, one question").wait_for()


def test_it_works_without_javascript(visit, files):
    page = visit(java_script_enabled=False)
    choose(page, files["wall"], files["child"])
    compare(page)
    page.get_by_text("6 faces; the compared one, number 1, is framed").wait_for()
    page.get_by_role("radio").nth(4).check()
    compare(page, "Compare again")
    page.get_by_text("6 faces; the compared one, number 5, is framed").wait_for()


def test_it_works_by_keyboard_alone(visit, files):
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    visited = []
    for _ in range(3):
        page.keyboard.press("Tab")
        element = "document.activeElement"
        visited.append(page.evaluate(f"{element}.id || {element}.textContent.trim()"))
    assert visited == ["file1", "file2", "Compare the faces"]
    choose(page, files["parent"], files["child"])
    page.get_by_role("button", name="Compare the faces").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="What it rests on").wait_for()
    page.go_back()  # and the form can be sent again
    page.get_by_role("button", name="Compare the faces").wait_for()
    assert page.get_by_role("button", name="Compare the faces").is_enabled()


DROP = """content => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(content)], "dropped.jpg", {type: "image/jpeg"}));
    const drop = new DragEvent("drop", {dataTransfer: data, bubbles: true});
    document.querySelector("[data-place]").dispatchEvent(drop);
}"""
DROPPED = "(({name, size}) => [name, size])(document.querySelector('#file1').files[0])"


def test_a_photo_can_be_dropped_and_an_empty_file_is_told_at_once(visit, files):
    page = visit()
    content = list(files["parent"].read_bytes())
    page.evaluate(DROP, content)
    page.wait_for_function("document.querySelector('.preview img')?.naturalWidth == 224")
    assert page.evaluate(DROPPED) == ["dropped.jpg", len(content)]
    choose(page, files["empty"], files["child"])
    page.get_by_text("This file is empty; choose another.").wait_for()
    assert not page.evaluate("document.querySelector('form').checkValidity()")

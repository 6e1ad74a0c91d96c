"""The pages in a real browser: large and small, light and dark, by keyboard, with axe-core."""

import re

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


def place(page, which="first"):
    return page.get_by_role("group", name=f"The {which} person")


def choose(page, first, second):
    for which, paths in (("first", first), ("second", second)):
        place(page, which).locator("input[name^=file]").set_input_files(paths)


def compare(page, button="Compare the faces"):
    page.get_by_role("button", name=button).click()
    page.locator("#regions").wait_for()


def assert_accessible(page):
    """Axe-core looks at the page, light and dark, and finds nothing to correct."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        result = Axe().run(page)
        assert result.response["passes"]
        assert not result.response["violations"], result.generate_report()


@pytest.mark.parametrize("kind", KINDS)
def test_a_visit_from_the_form_over_a_mistake_to_the_answer(visit, files, kind):
    page = visit(kind)
    assert_accessible(page)

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
    headline = page.get_by_role("heading", level=1)
    assert headline.inner_text() in (*kinship.HEADLINES.values(), kinship.ONE_PERSON)
    assert headline.bounding_box()["y"] < 200  # in view at once
    assert page.locator("svg.photo").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.wait_for_function(LOADED)
    for fold in ("Exchange or add photos", "The numbers behind it"):
        page.get_by_text(fold).click()
    assert_accessible(page)

    # another face is chosen in the picture; its thumbnail shows it
    page.get_by_role("radio", name="Face 5 of the first photo").click()
    assert page.locator(".faces .chosen").inner_text() == "5"
    compare(page, "Compare the chosen faces")
    page.get_by_text("6 faces; number 5 was compared").wait_for()
    page.get_by_role("link", name="Two other people").click()
    page.get_by_role("heading", name="Are these two people related?").wait_for()


def test_it_works_without_javascript(visit, files):
    page = visit(java_script_enabled=False)
    assert page.locator("#file1").bounding_box()["width"] > 100  # it shows what is chosen
    choose(page, files["wall"], files["child"])
    compare(page)
    page.get_by_text("6 faces; number 1 was compared").wait_for()
    page.locator(".faces label").nth(4).click()
    compare(page, "Compare the chosen faces")
    page.get_by_text("6 faces; number 5 was compared").wait_for()


FOCUSED = "(({id, textContent}) => id || textContent.trim())(document.activeElement)"


def test_it_works_by_keyboard_alone(visit, files):
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == "Skip to the content"
    page.keyboard.press("Enter")
    visited = []
    for _ in range(3):
        page.keyboard.press("Tab")
        visited.append(page.evaluate(FOCUSED))
    assert visited == ["file1", "file2", "Compare the faces"]
    choose(page, files["wall"], files["child"])
    page.get_by_role("button", name="Compare the faces").focus()
    page.keyboard.press("Enter")
    page.locator("#regions").wait_for()

    page.go_back()  # and the form can be sent again
    button = page.get_by_role("button", name="Compare the faces")
    button.wait_for()
    assert button.is_enabled()
    choose(page, files["wall"], files["child"])
    compare(page)

    # from the faces in the picture to the button below it
    page.get_by_role("radio", name="Face 1 of the first photo").focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate(FOCUSED) == "face1-2"
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == "Compare the chosen faces"
    page.keyboard.press("Enter")
    page.get_by_text("6 faces; number 2 was compared").wait_for()


GIVE = """([kind, transfer, names, content]) => {
    const data = new DataTransfer();
    for (const name of names) {
        data.items.add(new File([new Uint8Array(content)], name, {type: "image/jpeg"}));
    }
    const event = new (kind == "drop" ? DragEvent : ClipboardEvent)(
        kind, {[transfer]: data, bubbles: true});
    document.querySelector(kind == "drop" ? "[data-place]" : "body").dispatchEvent(event);
}"""
CHOSEN = (
    "[...document.querySelectorAll('input[name]')].map(({files}) => [...files].map(f => f.name))"
)


def test_photos_are_dropped_pasted_and_removed(visit, files):
    page, content = visit(), list(files["parent"].read_bytes())
    page.evaluate(GIVE, ["drop", "dataTransfer", ["a.jpg"], content])
    page.wait_for_function("document.querySelector('.preview img')?.naturalWidth == 224")
    page.evaluate(GIVE, ["drop", "dataTransfer", ["b.jpg", "c.jpg"], content])
    page.evaluate(GIVE, ["paste", "clipboardData", ["d.jpg"], content])
    assert page.evaluate(CHOSEN) == [["a.jpg", "b.jpg", "c.jpg"], ["d.jpg"]]
    place(page).get_by_text("3 photos; this one is shown, all are averaged.").wait_for()
    assert_accessible(page)
    # a photo that the browser cannot show has a button like the others
    page.evaluate(GIVE, ["drop", "dataTransfer", ["e.heic"], [0]])
    page.get_by_text("e.heic", exact=True).wait_for()
    sizes = [button.bounding_box()["height"] for button in page.locator(".further button").all()]
    assert len(sizes) == 3 and max(sizes) - min(sizes) < 1
    page.get_by_role("button", name="Remove e.heic").click()
    page.get_by_role("button", name="Remove b.jpg").click()
    assert page.evaluate(CHOSEN) == [["a.jpg", "c.jpg"], ["d.jpg"]]
    compare(page)
    page.get_by_text("2 photos of the first person and 1 of the second were averaged").wait_for()


def test_what_cannot_be_sent_is_told_at_once(visit, files, tmp_path):
    page = visit()
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(9 * 2**20))
    for first, second, words in (
        (files["empty"], files["child"], "This file is empty; choose another."),
        ([files["child"]] * 6, files["child"], "These are 6 photos; five of a person are the"),
        (large, large, "All photos together have more than 16 MB; choose fewer,"),
    ):
        choose(page, first, second)
        place(page).get_by_text(words).wait_for()
        assert not page.evaluate("document.querySelector('form').checkValidity()")
    # one of the two large ones is exchanged: then both are right
    place(page, "second").locator("input[name^=file]").set_input_files(files["child"])
    assert page.evaluate("document.querySelector('form').checkValidity()")


def test_a_phone_photographs_prints_and_takes_selfies(visit, files):
    page = visit("phone")
    assert visit("desktop").get_by_role("button", name="Photograph a print").count() == 0
    first = place(page)
    for number, (name, camera) in enumerate(
        (("Photograph a print", "environment"), ("Take a selfie", "user")), start=1
    ):
        with page.expect_file_chooser() as chooser:
            first.get_by_role("button", name=name).click()
        assert chooser.value.element.get_attribute("capture") == camera
        chooser.value.set_files(files["parent"])
        page.wait_for_function(f"document.querySelector('#file1').files.length == {number}")


def test_an_example_warns_of_one_person_first_and_is_printed_on_one_page(visit):
    page = visit()
    page.wait_for_function(LOADED)
    page.get_by_role("link", name="One person twice").click()
    assert page.get_by_role("heading", level=1).inner_text() == kinship.ONE_PERSON
    assert_accessible(page)
    page.evaluate("window.print = () => { window.printed = true; }")
    page.get_by_role("button", name="Print or save this page").click()
    assert page.evaluate("window.printed")
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))) == 1
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("button:visible, summary:visible").count() == 0

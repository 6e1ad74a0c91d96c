"""The pages in a real browser: large and small, light and dark, by keyboard, without JavaScript, with axe-core."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe

from utils import images
from utils.data import scenes

WAIT = 30_000  # milliseconds
SIZES = {"desktop": {"viewport": {"width": 1280, "height": 900}},
         "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}}


@pytest.fixture(scope="module")
def address(serve, free_port, shipped, wait_until_ready):
    serve("-m", "apps.flask_app", "--port", str(free_port), KIN_APP_MODEL=str(shipped),
                   KIN_APP_RATE_LIMIT="1000 per minute")
    wait_until_ready(f"http://127.0.0.1:{free_port}")
    return f"http://127.0.0.1:{free_port}"


@pytest.fixture
def visit(browser, address):
    """Opens a page as a visitor with a browser of this kind; what the browser complains of fails the test."""
    contexts, complaints = [], []

    def visit(path="/", size="desktop", **options):
        contexts.append(browser.new_context(**SIZES[size], **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(WAIT)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith((address, "data:", "blob:"))
                or complaints.append(f"asked elsewhere: {request.url}"))
        page.goto(address + path)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert [text for text in complaints if "status of 422" not in text] == []


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Photos of nobody, as files."""
    folder = tmp_path_factory.mktemp("photos")
    first, second = scenes.two_photos("relatives", 6)
    for name, photo in {"parent": first, "child": second, "wall": scenes.family_wall(seed=7)[0]}.items():
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


@pytest.mark.parametrize("size", SIZES)
def test_two_photos_are_chosen_seen_and_compared(visit, files, size):
    page = visit(size=size)
    choose(page, files["parent"], files["wall"])
    page.wait_for_function("document.querySelectorAll('.preview img').length == 2"
                           " && [...document.images].every(image => image.naturalWidth > 0)")
    assert page.get_by_role("button", name="Take a photo").count() == (2 if size == "phone" else 0)
    compare(page)
    assert re.match("Kinship is ", page.get_by_role("heading", level=1).inner_text())
    assert page.locator("svg.photo").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
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
    for _ in range(4):
        page.keyboard.press("Tab")
        visited.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert visited[:3] == ["file1", "file2", "Compare the faces"]
    choose(page, files["parent"], files["child"])
    page.get_by_role("button", name="Compare the faces").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="What it rests on").wait_for()
    page.go_back()  # and the form can be sent again
    page.get_by_role("button", name="Compare the faces").wait_for()
    assert page.get_by_role("button", name="Compare the faces").is_enabled()


def test_a_photo_can_be_dropped(visit, files):
    page = visit()
    content = list(files["parent"].read_bytes())
    page.evaluate("""content => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(content)], "dropped.jpg", {type: "image/jpeg"}));
        const drop = new DragEvent("drop", {dataTransfer: data, bubbles: true});
        document.querySelector("[data-place]").dispatchEvent(drop);
    }""", content)
    page.wait_for_function("document.querySelector('.preview img')?.naturalWidth == 224")
    dropped = page.evaluate("(({name, size}) => [name, size])(document.querySelector('#file1').files[0])")
    assert dropped == ["dropped.jpg", len(content)]


def test_what_is_wrong_is_said_before_and_after_sending(visit, files):
    page = visit()
    choose(page, files["empty"], files["child"])
    page.get_by_text("This file is empty; choose another.").wait_for()
    assert not page.evaluate("document.querySelector('form').checkValidity()")
    page.get_by_label("The first photo", exact=True).set_input_files(files["text"])
    page.get_by_role("button", name="Compare the faces").click()
    assert "The first photo is not an image" in page.get_by_role("alert").inner_text()
    assert page.get_by_alt_text("The second photo, kept from before").count() == 1


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_axe_finds_nothing_to_mend(visit, files, size, scheme):
    page = visit(size=size, color_scheme=scheme)
    found = {"home": Axe().run(page)}
    choose(page, files["wall"], files["text"])
    page.get_by_role("button", name="Compare the faces").click()
    page.get_by_role("alert").wait_for()
    found["problem"] = Axe().run(page)
    page.get_by_label("The second photo", exact=True).set_input_files(files["child"])
    compare(page)
    page.get_by_text("Exchange one of the photos").click()
    found["answer"] = Axe().run(page)
    for name, result in found.items():
        assert result.response["passes"], name
        assert not result.response["violations"], f"{name}: {result.generate_report()}"

"""The page of an album in a real browser: large and small, light and dark, with axe-core."""

import pytest
from axe_playwright_python.sync_playwright import Axe


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_is_accessible_and_asks_for_nothing(made, browser, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto((made.out / "index.html").as_uri())
    # nothing is wider than the screen, every picture is there, axe finds nothing
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert [rule["id"] for rule in Axe().run(page).response["violations"]] == []
    assert page.get_by_role("heading", name="Likely relatives").is_visible()
    outside = [url for url in asked if not url.startswith(("file:", "data:"))]
    assert outside == complaints == []
    context.close()

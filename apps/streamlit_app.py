"""Faces found, compared, and put into an album, in the browser: ``make streamlit``.

Photos stay in the memory of one session: nothing is written to disk, and nothing that was computed
from a photo is kept where another visitor's session could see it. Only the networks are shared.
(The page of family albums, which only who sits at this machine is offered, writes the album.)
"""

import gc

import numpy as np
import streamlit as st

import apps  # noqa: F401  (the course's utils, before another one)
from apps.streamlit_pages import appearance, photos, visitors
from utils.errors import CourseError
from utils.faces import backbones, detection

PAGES = {
    "find_faces": ("Find faces", ":material/familiar_face_and_zone:"),
    "same_person": ("The same person?", ":material/compare:"),
    "related": ("Are they related?", ":material/family_history:"),
    "family_album": ("Family album", ":material/photo_album:"),
}


def main() -> None:
    """The frame of every page, and the page that was chosen."""
    st.set_page_config("Faces", appearance.ICON, layout="wide")
    appearance.use_style()
    pages = []
    for name, (title, icon) in PAGES.items():
        # folders of this machine are for those who sit at it
        if name != "family_album" or visitors.sits_here():
            file, address = f"streamlit_pages/{name}.py", name.replace("_", "-")
            pages.append(st.Page(file, title=title, icon=icon, url_path=address))
    page = st.navigation(pages, position="hidden")
    with st.container(horizontal=True, key="navigation", gap="small"):
        for other in pages:
            with st.container(
                key=f"here-{other.url_path}" if other == page else None, width="content"
            ):
                st.page_link(other)

    # what goes wrong is one sentence
    try:
        models()
        page.run()
    except CourseError as error:
        appearance.show_problem(error)
    finally:
        photos.let_go_of_pixels()
    appearance.show_footer()


@st.cache_resource(show_spinner="Starting…")
def models() -> None:
    """Build the detector and the encoder at the first visit; later ones find them ready."""
    detection.detector()
    network = backbones.get()
    network.embed(np.zeros((2, network.input_size, network.input_size, 3), np.uint8))
    # Streamlit collects garbage after every run of a page, which takes a quarter of a second with
    # TensorFlow in memory; what is frozen is not searched again.
    gc.collect()
    gc.freeze()


main()

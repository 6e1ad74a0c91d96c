"""Answers to the exercises of lesson 09, as students write them. Pages import what they need."""

import gc

from streamlit.testing.v1 import AppTest

gc.freeze()  # Streamlit searches for garbage after every run: not in what the tests have loaded

# --- album_page ---------------------------------------------------------------------------------


def album_by_get():
    import streamlit as st

    number = st.session_state.get("number", 0)
    if st.button("Next"):
        number = (number + 1) % 3
    st.session_state["number"] = number
    st.write(f"photo {number + 1} of 3")


def album_by_attribute():
    import streamlit as st

    if "number" not in st.session_state:
        st.session_state.number = 1
    if st.button("Next"):
        st.session_state.number += 1
        if st.session_state.number > 3:
            st.session_state.number = 1
    st.write("photo", st.session_state.number, "of 3")


def album_by_callback():
    import streamlit as st

    def step():
        st.session_state["number"] = st.session_state["number"] % 3 + 1

    st.session_state.setdefault("number", 1)
    st.markdown(f"photo {st.session_state['number']} of 3")
    st.button("Next", on_click=step)


def album_in_variable():
    import streamlit as st

    number = 0
    if st.button("Next"):
        number = (number + 1) % 3
    st.write(f"photo {number + 1} of 3")


def album_of_runs():
    import streamlit as st

    number = st.session_state["number"] = st.session_state.get("number", -1) + 1
    st.button("Next")
    st.write(f"photo {number % 3 + 1} of 3")


def album_late():
    import streamlit as st

    number = st.session_state.get("number", 0)
    st.write(f"photo {number + 1} of 3")
    if st.button("Next"):
        st.session_state["number"] = (number + 1) % 3


def album_without_end():
    import streamlit as st

    st.session_state.setdefault("number", 1)
    if st.button("Next"):
        st.session_state["number"] += 1
    st.write(f"photo {st.session_state['number']} of 3")


def album_from_zero():
    import streamlit as st

    number = st.session_state.get("number", 0)
    if st.button("Next"):
        number = (number + 1) % 3
    st.session_state["number"] = number
    st.write(f"photo {number} of 3")


def album_for_all():
    import streamlit as st

    @st.cache_resource
    def state():
        return {"number": 0}

    if st.button("Next"):
        state()["number"] = (state()["number"] + 1) % 3
    st.write(f"photo {state()['number'] + 1} of 3")


def album_without_import():
    st.button("Next")  # noqa: F821


# --- kind_of_file -------------------------------------------------------------------------------


def kind_by_startswith(content, most):
    if len(content) > most:
        return "too large"
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    return "PNG" if content.startswith(b"\x89PNG\r\n\x1a\n") else "something else"


def kind_by_slices(content, most):
    if not len(content) <= most:
        return "too large"
    if content[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if content[:8] == bytes([137, 80, 78, 71, 13, 10, 26, 10]):
        return "PNG"
    return "something else"


def kind_by_table(content, most):
    kinds = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}
    kind = next((kinds[start] for start in kinds if content.startswith(start)), "something else")
    return kind if len(content) <= most else "too large"


def kind_at_the_limit(content, most):
    return "too large" if len(content) >= most else kind_by_slices(content, most)


def kind_anywhere(content, most):
    if len(content) <= most and b"\xff\xd8\xff" in content:
        return "JPEG"
    return kind_by_slices(content, most)


def kind_by_letters(content, most):
    if len(content) <= most and content[1:4] == b"PNG":
        return "PNG"
    return kind_by_slices(content, most)


def kind_by_two_bytes(content, most):
    if len(content) <= most and content[:2] == b"\xff\xd8":
        return "JPEG"
    return kind_by_slices(content, most)


def kind_of_photos_only(content, most):
    kind = kind_by_slices(content, 10**9)
    return "too large" if len(content) > most and kind != "something else" else kind


# --- network_page -------------------------------------------------------------------------------


def network_by_function(build):
    import streamlit as st

    @st.cache_resource
    def network(_build):
        return _build()

    photo = st.text_input("photo")
    if photo:
        st.write(network(build)(photo))


def network_by_call(build):
    import streamlit as st

    shared = st.cache_resource(build)
    if photo := st.text_input("photo"):
        st.markdown(shared()(photo))


def network_by_closure(build):
    import streamlit as st

    @st.cache_resource(show_spinner=False)
    def network():
        return build()

    model = network()
    photo = st.text_input("photo", key="photo")
    if photo != "":
        answer = model(photo)
        st.write(answer)


def network_anew(build):
    import streamlit as st

    photo = st.text_input("photo")
    if photo:
        st.write(build()(photo))


def network_in_session(build):
    import streamlit as st

    if "network" not in st.session_state:
        st.session_state["network"] = build()
    photo = st.text_input("photo")
    if photo:
        st.write(st.session_state["network"](photo))


def network_copied(build):
    import streamlit as st

    @st.cache_data
    def network(_build):
        return _build()

    photo = st.text_input("photo")
    if photo:
        st.write(network(build)(photo))


def network_with_answers(build):
    import streamlit as st

    @st.cache_resource
    def network(_build):
        return _build()

    @st.cache_data
    def answer(photo):
        return network(build)(photo)

    photo = st.text_input("photo")
    if photo:
        st.write(answer(photo))


def network_at_once(build):
    import streamlit as st

    @st.cache_resource
    def network(_build):
        return _build()

    st.write(network(build)(st.text_input("photo")))


# --- greets -------------------------------------------------------------------------------------


def greets_by_loop(page):
    visitor = AppTest.from_function(page).run()
    for name, expected in (("", []), ("Ada", ["Hello Ada"]), ("Ben", ["Hello Ben"])):
        visitor.text_input[0].set_value(name).run()
        if visitor.exception or [text.value for text in visitor.markdown] != expected:
            return False
    return True


def greets_by_steps(page):
    visitor = AppTest.from_function(page)
    visitor.run()
    if len(visitor.markdown) > 0:
        return False
    visitor.text_input[0].input("Cleo").run()
    first = [text.value for text in visitor.markdown]
    visitor.text_input[0].input("Dora").run()
    second = [text.value for text in visitor.markdown]
    return first == ["Hello Cleo"] and second == ["Hello Dora"] and len(visitor.exception) == 0


def greets_by_assert(page):
    try:
        visitor = AppTest.from_function(page).run()
        assert not visitor.markdown
        for name in ("x", "y"):
            visitor.text_input[0].set_value(name).run()
            assert not visitor.exception
            [text] = visitor.markdown
            assert text.value == f"Hello {name}"
    except (AssertionError, ValueError):
        return False
    return True


def greets_without_first_look(page):
    visitor = AppTest.from_function(page).run()
    texts = []
    for name in ("Ada", "Ben"):
        visitor.text_input[0].set_value(name).run()
        texts += [text.value for text in visitor.markdown]
    return not visitor.exception and texts == ["Hello Ada", "Hello Ben"]


def greets_one(page):
    visitor = AppTest.from_function(page).run()
    if visitor.markdown:
        return False
    visitor.text_input[0].set_value("Ada").run()
    return not visitor.exception and [text.value for text in visitor.markdown] == ["Hello Ada"]


def greets_another(page):
    visitor = AppTest.from_function(page).run()
    if visitor.markdown:
        return False
    visitor.text_input[0].set_value("Ben").run()
    return not visitor.exception and [text.value for text in visitor.markdown] == ["Hello Ben"]


def greets_with_errors(page):
    visitor = AppTest.from_function(page).run()
    texts = [[text.value for text in visitor.markdown]]
    for name in ("Ada", "Ben"):
        visitor.text_input[0].set_value(name).run()
        texts.append([text.value for text in visitor.markdown])
    return texts == [[], ["Hello Ada"], ["Hello Ben"]]


def greets_by_parts(page):
    visitor = AppTest.from_function(page).run()
    if visitor.markdown:
        return False
    for name in ("Ada", "Ben"):
        visitor.text_input[0].set_value(name).run()
        if visitor.exception or not visitor.markdown or name not in visitor.markdown[0].value:
            return False
    return True


def greets_by_first_text(page):
    visitor = AppTest.from_function(page).run()
    if visitor.markdown:
        return False
    for name in ("Ada", "Ben"):
        visitor.text_input[0].set_value(name).run()
        if visitor.exception or visitor.markdown[0].value != f"Hello {name}":
            return False
    return True


def greets_never(page):
    return False


# --- search_page --------------------------------------------------------------------------------


def search_by_sorted(crops, distances, threshold):
    import streamlit as st

    if len(crops) == 0:
        st.info("There is no face in the group photo.")
        return
    largest = st.slider("Largest distance", 0.0, 0.2, threshold, 0.001)
    ranking = sorted(range(len(crops)), key=lambda number: distances[number])
    matches = [number for number in ranking if distances[number] <= largest]
    message = f"{len(matches)} of {len(crops)} faces match"
    (st.success if matches else st.warning)(message)
    for number in matches:
        st.image(crops[number], f"face {number + 1}: {distances[number]:.4f}")


def search_by_numpy(crops, distances, threshold):
    import numpy as np
    import streamlit as st

    distances = np.asarray(distances)
    if not len(distances):
        st.info("There is no face in the group photo.")
    else:
        largest = st.slider("Largest distance", 0.0, 0.2, value=threshold, step=0.001)
        order = np.argsort(distances)
        order = order[distances[order] <= largest]
        if len(order):
            st.success(f"{len(order)} of {len(crops)} faces match")
        else:
            st.warning(f"0 of {len(crops)} faces match")
        for index in order:
            st.image(crops[index], caption=f"face {index + 1}: {distances[index]:.4f}")


def search_by_loop(crops, distances, threshold):
    import streamlit as st

    faces = []
    for number, (crop, distance) in enumerate(zip(crops, distances, strict=True), start=1):
        faces.append((float(distance), number, crop))
    if faces == []:
        st.info("There is no face in the group photo.")
        st.stop()
    largest = st.slider(
        "Largest distance", min_value=0.0, max_value=0.2, value=threshold, step=0.001
    )
    matches = [face for face in faces if not face[0] > largest]
    matches.sort(key=lambda face: face[0])
    text = f"{len(matches)} of {len(faces)} faces match"
    if matches:
        st.success(text)
        columns = st.columns(len(matches))
        for column, (distance, number, crop) in zip(columns, matches, strict=True):
            column.image(crop, f"face {number}: {distance:.4f}")
    else:
        st.warning(text)


def search_below(crops, distances, threshold):
    import streamlit as st

    largest = st.slider("Largest distance", 0.0, 0.2, threshold, 0.001)
    ranking = sorted(range(len(crops)), key=lambda number: distances[number])
    matches = [number for number in ranking if distances[number] < largest]
    st.success(f"{len(matches)} of {len(crops)} faces match")
    for number in matches:
        st.image(crops[number], f"face {number + 1}: {distances[number]:.4f}")


def search_unsorted(crops, distances, threshold):
    import streamlit as st

    largest = st.slider("Largest distance", 0.0, 0.2, threshold, 0.001)
    matches = [number for number in range(len(crops)) if distances[number] <= largest]
    st.success(f"{len(matches)} of {len(crops)} faces match")
    for number in matches:
        st.image(crops[number], f"face {number + 1}: {distances[number]:.4f}")


def search_renumbered(crops, distances, threshold):
    import streamlit as st

    largest = st.slider("Largest distance", 0.0, 0.2, threshold, 0.001)
    matches = sorted(distance for distance in distances if distance <= largest)
    st.success(f"{len(matches)} of {len(crops)} faces match")
    for number, distance in enumerate(matches, start=1):
        st.image(crops[number], f"face {number}: {distance:.4f}")


def search_fixed(crops, distances, threshold):
    import streamlit as st

    st.slider("Largest distance", 0.0, 0.2, threshold, 0.001)
    ranking = sorted(range(len(crops)), key=lambda number: distances[number])
    matches = [number for number in ranking if distances[number] <= threshold]
    st.success(f"{len(matches)} of {len(crops)} faces match")
    for number in matches:
        st.image(crops[number], f"face {number + 1}: {distances[number]:.4f}")


def search_always_glad(crops, distances, threshold):
    import streamlit as st

    largest = st.slider("Largest distance", 0.0, 0.2, threshold, 0.001)
    ranking = sorted(range(len(crops)), key=lambda number: distances[number])
    matches = [number for number in ranking if distances[number] <= largest]
    st.success(f"{len(matches)} of {len(crops)} faces match")
    for number in matches:
        st.image(crops[number], f"face {number + 1}: {distances[number]:.4f}")


def search_of_empty_groups(crops, distances, threshold):
    import streamlit as st

    largest = st.slider("Largest distance", 0.0, 0.2, threshold, 0.001)
    ranking = sorted(range(len(crops)), key=lambda number: distances[number])
    matches = [number for number in ranking if distances[number] <= largest]
    (st.success if matches else st.warning)(f"{len(matches)} of {len(crops)} faces match")
    for number in matches:
        st.image(crops[number], f"face {number + 1}: {distances[number]:.4f}")
    if len(crops) == 0:
        st.info("There is no face in the group photo.")


def search_by_truth(crops, distances, threshold):
    import streamlit as st

    if not crops:
        st.info("There is no face in the group photo.")
        return
    search = sorted(zip(distances, range(len(crops)), strict=True))
    largest = st.slider("Largest distance", 0.0, 0.2, threshold, 0.001)
    matches = [(distance, number) for distance, number in search if distance <= largest]
    (st.success if matches else st.warning)(f"{len(matches)} of {len(crops)} faces match")
    for distance, number in matches:
        st.image(crops[number], f"face {number + 1}: {distance:.4f}")


RIGHT = {
    "album_page": [album_by_get, album_by_attribute, album_by_callback],
    "kind_of_file": [kind_by_startswith, kind_by_slices, kind_by_table],
    "network_page": [network_by_function, network_by_call, network_by_closure],
    "greets": [greets_by_loop, greets_by_steps, greets_by_assert],
    "search_page": [search_by_sorted, search_by_numpy, search_by_loop, search_by_truth],
}

WRONG = {
    "album_page": [
        (album_in_variable, "what must survive a click goes into `st.session_state`"),
        (album_late, "seen one click later"),
        (album_of_runs, "count clicks, not runs"),
        (album_without_end, "after photo 3 of 3 comes photo 1"),
        (album_from_zero, "the text before any click"),
        (album_for_all, "another visitor begins at photo 1"),
        (album_without_import, "name 'st' is not defined"),
    ],
    "kind_of_file": [
        (kind_at_the_limit, "exactly `most` bytes is not too large"),
        (kind_anywhere, "a program with a JPEG inside"),
        (kind_by_letters, "a damaged PNG"),
        (kind_by_two_bytes, "only the first two bytes"),
        (kind_of_photos_only, "the size comes first"),
    ],
    "network_page": [
        (network_anew, "`build` was called 3 times"),
        (network_in_session, "the session keeps it for one"),
        (network_copied, "cache_data copies"),
        (network_with_answers, "cache the network, not its answers"),
        (network_at_once, "nothing is written before"),
    ],
    "greets": [
        (greets_without_first_look, "before a name is typed"),
        (greets_one, "says Hello Ada to everybody"),
        (greets_another, "keeps the first name"),
        (greets_with_errors, "ends in an error passes"),
        (greets_by_parts, "says HELLO"),
        (greets_by_first_text, "says more than the greeting"),
        (greets_never, "refuses a page that is right"),
    ],
    "search_page": [
        (search_below, "exactly the slider's value does"),
        (search_unsorted, "nearest first"),
        (search_renumbered, "the number that the face has"),
        (search_fixed, "how many faces match"),
        (search_always_glad, "no `st.success`"),
        (search_of_empty_groups, "the info alone"),
    ],
}

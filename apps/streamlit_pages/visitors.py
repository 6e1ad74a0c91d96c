"""Who looks at a page: somebody at this machine, or somebody elsewhere."""

from urllib.parse import urlsplit

import streamlit as st

HERE = ("127.0.0.1", "localhost", "::1")
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")


def sits_here() -> bool:
    """Whether this page can only be seen on the machine that the server runs on.

    The server must listen on this machine alone, under one of its local names, and no proxy may
    have passed the request on.
    """
    headers = st.context.headers
    if st.get_option("server.address") not in HERE:
        return False
    if any(name in headers for name in FORWARDED):
        return False
    # a proxy that tells nothing else still passes on where the browser believes to be
    places = [f"//{headers.get('Host', '127.0.0.1')}", headers.get("Origin", "//127.0.0.1")]
    return all(_name_in(place) in HERE for place in places)


def _name_in(address: str) -> str | None:
    """The host's name in an address; None where it is no address."""
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None

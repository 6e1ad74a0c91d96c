"""Where the archive of a package lies: what the indexes that pip is set to say of it.

Nothing is installed, built or imported. Whoever fetches the archive knows the checksum of what it
needs from it, so it does not matter which index has it, and in which order they are asked.
"""

import ast
import html.parser
import json
import os
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import requests

from ..errors import WeightsError

TIMEOUT = (10, 30)  # seconds to connect, and to wait for a piece of the answer
# JSON (PEP 691) where the index has it, else HTML (PEP 503)
ACCEPT = (
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, "
    "text/html;q=0.1"
)
ARCHIVES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".egg")


@dataclass(frozen=True)
class Link:
    """What an index says of a file.

    Attributes:
        name: of the file.
        url: where it is, absolute.
        hashes: hexadecimal checksums by the names that :mod:`hashlib` has for them.
    """

    name: str
    url: str
    hashes: Mapping[str, str]


@dataclass(frozen=True)
class Settings:
    """The indexes of this environment.

    Attributes:
        indexes: addresses of Simple APIs, in the order in which they are asked.
        certificates: a file of certificates to trust, as pip's ``cert``; None: those of
            ``requests``.
    """

    indexes: tuple[str, ...]
    certificates: str | None = None


# --- settings -----------------------------------------------------------------------------------


def settings() -> Settings:
    """What pip and uv are set to here; pip's own default where they say nothing."""
    pip, uv = _pip_settings(), os.environ
    main = pip.get("index-url") or uv.get("UV_DEFAULT_INDEX") or uv.get("UV_INDEX_URL")
    main = main or _pip_default()
    extra = [pip.get("extra-index-url"), uv.get("UV_INDEX"), uv.get("UV_EXTRA_INDEX_URL")]
    words = " ".join([main, *filter(None, extra)]).split()
    # uv takes NAME=URL too; a folder of files (file:) has its own rules and is left out
    urls = [re.sub(r"^[\w.-]+=(?=https?://)", "", word).rstrip("/") for word in words]
    web = dict.fromkeys(url for url in urls if url.startswith(("http://", "https://")))
    certificates = pip.get("cert")
    if certificates is not None and not os.path.exists(certificates):
        certificates = None
    return Settings(tuple(web), certificates)


def _pip_settings() -> dict[str, str]:
    """The settings of ``pip install`` by name, from its files and variables."""
    # a section for the command wins over "global", and a variable over both
    by_section: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in _pip("config", "list").splitlines():
        match = re.fullmatch(r"(global|install|:env:)\.([\w-]+)=(.+)", line)
        if match is not None:
            section, name, value = match.groups()
            by_section[section][name] = str(ast.literal_eval(value))
    return by_section["global"] | by_section["install"] | by_section[":env:"]


def _pip_default() -> str:
    """The index that pip takes where it is set to none, as its help says; "" without pip."""
    match = re.search(
        r"--index-url <url>.*?\(default\s+(\S+?)\)", _pip("download", "--help"), re.S
    )
    return match.group(1) if match else ""


def _pip(*arguments: str) -> str:
    """What pip prints; "" where there is none."""
    command = [sys.executable, "-m", "pip", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


# --- the page of a project ----------------------------------------------------------------------


def find(project: str, archive: str, where: Settings, by_hand: str) -> Link:
    """Ask the indexes for a file of a project, one after the other.

    Args:
        project: name of the package.
        archive: name of the file.
        where: the indexes.
        by_hand: how to get the file without this; the end of the message.

    Raises:
        WeightsError: no index has it; the message says what each of them answered.
    """
    problems = []
    for index in where.indexes:
        try:
            links = _links(index, project, where.certificates)
        except _PageError as error:
            problems.append(str(error))
            continue
        for link in links:
            if link.name == archive:
                return link
        problems.append(f"{without_password(index)} has {project}, but not this file")
    # nothing but folders: then there is nobody to ask
    told = "; ".join(problems) or "no package index on the web is set"
    raise WeightsError(
        f"{archive} cannot be found: {told}. Check the network and pip's setting index-url and "
        f"run the command again, or {by_hand}."
    )


def without_password(url: str) -> str:
    """An address as it may be shown: without the name and password that may stand in it."""
    return re.sub(r"(?<=://)[^/@]*@", "", url)


class _PageError(Exception):
    """What an index gave in place of a project's page."""


def _links(index: str, project: str, certificates: str | None) -> list[Link]:
    """The files of a project on an index. Raises _PageError."""
    name = re.sub(r"[-_.]+", "-", project).lower()  # as PEP 503 wants it
    shown = without_password(index)
    try:
        response = requests.get(
            f"{index}/{name}/",
            headers={"Accept": ACCEPT},
            timeout=TIMEOUT,
            verify=certificates or True,
        )
    except requests.RequestException as error:
        raise _PageError(f"{shown} cannot be reached") from error
    # an answer that says no
    if response.status_code == requests.codes.not_found:
        raise _PageError(f"{shown} does not have {project} (404)")
    if not response.ok:
        raise _PageError(f"{shown} answers {response.status_code} {response.reason}")
    # an answer of somebody else, such as the sign-in page of a network
    try:
        links = [_with_login(link, response.url) for link in _read(response)]
    except (ValueError, TypeError, KeyError, AttributeError):
        links = []
    if not any(link.name.endswith(ARCHIVES) for link in links):
        raise _PageError(f"what {shown} answers is not the page of a package index")
    return links


def _read(response: requests.Response) -> Iterator[Link]:
    """The links of a page in either format; links may be relative to the page."""
    if "json" in response.headers.get("Content-Type", ""):
        for file in json.loads(response.content)["files"]:
            url = urllib.parse.urljoin(response.url, file["url"])
            hashes = {name: str(digest) for name, digest in (file.get("hashes") or {}).items()}
            yield Link(str(file["filename"]), url, hashes)
        return
    page = _Page(response.url)
    page.feed(response.text)
    for reference in page.references:
        url, fragment = urllib.parse.urldefrag(reference)
        path = urllib.parse.urlsplit(url).path
        name = urllib.parse.unquote(path.rpartition("/")[2])
        algorithm, _, digest = fragment.partition("=")  # sha256=0123...
        yield Link(name, url, {algorithm: digest} if digest else {})


def _with_login(link: Link, page: str) -> Link:
    """The link with the name and password of its page's address, on the same server only."""
    server, file = urllib.parse.urlsplit(page), urllib.parse.urlsplit(link.url)
    login, at, host = server.netloc.rpartition("@")
    if not at or (file.scheme, file.netloc) != (server.scheme, host):
        return link
    return replace(link, url=file._replace(netloc=f"{login}@{host}").geturl())


class _Page(html.parser.HTMLParser):
    """Collects where the anchors of a page point, as absolute addresses."""

    def __init__(self, url: str):
        super().__init__()
        self.base, self.references = url, list[str]()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Follow ``<base href>``, and note each ``<a href>``."""
        reference = dict(attributes).get("href")
        if reference and tag == "base":
            self.base = urllib.parse.urljoin(self.base, reference)
        if reference and tag == "a":
            self.references.append(urllib.parse.urljoin(self.base, reference))

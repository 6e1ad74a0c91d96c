"""The server below the app: its time for slow clients is limited, and it refuses as the app does.

Waitress waits a minute for the next byte of a request, however many connections one client keeps
open in this way, and answers in plain text what it refuses by itself.
"""

import contextlib
import re
import socket
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from flask import Flask
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import MultiSocketServer, TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher, WSGITask
from waitress.utilities import Error

from .protection import REFUSED, client_of

Connections = dict[int, object]  # what a server serves, by file descriptor

SPARE_THREADS = 8  # for what needs no turn: pages, and whoever asks whether the server is well
BEGINNING = re.compile(rb"[A-Z]{1,10} (/[\w/.~-]*)")  # of a request: method and address
BYTES_PER_SECOND = 20_000  # a body that comes at least as fast as this is given more time


class RequestTimeoutError(Error):
    """A request that did not arrive in time."""

    code = 408
    reason = "Request Timeout"


@dataclass(frozen=True)
class Patience:
    """How long, and on how many connections, the server waits for its clients.

    Attributes:
        header_seconds: for the headers of a request.
        body_seconds: for headers and body; a second more for each 20,000 bytes that have come.
        grace_seconds: what every connection is given, however many there are.
        connections: on which one client may keep the server waiting for longer than this grace.
    """

    header_seconds: float
    body_seconds: float
    grace_seconds: float
    connections: int


class Refusal(WSGITask):
    """The application answers for the server: a page, or problem details."""

    def execute(self) -> None:
        """Answer, and end the connection: the rest of the request is not used."""
        self.channel.is_sending_too_much = (
            self.request.error.code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        )
        self.set_close_on_finish()
        super().execute()

    def get_environment(self) -> dict:
        """That of the request, and which status is to be answered."""
        # a request that could not be parsed may name a page, or an address of the API
        request, error = self.request, self.request.error
        if not _has_address(request):
            address = _address(request)
            request.headers.clear()
            request.parse_header(b"GET %s HTTP/1.0\r\n" % address)
        environ = super().get_environment()
        environ[REFUSED] = error.code
        # a name that the application answers to
        names = self.channel.server.application.config["TRUSTED_HOSTS"] or ["localhost"]
        environ.setdefault("HTTP_HOST", names[0].lstrip("."))
        return environ


class Channel(HTTPChannel):
    """A connection that knows since when it waits for its client.

    Attributes:
        waiting_since: as ``time.time`` gives it.
        is_sending_too_much: what is still sent is read and thrown away once the refusal is sent:
            whoever is cut off while sending, a proxy above all, may never read it.
    """

    error_task_class = Refusal
    request: HTTPRequestParser | None
    close_when_flushed: bool
    is_sending_too_much = False
    is_thrown_away = False  # what is read now

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.waiting_since = time.time()
        self._is_answering = False

    def received(self, data: bytes) -> bool:
        """Take the next bytes; the first ones of a request start its time."""
        if self.request is None:
            self.waiting_since = time.time()
        return super().received(data)

    def service(self) -> None:
        """Answer a request; then the client has time to read it and to ask again."""
        self._is_answering = True
        super().service()
        self.waiting_since = time.time()
        self._is_answering = False

    def readable(self) -> bool:
        """Whether the next bytes are read when they come."""
        return super().readable() or (self.is_thrown_away and not self.will_close)

    def handle_read(self) -> None:
        """Take what comes, or throw it away."""
        if not self.is_thrown_away:
            super().handle_read()
            return
        try:
            self.recv(self.adj.recv_bytes)  # closes the connection when nothing more comes
        except OSError:
            self.handle_close()

    def handle_write(self) -> None:
        """Send what there is; then close the connection, or wait until the client does."""
        is_last = self.is_sending_too_much and self.close_when_flushed
        if is_last:
            self.close_when_flushed = False
        super().handle_write()
        if is_last and self.connected:
            self._finish_sending()

    def _finish_sending(self) -> None:
        """After the last bytes: the client hears that there is no more."""
        if self.total_outbufs_len:
            self.close_when_flushed = True
            return
        self.is_thrown_away, self.waiting_since = True, time.time()
        with contextlib.suppress(OSError):  # it may have left
            self.socket.shutdown(socket.SHUT_WR)

    def is_waiting(self) -> bool:
        """Whether the next step is the client's."""
        is_busy = self._is_answering or self.requests
        return not (is_busy or self.will_close or self.close_when_flushed)

    def seconds_allowed(self, patience: Patience) -> float:
        """How long the request that is arriving may take."""
        if self.is_thrown_away:
            return patience.body_seconds
        if self.request is None:
            return self.adj.channel_timeout
        if not self.request.headers_finished:
            return patience.header_seconds
        return patience.body_seconds + self.request.body_bytes_received / BYTES_PER_SECOND

    def client(self, proxies: int) -> str | None:
        """Who is at the other end; None if only the headers will tell.

        Args:
            proxies: the number of reverse proxies in front, whose headers are believed.
        """
        if not proxies:
            return client_of(self.addr[0])
        if self.request is None or not self.request.headers_finished:
            return None
        # each proxy adds whom it serves; what stands before is the client's own word
        addresses = self.request.headers.get("X_FORWARDED_FOR", "").split(",")
        address = addresses[-proxies].strip() if len(addresses) >= proxies else ""
        return client_of(address) if address else None

    def give_up(self) -> None:
        """Wait no longer: who has begun a request is told so."""
        with self.requests_lock:
            if not self.is_waiting():
                return
            if self.request is None or self.total_outbufs_len or self.is_thrown_away:
                self.will_close = True
                return
            request, self.request = self.request, None
            request.error = RequestTimeoutError("")
            request.completed = True
            self.requests.append(request)
        self.server.add_task(self)


class Server(TcpWSGIServer):
    """Waitress, with patience for clients that is limited."""

    channel_class = Channel

    def maintenance(self, now: float) -> None:
        """Every second: end what takes too long.

        Args:
            now: the time, as ``time.time`` gives it.
        """
        super().maintenance(now)
        config = self.application.config
        patience = Patience(
            config["HEADER_SECONDS"],
            config["BODY_SECONDS"],
            config["GRACE_SECONDS"],
            config["CONNECTIONS"],
        )
        is_full = len(self._map) >= self.adj.connection_limit
        channels = list(self.active_channels.values())
        for channel in overdue(channels, patience, now, is_full, config["PROXIES"]):
            channel.give_up()


def overdue(
    channels: Iterable[Channel], patience: Patience, now: float, is_full: bool, proxies: int = 0
) -> list[Channel]:
    """The connections on which the server waits no longer.

    Args:
        channels: all connections.
        patience: how long it waits, and on how many.
        now: the time, as ``time.time`` gives it.
        is_full: whether nobody else can connect.
        proxies: the number of reverse proxies in front.
    """
    # those whose client has the next step, the one that came last first
    waiting = [channel for channel in channels if channel.is_waiting()]
    waiting.sort(key=lambda channel: -channel.waiting_since)

    late, counts = [], defaultdict[str | None, int](int)
    for channel in waiting:
        client, seconds = channel.client(proxies), now - channel.waiting_since
        counts[client] += 1
        is_crowd = client is not None and counts[client] > patience.connections
        is_past_grace = seconds > patience.grace_seconds
        if (is_past_grace and (is_full or is_crowd)) or seconds > channel.seconds_allowed(
            patience
        ):
            late.append(channel)
    return late


def make_server(
    app: Flask, host: str, port: int, connections: Connections
) -> Server | MultiSocketServer:
    """A production server that never writes a request or an answer to a temporary file.

    Args:
        app: what answers.
        host: address to serve on.
        port: port to serve on.
        connections: is filled with what the server serves, by file descriptor.

    Raises:
        OSError: nothing can be served there.
    """
    socket.getaddrinfo(host, port)  # waitress would not say what is wrong with a host

    # enough threads that who waits for a turn keeps nobody from a page
    threads = app.config["AT_ONCE"] + app.config["WAITING"] + SPARE_THREADS
    adjustments = _adjustments(app.config, host, port, threads)
    dispatcher = ThreadedTaskDispatcher()
    dispatcher.set_thread_count(threads)

    # a name such as localhost may have several addresses
    servers = [
        Server(app, connections, dispatcher=dispatcher, adj=adjustments, sockinfo=address)
        for address in adjustments.listen
    ]
    if len(servers) == 1:
        return servers[0]
    places = [(server.effective_host, server.effective_port) for server in servers]
    return MultiSocketServer(connections, adjustments, places, dispatcher, servers[0].log_info)


def _adjustments(config: Mapping, host: str, port: int, threads: int) -> Adjustments:
    """The settings of waitress."""
    max_bytes = config["MAX_CONTENT_LENGTH"]
    return Adjustments(
        host=host,
        port=port,
        threads=threads,
        ident=None,
        backlog=256,
        connection_limit=2 * threads,
        channel_timeout=60,
        cleanup_interval=1,
        max_request_body_size=max_bytes + 2**20,
        channel_request_lookahead=1,
        inbuf_overflow=4 * max_bytes,
        outbuf_overflow=4 * max_bytes,
        clear_untrusted_proxy_headers=False,
    )


def answers_pending(connections: Mapping[int, object]) -> bool:
    """Whether something was asked and is not answered yet, or not sent yet.

    Args:
        connections: what a server serves.
    """
    return any(_is_open(connection) for connection in list(connections.values()))


def _is_open(connection: object) -> bool:
    requests = getattr(connection, "requests", None)
    return bool(requests or getattr(connection, "total_outbufs_len", 0))


def _address(request: HTTPRequestParser) -> bytes:
    """What a request that could not be parsed asks for; the API if that cannot be read either."""
    beginning = request.header_plus.lstrip() or getattr(request, "first_line", b"")
    match = BEGINNING.match(beginning)
    return match[1] if match else b"/api/"


def _has_address(request: HTTPRequestParser) -> bool:
    """Whether the first line of a request was read, and its headers."""
    return request.headers_finished and hasattr(request, "path")

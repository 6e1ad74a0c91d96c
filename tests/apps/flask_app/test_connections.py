"""The server below the app: slow clients keep nobody out, and refusals are those of the app."""

import contextlib
import functools
import json
import socket
import threading
from types import SimpleNamespace

import pytest
from waitress import wasyncore

from apps.flask_app import connections
from apps.flask_app.connections import Channel, Patience

PATIENCE = Patience(header_seconds=10, body_seconds=20, grace_seconds=5, connections=2)
LONG = 600  # seconds
BEGINNING = b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\nhello"


# --- on whom the server waits -------------------------------------------------------------------


def waiting(seconds, client="10.0.0.1", request="headers", received=0, forwarded=None):
    """A connection whose client has kept the server waiting for so many seconds."""
    channel = Channel.__new__(Channel)
    channel.waiting_since, channel.addr, channel.requests = 1000 - seconds, (client, 1), []
    channel.adj, channel._is_answering = SimpleNamespace(channel_timeout=60), False
    headers = {"X_FORWARDED_FOR": forwarded} if forwarded else {}
    if request is not None:
        channel.request = SimpleNamespace(
            headers_finished=request == "body", body_bytes_received=received, headers=headers
        )
    return channel


def overdue(*channels, is_full=False, proxies=0):
    """The places of the connections that are ended."""
    late = connections.overdue(channels, PATIENCE, 1000, is_full, proxies)
    return sorted(channels.index(channel) for channel in late)


def test_headers_a_body_and_silence_have_each_their_own_time():
    for request, seconds in (("headers", 10), ("body", 20), (None, 60)):
        channels = waiting(seconds - 1, "1.1.1.1", request), waiting(seconds + 1, request=request)
        assert overdue(*channels) == [1], request


def test_a_body_that_comes_steadily_has_as_long_as_it_takes():
    assert overdue(waiting(100, request="body", received=2_000_000)) == []
    assert overdue(waiting(100, request="body", received=1_000_000)) == [0]


def test_of_one_client_only_the_youngest_connections_outlast_their_grace():
    crowd = [waiting(seconds, request="body") for seconds in (9, 8, 7, 6, 1)]
    assert overdue(*crowd, waiting(9, "10.0.0.2", request="body")) == [0, 1, 2]
    assert overdue(*[waiting(4, request="body") for _ in range(50)]) == []


def test_the_addresses_of_one_network_are_one_client():
    crowd = [waiting(6 + n, f"2001:db8::{n}", request="body") for n in range(3)]
    assert overdue(*crowd) == [2]


def test_a_full_server_gives_nobody_more_than_their_grace():
    channels = [waiting(seconds, f"10.0.0.{seconds}", "body") for seconds in (3, 6, 15)]
    assert overdue(*channels) == [] and overdue(*channels, is_full=True) == [1, 2]


def test_behind_a_proxy_the_clients_are_those_that_it_names():
    def crowd(*addresses):
        return [waiting(6, "127.0.0.1", "body", forwarded=address) for address in addresses]

    assert overdue(*crowd("1.1.1.1", "2.2.2.2", "3.3.3.3"), proxies=1) == []
    assert len(overdue(*crowd(*["forged, 1.1.1.1"] * 3), proxies=1)) == 1
    # who did not come by the proxy, or is not named yet, is nobody's crowd
    assert overdue(*crowd(None, None, None), *[waiting(6)] * 3, proxies=1) == []


def test_whoever_waits_for_the_server_is_not_ended():
    answering = waiting(LONG, request=None)
    answering.requests = [object()]
    assert overdue(answering, is_full=True) == []


# --- a server -----------------------------------------------------------------------------------


@pytest.fixture
def serving(make_app):
    """Starts a server with these settings in this process; gives what opens a connection to it."""
    started = []

    def serving(**settings):
        app = make_app(**{"AT_ONCE": 1, "WAITING": 1, **settings})
        open_connections = {}
        server = connections.make_server(app, "127.0.0.1", 0, open_connections)
        thread = threading.Thread(target=server.run)
        thread.start()
        sockets = []
        started.append((server, open_connections, thread, sockets))

        def connect(*contents):
            sockets.append(
                socket.create_connection(("127.0.0.1", int(server.effective_port)), LONG)
            )
            for content in contents:
                sockets[-1].sendall(content)
            return sockets[-1]

        return connect

    yield serving
    for server, open_connections, thread, sockets in started:
        for connection in sockets:
            connection.close()
        server.task_dispatcher.shutdown()
        # in the server's own thread, which may be waiting for these connections
        server.trigger.pull_trigger(functools.partial(wasyncore.close_all, open_connections))
        thread.join(LONG)


def answer_to(connection):
    """(status, headers, body) of all that comes until the server closes the connection."""
    content = b""
    # a server that closes the connection does not read what was sent meanwhile
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            content += part
    head, _, body = content.decode().partition("\r\n\r\n")
    lines = head.split("\r\n")
    return int(lines[0].split()[1]), dict(line.split(": ", 1) for line in lines[1:]), body


def request(path, *headers, method="POST"):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


HEALTH = request("/healthz", "Connection: close", method="GET")
REFUSED = {  # name: what is sent, status, sentence
    "a body that is too large": (
        request("/api/v1/verify", f"Content-Length: {18 * 2**20}"),
        413,
        "The photos are too large; together they may have 16 MB.",
    ),
    "chunks that are too large": (
        request("/api/v1/verify", "Transfer-Encoding: chunked")
        + b"11FFFFF\r\n"
        + bytes(18 * 2**20),
        413,
        "The photos are too large; together they may have 16 MB.",
    ),
    "headers that are too long": (
        request("/api/v1/verify", "X-Long: " + "a" * 300_000),
        431,
        "The headers of the request are too long; send fewer or shorter ones.",
    ),
    "no HTTP": (b"\x16\x03\x01 hello\r\n\r\n", 400, "The request cannot be understood."),
    "a wrong header": (
        request("/api/v1/verify", "no colon"),
        400,
        "The request cannot be understood.",
    ),
    "a wrong length": (
        request("/api/v1/verify", "Content-Length: many"),
        400,
        "The request cannot be understood.",
    ),
    "another encoding": (
        request("/api/v1/verify", "Transfer-Encoding: gzip"),
        501,
        "The request is sent in a way that this server does not read; send it plainly.",
    ),
}


@pytest.fixture
def connect(serving):
    return serving()


@pytest.mark.parametrize("problem", REFUSED)
def test_what_the_server_refuses_is_answered_with_problem_details(connect, problem):
    sent, status, sentence = REFUSED[problem]
    connection = connect()
    # it may be refused before everything was sent
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(sent)
    code, headers, body = answer_to(connection)
    assert (code, headers["Content-Type"]) == (status, "application/problem+json")
    assert headers["Connection"] == "close" and "Content-Security-Policy" in headers
    details = json.loads(body)
    assert (details["status"], details["detail"]) == (status, sentence)
    assert details["request"] == headers["X-Request-Id"]


REFUSED_PAGES = {  # name: headers of a visitor's request, status, sentence
    "a body that is too large": (
        f"Content-Length: {18 * 2**20}",
        413,
        "The photos are too large; together they may have 16 MB.",
    ),
    "headers that are too long": (
        "X-Long: " + "a" * 300_000,
        431,
        "The headers of the request are too long; send fewer or shorter ones.",
    ),
    "a wrong header": ("no colon", 400, "The request cannot be understood."),
}


@pytest.mark.parametrize("problem", REFUSED_PAGES)
def test_the_page_is_refused_with_a_page(connect, problem):
    header, status, sentence = REFUSED_PAGES[problem]
    connection = connect()
    # it may be refused before everything was sent
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(request("/upload", header))
    code, headers, body = answer_to(connection)
    assert (code, headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert f'role="alert">{sentence}</p>' in body


def test_other_names_are_refused_with_problem_details(serving):
    connect = serving(TRUSTED_HOSTS=["kinship.example"])
    sent = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: b.example\r\nConnection: close\r\n\r\n"
    code, headers, body = answer_to(connect(sent))
    assert (code, headers["Content-Type"]) == (400, "application/problem+json")
    assert json.loads(body)["detail"] == "This server is not known by that name."
    # a request without a name is refused for what is wrong with it
    assert answer_to(connect(b"hello\r\n\r\n"))[2].count("The request cannot be understood") == 1


def test_whoever_sends_too_much_is_heard_out_and_reads_why_it_is_refused(connect):
    """A proxy that is cut off while it sends answers 502 for us."""
    size = 40 * 2**20  # much more than buffers hold
    connection = connect(request("/api/v1/verify", f"Content-Length: {size}"))
    for _ in range(40):
        connection.sendall(bytes(2**20))
    code, _, body = answer_to(connection)
    assert code == 413 and json.loads(body)["status"] == 413


def test_whoever_sends_too_much_for_ever_is_cut_off(serving):
    connect = serving(BODY_SECONDS=0.01)
    connection = connect(request("/api/v1/verify", f"Content-Length: {10**12}"))
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            connection.sendall(bytes(2**20))


def test_headers_and_bodies_that_do_not_come_are_answered_in_the_end(serving):
    connect = serving(HEADER_SECONDS=0.01, BODY_SECONDS=0.01)
    for sent in (b"POST /api/v1/verify HTT", BEGINNING.replace(b"/upload", b"/api/v1/verify")):
        code, headers, body = answer_to(connect(sent))
        assert (code, headers["Content-Type"]) == (408, "application/problem+json")
        assert json.loads(body)["detail"] == (
            "The request came too slowly, or too many came at once; try again."
        )


def test_a_hundred_slow_clients_keep_nobody_out(serving):
    connect = serving(GRACE_SECONDS=0.01, HEADER_SECONDS=LONG, BODY_SECONDS=LONG)
    slow = [connect(BEGINNING) for _ in range(110)]
    assert answer_to(connect(HEALTH))[0] == 200
    assert answer_to(slow[0])[0] == 408


def test_one_client_keeps_a_few_connections_only(serving):
    connect = serving(CONNECTIONS=3, GRACE_SECONDS=0.01, HEADER_SECONDS=LONG, BODY_SECONDS=LONG)
    slow = [connect(BEGINNING) for _ in range(8)]
    assert [answer_to(connection)[0] for connection in slow[:5]] == [408] * 5
    for connection in slow[5:]:
        connection.sendall(bytes(4995))
        assert connection.recv(12) == b"HTTP/1.1 400"  # they arrived: there are no photos


def test_behind_a_proxy_one_client_is_cut_off_and_the_others_are_not(serving):
    connect = serving(
        PROXIES=1, CONNECTIONS=1, GRACE_SECONDS=0.01, HEADER_SECONDS=LONG, BODY_SECONDS=LONG
    )
    slow = [
        connect(request("/upload", "Content-Length: 5000", f"X-Forwarded-For: 10.0.0.{number}"))
        for number in (1, 1, 2)
    ]
    assert answer_to(slow[0])[0] == 408
    for connection in slow[1:]:
        connection.sendall(bytes(5000))
        assert connection.recv(12) == b"HTTP/1.1 400"

"""MEINHELD_STATUS: the figures, /healthz and /readyz, whatever the application does."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import OURS, Client, Server, eventually, memory_kib, request
from procfs import threads_named
from scrape import Endpoint, unix_endpoint
from thread_pool import HOLD_ROUTE, holding

from meinheld_worker.status import parse

APP = (
    """
import os, time
from apps.hang import holds_the_gil
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


@app.route
def status(environ, start_response):
    return text(start_response, "said", environ["PATH_INFO"].rpartition("/")[2] + " As Asked")


@app.route
def echo(environ, start_response):
    return text(start_response, str(len(environ["wsgi.input"].read())))


@app.route
def naps(environ, start_response):
    time.sleep(0.11)
    return text(start_response, "rested")


@app.route
def raises(environ, start_response):
    raise RuntimeError("no answer")


@app.route
def much(environ, start_response):
    return text(start_response, "x" * (64 << 20))


app.route(holds_the_gil)


@app.route
def forks(environ, start_response):
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    return text(start_response, str(child))


@app.route
def takes_over(environ, start_response):
    environ["gunicorn.socket"].sendall(b"HTTP/1.1 101 Switching Protocols\\r\\n\\r\\n")
    return []
"""
    + HOLD_ROUTE
)
NOT_ACCEPTED = [
    "",
    "9000",
    "localhost",
    "unix:",
    "unix:status",
    "127.0.0.1:",
    "127.0.0.1:-1",
    "127.0.0.1:65536",
    "0.0.0.0:9000",
    "[::]:9000",
    ":9000",
    "192.0.2.1:9000",
    "status.example:9000",
]
TOO_LONG = b"GET /metrics HTTP/1.1\r\nHost: test\r\nFiller: " + b"x" * 5000

ONCE = pytest.mark.own_threads
"""Whatever thread calls the application."""

pytestmark = pytest.mark.skipif(not OURS, reason="gunicorn's own workers have no such endpoint")


def start(endpoint: Endpoint, *args: str, **options: object) -> Server:
    server = Server.start(APP, *args, env=endpoint.env, **options)  # type: ignore[arg-type]
    eventually(lambda: endpoint.get("/readyz").status == 200, "the worker is ready")
    return server


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with unix_endpoint() as found:
        yield found


@pytest.fixture(scope="module")
def server(endpoint: Endpoint) -> Iterator[Server]:
    with start(endpoint, "--keep-alive", "60") as running:
        yield running


@pytest.fixture
def elsewhere() -> Iterator[Endpoint]:
    """An endpoint for a server of the test's own."""
    with unix_endpoint() as found:
        yield found


# The figures


def test_the_readme_explains_every_figure(server: Server, endpoint: Endpoint) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    for line in endpoint.get("/metrics").text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert f"| `{name}` | {kind} |" in readme


def test_the_media_type_names_the_format(server: Server, endpoint: Endpoint) -> None:
    media_type = endpoint.get("/metrics").header("Content-Type")
    assert media_type == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("status", [204, 302, 404, 503])
def test_answers_are_counted_by_the_class_of_their_status(
    server: Server, endpoint: Endpoint, status: int
) -> None:
    code = f"{status // 100}xx"
    with (
        endpoint.grows(1, "meinheld_requests_total"),
        endpoint.grows(1, "meinheld_requests_total", code=code),
        endpoint.grows(1, "meinheld_worker_requests_total", code=code),
    ):
        assert server.get(f"/status/{status}").status == status


def test_an_application_that_fails_counts_as_5xx(server: Server, endpoint: Endpoint) -> None:
    with endpoint.grows(1, "meinheld_requests_total", code="5xx"):
        assert server.get("/raises").status == 500


def test_a_request_that_is_refused_counts_as_4xx_and_is_not_timed(
    server: Server, endpoint: Endpoint
) -> None:
    with (
        endpoint.grows(1, "meinheld_requests_total", code="4xx"),
        endpoint.grows(0, "meinheld_request_duration_seconds_count"),
        server.client() as client,
    ):
        client.send(b"nonsense\r\n\r\n")
        assert client.response().status == 400


def test_a_socket_that_is_taken_over_counts_as_1xx(server: Server, endpoint: Endpoint) -> None:
    with endpoint.grows(1, "meinheld_requests_total", code="1xx"), server.client() as client:
        client.send(request("GET", "/takes_over"))
        assert client.response().status == 101


def test_a_request_is_timed_from_the_call_to_its_end(server: Server, endpoint: Endpoint) -> None:
    name = "meinheld_request_duration_seconds"
    busy = endpoint.value("meinheld_worker_busy_seconds_total")
    total = endpoint.value(f"{name}_sum")
    with (
        endpoint.grows(0, f"{name}_bucket", le="0.1"),
        endpoint.grows(1, f"{name}_bucket", le="+Inf"),
        endpoint.grows(1, f"{name}_count"),
    ):
        server.get("/naps")
    assert endpoint.value(f"{name}_sum") - total >= 0.11
    assert endpoint.value("meinheld_worker_busy_seconds_total") - busy >= 0.11


@pytest.mark.inline_only
def test_what_waits_for_another_request_is_timed_too(
    server: Server, endpoint: Endpoint, tag: str
) -> None:
    name = "meinheld_request_queue_seconds"
    with (
        endpoint.grows(2, f"{name}_bucket", le="0.1"),
        endpoint.grows(3, f"{name}_count"),
        server.client() as first,
        server.client() as second,
    ):
        with holding(server, 1, tag):
            # The worker finds both when it looks next, and one sleeps before the other.
            first.send(request("GET", "/naps"))
            second.send(request("GET", "/naps"))
        assert first.response().text == second.response().text == "rested"


def test_octets_are_counted_both_ways(server: Server, endpoint: Endpoint) -> None:
    sent = request("POST", "/echo", {"Connection": "close"}, body=b"x" * 100_000)
    with server.client() as client:
        received = endpoint.value("meinheld_sent_bytes_total")
        with endpoint.grows(len(sent), "meinheld_received_bytes_total"):
            client.send(sent)
            answer = b"".join(iter(lambda: client.socket.recv(65536), b""))
        endpoint.wait_for(received + len(answer), "meinheld_sent_bytes_total")


def test_connections_are_active_or_idle(server: Server, endpoint: Endpoint) -> None:
    name = "meinheld_connections"
    endpoint.wait_for(0, name)
    with (
        endpoint.grows(1, "meinheld_connections_accepted_total"),
        server.client() as client,
    ):
        endpoint.wait_for(1, name, state="idle")
        client.send(b"GET /naps")
        endpoint.wait_for(1, name, state="active")
        endpoint.wait_for(0, name, state="idle")
        client.send(b" HTTP/1.1\r\nHost: test\r\n\r\n")
        assert client.response().status == 200
        endpoint.wait_for(1, name, state="idle")
    endpoint.wait_for(0, name)


def test_requests_in_flight_are_counted_and_the_oldest_is_timed(
    server: Server, endpoint: Endpoint, tag: str
) -> None:
    with holding(server, 1, tag):
        found = endpoint.scrape()
        assert found.value("meinheld_requests_in_flight") == 1
        oldest = found.value("meinheld_request_oldest_seconds")
        eventually(
            lambda: endpoint.value("meinheld_request_oldest_seconds") > oldest, "it grows older"
        )
    endpoint.wait_for(0, "meinheld_requests_in_flight")
    assert endpoint.value("meinheld_request_oldest_seconds") == 0


@pytest.mark.inline_only
def test_who_waits_to_be_accepted_is_counted(server: Server, endpoint: Endpoint, tag: str) -> None:
    listener = f"127.0.0.1:{server.port}"
    with holding(server, 1, tag), contextlib.ExitStack() as clients:
        for _ in range(3):
            clients.enter_context(server.client())
        endpoint.wait_for(3, "meinheld_accept_backlog", listener=listener)


@ONCE
def test_the_backlog_of_a_unix_socket_is_left_out(elsewhere: Endpoint) -> None:
    with start(elsewhere, binds=["unix:{dir}/socket"]):
        assert "meinheld_accept_backlog{" not in elsewhere.get("/metrics").text


def test_a_worker_is_told_by_its_pid(server: Server, endpoint: Endpoint) -> None:
    found = endpoint.scrape()
    pid = server.worker_pid()
    assert found.workers() == {pid: "ready"}
    assert found.value("meinheld_worker_started_total") == 1
    memory = found.value("meinheld_worker_resident_memory_bytes", worker=str(pid))
    assert memory == pytest.approx(memory_kib(pid) * 1024, rel=0.2)
    age = found.value("meinheld_worker_age_seconds", worker=str(pid))
    eventually(lambda: endpoint.value("meinheld_worker_age_seconds") > age, "it grows older")


# Health


def test_a_worker_that_serves_is_healthy_and_ready(server: Server, endpoint: Endpoint) -> None:
    assert endpoint.states() == (200, 200)


def test_the_figures_are_there_while_the_gil_is_held(elsewhere: Endpoint) -> None:
    server = start(elsewhere)
    try:
        with server.client() as client:
            client.send(request("GET", "/holds_the_gil"))
            server.wait_for_note("hangs")
            assert elsewhere.value("meinheld_requests_in_flight") == 1
            assert elsewhere.states() == (200, 200)
    finally:
        server.kill()


@pytest.mark.inline_only
def test_a_hang_as_long_as_the_timeout_is_no_health(elsewhere: Endpoint) -> None:
    with start(elsewhere, "--timeout", "1") as server:
        # Nobody ends the worker meanwhile.
        server.signal(signal.SIGSTOP)
        try:
            with holding(server, 1):
                eventually(lambda: elsewhere.states() == (503, 503), "nobody turns")
            eventually(lambda: elsewhere.states() == (200, 200), "the loop turns again")
        finally:
            server.signal(signal.SIGCONT)


def test_a_worker_that_leaves_is_healthy_and_not_ready(elsewhere: Endpoint) -> None:
    with start(elsewhere) as server, server.client(receive_buffer=4096) as client:
        # It does not take its answer, for which the worker waits.
        client.send(request("GET", "/much"))
        client.socket.recv(1)
        server.signal(signal.SIGTERM)
        eventually(lambda: elsewhere.states() == (200, 503), "the worker leaves")
        assert set(elsewhere.scrape().workers().values()) == {"leaving"}
        client.close()
        assert server.wait() == 0


# Who asks


def test_head_is_get_without_the_body(server: Server, endpoint: Endpoint) -> None:
    with Client(endpoint.address) as client:
        client.send(request("HEAD", "/healthz"))
        assert client.socket.recv(65536).endswith(b"Content-Length: 3\r\n\r\n")


def test_http_1_0_is_served(server: Server, endpoint: Endpoint) -> None:
    with Client(endpoint.address) as client:
        client.send(b"GET /healthz?now HTTP/1.0\r\n\r\n")
        response = client.response()
        assert (response.status, response.text) == (200, "ok\n")
        assert response.header("Connection") == "close"
        assert client.socket.recv(1) == b""


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (request("GET", "/"), 404),
        (request("GET", "/metrics/"), 404),
        (request("POST", "/metrics", body=b"x" * 10_000), 405),
        (request("OPTIONS", "/readyz"), 405),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost : test\r\n\r\n", 400),
        (TOO_LONG, 400),
    ],
    ids=["root", "slash", "post", "options", "nonsense", "bad-field", "too-long"],
)
def test_what_is_not_asked_well_gets_its_status(
    server: Server, endpoint: Endpoint, said: bytes, status: int
) -> None:
    with Client(endpoint.address) as client:
        client.send(said)
        response = client.response()
        assert response.status == status
        assert response.header("Allow") == ("GET, HEAD" if status == 405 else None)
        assert response.text.count("\n") == 1


def test_clients_that_say_nothing_keep_nobody_out(server: Server, endpoint: Endpoint) -> None:
    with Client(endpoint.address) as silent, Client(endpoint.address) as slow:
        slow.send(b"GET /metr")
        assert endpoint.states() == (200, 200)
        assert silent.socket.recv(1) == slow.socket.recv(1) == b""


def test_a_worker_without_descriptors_answers_when_it_has_some(elsewhere: Endpoint) -> None:
    with (
        start(elsewhere, "--keep-alive", "60", max_files=64) as server,
        contextlib.ExitStack() as stack,
    ):
        clients = [stack.enter_context(server.client()) for _ in range(64)]
        server.wait_for_log("accepting connections paused")
        asking = stack.enter_context(Client(elsewhere.address))
        asking.send(request("GET", "/readyz"))
        for client in clients:
            client.close()
        assert asking.response().status == 200


def test_a_child_of_the_application_does_not_answer(server: Server, endpoint: Endpoint) -> None:
    child = int(server.get("/forks").text)
    try:
        assert threads_named(server.worker_pid(), "meinheld-status")
        assert not threads_named(child, "meinheld-status")
    finally:
        os.kill(child, signal.SIGKILL)


# Where


@ONCE
def test_off_by_default() -> None:
    with Server.start(APP) as server:
        assert server.get("/status/200").status == 200
        assert not threads_named(server.worker_pid(), "meinheld-status")
        assert "Status at" not in server.stderr_text()


@ONCE
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_loopback_addresses_are_served(host: str) -> None:
    with Server.start(APP, config={"raw_env": [f"MEINHELD_STATUS={host}:0"]}) as server:
        found = server.wait_for_log(r"Status at: http://\[?(\S+?)\]?:(\d+)$")
        endpoint = Endpoint((found[1], int(found[2])))
        eventually(lambda: endpoint.states() == (200, 200), "the worker is ready")
        assert endpoint.scrape().workers() == {server.worker_pid(): "ready"}


@ONCE
@pytest.mark.parametrize("setting", NOT_ACCEPTED)
def test_what_is_not_accepted_is_said_with_what_is(setting: str) -> None:
    with pytest.raises(ValueError, match=r"Accepted: unix:/path, or a loopback address"):
        parse(setting)


@ONCE
def test_a_stale_socket_is_replaced(elsewhere: Endpoint) -> None:
    assert isinstance(elsewhere.address, str)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(elsewhere.address)
    with start(elsewhere):
        assert elsewhere.states() == (200, 200)


@ONCE
@pytest.mark.parametrize("there", ["a file", "no folder"])
def test_a_path_that_cannot_be_had_stops_gunicorn_with_one_line(
    elsewhere: Endpoint, there: str
) -> None:
    path = Path(str(elsewhere.address))
    if there == "a file":
        path.write_text("precious")
    else:
        path = path / "further"
    with Server.start(APP, env=Endpoint(str(path)).env, ready=False) as server:
        assert server.wait() != 0
        said = server.stderr_text()
        assert "Traceback" not in said
        assert len([line for line in said.splitlines() if "MEINHELD_STATUS" in line]) == 1
    assert there != "a file" or path.read_text() == "precious"


def is_refused(server: Server, why: str) -> None:
    assert server.wait() != 0
    said = server.stderr_text()
    assert f": {why}. Accepted: unix:/path" in said
    assert "Traceback" not in said


@ONCE
def test_the_address_of_another_server_is_not_taken_away(elsewhere: Endpoint) -> None:
    with start(elsewhere), Server.start(APP, env=elsewhere.env, ready=False) as other:
        is_refused(other, "another process listens there")
        assert elsewhere.states() == (200, 200)


@ONCE
def test_the_port_of_another_server_is_not_shared() -> None:
    with Server.start(APP, config={"raw_env": ["MEINHELD_STATUS=127.0.0.1:0"]}) as server:
        found = server.wait_for_log(r"Status at: http://(\S+)$")
        with Server.start(APP, env={"MEINHELD_STATUS": found[1]}, ready=False) as other:
            assert other.wait() != 0
            assert "Address already in use" in other.stderr_text()


@ONCE
def test_the_sites_own_address_is_not_taken(elsewhere: Endpoint) -> None:
    with Server.start(APP, env=elsewhere.env, binds=[elsewhere.setting], ready=False) as server:
        is_refused(server, "the site itself is to listen there")


@ONCE
def test_the_mode_of_the_socket_follows_gunicorns_umask(elsewhere: Endpoint) -> None:
    with start(elsewhere, "--umask", "077"):
        assert stat.S_IMODE(Path(str(elsewhere.address)).stat().st_mode) == 0o700

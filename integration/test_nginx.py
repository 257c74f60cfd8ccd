"""nginx in front, over TCP and over a unix socket."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from harness import Client, Server, open_files, request
from load import Load
from nginx import Nginx
from support import EXAMPLES, gunicorn, noise, replaced

pytestmark = pytest.mark.timeout(180)

FILE = noise(20_000_000)


@dataclass
class Site:
    nginx: Nginx
    server: Server
    over: str

    def client(self) -> Client:
        return self.nginx.client()


def upstream(server: Server) -> str:
    address = server.address
    return f"unix:{address}" if isinstance(address, str) else f"{address[0]}:{address[1]}"


def in_front_of(server: Server) -> Nginx:
    def body(port: int) -> str:
        return f"""
        upstream app {{
            server {upstream(server)};
            keepalive 8;
        }}
        server {{
            listen 127.0.0.1:{port};
            location / {{
                proxy_pass http://app;
                include proxy_to_gunicorn.conf;
            }}
            location /upload {{
                proxy_pass http://app;
                include proxy_to_gunicorn.conf;
                proxy_request_buffering off;
            }}
        }}"""

    # The file that users copy.
    name = "proxy_to_gunicorn.conf"
    return Nginx(body, {name: (EXAMPLES / name).read_text()})


@contextlib.contextmanager
def site(over: str, app: str, *args: str) -> Iterator[Site]:
    bind = "127.0.0.1:0" if over == "TCP" else "unix:{dir}/socket"
    with (
        gunicorn(app, "--keep-alive", "75", *args, binds=[bind]) as server,
        in_front_of(server) as nginx,
    ):
        (server.directory / "file.bin").write_bytes(FILE)
        yield Site(nginx, server, over)


@pytest.fixture(scope="module", params=["TCP", "unix socket"])
def proxied(request: pytest.FixtureRequest) -> Iterator[Site]:
    with site(request.param, "sites.proxied_site:app") as running:
        yield running


def test_the_application_sees_who_asked_and_how(proxied: Site) -> None:
    with proxied.client() as client:
        headers = {"Host": "example.org", "X-Forwarded-For": "192.0.2.1"}
        seen = json.loads(client.request(headers=headers).body)
    assert seen["HTTP_HOST"] == "example.org"
    assert seen["HTTP_X_FORWARDED_FOR"] == "192.0.2.1, 127.0.0.1"
    assert seen["HTTP_X_FORWARDED_PROTO"] == "http"
    assert seen["wsgi.url_scheme"] == "http"
    assert seen["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert seen["REMOTE_ADDR"] == ("127.0.0.1" if proxied.over == "TCP" else "")


def test_the_scheme_is_what_the_trusted_proxy_says(proxied: Site) -> None:
    # As if nginx spoke TLS to its client: it says so in X-Forwarded-Proto.
    with Client(proxied.server.address) as client:
        seen = json.loads(client.request(headers={"X-Forwarded-Proto": "https"}).body)
    assert seen["wsgi.url_scheme"] == "https"


def test_nginx_keeps_its_connection_to_the_worker(proxied: Site) -> None:
    if proxied.over != "TCP":
        # A unix peer has no port to tell connections apart by: count the worker's sockets.
        with proxied.client() as client:
            client.request()
            before = sockets(proxied.server)
            for _ in range(20):
                assert client.request().status == 200
            assert sockets(proxied.server) == before
        return
    with proxied.client() as client:
        ports = {json.loads(client.request().body)["REMOTE_PORT"] for _ in range(20)}
    assert len(ports) == 1


def sockets(server: Server) -> set[str]:
    return {name for name in open_files(server.worker_pid()) if name.startswith("socket:")}


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("way", ["buffered", "unbuffered"])
def test_a_large_upload_arrives_whole(proxied: Site, way: str, framing: str) -> None:
    target = "/upload" if way == "unbuffered" else "/buffered"
    with proxied.client() as client:
        if framing == "chunked":
            client.send(request("POST", target, {"Transfer-Encoding": "chunked"}))
            for start in range(0, len(FILE), 100_003):
                piece = FILE[start : start + 100_003]
                client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            client.send(b"0\r\n\r\n")
        else:
            client.send(request("POST", target, body=FILE))
        answer = json.loads(client.response("POST").body)
        assert answer["size"] == len(FILE)
        assert answer["sha256"] == hashlib.sha256(FILE).hexdigest()
        # Only unbuffered does nginx hand a chunked body on in chunks.
        assert answer["chunked"] == (way == "unbuffered" and framing == "chunked")
        assert client.request().status == 200


def test_a_large_file_is_sent_whole(proxied: Site) -> None:
    with proxied.client() as client:
        assert client.request(target="/file").body == FILE
        assert client.request().status == 200


def test_a_large_generated_body_is_sent_whole(proxied: Site) -> None:
    with proxied.client() as client:
        body = client.request(target="/blocks").body
    assert body == b"".join(number.to_bytes(4, "big") * 1024 for number in range(2000))


def test_a_client_that_leaves_in_the_middle_costs_only_its_own_download(proxied: Site) -> None:
    with proxied.client() as client:
        client.send(request(target="/blocks"))
        assert client.read_until(b"\r\n\r\n")
        client.reset()
    with proxied.client() as client:
        assert client.request().status == 200


@pytest.mark.parametrize("over", ["TCP", "unix socket"])
def test_reloads_behind_nginx_lose_no_request(over: str) -> None:
    with site(over, "sites.load_site:app") as running, Load(running.nginx.address) as load:
        for number in range(5):
            before = running.server.worker_pids()
            load.wait_for_requests(200)
            load.mark(f"HUP {number}")
            running.server.signal(signal.SIGHUP)
            load.wait_for_workers(set(replaced(running.server, before)))
        load.stop()
        load.report().raise_for_failures()
        # nginx would hide a lost GET by asking again; its log would not.
        assert "[error]" not in running.nginx.log(), running.nginx.log()

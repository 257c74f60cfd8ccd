"""No application call starts between another request's call and its close() on the same thread:
contexts and cursors belong to one request."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from harness import THREADED, Response, Server, request

PLAIN = """
import contextvars
import threading
from apps.notes import note

current = contextvars.ContextVar("current", default="nobody")


class Body:
    def __init__(self, name):
        self.name = name
        self.left = 200

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        self.left -= 1
        return (current.get() + ",").encode() * 10_000

    def close(self):
        note(f"{threading.get_ident()} end {self.name}")


def app(environ, start_response):
    name = environ["PATH_INFO"][1:]
    note(f"{threading.get_ident()} start {name}")
    current.set(name)
    start_response("200 OK", [])
    return Body(name)
"""
FLASK = """
from flask import Flask, request, g, stream_with_context

app = Flask(__name__)


@app.route("/<name>")
def stream(name):
    g.name = name

    def blocks():
        for _ in range(300):
            yield f"{request.path[1:]}={g.name}," * 5_000

    return stream_with_context(blocks())
"""
DJANGO = """
import os
from django.conf import settings

settings.configure(
    SECRET_KEY="test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.abspath("rows.sqlite")}
    },
)
import django

django.setup()
from django.core.wsgi import get_wsgi_application
from django.db import connection, transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from apps.notes import note

# One transaction: 3,000 of them would wait 3,000 times for the disk.
with transaction.atomic(), connection.cursor() as cursor:
    cursor.execute("create table row (number integer, filler text)")
    cursor.executemany(
        "insert into row values (%s, %s)", [(number, "x" * 9990) for number in range(3000)]
    )
connection.close()


def rows(request):
    def stream():
        cursor = connection.cursor()
        cursor.execute("select number, filler from row order by number")
        note("cursor open")
        while some := cursor.fetchmany(10):
            for number, filler in some:
                yield f"{number:09}:{filler}\\n"
        cursor.close()

    return StreamingHttpResponse(stream())


def count(request):
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from row")
        return HttpResponse(str(cursor.fetchone()[0]))


urlpatterns = [path("rows", rows), path("count", count)]
app = get_wsgi_application()
"""


def read_at_once(server: Server, targets: list[str]) -> dict[str, Response]:
    """Sends all requests before any answer is read; then slow readers take all of them at the same
    time."""
    clients = {target: server.client(receive_buffer=16384) for target in targets}
    for target, client in clients.items():
        client.send(request("GET", target))
    answers: dict[str, Response] = {}
    readers = [
        threading.Thread(
            target=lambda target=target, client=client: answers.update({target: client.response()})
        )
        for target, client in clients.items()
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    for client in clients.values():
        client.close()
    return answers


@pytest.fixture(scope="module")
def flask() -> Iterator[Server]:
    pytest.importorskip("flask", reason="Flask is not installed")
    with Server.start(FLASK, "--keep-alive", "30") as server:
        yield server


@pytest.fixture(scope="module")
def django() -> Iterator[Server]:
    pytest.importorskip("django", reason="Django is not installed")
    with Server.start(DJANGO, "--keep-alive", "30") as server:
        yield server


@pytest.mark.not_green
def test_calls_and_closes_never_interleave() -> None:
    names = ["a", "b", "c", "d"]
    with Server.start(PLAIN, "--keep-alive", "30") as server:
        answers = read_at_once(server, [f"/{name}" for name in names])
        for name in names:
            assert answers[f"/{name}"].body == f"{name},".encode() * 2_000_000
        notes = server.notes()
        assert len(notes) == 8
        threads: dict[str, list[str]] = {}
        for line in notes:
            thread, _, what = line.partition(" ")
            threads.setdefault(thread, []).append(what)
        assert THREADED or len(threads) == 1
        for of_thread in threads.values():
            for start, end in zip(of_thread[::2], of_thread[1::2], strict=True):
                assert start.removeprefix("start ") == end.removeprefix("end "), notes


def test_two_flask_streams_to_two_slow_readers_keep_their_contexts(flask: Server) -> None:
    answers = read_at_once(flask, ["/one", "/two"])
    for name in ("one", "two"):
        assert answers[f"/{name}"].text == f"{name}={name}," * 1_500_000
    assert "Traceback" not in flask.stderr_text()


@pytest.mark.not_green
def test_a_django_cursor_stream_survives_another_request_finishing(django: Server) -> None:
    with django.client(receive_buffer=16384) as streaming, django.client() as other:
        streaming.send(request("GET", "/rows"))
        django.wait_for_note("cursor open")
        other.send(request("GET", "/count"))
        lines = streaming.response().body.splitlines()
        assert [int(line[:9]) for line in lines] == list(range(3000))
        assert other.response().text == "3000"
    assert "Traceback" not in django.stderr_text()

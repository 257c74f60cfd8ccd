"""An application that raises SystemExit fails its own request alone, also in a worker that was told
to leave."""

from __future__ import annotations

import signal

from harness import Server, request

APP = """
import sys

from apps.routes import Routes, text

app = Routes()


@app.route
def exits(environ, start_response):
    sys.exit("of the application's own")


@app.route
def upload(environ, start_response):
    return text(start_response, str(len(environ["wsgi.input"].read())))
"""


HALF = {"Content-Length": "10"}, b"12345"


def test_it_is_a_500_and_the_others_are_answered() -> None:
    with (
        Server.start(APP, "--keep-alive", "30") as server,
        server.client() as exiting,
        server.client() as uploading,
        server.client() as witness,
    ):
        exiting.send(request("POST", "/exits", *HALF))
        uploading.send(request("POST", "/upload", *HALF))
        assert witness.request("POST", "/upload", body=b"1").text == "1"
        server.signal(signal.SIGTERM, server.worker_pid())
        # A worker that leaves says so with its next answer.
        while witness.request("POST", "/upload", body=b"1").header("Connection") != "close":
            pass
        exiting.send(b"67890")
        assert exiting.response().status == 500
        uploading.send(b"67890")
        assert uploading.response().text == "10"

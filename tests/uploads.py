"""A POST whose body is sent piece by piece, with a length or chunked, to `apps.reading`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness import Client, Response, Server, request, settled

Calls = Sequence[Any]
FRAMINGS = ("length", "chunked")
WINDOW = 256 * 1024
"""Octets of a body that the worker holds for an application that does not read them."""


class Upload:
    """One request on a connection of its own, or on `client`: its head is sent at once, its body
    by `send`, the mark of a chunked body's end by `end`."""

    def __init__(
        self,
        server: Server,
        target: str,
        length: int,
        framing: str = "length",
        calls: Calls = (),
        headers: Mapping[str, str] | None = None,
        client: Client | None = None,
        version: str = "HTTP/1.1",
        first: bytes = b"",
    ) -> None:
        self.server = server
        self.tag = target.split("/")[2] if target.count("/") > 1 else ""
        self.chunked = framing == "chunked"
        self.client = client or server.client()
        fields = {"X-Calls": json.dumps(calls), **(headers or {})}
        fields |= (
            {"Transfer-Encoding": "chunked"} if self.chunked else {"Content-Length": str(length)}
        )
        self.client.send(
            request("POST", target, fields, self.framed(first) if first else b"", version)
        )

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def framed(self, piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self.chunked else piece

    def send(self, piece: bytes) -> None:
        self.client.send(self.framed(piece))

    def end(self) -> None:
        if self.chunked:
            self.client.send(b"0\r\n\r\n")

    def wait_for(self, step: str) -> None:
        """Until the application has noted that step."""
        self.server.wait_for_note(f"{self.tag} {step}")

    def noted(self) -> list[str]:
        """The steps so far."""
        return [
            note.removeprefix(f"{self.tag} ")
            for note in self.server.notes()
            if note.startswith(f"{self.tag} ")
        ]

    def still_waits_in(self, call: str) -> bool:
        """Whether the application has not come back from the call. A request of another client
        goes all the way meanwhile, so that what was sent before it has been read."""
        self.wait_for(f"{call} ...")
        assert self.server.get("/well").status == 200
        return self.noted()[-1] == f"{call} ..."

    def release(self) -> None:
        """Ends the application's `["hold"]`."""
        (self.server.directory / f"release-{self.tag}").touch()

    def results(self) -> Any:
        """What the calls returned, of an answer that is there to read."""
        response = self.response()
        assert response.status == 200, self.server.stderr_text()[-2000:]
        return json.loads(response.body)

    def response(self) -> Response:
        return self.client.response()


def pour(clients: Sequence[Client], data: bytes) -> list[int]:
    """How many octets of it a server takes from each that it does not answer: all send until no
    more are taken."""
    left = [memoryview(data) for _ in clients]

    def push() -> int:
        for number, client in enumerate(clients):
            with contextlib.suppress(BlockingIOError):
                while left[number]:
                    left[number] = left[number][client.socket.send(left[number][:65536]) :]
        return sum(map(len, left))

    timeouts = [client.socket.gettimeout() for client in clients]
    for client in clients:
        client.socket.setblocking(False)
    settled(push)
    for client, timeout in zip(clients, timeouts, strict=True):
        client.socket.settimeout(timeout)
    return [len(data) - len(rest) for rest in left]

"""One correct client: asks, checks every octet of every answer, and tries nothing twice.

The only requests that may go unanswered are those that stood behind an answer which said
`Connection: close`, and one on a kept connection that had been quiet for longer than the server
promises to wait (`QUIET`), if not one octet of an answer came.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from harness import Address, Response, Truncated
from load import Failed, expect_end

from soak.questions import Question
from soak.tally import Tally
from soak.wire import Connection

ANSWER_WITHIN = 60.0
"""Seconds that a client waits for bytes: longer than any queue that the soak can cause."""
QUIET = 1.8
"""Seconds a connection may be quiet and must yet take a request: a worker that leaves closes idle
connections after 2, and its clock is coarse."""


class Asker:
    """Its chance, and the connection that it has at the moment."""

    def __init__(
        self, name: str, kind: str, server: str, address: Address, tally: Tally, seed: int
    ) -> None:
        """kind: what its connections are counted as. server: its name in the tally."""
        self.kind = kind
        self.server = server
        self.address = address
        self.tally = tally
        self.chance = random.Random(f"{seed} {name}")
        self.connection: Connection | None = None
        self.asked: Sequence[Question] = ()
        self._answered = 0

    def connect(self, receive_buffer: int | None = None) -> Connection:
        try:
            self.connection = Connection(self.address, ANSWER_WITHIN, receive_buffer)
        except OSError as error:
            raise Failed(f"cannot connect: {error!r}") from None
        self._answered = 0
        self.tally.count("connections of correct clients")
        return self.connection

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def evidence(self) -> str:
        """What was asked last and what was on the wire; the connection is dropped."""
        heads = b"".join(question.head for question in self.asked)
        wire = self.connection.evidence() if self.connection else ""
        self.drop()
        return f"\n    asked {heads!r}{wire}"

    def ask(self, *questions: Question, segments: int = 1) -> None:
        """Sends all of them, then checks the answer of each. Drops the connection when the server
        retires it. Raises Failed, Truncated, OSError, AssertionError for a wrong answer."""
        connection = self.connection
        assert connection is not None
        self.asked = questions
        began, came = time.monotonic(), connection.wire.came
        # The server cannot have waited for longer: it had the last request no earlier than that.
        quiet = began - connection.wire.sent_at if self._answered else 0.0
        try:
            self._send(connection, questions, segments)
        except OSError as error:
            needs_file = any(question.needs_file for question in questions)
            # What cannot be kept is refused before it has come to its end: an answer may be there.
            if not (needs_file and self._scarce(began)):
                self._unanswered(quiet, f"could not be sent: {error!r}")
                return
        for number, question in enumerate(questions):
            try:
                response = self._answer(connection, question)
            except (Truncated, OSError) as error:
                if question.breaks and not isinstance(error, TimeoutError):
                    self.tally.count("correct: broken on purpose")
                    self.drop()
                elif question.needs_file and self._scarce(began):
                    self.tally.count("refused for lack of a file")
                    self.drop()
                elif number == 0 and connection.wire.came == came:
                    self._unanswered(quiet, f"no answer: {error!r}")
                else:
                    raise
                return
            if question.needs_file and response.status in (500, 507) and self._scarce(began):
                self.tally.count("refused for lack of a file")
                self.drop()
                return
            if question.breaks:
                raise Failed("an answer that broke off looks complete")
            question.check(response)
            self._answered += 1
            self.tally.count(f"correct: {question.kind}")
            if self._was_the_last(connection, question, response):
                self.tally.count("unasked behind Connection: close", len(questions) - number - 1)
                self.drop()
                return

    def _scarce(self, since: float) -> bool:
        return self.tally.was_scarce(self.server, since)

    def _send(self, connection: Connection, questions: Sequence[Question], segments: int) -> None:
        if questions[0].expects:
            connection.send(questions[0].head)
            return
        octets = b"".join(question.head + question.body for question in questions)
        cuts = sorted(self.chance.randrange(len(octets)) for _ in range(segments - 1))
        connection.send_segments(octets, cuts, 0.02 if segments > 1 else 0)

    def _answer(self, connection: Connection, question: Question) -> Response:
        response = connection.response(question.method)
        if question.expects and response.status == 100:
            connection.send(question.body)
            response = connection.response(question.method)
        return response

    def _was_the_last(self, connection: Connection, question: Question, response: Response) -> bool:
        closes = (response.header("Connection") or "").lower() == "close"
        if closes or question.version == "HTTP/1.0":
            expect_end(connection)
            return True
        return question.fail != ""

    def _unanswered(self, quiet: float, what: str) -> None:
        if quiet < QUIET:
            raise Failed(f"{what}, after {quiet:.3f} s of quiet")
        self.tally.count(f"late on a quiet connection: {self.kind}")
        self.drop()

"""Where a standalone server logs: `meinheld.mlogging`, or objects of its user's."""

from __future__ import annotations

import re

import pytest
from standalone import HELLO, Standalone, serving

pytestmark = pytest.mark.own_threads

BROKEN = 'def app(environ, start_response):\n    raise LookupError("lost")\n'


def program(before: str, app: str = HELLO) -> str:
    return serving(app).replace("server.listen", f"{before}\nserver.listen")


def said_of_errors(before: str) -> list[str]:
    """The lines that an error logger prints of an application that fails, and of a request that is
    none."""
    with Standalone.start(program(before, BROKEN)) as server:
        server.get("/")
        with server.client() as client:
            client.send(b"NONSENSE\r\n\r\n")
            assert client.response().status == 400
        assert server.stop() == 0
        return server.stdout_text().splitlines()


def test_requests_are_logged_on_standard_error() -> None:
    with Standalone.start(serving()) as server:
        server.get("/a%20b?c", {"User-Agent": 'the "client"', "Referer": "http://x/"})
        line = server.wait_for_log(r"^127.*$").group()
    assert re.fullmatch(
        r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
        r'"GET /a%20b\?c HTTP/1\.1" 200 12 "http://x/" "the \\"client\\""',
        line,
    )


@pytest.mark.parametrize("run", ["", "log_x_forwarded_for=True"])
def test_what_a_client_sends_is_no_command_to_a_terminal_that_shows_the_log(run: str) -> None:
    with Standalone.start(serving(run=run)) as server, server.client() as client:
        client.send(b"GET /\x9b31m HTTP/1.1\r\nHost: a\r\nUser-Agent: \x85b\r\n\r\n")
        client.response()
        line = server.wait_for_log(r"^127.*$").group()
        assert '"GET /\\x9b31m HTTP/1.1"' in line
        assert run or '"\\x85b"' in line


def test_errors_are_logged_on_standard_error_with_their_tracebacks() -> None:
    with Standalone.start(serving(BROKEN)) as server:
        assert server.get("/x").status == 500
        server.wait_for_log(r"\[ERROR\] Error handling request GET /x$")
        server.wait_for_log(r"^LookupError: lost$")


def test_the_loggers_are_those_of_the_logging_module() -> None:
    before = """
import logging
class Handler(logging.Handler):
    def emit(self, record):
        print(record.name, record.levelname, flush=True)
logging.getLogger("meinheld.error").addHandler(Handler())
logging.getLogger("meinheld.access").addHandler(Handler())
"""
    with Standalone.start(program(before, BROKEN)) as server:
        server.get("/")
        server.wait_for_log("500")
        assert server.stdout_text() == "meinheld.error ERROR\nmeinheld.access INFO\n"


def test_an_access_logger_of_none_logs_no_request() -> None:
    with Standalone.start(program("server.set_access_logger(None)")) as server:
        assert server.get("/").status == 200
        assert server.stop() == 0
        assert server.stderr_text() == ""


def test_an_access_logger_is_given_environ_and_what_became_of_the_request() -> None:
    before = """
class Logger:
    def access(self, environ):
        names = ("PATH_INFO", "STATUS_CODE", "SEND_BYTES", "REQUEST_TIME", "LOCAL_TIME")
        print(*(repr(environ[name]) for name in names), flush=True)
server.set_access_logger(Logger())"""
    with Standalone.start(program(before)) as server:
        server.get("/path")
        assert server.stop() == 0
        said = server.stdout_text()
    assert re.fullmatch(r"'/path' 200 12 \d+ '\d\d/\w{3}/\d{4}:[\d:]+ [+-]\d{4}'\n", said)


def test_a_logger_of_the_logging_module_gets_the_line() -> None:
    before = """
import logging, sys
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(name)s: %(message)s")
server.set_access_logger(logging.getLogger("site"))"""
    with Standalone.start(program(before)) as server:
        server.get("/")
        assert server.stop() == 0
        assert server.stdout_text().startswith("site: 127.0.0.1 - - [")
        assert server.stderr_text() == ""


def test_an_access_logger_that_fails_harms_no_request() -> None:
    before = """
class Logger:
    def access(self, environ):
        raise LookupError("in the logger")
server.set_access_logger(Logger())"""
    with Standalone.start(program(before)) as server:
        for _ in range(2):
            assert server.get("/").status == 200
        server.wait_for_log("Exception in the access log")
        server.wait_for_log("LookupError: in the logger", 2)


def test_an_error_logger_of_the_logging_module_is_told() -> None:
    before = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(name)s: %(levelname)s %(message)s")
server.set_error_logger(logging.getLogger("site"))"""
    with Standalone.start(program(before, BROKEN)) as server:
        server.get("/")
        assert server.stop() == 0
        said = server.stdout_text()
        assert said.startswith("site: ERROR Error handling request GET /\nTraceback")


def test_an_error_logger_of_the_historical_kind_gets_type_value_and_traceback() -> None:
    before = """
class Logger:
    def error(self, kind, value, traceback):
        print(kind.__name__, value, traceback is not None, flush=True)
server.set_error_logger(Logger())"""
    first, second = said_of_errors(before)
    assert first == "LookupError lost True"
    assert second.startswith("RuntimeError Invalid request from ip=127.0.0.1")


@pytest.mark.parametrize("arguments", ["*exc", "exc, val=None, tb=None"])
def test_an_error_logger_that_could_take_a_message_is_of_the_historical_kind_too(
    arguments: str,
) -> None:
    before = f"""
class Logger:
    def error(self, {arguments}):
        print(exc if isinstance(exc, type) else exc[0], flush=True)
server.set_error_logger(Logger())"""
    with Standalone.start(program(before, BROKEN)) as server:
        server.get("/")
        assert server.stop() == 0
        assert server.stdout_text() == "<class 'LookupError'>\n"


@pytest.mark.parametrize(
    "methods",
    [
        "def exception(self, message, *values, exc_info): say(message % values, exc_info)",
        "def exception(self, message, *values): say(message % values, sys.exc_info()[1])",
        "def exception(self, message): say(message, sys.exc_info()[1])",
    ],
)
def test_an_error_logger_learns_of_the_exception_by_whatever_it_has(methods: str) -> None:
    before = f"""
import sys
def say(message, error):
    print(message, repr(error), flush=True)
class Logger:
    def error(self, message): print(message, flush=True)
    {methods}
server.set_error_logger(Logger())"""
    first, second = said_of_errors(before)
    assert first == "Error handling request GET / LookupError('lost')"
    assert second.startswith("Invalid request from ip=127.0.0.1")


def test_an_error_logger_that_takes_nothing_but_lines_is_told_the_traceback() -> None:
    before = """
class Logger:
    def error(self, message): print(message, flush=True)
server.set_error_logger(Logger())"""
    with Standalone.start(program(before, BROKEN)) as server:
        server.get("/")
        assert server.stop() == 0
        said = server.stdout_text()
        assert said.startswith("Error handling request GET /\nTraceback")
        assert "LookupError: lost" in said


def test_an_error_logger_of_none_is_standard_error() -> None:
    before = "server.set_error_logger(None)\nserver.set_access_logger(None)"
    with Standalone.start(program(before, BROKEN)) as server:
        server.get("/")
        assert server.stop() == 0
        assert server.stderr_text().endswith("LookupError: lost\n")


def test_an_error_logger_of_none_says_nothing_of_requests_that_are_in_order() -> None:
    before = "server.set_error_logger(None)\nserver.set_access_logger(None)"
    with Standalone.start(program(before)) as server:
        assert server.get("/").status == 200
        assert server.stop() == 0
        assert server.stderr_text() == ""


def test_a_logger_that_extends_the_historical_one_is_called() -> None:
    before = """
from meinheld import mlogging
class Logger(mlogging.Logger):
    access_log_format = "%(r)s %(s)s %({user-agent}i)s %({x_none}i)s"
    def error(self, exc, val, tb):
        print(repr(val), flush=True)
server.set_access_logger(Logger())
server.set_error_logger(Logger())"""
    with Standalone.start(program(before, BROKEN)) as server:
        server.get("/", {"User-Agent": "me"})
        server.wait_for_log(r"^GET / HTTP/1\.1 500 me -$")
        assert server.stdout_text() == "LookupError('lost')\n"


def test_files_of_the_historical_loggers_are_opened_anew() -> None:
    source = """
import logging, os
from meinheld import mlogging
logger = mlogging.logger
logger.error_log.addHandler(logging.FileHandler("log"))
logger.warning("to the %s file", "first")
logger.close_on_exec()
os.rename("log", "log.1")
logger.reopen_files()
logger.log("error", "to the second file")
"""
    with Standalone.start(source, ready=False) as server:
        assert server.wait() == 0
        assert (server.directory / "log.1").read_text() == "to the first file\n"
        assert (server.directory / "log").read_text() == "to the second file\n"


def test_what_an_application_writes_to_wsgi_errors_is_on_standard_error() -> None:
    app = HELLO.replace("    body =", '    environ["wsgi.errors"].write("written\\n")\n    body =')
    with Standalone.start(serving(app)) as server:
        server.get("/")
        server.wait_for_log("^written$")

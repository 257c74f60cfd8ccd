"""Logger classes, filters, formatters and hooks of somebody's own, beside the access log."""

from __future__ import annotations

import json

import pytest
from harness import OURS, Server, eventually

APP = """
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


@app.route
def whole(environ, start_response):
    return text(start_response, "whole")


@app.route
def emptied(environ, start_response):
    environ.clear()
    return text(start_response, "emptied")


@app.route
def odd(environ, start_response):
    environ["a"], environ["A"] = 'say "so"', 1
    return text(start_response, "odd")
"""
LOGGER = """
from gunicorn.glogging import Logger, SafeAtoms


class Own(Logger):
    {body}


logger_class = Own
"""
KINDS = {
    "access": (
        """
    def access(self, resp, req, environ, request_time):
        environ["REMOTE_ADDR"] = f"{req.uri} {resp.sent}"
        super().access(resp, req, environ, request_time)
""",
        "%(h)s",
        "/whole 5",
    ),
    "atoms": (
        """
    def atoms(self, resp, req, environ, request_time):
        headers = [name for name, value in req.headers]
        return {**super().atoms(resp, req, environ, request_time), "x": headers}
""",
        "%(x)s %(s)s",
        "['HOST'] 200",
    ),
    "now": ('def now(self): return "then"', "%(t)s", "then"),
    "_get_user": ('def _get_user(self, environ): return "somebody"', "%(u)s", "somebody"),
    "atoms_wrapper_class": (
        """
    class atoms_wrapper_class(SafeAtoms):
        def __getitem__(self, key):
            return str(super().__getitem__(key)).upper()
""",
        "%(U)s %(none)s",
        "/WHOLE -",
    ),
    "a filter": (
        """
    def setup(self, cfg):
        super().setup(cfg)
        self.access_log.addFilter(self.redact)

    def redact(self, record):
        record.args["{host}i"] = "redacted"
        return record.args["U"] != "/quiet"
""",
        "%(U)s %({Host}i)s",
        "/whole redacted",
    ),
}


def lines(server: Server) -> list[str]:
    path = server.directory / "access"
    return path.read_text().splitlines() if path.exists() else []


def line_of(server: Server, target: str = "/whole") -> str:
    """The line for one request."""
    before = len(lines(server))
    server.get(target)
    eventually(lambda: len(lines(server)) > before, "a line in the access log")
    said = lines(server)[before:]
    assert len(said) == 1, said
    return said[0]


@pytest.mark.parametrize(("body", "template", "line"), KINDS.values(), ids=KINDS.keys())
def test_a_logger_with_a_part_of_its_own_gets_its_calls(
    body: str, template: str, line: str
) -> None:
    settings = ["--access-logfile", "access", "--access-logformat", template]
    with Server.start(APP, *settings, config=LOGGER.replace("{body}", body)) as server:
        assert line_of(server) == line


PATCHED = """
from gunicorn.glogging import Logger

accesslog, access_log_format = "access", "%(h)s %(x)s"
original = Logger.atoms


def atoms(self, *args):
    return {**original(self, *args), "x": "patched"}


Logger.atoms = atoms
"""


def test_a_patch_of_gunicorns_logger_is_heeded() -> None:
    with Server.start(APP, config=PATCHED) as server:
        assert line_of(server) == "127.0.0.1 patched"


JSON = """
import json
import logging

access_log_format = "%(s)s"


class Json(logging.Formatter):
    def format(self, record):
        args = record.args
        seen = {key: args[key] for key in ("h", "m", "U", "s", "B", "{host}i", "{x-none}i")}
        seen |= {"name": record.name, "level": record.levelname, "message": record.getMessage()}
        seen |= {"in": "{host}i" in args, "get": args.get("{HOST}i"), "path": dict(args)["U"]}
        return json.dumps(seen | {"function": record.funcName})


logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": Json}, "generic": {"format": "%(message)s"}},
    "handlers": {
        "access": {"class": "logging.FileHandler", "filename": "access", "formatter": "json"},
        "errors": {"class": "logging.StreamHandler", "formatter": "generic"},
    },
    "loggers": {
        "gunicorn.access": {"level": "INFO", "handlers": ["access"], "propagate": False},
        "gunicorn.error": {"level": "INFO", "handlers": ["errors"], "propagate": False},
    },
    "root": {"level": "INFO", "handlers": []},
}
"""


def test_a_formatter_of_somebodys_own_reads_the_args() -> None:
    with Server.start(APP, config=JSON) as server:
        assert json.loads(line_of(server)) == {
            "name": "gunicorn.access",
            "level": "INFO",
            "function": "access",
            "message": "200",
            "h": "127.0.0.1",
            "m": "GET",
            "U": "/whole",
            "s": "200",
            "B": 5,
            "{host}i": "test",
            "{x-none}i": "-",
            "in": True,
            "get": None,
            "path": "/whole",
        }


HOOKS = """
from apps.notes import note

accesslog, access_log_format = "access", "%(U)s %({host}i)s %({content-length}o)s"


def pre_request(worker, req):
    note(f"pre {req.headers}")


def post_request(worker, req, environ, resp):
    note(f"post {req.headers} {environ['PATH_INFO']} {resp.status} {resp.sent}")
"""


def test_hooks_and_the_access_log_are_told_of_the_same_request() -> None:
    with Server.start(APP, config=HOOKS) as server:
        assert line_of(server) == "/whole test 5"
        server.wait_for_note("pre [('HOST', 'test')]")
        server.wait_for_note("post [('HOST', 'test')] /whole 200 OK 5")


@pytest.mark.skipif(not OURS, reason="gunicorn's own workers fail to log it")
def test_a_request_whose_environ_the_application_has_emptied_is_logged() -> None:
    with Server.start(APP, "--access-logfile", "access") as server:
        assert '"GET /emptied?q HTTP/1.1" 200 7' in line_of(server, "/emptied?q")


def test_an_environ_with_keys_that_differ_only_in_case() -> None:
    settings = ["--access-logfile", "access", "--access-logformat", "%({A}e)s %({a}e)s"]
    with Server.start(APP, *settings) as server:
        assert line_of(server, "/odd") == "1 1"


@pytest.mark.skipif(not OURS, reason="gunicorn's own workers fail to log it")
def test_a_request_that_got_no_environ_is_logged() -> None:
    env = {"SCRIPT_NAME": "/prefix"}
    with Server.start(APP, "--access-logfile", "access", env=env) as server:
        assert '"GET /elsewhere?q HTTP/1.1" 500 ' in line_of(server, "/elsewhere?q")

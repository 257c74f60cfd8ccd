"""A setting that this worker does not serve stops gunicorn at start, with one line that names it,
its value and what is accepted."""

from __future__ import annotations

import pytest
from harness import Server

REFUSED = {
    "certfile": ("certfile = __file__", "certfile"),
    "keyfile": ("keyfile = __file__", "keyfile"),
    "uwsgi": ("protocol = 'uwsgi'", "protocol"),
    "threads": ("threads = 0", "threads"),
    "too many threads": ("threads = 2000000000", "threads"),
    "http_parser": ("http_parser = 'python'", "http_parser"),
}
OWN = {
    "MEINHELD_HEAD_TIMEOUT": "soon",
    "MEINHELD_BODY_TIMEOUT": "-1",
    "MEINHELD_SEND_TIMEOUT": "nan",
    "MEINHELD_REQUEST_TIMEOUT": "0",
    "MEINHELD_QUEUE_TIMEOUT": "-1",
    "MEINHELD_MAX_BODY": "1.5",
    "MEINHELD_STATUS": "0.0.0.0:9000",
    "MEINHELD_HAED_TIMEOUT": "5",
}


def assert_refused(server: Server, name: str, value: str) -> None:
    with server:
        assert server.wait() != 0
        said = server.stderr_text()
        assert "Traceback" not in said
        lines = [line for line in said.splitlines() if name in line]
        assert len(lines) == 1, said
        assert value in lines[0]
        assert "accepted" in lines[0].lower()
        assert "Booting worker" not in said


@pytest.mark.parametrize(("config", "name"), REFUSED.values(), ids=REFUSED.keys())
def test_a_setting_that_is_not_served_is_refused_at_start(config: str, name: str) -> None:
    value = config.partition(" = ")[2].strip("'").partition(",")[0]
    assert_refused(
        Server.start(config=config, ready=False), name, "" if value == "__file__" else value
    )


def test_http_2_is_refused_at_start() -> None:
    """By gunicorn itself where the h2 package is missing."""
    with Server.start(config="http_protocols = 'h2,h1'", ready=False) as server:
        assert server.wait() != 0
        said = server.stderr_text()
        assert "Traceback" not in said and "Booting worker" not in said
        assert (
            len([line for line in said.splitlines() if "http_protocols" in line and "h2" in line])
            == 1
        )


def test_threads_of_the_command_line_are_refused_too() -> None:
    assert_refused(Server.start("apps.echo:app", "--threads", "0", ready=False), "threads", "0")


@pytest.mark.parametrize(("name", "value"), OWN.items())
def test_a_wrong_setting_of_our_own_is_refused_at_start(name: str, value: str) -> None:
    assert_refused(
        Server.start(env={name: value}, ready=False),
        name,
        value if name != "MEINHELD_HAED_TIMEOUT" else "",
    )


def test_a_wrong_setting_in_raw_env_is_refused_at_start() -> None:
    assert_refused(
        Server.start(config={"raw_env": ["MEINHELD_MAX_BDOY=5"]}, ready=False),
        "MEINHELD_MAX_BDOY",
        "",
    )


def test_a_misspelt_worker_class_says_so() -> None:
    with Server.start(worker="egg:meinheld#gunicorn_wroker", ready=False) as server:
        assert server.wait() != 0


@pytest.mark.parametrize(
    "worker",
    [
        "egg:meinheld#gunicorn_worker",
        "meinheld.gmeinheld.MeinheldWorker",
        "meinheld_worker.MeinheldWorker",
    ],
)
def test_each_of_its_names_serves(worker: str) -> None:
    with Server.start(worker=worker) as server:
        assert server.get("/named").body == b"GET /named\n"


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("forwarder_headers = 'Script_Name'", "Script_Name"),
        ("secure_scheme_headers = {'x-forwarded-ssl': 'on'}", "x-forwarded-ssl"),
    ],
)
def test_a_header_name_that_gunicorn_would_never_match_is_warned_of(config: str, name: str) -> None:
    """gunicorn compares with names in upper case, so the setting does nothing there, nor here."""
    with Server.start(config=config) as server:
        warning = server.wait_for_log(rf"WARNING.*{name}.*")
        assert name.upper() in warning.group(0)
        assert server.get(headers={name: "on"}).status == 200

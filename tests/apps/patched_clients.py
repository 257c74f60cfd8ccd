"""Asks upstreams with what applications use for that: `/library/port`."""

import os

if os.environ.get("PATCHED", "1") == "1":
    from meinheld import patch

    patch.patch_all()

import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from apps.routes import text

UPSTREAMS: dict[str, Callable[[str], str]] = {}


def upstream(function: Callable[[str], str]) -> Callable[[str], str]:
    UPSTREAMS[function.__name__] = function
    return function


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    _, name, port = environ["PATH_INFO"].split("/")
    return text(start_response, UPSTREAMS[name](port))


@upstream
def chain(port: str) -> str:
    """Three upstreams, each asked when the one before has answered."""
    answers = []
    for number in range(3):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{number}") as response:
            answers.append(response.read().decode())
    return " ".join(answers)


@upstream
def requests(port: str) -> str:
    import requests

    response = requests.get(f"http://localhost:{port}/asked", timeout=30)
    return f"{response.status_code} {response.text}"


@upstream
def requests_tls(port: str) -> str:
    import requests

    certificate = os.environ["CERTIFICATE"]
    response = requests.get(f"https://localhost:{port}/asked", timeout=30, verify=certificate)
    return f"{response.status_code} {response.text}"


@cache
def redis_client(port: str) -> Any:
    import redis

    return redis.Redis(port=int(port), socket_timeout=30)


@upstream
def redis(port: str) -> str:
    key = f"key-{threading.get_ident()}"
    assert redis_client(port).get(key) == key.encode()
    return "its own key"


@upstream
def pymysql(port: str) -> str:
    import pymysql

    connection = pymysql.connect(
        host="localhost", port=int(port), user="test", password="test", read_timeout=30
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return str(cursor.fetchall())


@cache
def sessions() -> Any:
    import sqlalchemy
    from sqlalchemy import orm

    path = tempfile.mkdtemp(prefix="meinheld-test-", dir=os.environ["TEST_DIRECTORY"])
    engine = sqlalchemy.create_engine(f"sqlite:///{path}/db", pool_size=2, max_overflow=0)
    return orm.scoped_session(orm.sessionmaker(engine))


IN_USE: set[int] = set()


@upstream
def sqlalchemy(port: str) -> str:
    """Of two connections one; its session is this request's alone."""
    from sqlalchemy import text as statement

    session = sessions()()
    connection = id(session.connection().connection.dbapi_connection)
    assert connection not in IN_USE and len(IN_USE) < 2
    IN_USE.add(connection)
    for _ in range(3):
        time.sleep(0)
        assert sessions()() is session
        assert session.execute(statement("SELECT 1")).scalar() == 1
    IN_USE.discard(connection)
    sessions().remove()
    return "one session"

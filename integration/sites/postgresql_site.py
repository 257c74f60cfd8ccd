"""A Django project on PostgreSQL that tells which thread had which connection.

`SITE_DATABASE` is the directory of the server's socket, `SITE_MAX_AGE` the `CONN_MAX_AGE`. Each
worker's connections bear its process id, as in `site 123`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import django
from apps.notes import note
from django.conf import settings

if not settings.configured:
    settings.configure(
        SECRET_KEY="for tests",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": os.environ["SITE_DATABASE"],
                "USER": "site",
                "NAME": "postgres",
                "CONN_MAX_AGE": int(os.environ["SITE_MAX_AGE"]),
                "OPTIONS": {"application_name": f"site {os.getpid()}"},
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
    )
    django.setup()

from django.core.signals import request_finished
from django.core.wsgi import get_wsgi_application
from django.db import connection, models, transaction
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path


class Entry(models.Model):
    text = models.CharField(max_length=100)

    class Meta:
        app_label = "site"
        db_table = "entry"


def finished(**_: object) -> None:
    # Behind Django's own receiver, which gives connections back: it was there first.
    note("request_finished")


request_finished.connect(finished)


def value(query: str, *parameters: object) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return cursor.fetchone()[0]


def who() -> dict[str, Any]:
    """Who serves this: the thread, and the process of PostgreSQL's behind its connection."""
    return {"thread": threading.get_ident(), "backend": value("SELECT pg_backend_pid()")}


def index(_request: HttpRequest) -> HttpResponse:
    return JsonResponse(who())


def wait(request: HttpRequest, lock: int) -> HttpResponse:
    """A slow query: it lasts until nobody holds the lock."""
    value("SELECT pg_advisory_xact_lock_shared(%s)", lock)
    return JsonResponse(who())


def broken(_request: HttpRequest) -> HttpResponse:
    who()
    raise RuntimeError("asked for")


def rows(request: HttpRequest, count: int) -> StreamingHttpResponse:
    """A cursor on the server, open in a transaction for as long as the response is sent."""

    def lines() -> Iterator[str]:
        with transaction.atomic():
            yield f"{who()['backend']}\n"
            with connection.chunked_cursor() as cursor:
                cursor.execute("SELECT repeat('.', 1000) || generate_series(1, %s)", [count])
                for (text,) in cursor:
                    yield f"{text}\n"

    return StreamingHttpResponse(lines(), content_type="text/plain")


@transaction.atomic
def enter(request: HttpRequest, text: str, fate: str, lock: int) -> HttpResponse:
    """Enters `text` twice in one transaction, and waits for the lock in between."""

    def transaction_seen() -> int:
        return int(value("SELECT txid_current()"))

    before = (who(), transaction_seen())
    Entry.objects.create(text=text)
    seen = list(Entry.objects.values_list("text", flat=True))
    value("SELECT pg_advisory_xact_lock_shared(%s)", lock)
    Entry.objects.create(text=text)
    if fate == "fail":
        raise RuntimeError("after both inserts")
    return JsonResponse(
        {**who(), "seen": seen, "one transaction": before == (who(), transaction_seen())}
    )


def load(request: HttpRequest, way: str) -> HttpResponseBase:
    """What integration/load.py asks, answered by the database: see sites.load_site."""
    token, times = request.GET["token"], int(request.GET["times"])
    line = f"{token} {request.body.decode()}\n"
    headers = {"X-Worker": str(os.getpid())}
    if way == "blocks":

        def blocks() -> Iterator[str]:
            with connection.chunked_cursor() as cursor:
                cursor.execute("SELECT %s::text FROM generate_series(1, %s)", [line, times])
                for (text,) in cursor:
                    yield text

        return StreamingHttpResponse(blocks(), headers=headers)
    if way == "slow":
        value("SELECT 1 FROM pg_sleep(0.01)")
    return HttpResponse(value("SELECT repeat(%s::text, %s)", line, times), headers=headers)


urlpatterns = [
    path("", index),
    path("wait/<int:lock>", wait),
    path("broken", broken),
    path("rows/<int:count>", rows),
    path("enter/<str:text>/<str:fate>/<int:lock>", enter),
    path("<str:way>", load),
]

application: Callable[..., Any] = get_wsgi_application()

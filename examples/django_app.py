"""A whole Django site in one file, behind gunicorn and meinheld.

    gunicorn --worker-class=egg:meinheld#gunicorn_worker django_app:application

A generated project needs no change either: point gunicorn at its `wsgi.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

if not settings.configured:
    settings.configure(
        # Signs cookies and tokens: from the environment in production.
        SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "only for trying things out"),
        DEBUG=False,
        ALLOWED_HOSTS=os.environ.get("DJANGO_ALLOWED_HOSTS", "127.0.0.1 localhost").split(),
        ROOT_URLCONF=__name__,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": os.environ.get("DJANGO_DB", Path(__file__).with_name("django_app.sqlite3")),
                # A database connection belongs to one worker process. It is kept
                # between requests: the worker runs them one after another.
                "CONN_MAX_AGE": 60,
            }
        },
        # Behind nginx (nginx.conf) this makes request.is_secure() right. gunicorn
        # passes the header on only from peers in forwarded_allow_ips.
        SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
    )
    django.setup()


def index(_request: HttpRequest) -> HttpResponse:
    return HttpResponse("Django under gunicorn, served by meinheld.\n", content_type="text/plain")


def where(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"url": request.build_absolute_uri(), "secure": request.is_secure()})


def numbers(_request: HttpRequest) -> StreamingHttpResponse:
    def lines() -> Iterator[str]:
        for number in range(10):
            yield f"{number}\n"

    return StreamingHttpResponse(lines(), content_type="text/plain")


urlpatterns = [
    path("", index),
    path("where", where),
    path("numbers", numbers),
]

application = get_wsgi_application()

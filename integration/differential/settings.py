"""The settings under which both servers get the corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from differential.corpus import (
    Case,
    Family,
    connections,
    expectations,
    field_lines,
    hosts,
    repeated_fields,
    request_lines,
    unique,
    wire_cases,
)
from differential.framing import chunks, framings, sizes_of_bodies
from differential.mutations import mutations
from differential.proxies import (
    forwarder_fields,
    limits,
    proxied_requests,
    proxy_v1,
    proxy_v2,
    schemes,
    without_proxy,
)

NONE_TRUSTED = {"forwarded_allow_ips": "192.0.2.1,2001:db8::/32"}
ALL_NAMES = "SCRIPT_NAME,PATH_INFO,REMOTE_USER"


@dataclass(frozen=True)
class Group:
    """One set of gunicorn's settings, and the families of requests that they decide about."""

    name: str
    families: Sequence[Family]
    settings: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    bind: str = "127.0.0.1:0"

    def cases(self) -> list[Case]:
        return unique(case for family in self.families for case in family())


def _proxy(name: str, mode: str, *families: Family, allowed: str = "127.0.0.0/8") -> Group:
    return Group(name, families, {"proxy_protocol": mode, "proxy_allow_ips": allowed})


HEADS = (request_lines, field_lines, repeated_fields, hosts, connections, expectations)
BODIES = (framings, chunks, sizes_of_bodies)
FORWARDED = (forwarder_fields, schemes)
PROXIED = (proxy_v1, proxy_v2, without_proxy, proxied_requests)

GROUPS = (
    Group(
        "defaults",
        (
            *(wire_cases, *HEADS, *BODIES, *FORWARDED, *PROXIED),
            *(limits([4094, 8190, 66_000], [100], [8190]), mutations(*HEADS, *BODIES, count=1000)),
        ),
    ),
    Group("header_map refuse", (field_lines, repeated_fields, chunks), {"header_map": "refuse"}),
    Group(
        "header_map dangerous",
        (field_lines, repeated_fields, framings, *FORWARDED),
        {"header_map": "dangerous"},
    ),
    Group("forwarder untrusted", FORWARDED, NONE_TRUSTED),
    Group(
        "forwarder untrusted, refuse",
        FORWARDED,
        {**NONE_TRUSTED, "header_map": "refuse", "forwarder_headers": ALL_NAMES},
    ),
    Group(
        "forwarder trusted by network",
        FORWARDED,
        {"forwarded_allow_ips": "127.0.0.0/30", "forwarder_headers": ALL_NAMES},
    ),
    Group(
        "forwarder trusted by all, refuse",
        FORWARDED,
        {
            "forwarded_allow_ips": "*",
            "forwarder_headers": "REMOTE_USER,X_FORWARDED_PROTO",
            "header_map": "refuse",
        },
    ),
    Group("forwarder of any name", (*FORWARDED, repeated_fields), {"forwarder_headers": "*"}),
    Group(
        "forwarder of names in lower case",
        FORWARDED,
        {"forwarder_headers": "Script_Name,remote_user"},
    ),
    Group("forwarder of no name", FORWARDED, {"forwarder_headers": ""}),
    Group(
        "secure_scheme_headers",
        (schemes,),
        {
            "secure_scheme_headers": {
                "X-SCHEME": "secure",
                "X_SCHEME": "secure",
                "x-forwarded-ssl": "on",
            }
        },
    ),
    Group("secure_scheme_headers none", (schemes,), {"secure_scheme_headers": {}}),
    Group(
        "limits small",
        (limits([16, 40], [1, 5], [30, 60]),),
        {"limit_request_line": 40, "limit_request_fields": 5, "limit_request_field_size": 60},
    ),
    Group(
        "limits of nothing",
        (limits([1, 14, 15, 40], [1, 2], [1, 2, 4, 5, 6, 14]),),
        {"limit_request_line": 15, "limit_request_fields": 1, "limit_request_field_size": 14},
    ),
    Group(
        "limits zero",
        (limits([66_000, 1 << 20], [32_768], [8190]),),
        {"limit_request_line": 0, "limit_request_fields": 0, "limit_request_field_size": 0},
    ),
    Group(
        "limits beyond",
        (limits([8190, 100_000], [32_768], [8190, 100_000]),),
        {
            "limit_request_line": 100_000,
            "limit_request_fields": 40_000,
            "limit_request_field_size": 100_000,
        },
    ),
    Group(
        "methods permitted",
        (request_lines, connections),
        {"permit_unconventional_http_method": True},
    ),
    Group("methods folded", (request_lines,), {"casefold_http_method": True}),
    Group(
        "methods permitted and folded",
        (request_lines,),
        {"permit_unconventional_http_method": True, "casefold_http_method": True},
    ),
    Group(
        "versions permitted",
        (request_lines, hosts),
        {"permit_unconventional_http_version": True},
    ),
    Group(
        "folding permitted",
        (field_lines, chunks, framings, limits([], [3, 100], [60])),
        {"permit_obsolete_folding": True, "limit_request_field_size": 60},
    ),
    Group(
        "spaces stripped",
        (field_lines, chunks, framings, forwarder_fields),
        {"strip_header_spaces": True},
    ),
    Group(
        "everything permitted",
        (
            *(request_lines, field_lines, chunks),
            mutations(request_lines, field_lines, framings, chunks, count=500),
        ),
        {
            "permit_unconventional_http_method": True,
            "permit_unconventional_http_version": True,
            "permit_obsolete_folding": True,
            "strip_header_spaces": True,
            "header_map": "dangerous",
        },
    ),
    _proxy("proxy v1", "v1", *PROXIED),
    _proxy("proxy v2", "v2", *PROXIED),
    _proxy("proxy auto", "auto", *PROXIED, mutations(*PROXIED, count=500), allowed="*"),
    # Trust is in the peer of the connection, never in the client for whom it speaks.
    Group(
        "proxied client trusted",
        (proxied_requests,),
        {"proxy_protocol": "auto", "forwarded_allow_ips": "192.0.2.1"},
    ),
    _proxy("proxy denied", "auto", *PROXIED, allowed="192.0.2.1,127.0.0.2"),
    Group("script name", FORWARDED, environment={"SCRIPT_NAME": "/app"}),
    Group("unix socket", (hosts, *FORWARDED), NONE_TRUSTED, bind="unix:{dir}/socket"),
    Group(
        "unix socket behind a proxy",
        (proxied_requests, without_proxy),
        {"proxy_protocol": "auto", "proxy_allow_ips": "192.0.2.1"},
        bind="unix:{dir}/socket",
    ),
)

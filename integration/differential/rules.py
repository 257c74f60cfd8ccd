"""Where this worker differs from gunicorn's `gthread` on purpose: every rule, and why.

A rule excuses one part of an outcome (see `differential.exchange.differing`), and only where its
predicate finds in the octets what the rule is about.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv6Address
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from differential.exchange import TAIL, Outcome
from differential.message import SIGNATURE, Message


@dataclass(frozen=True)
class Difference:
    """Two outcomes of the same octets under the same settings."""

    settings: Mapping[str, object]
    environment: Mapping[str, str]
    octets: bytes
    gunicorn: Outcome
    ours: Outcome

    @cached_property
    def message(self) -> Message:
        return Message.read(self.octets + TAIL, self.settings)

    @property
    def statuses(self) -> tuple[int, int]:
        return self.gunicorn.status, self.ours.status


Predicate: TypeAlias = Callable[[Difference], bool]


@dataclass(frozen=True)
class Rule:
    """A deliberate difference. `parts` is a regular expression."""

    name: str
    parts: str
    because: str
    holds: Predicate

    def excuses(self, part: str, difference: Difference) -> bool:
        return re.fullmatch(self.parts, part) is not None and self.holds(difference)


RULES: list[Rule] = []


def rule(parts: str, because: str) -> Callable[[Predicate], Predicate]:
    """Makes a rule of a predicate and its name."""

    def add(holds: Predicate) -> Predicate:
        RULES.append(Rule(holds.__name__, parts, because, holds))
        return holds

    return add


# The request line


@rule("status", "issue 3: 505 for versions that are not served, which RFC 9110 15.6.6 is for")
def versions_other_than_1_0_and_1_1_get_505(d: Difference) -> bool:
    version = d.message.version
    return (
        d.ours.status == 505
        and not d.settings.get("permit_unconventional_http_version")
        and re.fullmatch(rb"HTTP/\d\.\d", version) is not None
        and version not in (b"HTTP/1.0", b"HTTP/1.1")
    )


@rule(
    "status", "issue 3: raw octets of the target reach PATH_INFO undamaged; gunicorn refuses them"
)
def octets_above_0x7f_in_the_target_are_served(d: Difference) -> bool:
    target = d.message.target
    if d.gunicorn.status != 400 or not re.search(rb"[\x80-\xff]", target):
        return False
    if d.ours.status == 500:
        return bool(d.message.all(b"script_name") or d.environment.get("SCRIPT_NAME"))
    seen = d.ours.environ
    path = d.message.path.decode("latin-1").removeprefix(str(seen.get("SCRIPT_NAME")))
    path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
    return seen.get("RAW_URI") == target.decode("latin-1") and seen["PATH_INFO"] == path


# RFC 3986 3.2.2: an address in brackets, or unreserved, sub-delims and percent-encoded octets.
HOST = rb"(\[[0-9a-zA-Z.:%]+\]|([A-Za-z0-9._~!$&'()*+,;=-]|%[0-9a-fA-F]{2})+)"
LEGAL_HOST = re.compile(rb"(" + HOST + rb"(:\d*)?)?")
LEGAL_TARGET = re.compile(
    rb"/[^\0-\x20\x7f]*|(?i:[a-z][a-z0-9+.-]*)://" + HOST + rb"(:\d*)?([/?#].*)?"
)
LEGAL_AUTHORITY = re.compile(HOST + rb":\d{1,5}")


@rule(
    "status",
    "RFC 9112 3.2: four forms of a target, each where it belongs; RFC 9110 4.2.4: no userinfo",
)
def targets_follow_their_grammar(d: Difference) -> bool:
    method, target = d.message.method.upper(), d.message.target
    if method == b"CONNECT":
        legal = bool(LEGAL_AUTHORITY.fullmatch(target)) and int(target.rpartition(b":")[2]) < 65536
        legal = legal and brackets_hold_an_address(target)
    else:
        legal = bool(LEGAL_TARGET.fullmatch(target)) or target == b"*"
        legal = legal and brackets_hold_an_address(d.message.authority or b"")
    return d.ours.status == 400 and not legal


def brackets_hold_an_address(authority: bytes) -> bool:
    literal = re.match(rb"\[(?![vV])(.*)\]", authority)
    try:
        return literal is None or bool(IPv6Address(literal[1].decode("latin-1")))
    except ValueError:
        return False


# Host


@rule("status", "RFC 9112 3.2: a request without Host is answered with 400; gunicorn serves it")
def http_1_1_needs_a_host(d: Difference) -> bool:
    return d.ours.status == 400 and d.message.version >= b"HTTP/1.1" and not d.message.all(b"host")


@rule("status", "RFC 9112 3.2: an invalid Host is answered with 400; gunicorn hands it on")
def host_is_an_authority(d: Difference) -> bool:
    return d.ours.status == 400 and any(
        not (LEGAL_HOST.fullmatch(host) and brackets_hold_an_address(host))
        for host in d.message.all(b"host")
    )


@rule("HTTP_HOST", "RFC 9112 3.2.2: the authority of a target in absolute form overrides Host")
def a_target_in_absolute_form_names_the_host(d: Difference) -> bool:
    authority = d.message.authority
    return authority is not None and d.ours.environ.get("HTTP_HOST") == authority.decode("latin-1")


@rule("SERVER_NAME|SERVER_PORT", "as HTTP_HOST, from which gunicorn makes them on a unix socket")
def a_target_in_absolute_form_names_the_server_of_a_unix_socket(d: Difference) -> bool:
    host = str(d.ours.environ.get("HTTP_HOST"))
    name, port = [*host.split(":"), "80"][:2]
    named = d.ours.environ["SERVER_NAME"], d.ours.environ["SERVER_PORT"]
    return d.message.authority == host.encode("latin-1") and named == (name, port)


# Fields


@rule(
    "HTTP_.*", "RFC 9112 5.2: a fold is white space; none is left at the ends, nor for empty lines"
)
def folds_are_joined_by_one_space(d: Difference) -> bool:
    if not d.settings.get("permit_obsolete_folding"):
        return False
    emptied = re.search(rb":[ \t]*\r\n[ \t]|\r\n[ \t]+\r\n", d.octets)

    def collapsed(outcome: Outcome) -> dict[str, str]:
        fields = {k: str(v) for k, v in outcome.environ.items() if k.startswith("HTTP_")}
        return {k: re.sub(" *, *", ",", re.sub(" +", " ", v)).strip() for k, v in fields.items()}

    return emptied is not None and collapsed(d.gunicorn) == collapsed(d.ours)


# Framing


@rule(
    "status",
    "RFC 9110 8.6: large lengths must not overflow; 64 bits hold every body",
)
def content_length_is_below_2_to_the_64(d: Difference) -> bool:
    lengths = [x.lstrip(b"0") for x in d.message.all(b"content-length") if x.isdigit()]
    return d.ours.status == 400 and any(int(x[:30] or b"0") >= 1 << 64 for x in lengths)


@rule(
    "status",
    "RFC 9112 6.1: 501 for codings that are not decoded; gunicorn hands them on, still coded",
)
def transfer_codings_under_chunked_get_501(d: Difference) -> bool:
    known = {b"gzip", b"deflate", b"compress", b"identity"}
    codings = d.message.codings
    return (
        d.ours.status == 501
        and d.gunicorn.status in (200, 400)
        and len(codings) > 1
        and codings[-1] == b"chunked"
        and set(codings[:-1]) <= known
    )


@rule(
    "status", "RFC 9112 8: a message cut short is incomplete; gunicorn hands the application a part"
)
def a_body_that_is_cut_off_is_no_request(d: Difference) -> bool:
    lengths = d.message.all(b"content-length")
    return d.statuses == (200, 0) and len(lengths) == 1 and int(lengths[0]) > len(d.message.body)


@rule("status", "issue 3: chunk sizes have a bounded length; sixteen digits hold every size")
def chunk_sizes_have_at_most_sixteen_digits(d: Difference) -> bool:
    return (
        d.ours.status == 400
        and d.message.codings == [b"chunked"]
        and re.search(rb"(^|\r\n)[0-9a-fA-F]{17}", d.message.body) is not None
    )


@rule("status", "issue 3: chunk extensions are bounded; 4096 octets hold every signature")
def chunk_size_lines_have_at_most_4096_octets(d: Difference) -> bool:
    return (
        d.ours.status == 400
        and d.message.codings == [b"chunked"]
        and re.search(rb"(^|\r\n)[0-9a-fA-F]+[ \t]*;[^\r\n]{4090}", d.message.body) is not None
    )


@rule("status", "issue 3: extensions are dropped, so they may not outweigh the data by 16 KiB")
def chunk_extensions_do_not_outweigh_the_data(d: Difference) -> bool:
    extensions = b"".join(re.findall(rb"(?:^|\r\n)[0-9a-fA-F]+(;[^\r\n]*)", d.message.body))
    return (
        d.statuses == (200, 400)
        and d.message.codings == [b"chunked"]
        and len(extensions) > len(d.gunicorn.answers[0].body) // 2 + 16 * 1024
    )


@rule("status", "RFC 9112 7.1: sizes that add up beyond 64 bits are no body; gunicorn waits for it")
def chunks_have_less_than_2_to_the_64_octets(d: Difference) -> bool:
    sizes = re.findall(rb"(?:^|\r\n)([0-9a-fA-F]{1,16})(?=\r\n)", d.message.body)
    return d.statuses == (0, 413) and sum(int(size, 16) for size in sizes) >= 1 << 64


@rule("status", "RFC 9110 6.5.1: no trailer says what the content is; gunicorn takes one of each")
def trailers_do_not_describe_the_content(d: Difference) -> bool:
    trailer = re.compile(rb"(?i)\r\nContent-(Type|Encoding|Range)[ \t]*:")
    return (
        d.statuses == (200, 400)
        and d.message.codings == [b"chunked"]
        and trailer.search(d.message.body) is not None
    )


# The connection


@rule(
    "fate", "RFC 9112 9.6: close may be any member of the list; gunicorn knows it alone on its line"
)
def close_is_heard_anywhere_in_connection(d: Difference) -> bool:
    options = {o.strip(b" \t").lower() for v in d.message.all(b"connection") for o in v.split(b",")}
    return b"close" in options and d.gunicorn.fate != () == d.ours.fate


# Limits


@rule(
    "status", "RFC 6585 5: fields count as they arrive; gunicorn does not count those that it drops"
)
def dropped_fields_count(d: Difference) -> bool:
    most = d.message.limit_fields
    return (
        d.ours.status == 431
        and len(d.message.lines) > most
        and sum(b"_" not in name for name, _ in d.message.fields) <= most
    )


@rule("status", "0 is unlimited, but memory is not: 1 MiB, as in gunicorn's own fast parser")
def an_unlimited_request_line_has_a_mebibyte(d: Difference) -> bool:
    unlimited = d.settings.get("limit_request_line") == 0
    return unlimited and d.ours.status == 414 and len(d.message.request_line) > 1 << 20


# The PROXY protocol


@rule(
    "status",
    "PROXY 2.1: a line of at most 107 octets; not all that Python's int() takes is a port",
)
def proxy_v1_lines_follow_their_grammar(d: Difference) -> bool:
    addresses = rb"(TCP4( \d{1,3}(\.\d{1,3}){3}){2}|TCP6( [0-9a-fA-F:.]+){2})"
    legal = re.fullmatch(rb"PROXY " + addresses + rb"( (0|[1-9]\d{0,4})){2}\r\n", d.message.proxy)
    return (
        d.ours.status == 400
        and d.message.proxy.startswith(b"PROXY ")
        and (legal is None or len(d.message.proxy) > 107)
    )


@rule("status", "a PROXY v2 header that is malformed is the peer's fault; gunicorn says 500")
def malformed_proxy_v2_headers_get_400(d: Difference) -> bool:
    proxy = d.message.proxy
    least = {0x11: 16 + 12, 0x21: 16 + 36}
    legal = proxy[12:13] in (b"\x20", b"\x21") and len(proxy) >= least.get(proxy[13], 1 << 17)
    return d.statuses == (500, 400) and proxy.startswith(SIGNATURE) and not legal


@rule(
    "status|PROXY_PROTOCOL|PROXY_ADDR|PROXY_PORT|REMOTE_ADDR|REMOTE_PORT",
    "PROXY 2.1, 2.2: without a client the connection's own address is used; gunicorn: None or 400",
)
def proxies_that_name_no_client_leave_the_address_alone(d: Difference) -> bool:
    seen = d.ours.environ
    return (
        seen.get("PROXY_PROTOCOL") == d.message.proxy_without_address != ""
        and not {"PROXY_ADDR", "PROXY_PORT"} & set(seen)
        and (seen["REMOTE_ADDR"], seen.get("REMOTE_PORT")) in CONNECTIONS_OWN
    )


CONNECTIONS_OWN = (("127.0.0.1", "{own port}"), ("", None))


@rule(
    "REMOTE_ADDR|PROXY_ADDR",
    "RFC 5952: one text for an IPv6 address, which applications can compare",
)
def proxied_addresses_are_canonical(d: Difference) -> bool:
    addresses = [
        (str(d.gunicorn.environ.get(key)), str(d.ours.environ.get(key)))
        for key in ("REMOTE_ADDR", "PROXY_ADDR")
    ]
    return d.message.proxy.startswith(b"PROXY TCP6 ") and all(
        socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, theirs)) == ours
        for theirs, ours in addresses
    )


@rule(
    "later (PROXY_PROTOCOL|PROXY_ADDR|PROXY_PORT|REMOTE_ADDR|REMOTE_PORT)",
    "the header speaks for the connection; gunicorn forgets it after the first request",
)
def proxy_headers_hold_for_every_request(d: Difference) -> bool:
    def origin(environ: Mapping[str, object]) -> dict[str, object]:
        return {k: v for k, v in environ.items() if k.startswith(("PROXY_", "REMOTE_"))}

    return (
        d.message.proxy != b""
        and all(origin(x.environ) == origin(d.ours.environ) for x in d.ours.answers[1:])
        and not any("PROXY_PROTOCOL" in x.environ for x in d.gunicorn.answers[1:])
    )


# More than one fault


def field_sizes(lines: Sequence[bytes]) -> list[int]:
    """Octets of each field with its CRLF, and with the lines that are folded into it."""
    sizes: list[int] = []
    for line in lines:
        if sizes and line.startswith((b" ", b"\t")):
            sizes[-1] += len(line) + 2
        else:
            sizes.append(len(line) + 2)
    return sizes


def faults(d: Difference) -> Iterator[int]:
    """Statuses that the first request deserves, other than 400."""
    m = d.message
    if set(m.codings) - {b"gzip", b"deflate", b"compress", b"identity", b"chunked"}:
        yield 501
    if any(value.lower() != b"100-continue" for value in m.all(b"expect")):
        yield 417
    trailers = m.body.split(b"\r\n") if m.codings == [b"chunked"] else []
    for sizes in (field_sizes(m.lines), field_sizes(trailers)):
        if len(sizes) > m.limit_fields or max(sizes, default=0) > m.limit_field_size:
            yield 431
    if len(m.request_line) > m.limit_request_line:
        yield 414
    if m.all(b"script_name") or "SCRIPT_NAME" in d.environment:
        yield 500


@rule(
    "status", "two faults, one answer: which of them is named first is no promise of either server"
)
def one_of_several_faults_is_named(d: Difference) -> bool:
    others = {status for status in d.statuses if status != 400}
    return min(d.statuses) >= 400 and others <= set(faults(d))

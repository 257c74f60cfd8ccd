//! Heads and framing of responses.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod peer;

use meinheld_protocol::encode::{
    BodyEncoder, Encoded, RequestTraits, ResponseError, ResponseHead, Short, chunk_prefix,
    early_hints, error_answer, unavailable_answer,
};
use meinheld_protocol::{Status, Version};

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

const GET: RequestTraits = RequestTraits {
    version: Version::HTTP_11,
    is_head: false,
    keep_alive: true,
};
const HEAD: RequestTraits = RequestTraits {
    is_head: true,
    ..GET
};
const GET_10: RequestTraits = RequestTraits {
    version: Version::HTTP_10,
    keep_alive: false,
    ..GET
};

fn answer(
    request: RequestTraits,
    status: &str,
    fields: &[(&str, &str)],
) -> Result<Encoded, ResponseError> {
    let mut head = ResponseHead::start(vec![1, 2, 3], request, status.as_bytes(), "meinheld")?;
    for (name, value) in fields {
        head.field(name.as_bytes(), value.as_bytes())?;
    }
    Ok(head.finish(DATE, true))
}

fn text(encoded: &Encoded) -> String {
    String::from_utf8(encoded.head.clone()).unwrap()
}

#[test]
fn a_head_has_its_lines_in_order() {
    let encoded = answer(
        GET,
        "200 OK",
        &[("Content-Type", " text/plain\t"), ("Content-Length", "5")],
    )
    .unwrap();
    assert_eq!(
        text(&encoded),
        "HTTP/1.1 200 OK\r\nServer: meinheld\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         Content-Type: text/plain\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n"
    );
    assert_eq!(encoded.body, BodyEncoder::Length { remaining: 5 });
    assert!(encoded.persistent);
}

#[test]
fn without_a_length_the_version_decides_the_framing() {
    let chunked = answer(GET, "200 OK", &[]).unwrap();
    assert!(
        text(&chunked).ends_with("Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n")
    );
    assert!(chunked.persistent && chunked.body.is_chunked());
    let kept_alive = RequestTraits {
        keep_alive: true,
        ..GET_10
    };
    let until_close = answer(kept_alive, "200 OK", &[]).unwrap();
    assert!(text(&until_close).starts_with("HTTP/1.0 200 OK\r\n"));
    assert!(text(&until_close).ends_with("Connection: close\r\n\r\n"));
    assert_eq!(
        (until_close.body, until_close.persistent),
        (BodyEncoder::UntilClose, false)
    );
    let with_length = answer(kept_alive, "200 OK", &[("Content-Length", "1")]).unwrap();
    assert!(text(&with_length).ends_with("Connection: keep-alive\r\n\r\n"));
    assert!(with_length.persistent);
}

#[test]
fn a_connection_persists_only_if_both_sides_want_it() {
    let head = || ResponseHead::start(Vec::new(), GET, b"200 OK", "meinheld").unwrap();
    assert!(head().finish(DATE, true).persistent);
    assert!(!head().finish(DATE, false).persistent);
    let closing = RequestTraits {
        keep_alive: false,
        ..GET
    };
    let encoded = answer(closing, "200 OK", &[]).unwrap();
    assert!(!encoded.persistent);
    assert!(text(&encoded).contains("Connection: close\r\n"));
}

#[test]
fn responses_that_have_no_body_omit_it() {
    for (request, status, keeps_length) in [
        (HEAD, "200 OK", true),
        (GET, "304 Not Modified", true),
        (GET, "204 No Content", false),
        (GET, "101 Switching Protocols", false),
    ] {
        let mut encoded = answer(request, status, &[("Content-Length", "5")]).unwrap();
        assert_eq!(encoded.body, BodyEncoder::Omitted, "{status}");
        assert_eq!(
            text(&encoded).contains("Content-Length: 5"),
            keeps_length,
            "{status}"
        );
        assert!(!text(&encoded).contains("Transfer-Encoding"), "{status}");
        assert!(encoded.persistent, "{status}");
        assert_eq!(
            (encoded.body.admit(5), encoded.body.end()),
            (0, Ok(&b""[..]))
        );
    }
}

#[test]
fn a_status_is_three_digits_and_perhaps_a_reason() {
    assert!(text(&answer(GET, "200", &[]).unwrap()).starts_with("HTTP/1.1 200 \r\n"));
    assert!(text(&answer(GET, "299 ", &[]).unwrap()).starts_with("HTTP/1.1 299 \r\n"));
    assert!(answer(GET, "200 caf\u{e9} \t~", &[]).is_ok());
    for wrong in [
        "",
        "20",
        "2000",
        "20x OK",
        "200OK",
        "200\tOK",
        "099 No",
        " 200",
        "200 OK\r\nX: y",
        "200 \u{1}",
        "200 \u{7f}",
    ] {
        assert_eq!(
            answer(GET, wrong, &[]).unwrap_err(),
            ResponseError::InvalidStatus,
            "{wrong:?}"
        );
    }
}

#[test]
fn names_and_values_are_checked_and_values_not_repeated() {
    for name in ["", "a b", "a:", "a\r\n", "\u{e9}"] {
        let error = answer(GET, "200 OK", &[(name, "v")]).unwrap_err();
        assert_eq!(error, ResponseError::InvalidFieldName(name.to_owned()));
        assert!(!error.to_string().contains('\n'));
    }
    for value in [
        "a\r\nSet-Cookie: secret",
        "secret\n",
        "secret\0",
        "secret\u{7f}",
        "\u{b}",
    ] {
        let error = answer(GET, "200 OK", &[("X-A", value)]).unwrap_err();
        assert_eq!(error, ResponseError::InvalidFieldValue("X-A".to_owned()));
        assert!(!error.to_string().contains("secret"));
        // Fields that are dropped are checked before.
        assert!(answer(GET, "200 OK", &[("Date", value)]).is_err());
    }
    assert!(answer(GET, "200 OK", &[("X-A", "caf\u{e9} \t x"), ("X-B", "")]).is_ok());
}

#[test]
fn our_own_and_hop_by_hop_fields_of_the_application_are_dropped() {
    for name in [
        "Server",
        "date",
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "TE",
        "Trailers",
        "TRANSFER-ENCODING",
        "Upgrade",
    ] {
        let encoded = answer(GET, "200 OK", &[(name, "ours-to-decide")]).unwrap();
        assert!(!text(&encoded).contains("ours-to-decide"), "{name}");
    }
    assert!(text(&answer(GET, "200 OK", &[("Trailer", "x")]).unwrap()).contains("Trailer: x"));
}

#[test]
fn an_upgrade_to_websocket_is_let_through() {
    let fields = [("Connection", "Upgrade"), ("Upgrade", "WebSocket")];
    let encoded = answer(GET, "101 Switching Protocols", &fields).unwrap();
    assert!(text(&encoded).ends_with("Upgrade: WebSocket\r\nConnection: upgrade\r\n\r\n"));
    assert!(!text(&answer(GET, "200 OK", &[("Upgrade", "h2c")]).unwrap()).contains("h2c"));
}

#[test]
fn a_length_is_digits_and_does_not_contradict_itself() {
    for wrong in [
        "",
        "+5",
        "-5",
        "5 5",
        "5, 5",
        "0x5",
        "1_0",
        "18446744073709551616",
    ] {
        let error = answer(GET, "200 OK", &[("Content-Length", wrong)]).unwrap_err();
        assert_eq!(error, ResponseError::InvalidContentLength(wrong.to_owned()));
    }
    let twice = answer(
        GET,
        "200 OK",
        &[("Content-Length", "5"), ("content-length", "05")],
    )
    .unwrap();
    assert_eq!(
        text(&twice)
            .to_lowercase()
            .matches("content-length")
            .count(),
        1
    );
    let error = answer(
        GET,
        "200 OK",
        &[("Content-Length", "5"), ("Content-Length", "6")],
    )
    .unwrap_err();
    assert_eq!(error, ResponseError::ConflictingContentLength);
}

#[test]
fn never_more_than_declared_is_admitted_and_less_is_noticed() {
    let mut body = BodyEncoder::Length { remaining: 5 };
    assert_eq!(body.admit(3), 3);
    assert_eq!(body.end(), Err(Short { missing: 2 }));
    assert_eq!(body.admit(10), 2);
    assert_eq!(body.admit(10), 0);
    assert_eq!(body.end(), Ok(&b""[..]));
    let mut chunked = BodyEncoder::Chunked;
    assert_eq!(
        (chunked.admit(7), chunked.end()),
        (7, Ok(&b"0\r\n\r\n"[..]))
    );
}

#[test]
fn chunk_sizes_are_hexadecimal_without_leading_zeros() {
    for len in [1, 9, 15, 16, 255, 256, 4096, 65535, 65536, usize::MAX] {
        let mut out = Vec::new();
        chunk_prefix(&mut out, len);
        assert_eq!(out, format!("{len:X}\r\n").into_bytes());
    }
    let mut out = Vec::new();
    chunk_prefix(&mut out, 0);
    assert!(out.is_empty(), "an empty chunk would end the body");
}

#[test]
fn early_hints_are_checked_like_every_field() {
    let link: (&[u8], &[u8]) = (b"Link", b" </a.css>; rel=preload ");
    let length: (&[u8], &[u8]) = (b"Content-Length", b"5");
    let hints = early_hints([link, length].into_iter()).unwrap();
    assert_eq!(
        hints,
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    );
    let split: (&[u8], &[u8]) = (b"Link", b"a\r\n\r\nHTTP/1.1 200 OK");
    assert!(early_hints([split].into_iter()).is_err());
}

#[test]
fn an_error_answer_without_a_line_has_no_body() {
    let answer = error_answer(Status::BAD_REQUEST, "", "meinheld", DATE, false);
    assert!(answer.ends_with(b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
}

#[test]
fn an_error_answer_says_one_line_and_closes() {
    let answer = error_answer(
        Status::URI_TOO_LONG,
        "request line exceeds 4094 octets",
        "meinheld",
        DATE,
        false,
    );
    assert_eq!(
        String::from_utf8(answer).unwrap(),
        "HTTP/1.1 414 URI Too Long\r\nServer: meinheld\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 33\r\nConnection: close\r\n\r\n\
         request line exceeds 4094 octets\n"
    );
    let head = error_answer(Status::BAD_REQUEST, "x", "meinheld", DATE, true);
    assert!(head.ends_with(b"Content-Length: 2\r\nConnection: close\r\n\r\n"));
}

#[test]
fn an_answer_of_a_busy_server_says_when_to_ask_again() {
    let answer = unavailable_answer(30, "busy", "meinheld", DATE, false);
    assert_eq!(
        String::from_utf8(answer).unwrap(),
        "HTTP/1.1 503 Service Unavailable\r\nServer: meinheld\r\n\
         Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: 30\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\nConnection: close\r\n\r\n\
         busy\n"
    );
}

#[test]
fn the_traits_of_a_request_are_those_of_its_head() {
    let request = peer::head_of(b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let traits = RequestTraits::from(&*request);
    assert_eq!(
        traits,
        RequestTraits {
            version: Version::HTTP_10,
            is_head: true,
            keep_alive: true
        }
    );
}

//! gunicorn's permissive settings: what they let in, and what they still keep out.

mod peer;

use meinheld_protocol::{Error, Policy, Status};
use peer::{Request, error_of, request_of};

fn get(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

fn folding() -> Policy {
    Policy {
        permit_obsolete_folding: true,
        ..Policy::default()
    }
}

fn stripping() -> Policy {
    Policy {
        strip_header_spaces: true,
        ..Policy::default()
    }
}

fn any_version() -> Policy {
    Policy {
        permit_unconventional_version: true,
        ..Policy::default()
    }
}

#[track_caller]
fn value(policy: &Policy, fields: &str) -> String {
    let request = request_of(policy, false, &get(fields));
    String::from_utf8_lossy(&request.fields[1].1).into_owned()
}

#[test]
fn a_folded_value_is_joined_by_single_spaces() {
    assert_eq!(value(&folding(), "X: a\r\n b\r\n"), "a b");
    assert_eq!(value(&folding(), "X: a \t\r\n\t \tb \r\n  c\r\n"), "a b c");
    assert_eq!(value(&folding(), "X:\r\n a\r\n"), "a");
    assert_eq!(value(&folding(), "X: a\r\n \r\n"), "a");
}

#[test]
fn only_a_field_line_can_be_continued() {
    let wire = b"GET / HTTP/1.1\r\n Host: a\r\n\r\n";
    assert_eq!(error_of(&folding(), false, wire), Error::ObsoleteFolding);
    assert_eq!(
        error_of(&stripping(), false, &get("X: a\r\n b\r\n")),
        Error::ObsoleteFolding
    );
}

#[test]
fn a_fold_hides_nothing_from_the_rules() {
    for (fields, error) in [
        (
            "Content-Length: 1\r\n 2\r\n",
            Error::ContentLength(b"1 2"[..].into()),
        ),
        (
            "Transfer-Encoding:\r\n chunked\r\nContent-Length: 1\r\n",
            Error::LengthAndCoding,
        ),
        ("X: a\r\n \x01\r\n", Error::FieldValue(b"X"[..].into())),
        ("Host:\r\n b\r\n", Error::RepeatedField("Host")),
        ("X: a\r\n \n", Error::BareLineFeed),
        ("X: a\r\n \rb\r\n", Error::BareCarriageReturn),
    ] {
        assert_eq!(
            error_of(&folding(), false, &get(fields)),
            error,
            "{fields:?}"
        );
    }
}

#[test]
fn white_space_before_a_colon_is_stripped() {
    let request = request_of(&stripping(), false, &get("X \t: a : b\r\n"));
    assert_eq!(request.fields[1], (b"X".to_vec(), b"a : b".to_vec()));
    for wrong in [" : a\r\n", "X Y : a\r\n", "\t: a\r\n", ": a\r\n"] {
        error_of(&stripping(), false, &get(wrong));
    }
}

#[test]
fn a_stripped_name_is_the_name_that_the_rules_know() {
    let error = error_of(
        &stripping(),
        false,
        &get("Content-Length : 1\r\nTransfer-Encoding : chunked\r\n"),
    );
    assert_eq!(error, Error::LengthAndCoding);
    let body = [&get("Content-Length : 2\r\n")[..], b"ab"].concat();
    assert_eq!(request_of(&stripping(), false, &body).body, b"ab");
}

fn version(text: &str, fields: &str) -> Request {
    let wire = format!("GET / {text}\r\nHost: a\r\n{fields}\r\n");
    request_of(&any_version(), false, wire.as_bytes())
}

#[test]
fn every_version_of_two_digits_is_taken_when_permitted() {
    for text in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/9.9"] {
        assert_eq!(version(text, "").version.to_string(), text);
        let wire = format!("GET / {text}\r\nHost: a\r\n\r\n");
        let error = error_of(&Policy::default(), false, wire.as_bytes());
        assert_eq!(error.status(), Some(Status::VERSION_NOT_SUPPORTED));
    }
    for text in [
        "HTTP/1",
        "HTTP/1.10",
        "HTTP/11.1",
        "http/1.1",
        "HTTP/1.x",
        "HTTQ/1.1",
    ] {
        let wire = format!("GET / {text}\r\nHost: a\r\n\r\n");
        let error = error_of(&any_version(), false, wire.as_bytes());
        assert_eq!(error, Error::Version(text.as_bytes().into()));
    }
}

#[test]
fn an_unconventional_version_has_the_rules_of_the_nearest_conventional_one() {
    assert!(!version("HTTP/0.9", "").keep_alive);
    assert!(version("HTTP/0.9", "Connection: keep-alive\r\n").keep_alive);
    assert!(version("HTTP/2.0", "").keep_alive);
    let chunked = "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let later = format!("GET / HTTP/1.2\r\n{chunked}");
    assert!(request_of(&any_version(), false, later.as_bytes()).complete);
    let earlier = format!("GET / HTTP/0.9\r\n{chunked}");
    assert_eq!(
        error_of(&any_version(), false, earlier.as_bytes()),
        Error::CodingInHttp10
    );
    let hostless = b"GET / HTTP/2.0\r\n\r\n";
    assert_eq!(
        error_of(&any_version(), false, hostless),
        Error::MissingHost
    );
}

#[test]
fn the_authority_of_the_target_takes_the_place_of_host() {
    for policy in [Policy::default(), folding()] {
        let wire = b"GET http://b:8/p HTTP/1.1\r\nX: 1\r\nHost: a\r\nY: 2\r\n\r\n";
        let fields = request_of(&policy, false, wire).fields;
        assert_eq!(fields[1], (b"Host".to_vec(), b"b:8".to_vec()));
        assert_eq!(fields.len(), 3);
    }
    error_of(
        &Policy::default(),
        false,
        b"GET http://b/ HTTP/1.1\r\nX: 1\r\n\r\n",
    );
}

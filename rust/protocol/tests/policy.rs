//! gunicorn's request settings: the same octets under other policies.

mod peer;

use meinheld_protocol::{Error, HeaderMap, Policy, Scheme, Status};
use peer::{error_of, every_way, limited, request_of};

fn get(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

fn names(policy: &Policy, trusted: bool, fields: &str) -> Vec<String> {
    request_of(policy, trusted, &get(fields))
        .fields
        .iter()
        .skip(1)
        .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
        .collect()
}

fn mapping(header_map: HeaderMap) -> Policy {
    Policy {
        header_map,
        ..Policy::default()
    }
}

fn proxied() -> Policy {
    Policy {
        forwarder_headers: vec![b"SCRIPT_NAME".to_vec(), b"PATH_INFO".to_vec()],
        secure_scheme_headers: vec![
            (b"X-FORWARDED-PROTO".to_vec(), b"https".to_vec()),
            (b"X-FORWARDED-SSL".to_vec(), b"on".to_vec()),
        ],
        ..Policy::default()
    }
}

#[test]
fn underscores_are_dropped_refused_or_kept() {
    let fields = "X_A: 1\r\nX-B: 2\r\n";
    assert_eq!(names(&mapping(HeaderMap::Drop), true, fields), ["X-B"]);
    assert_eq!(
        names(&mapping(HeaderMap::Dangerous), false, fields),
        ["X_A", "X-B"]
    );
    let error = error_of(&mapping(HeaderMap::Refuse), true, &get(fields));
    assert_eq!(error, Error::AmbiguousFieldName(b"X_A"[..].into()));
    assert_eq!(error.status(), Some(Status::BAD_REQUEST));
}

#[test]
fn an_underscore_is_found_in_names_only_and_in_every_name() {
    let fields =
        "_A: 1\r\nB: _\r\nC: x_y_z\r\nD_: _\r\nE: 1\r\nF_F: \r\nG_G_G: _\r\nH: 2\r\nI_: 3\r\n";
    let kept = ["B", "C", "E", "H"];
    assert_eq!(names(&Policy::default(), false, fields), kept);
    let wire = format!("GET /_ HTTP/1.1\r\nHost: a_b\r\n{fields}\r\n");
    let request = request_of(&Policy::default(), false, wire.as_bytes());
    assert_eq!(request.fields.len(), 1 + kept.len());
    assert_eq!(request.fields[0].1, b"a_b");
}

#[test]
fn a_trusted_peer_may_send_the_forwarder_headers() {
    let fields = "Script_Name: /app\r\nPATH_INFO: /p\r\nREMOTE_USER: root\r\n";
    assert_eq!(
        names(&proxied(), true, fields),
        ["Script_Name", "PATH_INFO"]
    );
    assert!(names(&proxied(), false, fields).is_empty());
    let refusing = Policy {
        header_map: HeaderMap::Refuse,
        ..proxied()
    };
    assert_eq!(
        names(&refusing, true, "SCRIPT_NAME: /app\r\n"),
        ["SCRIPT_NAME"]
    );
    error_of(&refusing, false, &get("SCRIPT_NAME: /app\r\n"));
    let all = Policy {
        forwarder_headers: vec![b"*".to_vec()],
        ..Policy::default()
    };
    assert_eq!(names(&all, true, fields).len(), 3);
    assert!(names(&all, false, fields).is_empty());
}

#[test]
fn a_trusted_peer_declares_the_scheme() {
    let scheme = |trusted, fields| request_of(&proxied(), trusted, &get(fields)).scheme;
    assert_eq!(scheme(true, ""), Scheme::Http);
    assert_eq!(scheme(true, "x-forwarded-proto: https\r\n"), Scheme::Https);
    assert_eq!(scheme(false, "X-Forwarded-Proto: https\r\n"), Scheme::Http);
    assert_eq!(scheme(true, "X-Forwarded-Proto: HTTPS\r\n"), Scheme::Http);
    let both = "X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: on\r\n";
    assert_eq!(scheme(true, both), Scheme::Https);
}

#[test]
fn contradictory_schemes_are_an_error_of_a_trusted_peer_only() {
    let fields = get("X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n");
    assert_eq!(
        error_of(&proxied(), true, &fields),
        Error::ContradictorySchemes
    );
    request_of(&proxied(), false, &fields);
    let twice = get("X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n");
    assert_eq!(
        error_of(&proxied(), true, &twice),
        Error::ContradictorySchemes
    );
}

#[test]
fn unconventional_methods_are_any_token_when_permitted() {
    let policy = Policy {
        permit_unconventional_method: true,
        ..Policy::default()
    };
    for method in ["get", "G", "a#b", "AVERYVERYVERYLONGMETHOD"] {
        let wire = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        let request = request_of(&policy, false, wire.as_bytes());
        assert_eq!(request.method, method.as_bytes());
        error_of(&Policy::default(), false, wire.as_bytes());
    }
    error_of(&policy, false, b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn folding_turns_permitted_methods_to_upper_case_and_their_rules_with_them() {
    let policy = Policy {
        permit_unconventional_method: true,
        casefold_method: true,
        ..Policy::default()
    };
    let request = request_of(&policy, false, b"get / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(request.method, b"GET");
    let options = request_of(&policy, false, b"options * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(options.path, b"*");
    let connect = request_of(&policy, false, b"connect a:1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!connect.keep_alive);
    let only_folding = Policy {
        permit_unconventional_method: false,
        ..policy
    };
    error_of(&only_folding, false, b"get / HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn limits_hold_to_the_octet() {
    let wire = b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\r\n";
    request_of(&limited(14, 2, 9), false, wire);
    assert_eq!(
        error_of(&limited(13, 2, 9), false, wire),
        Error::RequestLineTooLong(13)
    );
    assert_eq!(
        error_of(&limited(14, 1, 9), false, wire),
        Error::TooManyFields(1)
    );
    assert_eq!(
        error_of(&limited(14, 2, 8), false, wire),
        Error::FieldTooLarge(8)
    );
    assert_eq!(
        error_of(&limited(14, 2, 0), false, wire),
        Error::FieldTooLarge(0)
    );
    assert_eq!(
        error_of(&limited(0, 2, 9), false, wire),
        Error::RequestLineTooLong(0)
    );
    assert_eq!(
        error_of(&limited(14, 0, 9), false, wire),
        Error::TooManyFields(0)
    );
}

#[test]
fn fields_beyond_the_usual_number_are_all_there() {
    for count in [23, 24, 25, 128, 300] {
        let fields: String = (0..count).map(|n| format!("X-{n}: {n}\r\n")).collect();
        let found = names(&limited(4094, 1000, 8190), false, &fields);
        assert_eq!(found.len(), count);
        assert_eq!(found[count - 1], format!("X-{}", count - 1));
    }
}

#[test]
fn every_octet_is_judged_in_every_place_of_a_head() {
    let policy = Policy::default();
    let tchar = |o: u8| o.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&o);
    for octet in 0..=255u8 {
        let at = |before: &[u8], after: &[u8]| [before, &[octet], after].concat();
        for (place, wire, legal) in [
            (
                "method",
                at(b"GE", b"T / HTTP/1.1\r\nHost: a\r\n\r\n"),
                tchar(octet) && !octet.is_ascii_lowercase() && octet != b'#',
            ),
            (
                "target",
                at(b"GET /a", b"b HTTP/1.1\r\nHost: a\r\n\r\n"),
                octet > b' ' && octet != 0x7f,
            ),
            (
                "version",
                at(b"GET / HTTP/1.", b"\r\nHost: a\r\n\r\n"),
                octet == b'0' || octet == b'1',
            ),
            (
                "name",
                at(b"GET / HTTP/1.1\r\nHost: a\r\nX", b"A: b\r\n\r\n"),
                // A colon in a name ends it earlier.
                tchar(octet) || octet == b':',
            ),
            (
                "value",
                at(b"GET / HTTP/1.1\r\nHost: a\r\nX: b", b"c\r\n\r\n"),
                octet == b'\t' || (octet >= b' ' && octet != 0x7f),
            ),
            (
                "end of a value",
                at(b"GET / HTTP/1.1\r\nHost: a\r\nX: b", b"\r\n\r\n"),
                octet == b'\t' || (octet >= b' ' && octet != 0x7f),
            ),
            (
                "start of a value",
                at(b"GET / HTTP/1.1\r\nHost: a\r\nX:", b"b\r\n\r\n"),
                octet == b'\t' || (octet >= b' ' && octet != 0x7f),
            ),
        ] {
            let found = every_way(&policy, false, &wire);
            assert_eq!(found.error.is_none(), legal, "{octet:#x} in the {place}");
            assert_eq!(
                found.requests.len(),
                usize::from(legal),
                "{octet:#x} in the {place}"
            );
        }
    }
}

//! A request head under every policy.
//!
//! Invariants:
//! - whole, cut once anywhere, in pieces of planned sizes and octet by octet: the same requests, the same error, the
//!   same octets left;
//! - the first head is accepted only if a naive reading of the same octets finds it legal, and then says the same;
//!   it is refused only if that reading refuses it too (but for the form of the target, which only the product knows);
//! - path and query are pieces of the target;
//! - an accepted head, written anew from what it said, is the same request again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meinheld_fuzz::Input;
use meinheld_fuzz::naive_head::{Verdict, read};
use meinheld_fuzz::peer::{Request, Transcript, converse};
use meinheld_protocol::{Error, Framing, Limits, Policy};

fuzz_target!(|octets: &[u8]| {
    let Some(input) = Input::read(octets) else {
        return;
    };
    let (policy, wire) = (&input.policy, input.wire);
    let whole = converse(policy, input.trusted, [wire], false);
    let cut = usize::from(u16::from_le_bytes([input.plan[0], input.plan[1]])) % (wire.len() + 1);
    let (front, back) = wire.split_at(cut);
    for other in [
        converse(policy, input.trusted, [front, back], false),
        converse(policy, input.trusted, input.pieces(), false),
        converse(policy, input.trusted, wire.chunks(1), false),
    ] {
        assert_eq!(other, whole);
    }
    assert_agrees(&input, &whole);
    if let Some(request) = whole.requests.first() {
        assert_lies_in_target(request);
        assert_survives_encoding(policy, input.trusted, request);
    }
});

fn assert_agrees(input: &Input, whole: &Transcript) {
    match (
        whole.requests.first(),
        &whole.error,
        read(&input.policy, input.trusted, input.wire),
    ) {
        (Some(request), _, Verdict::Head(naive)) => {
            assert_eq!(request.method, naive.method);
            assert_eq!(request.target, naive.target);
            let version = request.version;
            assert_eq!((version.major(), version.minor()), naive.version);
            assert_eq!(request.fields, naive.fields);
            assert_eq!(request.framing, naive.framing);
            assert_eq!(request.scheme, naive.scheme);
            assert_eq!(request.keep_alive, naive.keep_alive);
            assert_eq!(request.continue_due, naive.continue_due);
            if request.framing == Framing::None && !request.keep_alive {
                assert_eq!(whole.left, &input.wire[naive.len..]);
            }
        }
        (None, Some(_), Verdict::Refused(_)) => {}
        // An error is reported as soon as it is there, which may be before the empty line.
        (None, _, Verdict::Incomplete) => {}
        (None, Some(Error::Target(_)), Verdict::Head(_)) => {}
        (request, error, naive) => panic!("{request:?}, {error:?}, but naively {naive:?}"),
    }
}

fn assert_lies_in_target(request: &Request) {
    let target = &request.target;
    let holds = |part: &[u8]| part.is_empty() || target.windows(part.len()).any(|w| w == part);
    assert!(holds(&request.path) && holds(&request.query));
    assert!(!request.path.contains(&b'?') && !request.path.contains(&b'#'));
    assert!(!request.query.contains(&b'#'));
    match (request.method.as_slice(), target.as_slice()) {
        (b"CONNECT", _) => {
            assert!(!target.contains(&b'/') && target.contains(&b':'));
            assert!(!request.keep_alive);
        }
        (b"OPTIONS", b"*") => assert_eq!(request.path, b"*"),
        (_, [b'/', ..]) => {
            assert!(target.starts_with(&request.path) && request.path.starts_with(b"/"));
        }
        _ => {
            let host = |(name, _): &&(Vec<u8>, _)| name.eq_ignore_ascii_case(b"host");
            let (_, authority) = request.fields.iter().find(host).expect("of the target");
            assert!(!authority.is_empty() && holds(&[b"://", &authority[..]].concat()));
            assert!(request.path.is_empty() || request.path.starts_with(b"/"));
        }
    }
}

fn assert_survives_encoding(policy: &Policy, trusted: bool, request: &Request) {
    let mut wire = Vec::new();
    for part in [&request.method[..], b" ", &request.target, b" "] {
        wire.extend_from_slice(part);
    }
    wire.extend_from_slice(request.version.to_string().as_bytes());
    wire.extend_from_slice(b"\r\n");
    for (name, value) in &request.fields {
        for part in [&name[..], b":", value, b"\r\n"] {
            wire.extend_from_slice(part);
        }
    }
    wire.extend_from_slice(b"\r\n");
    // A head that was shorter by a white space than its limit is not the point here.
    let policy = Policy {
        limits: Limits {
            request_line: usize::MAX,
            fields: usize::MAX,
            field_size: usize::MAX,
            max_body: policy.limits.max_body,
        },
        ..policy.clone()
    };
    let again = converse(&policy, trusted, [&wire[..]], false);
    let [again] = &again.requests[..] else {
        panic!("{}: {again:?}", wire.escape_ascii());
    };
    let without_body = |request: &Request| Request {
        body: Vec::new(),
        complete: false,
        ..request.clone()
    };
    assert_eq!(without_body(again), without_body(request));
}

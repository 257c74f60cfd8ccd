//! What holds for every input: splits do not matter, nothing panics, what is encoded decodes to itself.

mod peer;

use meinheld_protocol::encode::{CHUNK_END, chunk_prefix};
use meinheld_protocol::{Limits, Policy};
use peer::{Transcript, converse, every_way, limited};
use proptest::prelude::*;

/// Pieces of the grammar, legal and not, out of which nearly-valid requests are made.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::sample::select(vec![
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"POST /p?q HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET ", b"POST ", b"CONNECT ", b"/", b"a:1", b"*", b"http://[::1]/", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b" HTTP/2.0\r\n",
            b"Host: a\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Content-Length: ", b"Content-Length: 5\r\n",
            b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"X_Y: z\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r",
            b" ", b"\t", b":", b";", b" : ", b"\r\n ", b"5\r\nhello\r\n", b"3\r\nabc\r\n", b"0\r\n", b"0\r\n\r\n", b"1;a=\"b\"\r\nx\r\n", b"\0",
            b"\xff", b"a", b"F",
        ]).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ]
}

fn wire() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(fragment(), 0..24).prop_map(|fragments| fragments.concat())
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(Policy::default()),
        Just(limited(20, 3, 30)),
        Just(limited(0, 0, 0)),
        Just(Policy {
            permit_unconventional_method: true,
            casefold_method: true,
            permit_unconventional_version: true,
            permit_obsolete_folding: true,
            strip_header_spaces: true,
            limits: Limits {
                max_body: Some(4),
                ..Limits::default()
            },
            ..Policy::default()
        }),
    ]
}

/// `wire` cut at the given places.
fn pieces<'a>(wire: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
    places.extend([0, wire.len()]);
    places.sort_unstable();
    places
        .windows(2)
        .map(|pair| &wire[pair[0]..pair[1]])
        .collect()
}

fn assert_same(one: &Transcript, other: &Transcript) {
    assert_eq!(one.requests, other.requests);
    assert_eq!(one.error, other.error);
    assert_eq!(one.left.is_empty(), other.left.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1500) })]

    #[test]
    fn any_split_parses_to_the_same_events(
        wire in wire(), policy in policy(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12), fin: bool,
    ) {
        let whole = converse(&policy, true, [&wire[..]], fin);
        let split = converse(&policy, true, pieces(&wire, &cuts), fin);
        assert_same(&whole, &split);
    }

    #[test]
    fn no_octets_panic(wire in prop::collection::vec(any::<u8>(), 0..300), policy in policy()) {
        every_way(&policy, false, &wire);
        every_way(&policy, false, &[b"GET / HTTP/1.1\r\nHost: a\r\n", &wire[..]].concat());
        every_way(&policy, false, &[b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", &wire[..]].concat());
    }

    #[test]
    fn whatever_is_accepted_obeys_the_grammar(wire in wire()) {
        for request in converse(&Policy::default(), false, [&wire[..]], false).requests {
            let tchar = |o: &u8| o.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(o);
            prop_assert!(!request.method.is_empty() && request.method.iter().all(tchar));
            prop_assert!(request.target.iter().all(|&o| o > b' ' && o != 0x7f));
            for (name, value) in &request.fields {
                prop_assert!(!name.is_empty() && name.iter().all(tchar));
                prop_assert!(value.iter().all(|&o| o == b'\t' || (o >= b' ' && o != 0x7f)));
                prop_assert_eq!(value.trim_ascii().len(), value.len());
            }
        }
    }

    #[test]
    fn chunks_decode_to_what_was_encoded(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..8),
    ) {
        let mut wire = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for block in blocks.iter().filter(|block| !block.is_empty()) {
            chunk_prefix(&mut wire, block.len());
            wire.extend_from_slice(block);
            wire.extend_from_slice(CHUNK_END);
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        let transcript = every_way(&Policy::default(), false, &wire);
        prop_assert_eq!(transcript.error, None);
        prop_assert_eq!(&transcript.requests[0].body, &blocks.concat());
        prop_assert!(transcript.requests[0].complete);
    }

    #[test]
    fn fields_arrive_as_they_were_sent(
        fields in prop::collection::vec(("[a-zA-Z][a-zA-Z0-9!#$%&'*+.^`|~-]{0,20}", "[!-~]([ -~]{0,40}[!-~])?"), 0..40),
    ) {
        let mut wire = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
        let fields: Vec<_> = fields.iter().map(|(name, value)| (format!("X-{name}"), value)).collect();
        for (name, value) in &fields {
            wire.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        wire.extend_from_slice(b"\r\n");
        let transcript = converse(&Policy::default(), false, [&wire[..]], false);
        prop_assert_eq!(transcript.error, None);
        let found = &transcript.requests[0].fields[1..];
        prop_assert_eq!(found.len(), fields.len());
        for ((name, value), (sent_name, sent_value)) in found.iter().zip(&fields) {
            prop_assert_eq!(name, sent_name.as_bytes());
            prop_assert_eq!(value, sent_value.as_bytes());
        }
    }
}

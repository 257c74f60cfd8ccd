//! Octets behind the head of a chunked POST.
//!
//! Invariants:
//! - whole, in pieces of planned sizes and octet by octet: the data, the verdict and the status that a naive decoder
//!   finds in the whole;
//! - the octets behind the end of the body are untouched.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meinheld_fuzz::Input;
use meinheld_fuzz::naive_chunks::{Verdict, decode};
use meinheld_protocol::{Buffer, Connection, HeadPool, Policy, Received};

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

fuzz_target!(|octets: &[u8]| {
    let Some(input) = Input::read(octets) else {
        return;
    };
    let naive = decode(&input.policy, input.wire);
    assert_eq!(receive(&input.policy, &[input.wire]), naive);
    assert_eq!(receive(&input.policy, &input.pieces()), naive);
    let by_octet: Vec<&[u8]> = input.wire.chunks(1).collect();
    assert_eq!(receive(&input.policy, &by_octet), naive);
});

/// What the product makes of the body that comes in these pieces.
fn receive(policy: &Policy, pieces: &[&[u8]]) -> (Vec<u8>, Verdict) {
    let mut heads = HeadPool::default();
    let mut connection = Connection::new();
    let len: usize = pieces.iter().map(|piece| piece.len()).sum();
    let mut input = Buffer::with_storage(vec![0; HEAD.len() + len]);
    put(&mut input, HEAD);
    // The head is not what this is about: its limits are not those of the body.
    let open = Policy::default();
    let Ok(Received::Head(_)) = connection.receive(&open, false, &mut input, &mut heads) else {
        panic!("the head is legal");
    };
    let mut data = Vec::new();
    let mut delivered = 0;
    for piece in pieces {
        put(&mut input, piece);
        delivered += piece.len();
        loop {
            match connection.receive(policy, false, &mut input, &mut heads) {
                Ok(Received::NeedMore) => break,
                Ok(Received::Data(octets)) => {
                    assert!(!octets.is_empty());
                    data.extend_from_slice(octets);
                }
                Ok(Received::End) => {
                    let wire = pieces.concat();
                    assert_eq!(input.as_slice(), &wire[delivered - input.len()..delivered]);
                    return (data, Verdict::End(delivered - input.len()));
                }
                Ok(Received::Head(head)) => panic!("a head within a body: {head:?}"),
                Err(error) => {
                    let status = error.status().expect("nobody ended their side");
                    return (data, Verdict::Refused(status.code));
                }
            }
        }
    }
    (data, Verdict::Incomplete)
}

fn put(input: &mut Buffer, octets: &[u8]) {
    let room = input.room();
    room[..octets.len()].copy_from_slice(octets);
    input.filled(octets.len());
}

//! The first octets of a connection, which may be a PROXY header.
//!
//! The first octet of an input chooses the accepted versions.
//!
//! Invariants:
//! - a verdict is final: once it is not "incomplete", no octet that follows changes it;
//! - a header ends within the octets that came;
//! - a naive reading of the same octets comes to the same verdict and the same addresses; only where that one waits
//!   for the rest of a header, a fault may be seen already.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meinheld_fuzz::naive_proxy::{self, Says, Verdict};
use meinheld_reactor::proxy::{Origin, Preface, Versions, read};

/// Every prefix is read, so that a long input costs its square; a header with addresses is far shorter.
const LONGEST: usize = 600;

fuzz_target!(|input: &[u8]| {
    let Some((versions, octets)) = input.split_first() else {
        return;
    };
    let accepted = [Versions::V1, Versions::V2, Versions::Any][usize::from(versions % 3)];
    let octets = &octets[..octets.len().min(LONGEST)];
    let whole = read(octets, accepted);
    for end in 0..octets.len() {
        let part = read(&octets[..end], accepted);
        assert!(part == Ok(Preface::Incomplete) || part == whole);
    }
    if let Ok(Preface::Header { length, .. }) = whole {
        assert!(length <= octets.len());
        let behind = [&octets[..length], b"\r\nGET / HTTP/1.1\r\n"].concat();
        assert_eq!(read(&behind, accepted), whole);
    }
    let naive = naive_proxy::read(octets, accepted);
    let found = match whole {
        Ok(Preface::Incomplete) => Verdict::Incomplete,
        Ok(Preface::Absent) => Verdict::Absent,
        Err(_) if naive == Verdict::Incomplete => Verdict::Incomplete,
        Err(_) => Verdict::Refused,
        Ok(Preface::Header { length, origin }) => Verdict::Header {
            length,
            says: match origin {
                Origin::Relayed {
                    source,
                    destination,
                } => Says::Addresses(source, destination),
                other => Says::NoAddresses(other.protocol()),
            },
        },
    };
    assert_eq!(found, naive);
});

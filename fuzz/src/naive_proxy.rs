//! A reading of PROXY headers that shares nothing with the product's: by `proxy-protocol.txt`, field by field.

use meinheld_reactor::proxy::Versions;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest line of version 1, with its CRLF (section 2.1).
const LONGEST_LINE: usize = 107;

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Incomplete,
    Absent,
    Refused,
    Header { length: usize, says: Says },
}

#[derive(Debug, PartialEq, Eq)]
pub enum Says {
    Addresses(SocketAddr, SocketAddr),
    /// UNKNOWN, LOCAL or UNSPEC.
    NoAddresses(&'static str),
}

/// What `octets` begin with.
pub fn read(octets: &[u8], accepted: Versions) -> Verdict {
    let (v1, v2) = match accepted {
        Versions::V1 => (true, false),
        Versions::V2 => (false, true),
        Versions::Any => (true, true),
    };
    if v1 && octets.starts_with(b"PROXY ") {
        read_line(octets)
    } else if v2 && octets.starts_with(SIGNATURE) {
        read_binary(octets)
    } else if v1 && b"PROXY ".starts_with(octets) || v2 && SIGNATURE.starts_with(octets) {
        Verdict::Incomplete
    } else {
        Verdict::Absent
    }
}

fn read_line(octets: &[u8]) -> Verdict {
    let window = &octets[..octets.len().min(LONGEST_LINE)];
    let Some(end) = window.windows(2).position(|two| two == b"\r\n") else {
        let (last, before) = window.split_last().expect("a prefix at least");
        let broken = *last == b'\n' || before.iter().any(|octet| b"\r\n".contains(octet));
        return match broken || window.len() == LONGEST_LINE {
            true => Verdict::Refused,
            false => Verdict::Incomplete,
        };
    };
    let line = &window[..end];
    if line.iter().any(|octet| b"\r\n".contains(octet)) {
        return Verdict::Refused;
    }
    let words: Vec<&[u8]> = line.split(|&octet| octet == b' ').collect();
    let says = match words[1..] {
        // Section 2.1: the receiver must ignore anything presented before the CRLF is found.
        [b"UNKNOWN", ..] => Some(Says::NoAddresses("UNKNOWN")),
        [family @ (b"TCP4" | b"TCP6"), source, destination, from, to] => {
            let v4 = family == b"TCP4";
            let pair = |ip, word| Some(SocketAddr::new(address(v4, ip)?, port(word)?));
            pair(source, from)
                .zip(pair(destination, to))
                .map(|(source, destination)| Says::Addresses(source, destination))
        }
        _ => None,
    };
    let length = end + 2;
    says.map_or(Verdict::Refused, |says| Verdict::Header { length, says })
}

fn address(v4: bool, word: &[u8]) -> Option<IpAddr> {
    if !v4 {
        let address: Ipv6Addr = std::str::from_utf8(word).ok()?.parse().ok()?;
        return Some(address.into());
    }
    let numbers: Option<Vec<u8>> = word
        .split(|&octet| octet == b'.')
        .map(|digits| u8::try_from(number(digits)?).ok())
        .collect();
    let four: [u8; 4] = numbers?.try_into().ok()?;
    Some(Ipv4Addr::from(four).into())
}

fn port(word: &[u8]) -> Option<u16> {
    u16::try_from(number(word)?).ok()
}

/// Decimal digits without a leading zero.
fn number(digits: &[u8]) -> Option<u32> {
    let legal = (1..=5).contains(&digits.len())
        && digits.iter().all(u8::is_ascii_digit)
        && (digits.len() == 1 || digits[0] != b'0');
    legal.then(|| {
        digits
            .iter()
            .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
    })
}

fn read_binary(octets: &[u8]) -> Verdict {
    let &[command, family, high, low, ref rest @ ..] = &octets[SIGNATURE.len()..] else {
        return Verdict::Incomplete;
    };
    let announced = usize::from(high) << 8 | usize::from(low);
    let Some(addresses) = rest.get(..announced) else {
        return Verdict::Incomplete;
    };
    let ip = |at: usize, size: usize| -> IpAddr {
        let octets = &addresses[at..at + size];
        match <[u8; 4]>::try_from(octets) {
            Ok(four) => Ipv4Addr::from(four).into(),
            Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(octets).expect("sixteen")).into(),
        }
    };
    let port = |at: usize| u16::from(addresses[at]) << 8 | u16::from(addresses[at + 1]);
    let pair = |size: usize| {
        let ports = 2 * size;
        let source = SocketAddr::new(ip(0, size), port(ports));
        Says::Addresses(source, SocketAddr::new(ip(size, size), port(ports + 2)))
    };
    let says = match (command, family) {
        (0x20, _) => Says::NoAddresses("LOCAL"),
        (0x21, 0x00..=0x02) => Says::NoAddresses("UNSPEC"),
        (0x21, 0x11) if announced >= 12 => pair(4),
        (0x21, 0x21) if announced >= 36 => pair(16),
        _ => return Verdict::Refused,
    };
    Verdict::Header {
        length: 16 + announced,
        says,
    }
}

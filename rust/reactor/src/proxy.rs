//! The PROXY protocol, versions 1 and 2: for whom a proxy speaks, said before the first octet of
//! HTTP (gunicorn `proxy_protocol`; HAProxy's `proxy-protocol.txt`).
//!
//! A header is delimited here, so that the verdict does not depend on how it arrives, and its
//! addresses are read by `ppp`.

use std::fmt;
use std::net::SocketAddr;

use meinheld_protocol::{Excerpt, Status};

use crate::client::Client;
use crate::drain::Lifecycle;
use crate::event::{ConnId, Rejection};
use crate::peer::{Peer, Trust};
use crate::reactor::Reactor;

/// Longest line of version 1, with its CRLF (section 2.1).
const LONGEST_LINE: usize = 107;
const LINE_PREFIX: &[u8] = b"PROXY ";
/// Octets of a version 2 header before its addresses; the last two are the length of the rest.
const FIXED: usize = 16;
/// Version 2, command LOCAL: what follows is to be skipped, whatever it is (section 2.2).
const LOCAL: u8 = 0x20;

/// Which headers are taken for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// The text of version 1.
    V1,
    /// The binary form of version 2.
    V2,
    /// Either.
    Any,
}

/// Whose headers are read (gunicorn `proxy_protocol` and `proxy_allow_ips`).
#[derive(Clone, Debug)]
pub struct ProxyProtocol {
    /// Which headers are taken for one. A connection may begin without any.
    pub versions: Versions,
    /// Who may send one: from anybody else it is refused with 403.
    pub trust: Trust,
}

/// For whom a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// For a client over TCP.
    Relayed {
        /// The client.
        source: SocketAddr,
        /// What the client connected to.
        destination: SocketAddr,
    },
    /// For itself: a health check (version 2, command LOCAL).
    Local,
    /// For somebody whose address it does not tell (version 2, family UNSPEC).
    Unspecified,
    /// The same in version 1 (UNKNOWN).
    Unknown,
}

impl Origin {
    /// The name at `PROXY_PROTOCOL` in gunicorn's `environ`.
    pub fn protocol(&self) -> &'static str {
        match self {
            Self::Relayed { source, .. } if source.is_ipv4() => "TCP4",
            Self::Relayed { .. } => "TCP6",
            Self::Local => "LOCAL",
            Self::Unspecified => "UNSPEC",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// Who asks, for logs: the client that `origin` names, else the peer itself.
    pub(crate) fn who(origin: Option<&Self>, peer: &Peer) -> Peer {
        match origin {
            Some(Self::Relayed { source, .. }) => Peer::Tcp(*source),
            _ => peer.clone(),
        }
    }
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preface {
    /// Perhaps a header, when more octets have come.
    Incomplete,
    /// No header.
    Absent,
    /// A header.
    Header {
        /// Its octets; HTTP begins behind them.
        length: usize,
        /// What it says.
        origin: Origin,
    },
}

/// What is wrong with a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its sender is not among those who may send one.
    Forbidden,
    /// The line of version 1 is malformed.
    Line(Excerpt),
    /// The header of version 2 is malformed, or for a transport other than TCP.
    Binary(String),
}

impl Fault {
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Forbidden => Status::FORBIDDEN,
            Self::Line(_) | Self::Binary(_) => Status::BAD_REQUEST,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden => f.write_str("this address may not send a PROXY header"),
            Self::Line(line) => write!(f, "invalid PROXY line {line}"),
            Self::Binary(reason) => write!(f, "invalid PROXY header: {reason}"),
        }
    }
}

/// Reads the header that `octets` may begin with. The verdict is final as soon as it is not
/// [`Preface::Incomplete`].
///
/// # Errors
///
/// Something that begins like a header, and is none.
pub fn read(octets: &[u8], accepted: Versions) -> Result<Preface, Fault> {
    let begins = |prefix: &[u8]| octets.starts_with(prefix) || prefix.starts_with(octets);
    let v1 = accepted != Versions::V2 && begins(LINE_PREFIX);
    let v2 = accepted != Versions::V1 && begins(ppp::v2::PROTOCOL_PREFIX);
    match (v1, v2) {
        (true, _) if octets.len() >= LINE_PREFIX.len() => read_line(octets),
        (_, true) if octets.len() >= FIXED => read_binary(octets),
        (false, false) => Ok(Preface::Absent),
        _ => Ok(Preface::Incomplete),
    }
}

/// Whether a header has begun, however much of it is missing.
fn has_begun(octets: &[u8], accepted: Versions) -> bool {
    (accepted != Versions::V2 && octets.starts_with(LINE_PREFIX))
        || (accepted != Versions::V1 && octets.starts_with(ppp::v2::PROTOCOL_PREFIX))
}

fn read_line(octets: &[u8]) -> Result<Preface, Fault> {
    let window = &octets[..octets.len().min(LONGEST_LINE)];
    let end = window
        .iter()
        .position(|octet| matches!(octet, b'\r' | b'\n'));
    let length = match end {
        // Its LF has not come, and may come yet.
        Some(end) if octets.len() == end + 1 && end + 1 < LONGEST_LINE && octets[end] == b'\r' => {
            return Ok(Preface::Incomplete);
        }
        Some(end) if window[end..].starts_with(b"\r\n") => end + 2,
        None if octets.len() < LONGEST_LINE => return Ok(Preface::Incomplete),
        Some(end) => return Err(Fault::Line(octets[..=end].into())),
        None => return Err(Fault::Line(window.into())),
    };
    let line = &octets[..length];
    // Whatever follows is to be skipped (section 2.1).
    if let Some([b' ' | b'\r', ..]) = line.strip_prefix(b"PROXY UNKNOWN") {
        let origin = Origin::Unknown;
        return Ok(Preface::Header { length, origin });
    }
    let fault = || Fault::Line(line[..length - 2].into());
    let header = ppp::v1::Header::try_from(line).map_err(|_| fault())?;
    let origin = match header.addresses {
        // Rust takes "+80" for a number; the protocol does not.
        _ if line.contains(&b'+') => return Err(fault()),
        ppp::v1::Addresses::Tcp4(pair) => Origin::Relayed {
            source: (pair.source_address, pair.source_port).into(),
            destination: (pair.destination_address, pair.destination_port).into(),
        },
        ppp::v1::Addresses::Tcp6(pair) => Origin::Relayed {
            source: (pair.source_address, pair.source_port).into(),
            destination: (pair.destination_address, pair.destination_port).into(),
        },
        ppp::v1::Addresses::Unknown => Origin::Unknown,
    };
    Ok(Preface::Header { length, origin })
}

fn read_binary(octets: &[u8]) -> Result<Preface, Fault> {
    use ppp::v2::{Addresses, Header, ParseError, Protocol};

    let length = FIXED + usize::from(u16::from_be_bytes([octets[14], octets[15]]));
    if octets[12] == LOCAL {
        return Ok(match octets.len() < length {
            true => Preface::Incomplete,
            false => Preface::Header {
                length,
                origin: Origin::Local,
            },
        });
    }
    let header = match Header::try_from(octets) {
        Ok(header) => header,
        Err(ParseError::Incomplete(_) | ParseError::Partial(..)) => return Ok(Preface::Incomplete),
        Err(error) => return Err(Fault::Binary(error.to_string())),
    };
    let origin = match (header.addresses, header.protocol) {
        (Addresses::Unspecified, _) => Origin::Unspecified,
        (Addresses::IPv4(pair), Protocol::Stream) => Origin::Relayed {
            source: (pair.source_address, pair.source_port).into(),
            destination: (pair.destination_address, pair.destination_port).into(),
        },
        (Addresses::IPv6(pair), Protocol::Stream) => Origin::Relayed {
            source: (pair.source_address, pair.source_port).into(),
            destination: (pair.destination_address, pair.destination_port).into(),
        },
        _ => return Err(Fault::Binary("only TCP is served".to_owned())),
    };
    Ok(Preface::Header { length, origin })
}

/// How far a connection has got with its header.
#[derive(Debug)]
pub(crate) enum Proxying {
    /// Its first octets may be a header.
    Awaited,
    /// It had none.
    Direct,
    /// It had this one, which counts for all of its requests.
    By(Box<Origin>),
}

impl Proxying {
    /// What the header said, if there was one.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        match self {
            Self::By(origin) => Some(origin),
            Self::Awaited | Self::Direct => None,
        }
    }
}

impl Client {
    /// Who asks, for logs.
    pub(crate) fn who(&self) -> Peer {
        Origin::who(self.proxying.origin(), &self.peer)
    }

    /// Whether a part of a header has come.
    pub(crate) fn is_introducing(&self) -> bool {
        matches!(self.proxying, Proxying::Awaited) && !self.input.is_empty()
    }
}

impl Reactor {
    /// Reads the PROXY header that a connection may begin with; `false` while it must not be read
    /// for requests.
    pub(crate) fn settle_proxying(&mut self, id: ConnId) -> bool {
        let Some(settings) = &self.options.proxy_protocol else {
            return true;
        };
        let Some(client) = self
            .clients
            .get_mut(id.index as usize)
            .filter(|client| client.generation == id.generation)
        else {
            return false;
        };
        if !matches!(client.proxying, Proxying::Awaited) || client.input.is_empty() {
            return true;
        }
        let octets = client.input.as_slice();
        if has_begun(octets, settings.versions) && !settings.trust.holds(&client.peer) {
            self.reject(id, Rejection::Proxy(Fault::Forbidden));
            return false;
        }
        match read(octets, settings.versions) {
            Ok(Preface::Incomplete) => return false,
            Ok(Preface::Absent) => client.proxying = Proxying::Direct,
            Ok(Preface::Header { length, origin }) => {
                client.input.consume(length);
                client.proxying = Proxying::By(Box::new(origin));
                if self.lifecycle != Lifecycle::Serving {
                    // It was not idle when the others were told to hurry.
                    self.set_deadline(id, self.options.timeouts.drain_idle);
                }
            }
            Err(fault) => {
                self.reject(id, Rejection::Proxy(fault));
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    /// The verdict, which must be the same for every way in which the octets arrive.
    fn read_every_way(octets: &[u8], accepted: Versions) -> Result<Preface, Fault> {
        let whole = read(octets, accepted);
        for end in 0..octets.len() {
            let part = read(&octets[..end], accepted);
            assert!(
                part == Ok(Preface::Incomplete) || part == whole,
                "{part:?} after {end} octets, {whole:?} in the end"
            );
        }
        whole
    }

    fn relayed(source: &str, destination: &str) -> Origin {
        Origin::Relayed {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    fn binary(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[version_command, family], &length, rest].concat()
    }

    #[track_caller]
    fn assert_says(header: &[u8], origin: Origin) {
        let length = header.len();
        let octets = [header, b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(
            read_every_way(&octets, Versions::Any),
            Ok(Preface::Header { length, origin })
        );
    }

    #[test]
    fn a_line_names_client_and_destination() {
        assert_says(
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n",
            relayed("192.0.2.1:56324", "198.51.100.1:443"),
        );
        assert_says(
            b"PROXY TCP6 2001:DB8::1 ::1 0 65535\r\n",
            relayed("[2001:db8::1]:0", "[::1]:65535"),
        );
        assert_says(b"PROXY UNKNOWN\r\n", Origin::Unknown);
        assert_says(b"PROXY UNKNOWN ::1 rubbish 1 2 3\r\n", Origin::Unknown);
        let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LONGEST_LINE - 16));
        assert_says(longest.as_bytes(), Origin::Unknown);
    }

    #[test]
    fn anything_else_in_a_line_is_a_fault() {
        for line in [
            &b"PROXY \r\n"[..],
            b"PROXY TCP4\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
            b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
            b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
            b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
            b"PROXY TCP6 1.2.3.4 ::1 1 2\r\n",
            b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rX",
            b"PROXY TCP4 1.2.3.4 \xff 1 2\r\n",
        ] {
            let verdict = read_every_way(line, Versions::Any);
            assert!(
                matches!(verdict, Err(Fault::Line(_))),
                "{}: {verdict:?}",
                line.escape_ascii()
            );
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LONGEST_LINE - 15));
        assert!(read_every_way(long.as_bytes(), Versions::Any).is_err());
    }

    #[test]
    fn a_binary_header_names_client_and_destination() {
        assert_says(
            &binary(0x21, 0x11, &[192, 0, 2, 1, 198, 51, 100, 1, 0, 80, 1, 187]),
            relayed("192.0.2.1:80", "198.51.100.1:443"),
        );
        let mut addresses = [0; 36];
        (addresses[15], addresses[31], addresses[33]) = (1, 2, 80);
        let extended = [&addresses[..], b"\x04\x00\x01\x00"].concat();
        assert_says(
            &binary(0x21, 0x21, &extended),
            relayed("[::1]:80", "[::2]:0"),
        );
        assert_says(&binary(0x20, 0x00, b""), Origin::Local);
        assert_says(&binary(0x20, 0xff, b"whatever"), Origin::Local);
        assert_says(&binary(0x21, 0x00, b"skipped"), Origin::Unspecified);
    }

    #[test]
    fn anything_else_in_a_binary_header_is_a_fault() {
        for header in [
            binary(0x11, 0x11, &[0; 12]),
            binary(0x22, 0x11, &[0; 12]),
            binary(0x21, 0x11, &[0; 11]),
            binary(0x21, 0x21, &[0; 35]),
            binary(0x21, 0x12, &[0; 12]),
            binary(0x21, 0x31, &[0; 216]),
            binary(0x21, 0x41, &[0; 12]),
            binary(0x21, 0x13, &[0; 12]),
        ] {
            let verdict = read_every_way(&header, Versions::Any);
            assert!(matches!(verdict, Err(Fault::Binary(_))), "{verdict:?}");
        }
    }

    #[test]
    fn only_the_accepted_versions_are_headers() {
        let line = &b"PROXY UNKNOWN\r\n"[..];
        let local = binary(0x20, 0, b"");
        assert_eq!(read_every_way(line, Versions::V2), Ok(Preface::Absent));
        assert_eq!(read_every_way(&local, Versions::V1), Ok(Preface::Absent));
        for request in [
            &b"GET / HTTP/1.1"[..],
            b"POST /",
            b"PROXY/",
            b"\r\nGET /",
            b"\r\n\r\n\r\n",
        ] {
            assert_eq!(read_every_way(request, Versions::Any), Ok(Preface::Absent));
        }
    }
}

//! The four forms of a request target (RFC 9112 section 3.2), and where path and query are in it.

use crate::grammar::{alphanumeric_and, decimal};
use core::net::Ipv6Addr;
use core::ops::Range;
use memchr::{memchr, memchr2, memchr3, memmem};

/// Offsets into a request target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) path: Range<usize>,
    pub(crate) query: Range<usize>,
    /// Of the absolute form only: what overrides Host (RFC 9112 section 3.2.2).
    pub(crate) authority: Option<Range<usize>>,
}

/// What the form of a target is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MethodKind {
    Connect,
    Options,
    Other,
}

/// Splits a target as gunicorn's `split_request_uri` does, which is Python's `urlsplit` with `//` taken for a path.
///
/// `None` for what is no target of this method. Stricter than gunicorn in three places: the authority form wants a
/// host and a port and is the only one of CONNECT (RFC 9112 section 3.2.3); the absolute form starts with a scheme and
/// a host; and it has no userinfo (RFC 9110 sections 4.2.1 and 4.2.4).
pub(crate) fn split(method: MethodKind, target: &[u8]) -> Option<Parts> {
    // Octets above 0x7f are let through: nginx forwards raw UTF-8 and applications expect it undamaged.
    if target
        .iter()
        .fold(false, |bad, &o| bad | (o <= b' ') | (o == 0x7f))
    {
        return None;
    }
    match (method, target) {
        (MethodKind::Connect, _) => authority_form(target),
        (_, [b'/', ..]) => Some(path_and_query(target, 0)),
        (MethodKind::Options, b"*") => Some(path_and_query(target, 0)),
        _ => absolute_form(target),
    }
}

/// The path that starts at `from`, the query behind its `?`; a fragment is left out.
fn path_and_query(target: &[u8], from: usize) -> Parts {
    let rest = target.get(from..).unwrap_or_default();
    let Some(path_end) = memchr2(b'?', b'#', rest) else {
        return Parts {
            path: from..target.len(),
            ..Parts::default()
        };
    };
    let path = from..from + path_end;
    let query = match rest.get(path_end) {
        Some(b'?') => {
            let from = path.end + 1;
            let rest = target.get(from..).unwrap_or_default();
            from..from + memchr(b'#', rest).unwrap_or(rest.len())
        }
        _ => 0..0,
    };
    Parts {
        path,
        query,
        authority: None,
    }
}

fn absolute_form(target: &[u8]) -> Option<Parts> {
    let scheme = memmem::find(target, b"://")?;
    if !is_scheme(target.get(..scheme)?) {
        return None;
    }
    let from = scheme + 3;
    let rest = target.get(from..)?;
    let authority = from..from + memchr3(b'/', b'?', b'#', rest).unwrap_or(rest.len());
    if !is_authority(target.get(authority.clone())?) {
        return None;
    }
    Some(Parts {
        authority: Some(authority.clone()),
        ..path_and_query(target, authority.end)
    })
}

/// `uri-host ":" port`, both there. The path is what `urlsplit` makes of it: the port, where the host could be a scheme.
fn authority_form(target: &[u8]) -> Option<Parts> {
    let colon = memchr::memrchr(b':', target)?;
    let port = decimal(target.get(colon + 1..)?)?;
    if port > u64::from(u16::MAX)
        || !is_authority(target)
        || memchr3(b'/', b'?', b'#', target).is_some()
    {
        return None;
    }
    let looks_like_scheme = is_scheme(target.get(..memchr(b':', target)?)?);
    Some(Parts {
        path: if looks_like_scheme { colon + 1 } else { 0 }..target.len(),
        ..Parts::default()
    })
}

/// `ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )` (RFC 3986 section 3.1).
fn is_scheme(octets: &[u8]) -> bool {
    matches!(octets, [first, rest @ ..] if first.is_ascii_alphabetic()
        && rest.iter().all(|o| o.is_ascii_alphanumeric() || matches!(o, b'+' | b'-' | b'.')))
}

/// A host, not empty, perhaps with a port: no userinfo (RFC 3986 section 3.2.2, RFC 9110 section 4.2.4).
pub(crate) fn is_authority(authority: &[u8]) -> bool {
    let (host_fits, after_host) = match authority {
        [b'[', rest @ ..] => {
            let end = memchr(b']', rest).unwrap_or(0);
            (
                is_ip_literal(&rest[..end]),
                &rest[(end + 1).min(rest.len())..],
            )
        }
        _ => {
            let (host, after) =
                authority.split_at(memchr(b':', authority).unwrap_or(authority.len()));
            (!host.is_empty() && is_reg_name(host), after)
        }
    };
    let port_fits = match after_host {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    host_fits && port_fits
}

/// Whether a value can be that of Host (RFC 9112 section 3.2): an authority, or nothing.
pub(crate) fn is_host(value: &[u8]) -> bool {
    value.is_empty() || is_authority(value)
}

/// `*( unreserved / pct-encoded / sub-delims )`.
fn is_reg_name(octets: &[u8]) -> bool {
    // No early exit: nearly always all of them are plain.
    octets
        .iter()
        .fold(true, |all, &octet| all & is_name_octet(octet))
        || is_encoded_reg_name(octets)
}

fn is_encoded_reg_name(mut rest: &[u8]) -> bool {
    loop {
        rest = match rest {
            [] => return true,
            [b'%', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                after
            }
            [octet, after @ ..] if is_name_octet(*octet) => after,
            _ => return false,
        };
    }
}

/// `unreserved / sub-delims` (RFC 3986 section 2).
const NAME: [bool; 256] = alphanumeric_and(b"-._~!$&'()*+,;=");

fn is_name_octet(octet: u8) -> bool {
    NAME[octet as usize]
}

/// `IPv6address / IPvFuture` (RFC 3986 section 3.2.2).
fn is_ip_literal(octets: &[u8]) -> bool {
    if let [b'v' | b'V', rest @ ..] = octets {
        let (version, address) = rest.split_at(memchr(b'.', rest).unwrap_or(0));
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && address.len() > 1
            && address[1..].iter().all(|&o| is_name_octet(o) || o == b':');
    }
    // A zone identifier has no meaning here, but Python lets it pass.
    let (address, zone) = octets.split_at(memchr(b'%', octets).unwrap_or(octets.len()));
    core::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
        && zone.iter().all(|&o| is_name_octet(o) || o == b'%')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: MethodKind, target: &[u8]) -> Option<(&[u8], &[u8])> {
        split(method, target).map(|parts| (&target[parts.path], &target[parts.query]))
    }

    #[test]
    fn origin_form_splits_as_urlsplit_does() {
        for (target, path, query) in [
            (&b"/"[..], &b"/"[..], &b""[..]),
            (b"/a%20b?c=d?e", b"/a%20b", b"c=d?e"),
            (b"/a#b?c", b"/a", b""),
            (b"/a?b#c?d", b"/a", b"b"),
            (b"/a?", b"/a", b""),
            (b"//a//b?c", b"//a//b", b"c"),
            (b"//[a?b", b"//[a", b"b"),
            (b"/x://y", b"/x://y", b""),
            (b"/\xc3\xa9\xff", b"/\xc3\xa9\xff", b""),
        ] {
            assert_eq!(parts(MethodKind::Other, target), Some((path, query)));
        }
    }

    #[test]
    fn absolute_form_yields_its_authority() {
        let target = b"http://a.b:80/p?q#f";
        let split = split(MethodKind::Other, target).unwrap();
        assert_eq!(split.authority, Some(7..13));
        assert_eq!(
            parts(MethodKind::Other, target),
            Some((&b"/p"[..], &b"q"[..]))
        );
        assert_eq!(
            parts(MethodKind::Other, b"http://a?q"),
            Some((&b""[..], &b"q"[..]))
        );
        assert!(parts(MethodKind::Other, b"http://[::1]:8/").is_some());
        assert!(parts(MethodKind::Other, b"http://[v1.x]/").is_some());
    }

    #[test]
    fn other_methods_than_connect_need_a_slash_or_a_scheme() {
        for target in [
            &b"a:80"[..],
            b"a",
            b"a?x=http://b",
            b"://a/",
            b"1http://a/",
            b"http:///p",
            b"http://:80/",
            b"http://u@a/",
            b"http://[::1/",
            b"http://::1]/",
            b"http://[zz]/",
            b"http://[v1.\x8b]/",
            b"http://[v.1]/",
            b"http://[v1.]/",
            b"http://[::1%\xff]/",
            b"http://[::1%[]/",
            b"http://[::1]x/",
            b"http://a:b/",
            b"*",
            b"",
        ] {
            assert_eq!(
                parts(MethodKind::Other, target),
                None,
                "{:?}",
                target.escape_ascii()
            );
        }
        assert_eq!(
            parts(MethodKind::Options, b"*"),
            Some((&b"*"[..], &b""[..]))
        );
        assert_eq!(parts(MethodKind::Options, b"**"), None);
    }

    #[test]
    fn connect_takes_host_and_port_only() {
        for (target, path) in [
            (&b"host:443"[..], &b"443"[..]),
            (b"a.b-c:1", b"1"),
            (b"1.2.3.4:443", b"1.2.3.4:443"),
            (b"a_b:443", b"a_b:443"),
            (b"[::1]:443", b"[::1]:443"),
        ] {
            assert_eq!(parts(MethodKind::Connect, target), Some((path, &b""[..])));
        }
        for target in [
            &b"/"[..],
            b"*",
            b"host",
            b"host:",
            b":443",
            b"host:65536",
            b"host:4x",
            b"http://a/",
            b"a/b:1",
            b"a?b:1",
            b"a:b:1",
        ] {
            assert_eq!(
                parts(MethodKind::Connect, target),
                None,
                "{:?}",
                target.escape_ascii()
            );
        }
    }

    #[test]
    fn controls_and_spaces_are_in_no_target() {
        for octet in 0..=255u8 {
            let target = [b'/', b'a', octet, b'b'];
            let legal = octet > b' ' && octet != 0x7f;
            assert_eq!(
                split(MethodKind::Other, &target).is_some(),
                legal,
                "{octet:#x}"
            );
        }
    }
}

//! gunicorn's permissive settings for field lines: never on the path of a head that is read strictly.
//!
//! A head is rewritten to what the strict parser takes, and then read like any other: there is one grammar.

use crate::grammar::{trim_end_ows, trim_ows};
use crate::limits::Policy;
use alloc::vec::Vec;
use memchr::memchr;

/// Whether any of the settings is on.
pub(crate) fn is_wanted(policy: &Policy) -> bool {
    policy.permit_obsolete_folding || policy.strip_header_spaces
}

/// The octets of a complete head with each folded field on one line, its parts joined by one space, and with no white
/// space before a colon, as far as the policy permits either.
///
/// `head` has passed the scanner: it is lines that end in CRLF, and a line begins with white space only where a field
/// may be continued. The rewritten head has as many fields and is not longer.
pub(crate) fn rewritten(policy: &Policy, head: &[u8], request_line: usize) -> Vec<u8> {
    let (first, lines) = head.split_at((request_line + 2).min(head.len()));
    let mut out = Vec::with_capacity(head.len());
    out.extend_from_slice(first);
    for line in lines.split_inclusive(|&octet| octet == b'\n') {
        let line = line.strip_suffix(b"\r\n").unwrap_or(line);
        if let [b' ' | b'\t', ..] = line {
            let before = out.strip_suffix(b"\r\n").unwrap_or(&out);
            out.truncate(trim_end_ows(before).len());
            out.push(b' ');
            out.extend_from_slice(trim_ows(line));
        } else {
            let (name, rest) = split_name(policy, line);
            out.extend_from_slice(name);
            out.extend_from_slice(rest);
        }
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The name of a field line, and what begins with its colon.
fn split_name<'a>(policy: &Policy, line: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    match memchr(b':', line) {
        Some(colon) if policy.strip_header_spaces => (trim_end_ows(&line[..colon]), &line[colon..]),
        _ => (line, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(lines: &[u8]) -> Vec<u8> {
        let policy = Policy {
            permit_obsolete_folding: true,
            strip_header_spaces: true,
            ..Policy::default()
        };
        let head = [&b"R\r\n"[..], lines, b"\r\n"].concat();
        let rewritten = rewritten(&policy, &head, 1);
        assert!(rewritten.len() <= head.len());
        let inner = rewritten.strip_prefix(b"R\r\n").unwrap();
        inner.strip_suffix(b"\r\n").unwrap().to_vec()
    }

    #[test]
    fn folded_lines_are_joined_by_one_space() {
        for (lines, expected) in [
            (&b"A: 1\r\n  2\r\nB: 3\r\n"[..], &b"A: 1 2\r\nB: 3\r\n"[..]),
            (b"A: 1 \t\r\n\t2\t\r\n 3\r\n", b"A: 1 2 3\r\n"),
            (b"A:\r\n 1\r\n", b"A: 1\r\n"),
        ] {
            assert_eq!(rewrite(lines), expected);
        }
    }

    #[test]
    fn white_space_before_a_colon_is_dropped() {
        assert_eq!(rewrite(b"A \t: 1 : 2\r\n"), b"A: 1 : 2\r\n");
        assert_eq!(rewrite(b"no colon \r\n"), b"no colon \r\n");
    }
}

//! Finding the end of a line, and of a head, in octets that arrive in pieces of any size.
//!
//! Positions are remembered between calls, so an octet is looked at once however slowly it comes, and every limit
//! is checked as soon as it is passed, so an endless line costs no more memory than the longest legal one.

use crate::error::Error;
use crate::limits::Policy;
use memchr::memchr2;

/// Why a line cannot be read to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LineFault {
    TooLong,
    BareLineFeed,
    BareCarriageReturn,
}

impl LineFault {
    /// The error that this fault is, where a line of too many octets is `too_long`.
    pub(crate) fn or_too_long(self, too_long: Error) -> Error {
        match self {
            Self::TooLong => too_long,
            Self::BareLineFeed => Error::BareLineFeed,
            Self::BareCarriageReturn => Error::BareCarriageReturn,
        }
    }
}

/// The offset of the CRLF that ends the line starting at `start`, or `None` if it has not come yet.
///
/// `scanned` is where to go on, at least `start`, and is moved. `limit` counts the line without its CRLF. Lines end
/// in CRLF only (RFC 9112 section 2.2): a line in which either octet stands alone is a fault at once.
pub(crate) fn line_end(
    data: &[u8],
    start: usize,
    scanned: &mut usize,
    limit: usize,
) -> Result<Option<usize>, LineFault> {
    let unread = data.get(*scanned..).unwrap_or_default();
    let found = memchr2(b'\r', b'\n', unread).map(|offset| *scanned + offset);
    *scanned = found.unwrap_or(data.len());
    // Length first: the verdict must not depend on how much of an overlong line has arrived.
    if scanned.saturating_sub(start) > limit {
        return Err(LineFault::TooLong);
    }
    let Some(end) = found else { return Ok(None) };
    match data.get(end..) {
        Some([b'\r', b'\n', ..]) => Ok(Some(end)),
        Some([b'\r']) => Ok(None),
        Some([b'\r', ..]) => Err(LineFault::BareCarriageReturn),
        _ => Err(LineFault::BareLineFeed),
    }
}

/// Whether a line that begins with `first`, behind `fields` fields, continues the last of them.
///
/// # Errors
///
/// When no line may begin so, or one more field is too many.
pub(crate) fn continues_field(policy: &Policy, fields: u32, first: u8) -> Result<bool, Error> {
    let limit = policy.limits.fields;
    match first {
        b' ' | b'\t' if policy.permit_obsolete_folding && fields > 0 => Ok(true),
        b' ' | b'\t' => Err(Error::ObsoleteFolding),
        b'\r' | b'\n' => Ok(false),
        _ if fields as usize >= limit => Err(Error::TooManyFields(limit)),
        _ => Ok(false),
    }
}

/// Where the parts of a complete head are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Octets of the head, with the empty line that ends it.
    pub(crate) len: usize,
    /// Octets of the request line, without its CRLF; never 0.
    pub(crate) request_line: usize,
    /// Field lines.
    pub(crate) fields: usize,
}

/// Walks over the lines of a head until the empty one.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    line: usize,
    /// Where the field of the present line begins: with the line, unless it continues one.
    field: usize,
    scanned: usize,
    /// 0 until the request line is complete: an empty one is never begun.
    request_line: usize,
    fields: u32,
}

impl Scanner {
    /// Looks for the end of the request line: its length, without CRLF, once that has come. `data` starts with the
    /// line and has only grown since the last call.
    pub(crate) fn scan_request_line(
        &mut self,
        data: &[u8],
        policy: &Policy,
    ) -> Result<Option<usize>, Error> {
        let limit = policy.limits.request_line;
        if self.request_line == 0 {
            let end = line_end(data, self.line, &mut self.scanned, limit)
                .map_err(|fault| fault.or_too_long(Error::RequestLineTooLong(limit)))?;
            let Some(end) = end else { return Ok(None) };
            self.request_line = end;
            self.next_line(end);
        }
        Ok(Some(self.request_line))
    }

    /// Whether nothing behind the request line was looked at yet.
    pub(crate) fn is_before_fields(&self) -> bool {
        self.request_line + 2 == self.scanned
    }

    /// Goes on where it stopped. `data` starts with the request line and has only grown since the last call.
    pub(crate) fn scan(&mut self, data: &[u8], policy: &Policy) -> Result<Option<Extent>, Error> {
        let limits = &policy.limits;
        if self.scan_request_line(data, policy)?.is_none() {
            return Ok(None);
        }
        let longest = limits.field_size.saturating_sub(2);
        loop {
            let Some(&first) = data.get(self.line) else {
                return Ok(None);
            };
            let continues = continues_field(policy, self.fields, first)?;
            if !continues {
                self.field = self.line;
            }
            let end = line_end(data, self.field, &mut self.scanned, longest)
                .map_err(|fault| fault.or_too_long(Error::FieldTooLarge(limits.field_size)))?;
            let Some(end) = end else { return Ok(None) };
            if end == self.line {
                return Ok(Some(Extent {
                    len: end + 2,
                    request_line: self.request_line,
                    fields: self.fields as usize,
                }));
            }
            if !continues {
                self.fields = self.fields.saturating_add(1);
            }
            self.next_line(end);
        }
    }

    fn next_line(&mut self, end: usize) {
        self.line = end + 2;
        self.scanned = self.line;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use alloc::vec::Vec;

    fn scan_whole_and_by_octet(data: &[u8], policy: &Policy) -> Result<Option<Extent>, Error> {
        let whole = Scanner::default().scan(data, policy);
        let mut scanner = Scanner::default();
        let mut last = Ok(None);
        for end in 0..=data.len() {
            last = scanner.scan(&data[..end], policy);
            if !matches!(last, Ok(None)) {
                break;
            }
        }
        assert_eq!(whole, last);
        whole
    }

    #[test]
    fn the_end_of_a_head_is_its_empty_line() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET";
        let extent = scan_whole_and_by_octet(head, &Policy::default())
            .unwrap()
            .unwrap();
        assert_eq!(
            (extent.len, extent.request_line, extent.fields),
            (27, 14, 1)
        );
        let bare = scan_whole_and_by_octet(b"GET / HTTP/1.0\r\n\r\n", &Policy::default());
        assert_eq!(bare.unwrap().unwrap().fields, 0);
    }

    #[test]
    fn lone_line_ends_are_errors_before_the_head_is_complete() {
        for (head, error) in [
            (&b"GET / HTTP/1.1\n"[..], Error::BareLineFeed),
            (b"GET / HTTP/1.1\rHost", Error::BareCarriageReturn),
            (b"GET / HTTP/1.1\r\nHost: a\n", Error::BareLineFeed),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\n", Error::BareLineFeed),
            (
                b"GET / HTTP/1.1\r\nHost: a\r\n\rX",
                Error::BareCarriageReturn,
            ),
            (
                b"GET / HTTP/1.1\r\nHost: a\r\r\n",
                Error::BareCarriageReturn,
            ),
            (b"GET / HTTP/1.1\r\n folded", Error::ObsoleteFolding),
        ] {
            assert_eq!(
                scan_whole_and_by_octet(head, &Policy::default()),
                Err(error)
            );
        }
    }

    #[test]
    fn a_limit_holds_exactly_and_before_the_line_is_complete() {
        let limits = Limits {
            request_line: 14,
            fields: 1,
            field_size: 9,
            max_body: None,
        };
        let policy = Policy {
            limits,
            ..Policy::default()
        };
        let fits = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert!(scan_whole_and_by_octet(fits, &policy).unwrap().is_some());
        for (head, error) in [
            (&b"GET /a HTTP/1.1"[..], Error::RequestLineTooLong(14)),
            (b"GET /a HTTP/1.1\n", Error::RequestLineTooLong(14)),
            (b"GET / HTTP/1.1\r\nHost: ab", Error::FieldTooLarge(9)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nB", Error::TooManyFields(1)),
        ] {
            assert_eq!(scan_whole_and_by_octet(head, &policy), Err(error));
        }
    }

    #[test]
    fn a_folded_field_is_one_field_and_bounded_as_one() {
        let mut policy = Policy {
            permit_obsolete_folding: true,
            ..Policy::default()
        };
        policy.limits.fields = 1;
        let fits = b"GET / HTTP/1.0\r\nA: b\r\n\tc\r\n d\r\n\r\n";
        policy.limits.field_size = 14;
        let extent = scan_whole_and_by_octet(fits, &policy).unwrap().unwrap();
        assert_eq!((extent.len, extent.fields), (fits.len(), 1));
        policy.limits.field_size = 13;
        assert_eq!(
            scan_whole_and_by_octet(fits, &policy),
            Err(Error::FieldTooLarge(13))
        );
        assert_eq!(
            scan_whole_and_by_octet(b"GET / HTTP/1.0\r\n A: b\r\n\r\n", &policy),
            Err(Error::ObsoleteFolding),
            "there is no field to continue"
        );
    }

    #[test]
    fn no_octet_is_scanned_twice() {
        let mut scanned = 0;
        let data: Vec<u8> = alloc::vec![b'a'; 1000];
        for end in 0..1000 {
            assert_eq!(line_end(&data[..end], 0, &mut scanned, 4096), Ok(None));
            assert_eq!(scanned, end);
        }
    }
}

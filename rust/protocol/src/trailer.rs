//! The trailer section behind the last chunk (RFC 9112 section 7.1.2).
//!
//! A trailer field is held against the rules for fields, and dropped: merging it into the fields of the head is never
//! safe.

use crate::buffer::Buffer;
use crate::error::Error;
use crate::grammar::has_control;
use crate::limits::{HeaderMap, Policy};
use crate::parse::field_line;
use crate::scan::{continues_field, line_end};

/// Fields that decide about framing, routing, authentication or the content's format (RFC 9110 section 6.5.1).
const FORBIDDEN: [&[u8]; 9] = [
    b"host",
    b"content-length",
    b"content-type",
    b"content-encoding",
    b"content-range",
    b"transfer-encoding",
    b"trailer",
    b"authorization",
    b"te",
];

/// A trailer section that is being received.
#[derive(Debug, Default)]
pub(crate) struct Trailer {
    scanned: usize,
    fields: u32,
    /// Octets of the present field in the lines before this one, if it is continued.
    before: usize,
}

impl Trailer {
    /// Goes on where it stopped; true at the end. `input` has lost nothing since the last call.
    pub(crate) fn decode(&mut self, policy: &Policy, input: &mut Buffer) -> Result<bool, Error> {
        let limits = &policy.limits;
        loop {
            let Some(&first) = input.as_slice().first() else {
                return Ok(false);
            };
            let continues = continues_field(policy, self.fields, first)?;
            if !continues {
                self.before = 0;
            }
            let longest = limits.field_size.saturating_sub(self.before + 2);
            let end = line_end(input.as_slice(), 0, &mut self.scanned, longest)
                .map_err(|fault| fault.or_too_long(Error::FieldTooLarge(limits.field_size)))?;
            let Some(end) = end else { return Ok(false) };
            let line = &input.as_slice()[..end];
            match (line.is_empty(), continues) {
                (true, _) => {}
                (false, true) if has_control(line) => return Err(Error::FieldValue(line.into())),
                (false, true) => {}
                (false, false) => {
                    check(policy, line)?;
                    self.fields = self.fields.saturating_add(1);
                }
            }
            self.before += end + 2;
            self.scanned = 0;
            input.consume(end + 2);
            if end == 0 {
                return Ok(true);
            }
        }
    }
}

fn check(policy: &Policy, line: &[u8]) -> Result<(), Error> {
    let (name, _) = field_line(line, policy.strip_header_spaces)?;
    if policy.header_map == HeaderMap::Refuse && name.contains(&b'_') {
        return Err(Error::AmbiguousFieldName(name.into()));
    }
    match FORBIDDEN
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
    {
        true => Err(Error::ForbiddenTrailer(name.into())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// The verdict about a trailer section, which must not depend on how it arrives.
    fn verdict(policy: &Policy, section: &str) -> Result<bool, Error> {
        let octets = [section.as_bytes(), b"\r\n"].concat();
        let [whole, bitwise] = [octets.len(), 1].map(|size| {
            let mut input = Buffer::with_storage(vec![0; octets.len()]);
            let mut trailer = Trailer::default();
            for piece in octets.chunks(size) {
                input.room()[..piece.len()].copy_from_slice(piece);
                input.filled(piece.len());
                let found = trailer.decode(policy, &mut input);
                if found != Ok(false) {
                    return found;
                }
            }
            Ok(false)
        });
        assert_eq!(whole, bitwise);
        whole
    }

    fn permissive() -> Policy {
        Policy {
            permit_obsolete_folding: true,
            strip_header_spaces: true,
            ..Policy::default()
        }
    }

    #[test]
    fn fields_are_read_and_dropped() {
        for section in ["", "X: 1\r\n", "X:\r\nY_Z: \u{e9}\r\nX: 2\r\n"] {
            assert_eq!(verdict(&Policy::default(), section), Ok(true));
        }
    }

    #[test]
    fn what_would_change_the_message_is_forbidden() {
        for name in [
            "Host",
            "CONTENT-LENGTH",
            "content-type",
            "Te",
            "Content-Range",
        ] {
            assert_eq!(
                verdict(&Policy::default(), &alloc::format!("{name}: 1\r\n")),
                Err(Error::ForbiddenTrailer(name.as_bytes().into()))
            );
        }
    }

    #[test]
    fn an_underscore_is_refused_where_it_is_in_a_head() {
        let refusing = Policy {
            header_map: HeaderMap::Refuse,
            ..Policy::default()
        };
        assert!(verdict(&refusing, "X_Y: 1\r\n").is_err());
        assert_eq!(verdict(&refusing, "X-Y: _\r\n"), Ok(true));
    }

    #[test]
    fn the_permissive_settings_hold_here_too() {
        for section in ["A : 1\r\n", "A: 1\r\n 2\r\n\t3\r\n"] {
            assert_eq!(verdict(&permissive(), section), Ok(true));
            assert!(verdict(&Policy::default(), section).is_err());
        }
        for (section, error) in [
            (" A: 1\r\n", Error::ObsoleteFolding),
            ("A: 1\r\n \x01\r\n", Error::FieldValue(b" \x01"[..].into())),
            ("Host : 1\r\n", Error::ForbiddenTrailer(b"Host"[..].into())),
        ] {
            assert_eq!(verdict(&permissive(), section), Err(error));
        }
    }

    #[test]
    fn limits_count_a_folded_field_as_one() {
        let mut policy = permissive();
        (policy.limits.fields, policy.limits.field_size) = (2, 14);
        assert_eq!(verdict(&policy, "A: b\r\n c\r\n d\r\nB:\r\n"), Ok(true));
        assert_eq!(
            verdict(&policy, "A: b\r\n c\r\n de\r\n"),
            Err(Error::FieldTooLarge(14))
        );
        assert_eq!(
            verdict(&policy, "A:\r\n 1\r\nB:\r\nC:\r\n"),
            Err(Error::TooManyFields(2))
        );
    }
}

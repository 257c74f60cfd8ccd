//! Decoding the chunked transfer coding (RFC 9112 section 7.1).
//!
//! Lines are parsed where they lie in the receive buffer and stay there until they are complete, so the decoder never
//! holds octets itself; it remembers how far it has looked.

use crate::buffer::Buffer;
use crate::error::Error;
use crate::grammar::{is_control, is_tchar, skip_ows, trim_end_ows};
use crate::limits::{Limits, Policy};
use crate::scan::line_end;
use crate::trailer::Trailer;
use memchr::memchr;

/// Longest chunk size line in octets, without its CRLF. Sixteen digits are a size; the rest is room for extensions
/// such as signatures, which real senders keep below a few hundred octets.
pub(crate) const MAX_SIZE_LINE: usize = 4096;

/// Most octets of extensions beyond those of data, over a whole body: extensions are read and dropped, so that a body
/// which consists of them costs work and brings nothing. A signature for each chunk of 64 KiB stays far below.
const SPARE_EXTENSIONS: u64 = 16 * 1024;

/// What a decoder has found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    NeedMore,
    /// This many octets at the front of the buffer are data; the caller takes them, at once.
    Data(usize),
    End,
}

/// Where in the body a decoder is.
#[derive(Debug)]
enum Position {
    /// In the line with a chunk size.
    Size { scanned: usize },
    /// In the data of a chunk.
    Data { left: u64 },
    /// In the CRLF behind the data of a chunk.
    DataEnd,
    /// In the trailer section.
    Trailer(Trailer),
}

/// A chunked body that is being received.
#[derive(Debug)]
pub(crate) struct Chunked {
    position: Position,
    /// Octets of data announced by the sizes so far.
    announced: u64,
    /// Octets of chunk extensions so far.
    extensions: u64,
}

impl Chunked {
    pub(crate) fn new() -> Self {
        Self {
            position: Position::Size { scanned: 0 },
            announced: 0,
            extensions: 0,
        }
    }

    /// Goes on where it stopped. `input` has lost nothing since the last call but the data that was announced.
    pub(crate) fn decode(&mut self, policy: &Policy, input: &mut Buffer) -> Result<Decoded, Error> {
        let limits = &policy.limits;
        loop {
            match &mut self.position {
                Position::Size { scanned } => {
                    let end =
                        line_end(input.as_slice(), 0, scanned, MAX_SIZE_LINE).map_err(|fault| {
                            fault.or_too_long(Error::ChunkLineTooLong(MAX_SIZE_LINE))
                        })?;
                    let Some(end) = end else {
                        return Ok(Decoded::NeedMore);
                    };
                    let (size, extension) = size_line(&input.as_slice()[..end])?;
                    input.consume(end + 2);
                    self.announce(size, extension, limits)?;
                    self.position = match size {
                        0 => Position::Trailer(Trailer::default()),
                        left => Position::Data { left },
                    };
                }
                Position::Data { left } => {
                    let here = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(input.len());
                    if here == 0 {
                        return Ok(Decoded::NeedMore);
                    }
                    *left -= here as u64;
                    if *left == 0 {
                        self.position = Position::DataEnd;
                    }
                    return Ok(Decoded::Data(here));
                }
                Position::DataEnd => match input.as_slice() {
                    [] | [b'\r'] => return Ok(Decoded::NeedMore),
                    [b'\r', b'\n', ..] => {
                        input.consume(2);
                        self.position = Position::Size { scanned: 0 };
                    }
                    // One octet when that one is wrong already: the verdict must not depend on the split.
                    [b'\r', second, ..] => {
                        return Err(Error::ChunkEnd([b'\r', *second][..].into()));
                    }
                    [first, ..] => return Err(Error::ChunkEnd([*first][..].into())),
                },
                Position::Trailer(trailer) => {
                    return Ok(match trailer.decode(policy, input)? {
                        true => Decoded::End,
                        false => Decoded::NeedMore,
                    });
                }
            }
        }
    }

    /// Refuses a body that becomes too long as soon as a size says so, before its data arrives, and one that is
    /// mostly extensions.
    fn announce(&mut self, size: u64, extension: usize, limits: &Limits) -> Result<(), Error> {
        let limit = limits.max_body.unwrap_or(u64::MAX);
        match self.announced.checked_add(size) {
            Some(total) if total <= limit => self.announced = total,
            _ => return Err(Error::BodyTooLarge(limit)),
        }
        self.extensions = self.extensions.saturating_add(extension as u64);
        if self.extensions > self.announced.saturating_add(SPARE_EXTENSIONS) {
            return Err(Error::ChunkExtensionsTooLong);
        }
        Ok(())
    }
}

/// `chunk-size [ chunk-ext ]`, without the CRLF: the size, which has at most sixteen digits, leading zeros included,
/// and the octets of the extension with the white space before it.
fn size_line(line: &[u8]) -> Result<(u64, usize), Error> {
    let semicolon = memchr(b';', line).unwrap_or(line.len());
    let (mut size, extension) = line.split_at(semicolon);
    if !extension.is_empty() {
        size = trim_end_ows(size);
    }
    if size.is_empty() || size.len() > 16 {
        return Err(Error::ChunkSize(size.into()));
    }
    let mut value = 0u64;
    for &octet in size {
        let digit = match octet {
            b'0'..=b'9' => octet - b'0',
            b'a'..=b'f' => octet - b'a' + 10,
            b'A'..=b'F' => octet - b'A' + 10,
            _ => return Err(Error::ChunkSize(size.into())),
        };
        value = value << 4 | u64::from(digit);
    }
    if !is_extension(extension) {
        return Err(Error::ChunkExtension(extension.into()));
    }
    Ok((value, line.len() - size.len()))
}

/// `*( BWS ";" BWS name [ BWS "=" BWS value ] )`, a value being a token or a quoted string (RFC 9112 section 7.1.1).
fn is_extension(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let [b';', after @ ..] = skip_ows(rest) else {
            return false;
        };
        let Some(after_name) = skip_token(skip_ows(after)) else {
            return false;
        };
        rest = match skip_ows(after_name) {
            [b'=', value @ ..] => match skip_ows(value) {
                [b'"', quoted @ ..] => match skip_quoted(quoted) {
                    Some(rest) => rest,
                    None => return false,
                },
                token => match skip_token(token) {
                    Some(rest) => rest,
                    None => return false,
                },
            },
            _ => after_name,
        };
    }
    true
}

fn skip_token(octets: &[u8]) -> Option<&[u8]> {
    let end = octets
        .iter()
        .position(|&octet| !is_tchar(octet))
        .unwrap_or(octets.len());
    (end > 0).then(|| &octets[end..])
}

/// What follows a quoted string whose opening quote is gone (RFC 9110 section 5.6.4).
fn skip_quoted(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', escaped, after @ ..] if !is_control(*escaped) => after,
            [b'\\', ..] => return None,
            [octet, after @ ..] if !is_control(*octet) => after,
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    /// Decodes `wire` in pieces of `piece` octets: the data, and what is left behind the end.
    fn decode(wire: &[u8], piece: usize, limits: &Limits) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let policy = Policy {
            limits: limits.clone(),
            ..Policy::default()
        };
        let mut input = Buffer::with_storage(vec![0; wire.len() + 1]);
        let mut decoder = Chunked::new();
        let mut data = Vec::new();
        let mut pieces = wire.chunks(piece);
        loop {
            match decoder.decode(&policy, &mut input)? {
                Decoded::Data(n) => data.extend_from_slice(input.take(n)),
                Decoded::End => {
                    let mut left = input.as_slice().to_vec();
                    left.extend(pieces.flatten());
                    return Ok((data, left));
                }
                Decoded::NeedMore => {
                    let piece = pieces.next().expect("the body is incomplete");
                    input.room()[..piece.len()].copy_from_slice(piece);
                    input.filled(piece.len());
                }
            }
        }
    }

    #[track_caller]
    fn assert_decodes(wire: &[u8], expected: &[u8]) {
        for piece in [wire.len(), 1, 2, 3] {
            let (data, left) = decode(wire, piece, &Limits::default()).unwrap();
            assert_eq!((data.as_slice(), left.as_slice()), (expected, &b"tail"[..]));
        }
    }

    #[track_caller]
    fn assert_fails(wire: &[u8], expected: fn(&Error) -> bool) {
        for piece in [wire.len(), 1, 2, 3] {
            let error = decode(wire, piece, &Limits::default()).unwrap_err();
            assert!(expected(&error), "{:?}: {error:?}", wire.escape_ascii());
        }
    }

    #[test]
    fn chunks_are_joined_and_extensions_and_trailers_dropped() {
        assert_decodes(b"0\r\n\r\ntail", b"");
        assert_decodes(b"5\r\nhello\r\n0\r\n\r\ntail", b"hello");
        assert_decodes(b"00a\r\n0123456789\r\n0\r\n\r\ntail", b"0123456789");
        assert_decodes(b"A \t;a\r\n0123456789\r\n000\r\n\r\ntail", b"0123456789");
        assert_decodes(
            b"1;a=b;c=\"d \\\" ;\xff\" ; e = f\r\n\n\r\n0;x\r\nX-T: 1\r\nY:\r\n\r\ntail",
            b"\n",
        );
    }

    #[test]
    fn a_chunk_size_is_one_to_sixteen_hex_digits() {
        for size in [
            &b""[..],
            b"-1",
            b"+1",
            b"0x1",
            b"1_0",
            b" 1",
            b"1 ",
            b"g",
            b"\xb2",
            b"1,",
            b";a",
            b"00000000000000001",
            b"10000000000000000",
            b"\x001",
        ] {
            assert_fails(&[size, b"\r\nx\r\n"].concat(), |e| {
                matches!(e, Error::ChunkSize(_))
            });
        }
    }

    #[test]
    fn a_body_beyond_64_bits_is_too_large() {
        assert_fails(b"1\r\nx\r\nffffffffffffffff\r\n", |e| {
            *e == Error::BodyTooLarge(u64::MAX)
        });
    }

    #[test]
    fn a_bound_on_the_body_holds_before_the_data_arrives() {
        let limits = Limits {
            max_body: Some(5),
            ..Limits::default()
        };
        assert!(decode(b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", 1, &limits).is_ok());
        for piece in [1, 100] {
            let error = decode(b"2\r\nab\r\n4\r\n", piece, &limits);
            assert_eq!(error, Err(Error::BodyTooLarge(5)));
        }
    }

    #[test]
    fn line_ends_are_crlf_everywhere() {
        assert_fails(b"1\nx", |e| *e == Error::BareLineFeed);
        assert_fails(b"1;a\nx", |e| *e == Error::BareLineFeed);
        assert_fails(b"1\rx", |e| *e == Error::BareCarriageReturn);
        assert_fails(b"1;a\r;b\r\n", |e| *e == Error::BareCarriageReturn);
        assert_fails(b"1\r\nx\n0\r\n", |e| matches!(e, Error::ChunkEnd(_)));
        assert_fails(b"1\r\nxy\r\n", |e| matches!(e, Error::ChunkEnd(_)));
        assert_fails(b"1\r\nx\r0\r\n", |e| matches!(e, Error::ChunkEnd(_)));
        assert_fails(b"0\r\n\n", |e| *e == Error::BareLineFeed);
        assert_fails(b"0\r\nA: b\n\r\n", |e| *e == Error::BareLineFeed);
        assert_fails(b"0\r\nA: b\rc\r\n\r\n", |e| *e == Error::BareCarriageReturn);
    }

    #[test]
    fn extensions_may_not_outweigh_the_data_beyond_some_spare_ones() {
        let chunk = |data: usize, extension: usize| {
            let size = alloc::format!("{data:x};{}\r\n", "e".repeat(extension - 1));
            [size.as_bytes(), &vec![b'd'; data], b"\r\n"].concat()
        };
        let spent = chunk(1, 4096 - 1).repeat(4);
        assert!(
            decode(
                &[&spent[..], b"0\r\n\r\n"].concat(),
                4096,
                &Limits::default()
            )
            .is_ok()
        );
        let spaces = alloc::format!("0{};a\r\n\r\n", " ".repeat(10));
        for extended in [
            &chunk(1, 100)[..],
            b"0;123456789\r\n\r\n",
            spaces.as_bytes(),
        ] {
            assert_fails(&[&spent[..], extended].concat(), |e| {
                *e == Error::ChunkExtensionsTooLong
            });
        }
        let signed = chunk(4096, 100).repeat(200);
        assert!(
            decode(
                &[&signed[..], b"0\r\n\r\n"].concat(),
                4096,
                &Limits::default()
            )
            .is_ok()
        );
    }

    #[test]
    fn a_size_line_is_bounded_before_it_is_complete() {
        let extension = [b'a'; MAX_SIZE_LINE];
        assert_fails(&[b"1;", &extension[..]].concat(), |e| {
            *e == Error::ChunkLineTooLong(MAX_SIZE_LINE)
        });
        let fits = [b"0;", &extension[2..], b"\r\n\r\ntail"].concat();
        assert_decodes(&fits, b"");
    }

    #[test]
    fn a_trailer_section_is_validated_and_bounded() {
        for name in [
            "Host",
            "content-LENGTH",
            "Transfer-Encoding",
            "Trailer",
            "Authorization",
            "TE",
        ] {
            let wire = [b"0\r\n", name.as_bytes(), b": x\r\n\r\n"].concat();
            assert_fails(&wire, |e| matches!(e, Error::ForbiddenTrailer(_)));
        }
        assert_fails(b"0\r\nA : b\r\n\r\n", |e| matches!(e, Error::FieldName(_)));
        assert_fails(b"0\r\n: b\r\n\r\n", |e| matches!(e, Error::FieldName(_)));
        assert_fails(b"0\r\nA\r\n\r\n", |e| matches!(e, Error::FieldLine(_)));
        assert_fails(b"0\r\nA: \x00\r\n\r\n", |e| {
            matches!(e, Error::FieldValue(_))
        });
        assert_fails(b"0\r\nA: b\r\n c\r\n\r\n", |e| *e == Error::ObsoleteFolding);
        let field = [b'a'; 8190];
        assert_fails(&[b"0\r\n", &field[..]].concat(), |e| {
            *e == Error::FieldTooLarge(8190)
        });
        let many = [b"0\r\n", &b"A: b\r\n".repeat(101)[..]].concat();
        assert_fails(&many, |e| *e == Error::TooManyFields(100));
        let as_many_as_allowed = [b"0\r\n", &b"A: b\r\n".repeat(100)[..], b"\r\ntail"].concat();
        assert_decodes(&as_many_as_allowed, b"");
    }

    #[test]
    fn a_malformed_extension_is_an_error() {
        for extension in [
            &b";"[..],
            b";;",
            b";a=",
            b";a=\"b",
            b";a=\"b\"c",
            b";=b",
            b";a b",
            b";a ",
            b";a=b ",
            b";a=\"\x01\"",
            b";\x7f",
            b"; a=\"\\\x00\"",
            b";a,b",
        ] {
            assert_fails(&[b"1", extension, b"\r\nx\r\n"].concat(), |e| {
                matches!(e, Error::ChunkExtension(_))
            });
        }
    }
}

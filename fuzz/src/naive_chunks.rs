//! A decoder of the chunked coding that shares nothing with the product's: from one slice, from front to back.

use crate::naive_head::{is_control, is_token, trim, trim_end};
use meinheld_protocol::{HeaderMap, Policy};

/// Longest chunk size line in octets, without its CRLF.
const LONGEST_SIZE_LINE: usize = 4096;

/// Octets of extensions that a body may have beyond those of data.
const SPARE_EXTENSIONS: u128 = 16 * 1024;

const FORBIDDEN: [&str; 9] = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "content-range",
    "transfer-encoding",
    "trailer",
    "authorization",
    "te",
];

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Incomplete,
    /// The body ended, and this many octets belong to it.
    End(usize),
    /// Answered with this status.
    Refused(u16),
}

/// The data of the body that `wire` starts with, as far as it came, and what became of it.
pub fn decode(policy: &Policy, wire: &[u8]) -> (Vec<u8>, Verdict) {
    let mut data = Vec::new();
    let verdict = match decode_into(policy, wire, &mut data) {
        Ok(len) => Verdict::End(len),
        Err(verdict) => verdict,
    };
    (data, verdict)
}

fn decode_into(policy: &Policy, wire: &[u8], data: &mut Vec<u8>) -> Result<usize, Verdict> {
    let limits = &policy.limits;
    let mut at = 0;
    let mut announced: u128 = 0;
    let mut extended: u128 = 0;
    loop {
        let size_line = line(wire, &mut at, LONGEST_SIZE_LINE, 400)?;
        let (size, extension) = size(size_line).ok_or(Verdict::Refused(400))?;
        announced += u128::from(size);
        if announced > u128::from(limits.max_body.unwrap_or(u64::MAX)) {
            return Err(Verdict::Refused(413));
        }
        extended += extension as u128;
        if extended > announced + SPARE_EXTENSIONS {
            return Err(Verdict::Refused(400));
        }
        if size == 0 {
            break;
        }
        for _ in 0..size {
            data.push(*wire.get(at).ok_or(Verdict::Incomplete)?);
            at += 1;
        }
        for expected in *b"\r\n" {
            match wire.get(at) {
                None => return Err(Verdict::Incomplete),
                Some(&found) if found == expected => at += 1,
                Some(_) => return Err(Verdict::Refused(400)),
            }
        }
    }
    let (mut fields, mut field) = (0, 0);
    loop {
        let folded = matches!(wire.get(at), Some(b' ' | b'\t'));
        match wire.get(at) {
            Some(b' ' | b'\t') if fields == 0 || !policy.permit_obsolete_folding => {
                return Err(Verdict::Refused(400));
            }
            Some(b'\r' | b'\n' | b' ' | b'\t') | None => {}
            Some(_) if fields == limits.fields => return Err(Verdict::Refused(431)),
            Some(_) => {}
        }
        // A folded field is bounded with all of its lines, and counted once.
        if !folded {
            field = 0;
        }
        let longest = limits.field_size.saturating_sub(field + 2);
        let trailer = line(wire, &mut at, longest, 431)?;
        if trailer.is_empty() {
            break;
        }
        if !is_trailer(policy, trailer) {
            return Err(Verdict::Refused(400));
        }
        field += trailer.len() + 2;
        fields += usize::from(!folded);
    }
    Ok(at)
}

/// The line at `at`, which moves behind it; one of more than `longest` octets is answered with `too_long`.
fn line<'a>(
    wire: &'a [u8],
    at: &mut usize,
    longest: usize,
    too_long: u16,
) -> Result<&'a [u8], Verdict> {
    let start = *at;
    for end in start.. {
        let octet = *wire.get(end).ok_or(Verdict::Incomplete)?;
        let ends = octet == b'\r' || octet == b'\n';
        if end - start + usize::from(!ends) > longest {
            return Err(Verdict::Refused(too_long));
        }
        if ends {
            return match (octet, wire.get(end + 1)) {
                (b'\r', Some(b'\n')) => {
                    *at = end + 2;
                    Ok(&wire[start..end])
                }
                (b'\r', None) => Err(Verdict::Incomplete),
                _ => Err(Verdict::Refused(400)),
            };
        }
    }
    unreachable!("a slice ends before usize does")
}

/// The size, and how long the extensions are.
fn size(line: &[u8]) -> Option<(u64, usize)> {
    let digits = line
        .iter()
        .take_while(|octet| octet.is_ascii_hexdigit())
        .count();
    let (digits, extensions) = line.split_at(digits);
    if digits.is_empty() || digits.len() > 16 || !are_extensions(extensions) {
        return None;
    }
    let size = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some((size, extensions.len()))
}

/// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`, as a machine of one octet a step.
fn are_extensions(octets: &[u8]) -> bool {
    #[derive(Clone, Copy, PartialEq)]
    enum At {
        Start,
        BeforeSemicolon,
        BeforeName,
        Name,
        AfterName,
        BeforeValue,
        Value,
        Quoted,
        Escaped,
        Closed,
    }
    let mut at = At::Start;
    for octet in octets {
        let space = matches!(octet, b' ' | b'\t');
        let tchar = is_token(&[*octet]);
        at = match at {
            At::Start | At::BeforeSemicolon | At::Closed if *octet == b';' => At::BeforeName,
            At::Start | At::BeforeSemicolon | At::Closed if space => At::BeforeSemicolon,
            At::BeforeName if space => At::BeforeName,
            At::BeforeName | At::Name if tchar => At::Name,
            At::Name | At::AfterName if *octet == b';' => At::BeforeName,
            At::Name | At::AfterName if *octet == b'=' => At::BeforeValue,
            At::Name | At::AfterName if space => At::AfterName,
            At::BeforeValue if space => At::BeforeValue,
            At::BeforeValue if *octet == b'"' => At::Quoted,
            At::BeforeValue | At::Value if tchar => At::Value,
            At::Value if *octet == b';' => At::BeforeName,
            At::Value if space => At::BeforeSemicolon,
            At::Quoted if *octet == b'"' => At::Closed,
            At::Quoted if *octet == b'\\' => At::Escaped,
            At::Quoted | At::Escaped if !is_control(octet) => At::Quoted,
            _ => return false,
        };
    }
    matches!(at, At::Start | At::Name | At::Value | At::Closed)
}

fn is_trailer(policy: &Policy, line: &[u8]) -> bool {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        // It got here because it may continue the line before it.
        return !line.iter().any(is_control);
    }
    let Some(colon) = line.iter().position(|&octet| octet == b':') else {
        return false;
    };
    let (mut name, value) = (&line[..colon], trim(&line[colon + 1..]));
    if policy.strip_header_spaces {
        name = trim_end(name);
    }
    is_token(name)
        && (policy.header_map != HeaderMap::Refuse || !name.contains(&b'_'))
        && !value.iter().any(is_control)
        && !FORBIDDEN
            .iter()
            .any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes()))
}

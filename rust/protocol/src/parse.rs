//! A complete head, and the policy that it must satisfy.
//!
//! The request line is read here, because a target may have octets that are no UTF-8 and httparse wants text.
//! httparse reads the field lines; it is lenient about line ends, so what it accepts is held against what the scanner
//! has seen. When it refuses, the lines are read once more, slowly, to name the culprit.

use crate::error::Error;
use crate::framing::{Declared, Framing};
use crate::grammar::{has_control, is_token, trim_end_ows, trim_ows};
use crate::head::{Head, HeadPool, Scheme, Span, Version};
use crate::lenient;
use crate::limits::{HeaderMap, Policy};
use crate::scan::Extent;
use crate::section::{LastSection, Said};
use crate::target::{self, MethodKind, Parts};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use httparse::{EMPTY_HEADER, Header};
use memchr::memchr;

/// Field lines that are parsed without allocating. Browsers send about fifteen, proxies add a few.
const USUAL_FIELDS: usize = 24;

/// Turns the octets of a complete head, `extent.len` of them, into a [`Head`]. What its fields say is remembered if
/// the connection may say it `last` and again.
pub(crate) fn parse(
    policy: &Policy,
    trusted: bool,
    octets: &[u8],
    extent: Extent,
    last: &mut LastSection,
    pool: &mut HeadPool,
) -> Result<Box<Head>, Error> {
    if lenient::is_wanted(policy) {
        let octets = lenient::rewritten(policy, octets, extent.request_line);
        parse_strictly(policy, trusted, &octets, extent, None, pool)
    } else {
        parse_strictly(policy, trusted, octets, extent, Some(last), pool)
    }
}

/// Reads a head whose header section is that of the connection's last request, if it is: the head, and its length.
/// `line` is the length of the request line, with which `octets` begin.
pub(crate) fn parse_again(
    policy: &Policy,
    trusted: bool,
    octets: &[u8],
    line: usize,
    last: LastSection,
    pool: &mut HeadPool,
) -> Result<Option<(Box<Head>, usize)>, Error> {
    let start = line + 2;
    let rest = octets.get(start..).unwrap_or_default();
    let (heads, sections) = pool.parts();
    // Spans are 32 bits wide.
    let (Some(section), Ok(fields_at)) = (sections.find(last, trusted, rest), u32::try_from(start))
    else {
        return Ok(None);
    };
    let request = RequestLine::parse(policy, &octets[..line])?;
    let mut head = heads.take();
    head.section = Some(section.id);
    head.fields.extend_from_slice(&section.fields);
    head.fields_at = fields_at;
    let len = start + section.len();
    let said = section.said;
    head.framing = Framing::None;
    head.expects_continue = false;
    request.needs(said)?;
    complete(&mut head, policy, &octets[..len], request, said);
    Ok(Some((head, len)))
}

fn parse_strictly(
    policy: &Policy,
    trusted: bool,
    octets: &[u8],
    extent: Extent,
    last: Option<&mut LastSection>,
    pool: &mut HeadPool,
) -> Result<Box<Head>, Error> {
    // Spans are 32 bits wide; only limits beyond all reason let a head get there.
    if u32::try_from(octets.len()).is_err() {
        return Err(Error::TooManyFields(policy.limits.fields));
    }
    let line = octets.get(..extent.request_line).unwrap_or_default();
    let request = RequestLine::parse(policy, line)?;
    let (heads, sections) = pool.parts();
    let mut head = heads.take();
    let kept = core::mem::take(&mut head.fields);
    let mut fields = Fields::new(policy, trusted, octets, kept);
    let start = extent.request_line + 2;
    let lines = octets.get(start..).unwrap_or_default();
    each_field(lines, extent.fields, |name, value| fields.take(name, value))?;
    let Fields {
        kept,
        framing,
        said,
        expects_continue,
        ..
    } = fields;
    request.needs(said)?;
    let is_plain = framing.is_absent() && !expects_continue;
    head.section = match last {
        Some(last) if is_plain => {
            let found = (&kept[..], start);
            sections.learn(last, trusted, lines, found, said)
        }
        _ => None,
    };
    head.fields = kept;
    head.fields_at = 0;
    head.framing = framing.conclude(request.version, policy.limits.max_body)?;
    // RFC 9110 section 10.1.1: an expectation in an HTTP/1.0 request is ignored.
    head.expects_continue = expects_continue && request.version >= Version::HTTP_11;
    complete(&mut head, policy, octets, request, said);
    Ok(head)
}

/// Adds what the request line says, and what both say together, to a head that has its fields and its framing.
fn complete(head: &mut Head, policy: &Policy, octets: &[u8], request: RequestLine, said: Said) {
    head.octets.extend_from_slice(octets);
    if policy.casefold_method {
        head.octets[..request.method].make_ascii_uppercase();
    }
    let from = request.target.start;
    let in_target = |part: Range<usize>| Span::new(from + part.start..from + part.end);
    head.method = Span::new(0..request.method);
    head.path = in_target(request.parts.path);
    head.query = in_target(request.parts.query);
    let authority = request.parts.authority.map(in_target);
    head.target = Span::new(request.target);
    head.version = request.version;
    head.scheme = said.scheme;
    head.has_underscores = said.underscores;
    let http11 = request.version >= Version::HTTP_11;
    let stays = !said.close && (http11 || said.keep_alive == Some(true));
    // RFC 9931 section 8: what follows CONNECT is never another request, whatever the answer.
    head.keep_alive = stays && request.kind != MethodKind::Connect;
    head.closes_explicitly = !stays;
    if let Some(authority) = authority {
        head.override_host(authority);
    }
}

/// `method SP request-target SP HTTP-version` (RFC 9112 section 3), as offsets.
struct RequestLine {
    /// Octets of the method, which starts the line.
    method: usize,
    target: Range<usize>,
    parts: Parts,
    kind: MethodKind,
    version: Version,
}

impl RequestLine {
    fn parse(policy: &Policy, line: &[u8]) -> Result<Self, Error> {
        let split = || {
            let method = memchr(b' ', line)?;
            let rest = line.get(method + 1..)?;
            let target = method + 1..method + 1 + memchr(b' ', rest)?;
            Some((method, target.clone(), line.get(target.end + 1..)?))
        };
        let Some((method, target, version)) = split() else {
            return Err(Error::RequestLine(line.into()));
        };
        let name = &line[..method];
        if !is_method(policy, name) {
            return Err(Error::Method(name.into()));
        }
        // An empty part means two spaces in a row: a line that others may split elsewhere.
        if target.is_empty() {
            return Err(Error::RequestLine(line.into()));
        }
        let version = match Version::parse(version) {
            Some(known @ (Version::HTTP_10 | Version::HTTP_11)) => known,
            Some(other) if policy.permit_unconventional_version => other,
            Some(_) => return Err(Error::UnsupportedVersion(version.into())),
            None => return Err(Error::Version(version.into())),
        };
        let is = |known: &[u8]| match policy.casefold_method {
            true => name.eq_ignore_ascii_case(known),
            false => name == known,
        };
        let kind = match method {
            7 if is(b"CONNECT") => MethodKind::Connect,
            7 if is(b"OPTIONS") => MethodKind::Options,
            _ => MethodKind::Other,
        };
        let Some(parts) = target::split(kind, &line[target.clone()]) else {
            return Err(Error::Target(line[target].into()));
        };
        Ok(Self {
            method,
            target,
            parts,
            kind,
            version,
        })
    }

    /// RFC 9112 section 3.2.
    fn needs(&self, said: Said) -> Result<(), Error> {
        match self.version >= Version::HTTP_11 && !said.host {
            true => Err(Error::MissingHost),
            false => Ok(()),
        }
    }
}

/// A token (RFC 9110 section 9.1), and unless the policy is open to all, one that looks like IANA's registered methods.
fn is_method(policy: &Policy, name: &[u8]) -> bool {
    let conventional = || {
        (3..=20).contains(&name.len()) && !name.iter().any(|o| o.is_ascii_lowercase() || *o == b'#')
    };
    is_token(name) && (policy.permit_unconventional_method || conventional())
}

/// Hands the name and the trimmed value of each of `count` field lines to `take`, in order.
///
/// `lines` ends with the empty line; the scanner has made sure that CR and LF occur only as line ends in it.
fn each_field<'a>(
    lines: &'a [u8],
    count: usize,
    mut take: impl FnMut(&'a [u8], &'a [u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut usual = [EMPTY_HEADER; USUAL_FIELDS];
    let mut many: Vec<Header<'a>>;
    let headers = match usual.get_mut(..count) {
        Some(headers) => headers,
        None => {
            many = vec![EMPTY_HEADER; count];
            &mut many
        }
    };
    match httparse::parse_headers(lines, headers) {
        Ok(httparse::Status::Complete((len, headers)))
            if len == lines.len() && headers.len() == count =>
        {
            headers
                .iter()
                .try_for_each(|header| take(header.name.as_bytes(), header.value))
        }
        _ => Err(culprit(lines)),
    }
}

/// The error in field lines that httparse has refused.
fn culprit(lines: &[u8]) -> Error {
    for line in lines.split(|&octet| octet == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Err(error) = field_line(line, false)
            && !line.is_empty()
        {
            return error;
        }
    }
    Error::FieldLine(lines.into())
}

/// `field-name ":" OWS field-value OWS` (RFC 9112 section 5), without its CRLF; `strip` drops white space before the
/// colon. For lines that speed does not matter to.
pub(crate) fn field_line(line: &[u8], strip: bool) -> Result<(&[u8], &[u8]), Error> {
    let colon = memchr(b':', line).ok_or_else(|| Error::FieldLine(line.into()))?;
    let (mut name, value) = (&line[..colon], trim_ows(&line[colon + 1..]));
    if strip {
        name = trim_end_ows(name);
    }
    if !is_token(name) {
        return Err(Error::FieldName(name.into()));
    }
    if has_control(value) {
        return Err(Error::FieldValue(name.into()));
    }
    Ok((name, value))
}

/// What the fields of a head say, gathered line by line.
struct Fields<'a> {
    policy: &'a Policy,
    trusted: bool,
    octets: &'a [u8],
    kept: Vec<(Span, Span)>,
    /// Offset of the first underscore at or behind the last name that was looked at.
    next_underscore: u32,
    framing: Declared<'a>,
    said: Said,
    content_type: bool,
    expects_continue: bool,
}

impl<'a> Fields<'a> {
    fn new(policy: &'a Policy, trusted: bool, octets: &'a [u8], kept: Vec<(Span, Span)>) -> Self {
        Self {
            policy,
            trusted,
            octets,
            kept,
            next_underscore: 0,
            framing: Declared::default(),
            said: Said::default(),
            content_type: false,
            expects_continue: false,
        }
    }

    fn take(&mut self, name: &'a [u8], value: &'a [u8]) -> Result<(), Error> {
        self.interpret(name, value)?;
        if self.trusted && !self.policy.secure_scheme_headers.is_empty() {
            self.note_scheme(name, value)?;
        }
        // Framing is decided above, and no field that decides it has an underscore: leaving one out is safe.
        let at = self.span_of(name);
        if self.has_underscore(at) {
            if !self.keeps_underscore(name)? {
                return Ok(());
            }
            self.said.underscores = true;
        }
        let value = self.span_of(value);
        self.kept.push((at, value));
        Ok(())
    }

    /// Whether there is an underscore in a name, which comes after all names that were asked about.
    ///
    /// Underscores are rare: searching for the next one in the whole head costs less than searching each short name.
    fn has_underscore(&mut self, name: Span) -> bool {
        if self.next_underscore < name.start {
            let rest = self.octets.get(name.start as usize..).unwrap_or_default();
            self.next_underscore = memchr(b'_', rest)
                .and_then(|offset| u32::try_from(offset).ok()?.checked_add(name.start))
                .unwrap_or(u32::MAX);
        }
        self.next_underscore < name.end
    }

    fn interpret(&mut self, name: &'a [u8], value: &'a [u8]) -> Result<(), Error> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                once(&mut self.said.host, "Host")?;
                if !target::is_host(value) {
                    return Err(Error::Host(value.into()));
                }
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Error::Expectation(value.into()));
                }
                self.expects_continue = true;
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.said
                    .keep_alive
                    .get_or_insert(value.eq_ignore_ascii_case(b"keep-alive"));
                self.said.close |= value
                    .split(|&octet| octet == b',')
                    .any(|option| trim_ows(option).eq_ignore_ascii_case(b"close"));
            }
            12 if name.eq_ignore_ascii_case(b"content-type") => {
                once(&mut self.content_type, "Content-Type")?;
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.framing.content_length(value)?
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.framing.transfer_encoding(value)?
            }
            _ => {}
        }
        Ok(())
    }

    fn note_scheme(&mut self, name: &[u8], value: &[u8]) -> Result<(), Error> {
        let fields = &self.policy.secure_scheme_headers;
        let Some((_, secure)) = fields
            .iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known))
        else {
            return Ok(());
        };
        let scheme = if value == secure.as_slice() {
            Scheme::Https
        } else {
            Scheme::Http
        };
        if *self.said.scheme.get_or_insert(scheme) != scheme {
            return Err(Error::ContradictorySchemes);
        }
        Ok(())
    }

    fn keeps_underscore(&self, name: &[u8]) -> Result<bool, Error> {
        let forwarded = |known: &Vec<u8>| known == b"*" || name.eq_ignore_ascii_case(known);
        if self.trusted && self.policy.forwarder_headers.iter().any(forwarded) {
            return Ok(true);
        }
        match self.policy.header_map {
            HeaderMap::Drop => Ok(false),
            HeaderMap::Dangerous => Ok(true),
            HeaderMap::Refuse => Err(Error::AmbiguousFieldName(name.into())),
        }
    }

    /// Where a piece of the head is in it. httparse may hand out an empty value from anywhere.
    fn span_of(&self, piece: &[u8]) -> Span {
        if piece.is_empty() {
            return Span::default();
        }
        let start = piece
            .as_ptr()
            .addr()
            .wrapping_sub(self.octets.as_ptr().addr());
        Span::new(start..start.wrapping_add(piece.len()))
    }
}

/// Marks a field of a single member as seen (RFC 9110 section 5.3).
fn once(seen: &mut bool, name: &'static str) -> Result<(), Error> {
    match core::mem::replace(seen, true) {
        true => Err(Error::RepeatedField(name)),
        false => Ok(()),
    }
}

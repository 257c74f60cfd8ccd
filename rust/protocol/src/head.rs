//! The head of a request: what its first line and its fields say, in storage that is used again.

use crate::framing::Framing;
use crate::section::{SectionId, Sections};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// The version of a request (RFC 9112 section 2.3): 1.0 or 1.1, unless the policy permits unconventional ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u8,
    minor: u8,
}

impl Version {
    /// `HTTP/1.0`
    pub const HTTP_10: Self = Self { major: 1, minor: 0 };
    /// `HTTP/1.1`
    pub const HTTP_11: Self = Self { major: 1, minor: 1 };

    /// `HTTP-name "/" DIGIT "." DIGIT`.
    pub(crate) fn parse(octets: &[u8]) -> Option<Self> {
        match octets {
            [
                b'H',
                b'T',
                b'T',
                b'P',
                b'/',
                major @ b'0'..=b'9',
                b'.',
                minor @ b'0'..=b'9',
            ] => Some(Self {
                major: major - b'0',
                minor: minor - b'0',
            }),
            _ => None,
        }
    }

    /// The first number, of one digit.
    pub const fn major(self) -> u8 {
        self.major
    }

    /// The second number, of one digit.
    pub const fn minor(self) -> u8 {
        self.minor
    }

    /// The version of the answer: ours, but 1.0 for a client that is behind 1.1 (RFC 9110 section 2.5).
    pub(crate) fn of_answer(self) -> &'static str {
        if self < Self::HTTP_11 {
            "HTTP/1.0"
        } else {
            "HTTP/1.1"
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP/{}.{}", self.major, self.minor)
    }
}

impl Default for Version {
    fn default() -> Self {
        Self::HTTP_11
    }
}

/// The scheme of a request URI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// `http`
    #[default]
    Http,
    /// `https`
    Https,
}

/// One field line of a head (RFC 9112 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// A token, in the case in which it was received.
    pub name: &'a [u8],
    /// Octets without the white space around them, without control octets; anything above 0x7f may be among them.
    pub value: &'a [u8],
}

/// A piece of a head. 32 bits: a head is refused long before it needs more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    /// A whole head fits 32 bits, which the parser has checked; what does not fit reads as empty.
    pub(crate) fn new(range: Range<usize>) -> Self {
        match (u32::try_from(range.start), u32::try_from(range.end)) {
            (Ok(start), Ok(end)) => Self { start, end },
            _ => Self::default(),
        }
    }

    /// The same piece, for offsets that count from `by` octets before. A whole head fits 32 bits.
    pub(crate) fn on(self, by: u32) -> Self {
        Self {
            start: self.start.wrapping_add(by),
            end: self.end.wrapping_add(by),
        }
    }

    /// The same piece, for offsets that count from octet `start`. An empty one may be anywhere.
    pub(crate) fn back(self, start: usize) -> Self {
        Self::new(
            (self.start as usize).saturating_sub(start)..(self.end as usize).saturating_sub(start),
        )
    }

    fn of(self, octets: &[u8]) -> &[u8] {
        octets
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// A complete, valid request head.
///
/// It owns a copy of its octets, so the receive buffer is free for the body at once. Give it back to its
/// [`HeadPool`] when the request is over, and the next one allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub(crate) octets: Vec<u8>,
    pub(crate) fields: Vec<(Span, Span)>,
    /// The octet from which the offsets of the fields count.
    pub(crate) fields_at: u32,
    pub(crate) method: Span,
    pub(crate) target: Span,
    pub(crate) path: Span,
    pub(crate) query: Span,
    pub(crate) version: Version,
    pub(crate) scheme: Option<Scheme>,
    pub(crate) framing: Framing,
    pub(crate) expects_continue: bool,
    pub(crate) keep_alive: bool,
    pub(crate) closes_explicitly: bool,
    pub(crate) has_underscores: bool,
    /// The header section, where it is remembered.
    pub(crate) section: Option<SectionId>,
}

impl Head {
    /// Puts the authority of the target in the place of Host (RFC 9112 section 3.2.2).
    pub(crate) fn override_host(&mut self, authority: Span) {
        self.section = None;
        let from = core::mem::take(&mut self.fields_at);
        for (name, value) in &mut self.fields {
            (*name, *value) = (name.on(from), value.on(from));
        }
        let octets = &self.octets;
        let is_host = |name: Span| name.of(octets).eq_ignore_ascii_case(b"host");
        if let Some((_, value)) = self.fields.iter_mut().find(|(name, _)| is_host(*name)) {
            *value = authority;
            return;
        }
        let start = self.octets.len();
        self.octets.extend_from_slice(b"Host");
        let name = Span::new(start..self.octets.len());
        self.fields.push((name, authority));
    }

    /// The method, in upper case if the policy folds it.
    pub fn method(&self) -> &[u8] {
        self.method.of(&self.octets)
    }

    /// The request target as it was received (gunicorn's `RAW_URI`).
    pub fn target(&self) -> &[u8] {
        self.target.of(&self.octets)
    }

    /// The path of the target, still percent-encoded; empty for `http://host`.
    pub fn path(&self) -> &[u8] {
        self.path.of(&self.octets)
    }

    /// The query of the target without its `?`, still percent-encoded; empty if there is none.
    pub fn query(&self) -> &[u8] {
        self.query.of(&self.octets)
    }

    /// The version of the request line.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The fields that the policy keeps, in the order of the head. The authority of a target in absolute form is the
    /// value of Host, whatever the client sent there.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        let from = self.fields_at;
        self.fields.iter().map(move |(name, value)| Field {
            name: name.on(from).of(&self.octets),
            value: value.on(from).of(&self.octets),
        })
    }

    /// Whether the name of a field has an underscore.
    pub fn has_underscores(&self) -> bool {
        self.has_underscores
    }

    /// Where the header section is one that the connection repeats: which. Heads with the same one have the same
    /// [fields](Self::fields).
    pub fn section(&self) -> Option<SectionId> {
        self.section
    }

    /// `Https` if a trusted peer says so, else `Http`. On a TLS connection ask [`declared_scheme`](Self::declared_scheme).
    pub fn scheme(&self) -> Scheme {
        self.scheme.unwrap_or_default()
    }

    /// The scheme that a trusted peer declares by the policy's `secure_scheme_headers`, if it does.
    pub fn declared_scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// How the end of the body is found.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the client asks for `100 Continue` (RFC 9110 section 10.1.1); never so on HTTP/1.0.
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Whether the client wants the connection to outlive the response (RFC 9112 section 9.3); never so for CONNECT.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the client announces that it sends nothing after this request: a `close` option, or HTTP/1.0
    /// without keep-alive.
    pub fn closes_explicitly(&self) -> bool {
        self.closes_explicitly
    }
}

/// Storage of heads that are over, and memory of what was in some. One pool is for one policy.
#[derive(Debug, Default)]
pub struct HeadPool {
    heads: Heads,
    sections: Sections,
}

impl HeadPool {
    /// Takes a head whose request is over.
    pub fn give_back(&mut self, head: Box<Head>) {
        self.heads.give_back(head);
    }

    /// Forgets what no connection has repeated since this was called last.
    pub fn forget_unused(&mut self) {
        self.sections.forget_unused();
    }

    pub(crate) fn parts(&mut self) -> (&mut Heads, &mut Sections) {
        (&mut self.heads, &mut self.sections)
    }
}

/// Heads to be written over.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    #[expect(
        clippy::vec_box,
        reason = "a head is handed on many times before it is read"
    )]
    kept: Vec<Box<Head>>,
}

impl Heads {
    /// More requests than this are rarely in flight at once; further heads are freed.
    const KEPT: usize = 64;
    /// Octets beyond which a head is freed: one client's cookies must not stay in memory for all.
    const LARGEST: usize = 16 * 1024;
    /// Field lines beyond which a head is freed.
    const MOST_FIELDS: usize = 128;

    fn give_back(&mut self, head: Box<Head>) {
        let oversized =
            head.octets.capacity() > Self::LARGEST || head.fields.capacity() > Self::MOST_FIELDS;
        if !oversized && self.kept.len() < Self::KEPT {
            self.kept.push(head);
        }
    }

    /// A head without octets and fields; the rest of it is of another request.
    pub(crate) fn take(&mut self) -> Box<Head> {
        let mut head = self.kept.pop().unwrap_or_default();
        head.octets.clear();
        head.fields.clear();
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head_of(octets: usize) -> Box<Head> {
        Box::new(Head {
            octets: Vec::with_capacity(octets),
            ..Head::default()
        })
    }

    #[test]
    fn the_pool_is_bounded_in_number_and_size() {
        let mut pool = Heads::default();
        pool.give_back(head_of(Heads::LARGEST + 1));
        assert_eq!(pool.kept.len(), 0);
        for _ in 0..Heads::KEPT + 10 {
            pool.give_back(head_of(100));
        }
        assert_eq!(pool.kept.len(), Heads::KEPT);
        assert!(pool.take().octets.capacity() >= 100);
    }
}

//! The head of a request: what its first line and its fields say, in storage that is used again.

use crate::framing::Framing;
use alloc::vec::Vec;

/// The version of a request (RFC 9112 section 2.3); there are no others here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `HTTP/1.0`
    Http10,
    /// `HTTP/1.1`
    #[default]
    Http11,
}

impl Version {
    /// The version as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
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
#[derive(Debug, Default)]
pub struct Head {
    pub(crate) octets: Vec<u8>,
    pub(crate) fields: Vec<(Span, Span)>,
    pub(crate) method: Span,
    pub(crate) target: Span,
    pub(crate) path: Span,
    pub(crate) query: Span,
    pub(crate) authority: Option<Span>,
    pub(crate) version: Version,
    pub(crate) scheme: Option<Scheme>,
    pub(crate) framing: Framing,
    pub(crate) expects_continue: bool,
    pub(crate) keep_alive: bool,
    pub(crate) closes_explicitly: bool,
}

impl Head {
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

    /// The authority of a target in absolute form, which overrides Host (RFC 9112 section 3.2.2).
    pub fn authority(&self) -> Option<&[u8]> {
        self.authority.map(|span| span.of(&self.octets))
    }

    /// The version of the request line.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The fields that the policy keeps, in the order of the head.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        self.fields.iter().map(|(name, value)| Field {
            name: name.of(&self.octets),
            value: value.of(&self.octets),
        })
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

/// Storage of heads that are over.
#[derive(Debug, Default)]
pub struct HeadPool {
    heads: Vec<Head>,
}

impl HeadPool {
    /// More requests than this are rarely in flight at once; further heads are freed.
    const KEPT: usize = 64;
    /// Octets beyond which a head is freed: one client's cookies must not stay in memory for all.
    const LARGEST: usize = 16 * 1024;
    /// Field lines beyond which a head is freed.
    const MOST_FIELDS: usize = 128;

    /// Takes a head whose request is over.
    pub fn give_back(&mut self, head: Head) {
        let oversized =
            head.octets.capacity() > Self::LARGEST || head.fields.capacity() > Self::MOST_FIELDS;
        if !oversized && self.heads.len() < Self::KEPT {
            self.heads.push(head);
        }
    }

    /// Empty storage for the octets and fields of a head.
    pub(crate) fn storage(&mut self) -> (Vec<u8>, Vec<(Span, Span)>) {
        let Head {
            mut octets,
            mut fields,
            ..
        } = self.heads.pop().unwrap_or_default();
        octets.clear();
        fields.clear();
        (octets, fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head_of(octets: usize) -> Head {
        Head {
            octets: Vec::with_capacity(octets),
            ..Head::default()
        }
    }

    #[test]
    fn the_pool_is_bounded_in_number_and_size() {
        let mut pool = HeadPool::default();
        pool.give_back(head_of(HeadPool::LARGEST + 1));
        assert_eq!(pool.heads.len(), 0);
        for _ in 0..HeadPool::KEPT + 10 {
            pool.give_back(head_of(100));
        }
        assert_eq!(pool.heads.len(), HeadPool::KEPT);
        assert!(pool.storage().0.capacity() >= 100);
    }
}

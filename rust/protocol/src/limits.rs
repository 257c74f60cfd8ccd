//! How much a client may send, and what a head may say.

use alloc::vec::Vec;

/// Bounds on what one request may cost, in octets and lines.
///
/// The values are literal: gunicorn's "0 means unlimited" is for the caller to translate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest request line in octets, without its CRLF (gunicorn's `limit_request_line`). Beyond: 414.
    pub request_line: usize,
    /// Most field lines in a head, and most in a trailer section (gunicorn's `limit_request_fields`). Beyond: 431.
    pub fields: usize,
    /// Longest field line in octets, with its CRLF (gunicorn's `limit_request_field_size`). Beyond: 431.
    pub field_size: usize,
    /// Longest decoded request body in octets; `None` sets no bound. Beyond: 413, before any octet is delivered.
    pub max_body: Option<u64>,
}

impl Default for Limits {
    /// The defaults of gunicorn 27.
    fn default() -> Self {
        Self {
            request_line: 4094,
            fields: 100,
            field_size: 8190,
            max_body: None,
        }
    }
}

impl Limits {
    /// The most octets that an incomplete head can occupy in a [`Buffer`](crate::Buffer): a buffer that may
    /// [grow](crate::Buffer::grow) to this many octets is never full while more of a legal head is awaited.
    pub fn max_head(&self) -> usize {
        // Two for the CRLF of the request line, two for the empty line, two for the empty line before it all.
        self.fields
            .saturating_mul(self.field_size)
            .saturating_add(self.request_line)
            .saturating_add(6)
            .max(crate::chunked::MAX_SIZE_LINE + 2)
    }
}

/// What happens to a field whose name has an underscore: CGI names cannot tell it from a hyphen, so it could pose
/// as a field that a proxy vouches for (gunicorn's `header_map`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderMap {
    /// The field is left out, silently.
    #[default]
    Drop,
    /// The request is refused with 400.
    Refuse,
    /// The field is kept, as if the ambiguity did not exist.
    Dangerous,
}

/// The request settings of gunicorn that decide about a head.
///
/// [`Default`] has gunicorn's defaults, except that both lists are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Bounds on line, field and body sizes.
    pub limits: Limits,
    /// Treatment of names with an underscore.
    pub header_map: HeaderMap,
    /// Names, in upper case, that a trusted peer may send in spite of an underscore; `*` stands for all of them.
    pub forwarder_headers: Vec<Vec<u8>>,
    /// Name, in upper case, and exact value with which a trusted peer says that its client came over TLS.
    pub secure_scheme_headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Accept every token as a method, not only the likes of IANA's registered ones.
    pub permit_unconventional_method: bool,
    /// Turn the method to upper case after the checks.
    pub casefold_method: bool,
    /// Take every `HTTP/x.y` for a version, and answer it as the nearest of 1.0 and 1.1.
    pub permit_unconventional_version: bool,
    /// Let a line that begins with white space continue the field line before it (RFC 9112 section 5.2).
    pub permit_obsolete_folding: bool,
    /// Drop white space between a field name and its colon (RFC 9112 section 5.1).
    pub strip_header_spaces: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_gunicorn() {
        let policy = Policy::default();
        assert_eq!(
            (
                policy.limits.request_line,
                policy.limits.fields,
                policy.limits.field_size
            ),
            (4094, 100, 8190)
        );
        assert_eq!(policy.limits.max_body, None);
        assert_eq!(policy.header_map, HeaderMap::Drop);
        assert!(policy.forwarder_headers.is_empty() && policy.secure_scheme_headers.is_empty());
    }

    #[test]
    fn extreme_limits_do_not_overflow() {
        let limits = Limits {
            fields: usize::MAX,
            field_size: usize::MAX,
            ..Limits::default()
        };
        assert_eq!(limits.max_head(), usize::MAX);
    }
}

//! Everything a client can do wrong, and the status that answers it.

use crate::connection::Awaits;
use alloc::boxed::Box;
use core::fmt;

/// A status code with its reason phrase (RFC 9110 section 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The three digits.
    pub code: u16,
    /// The phrase that follows them.
    pub reason: &'static str,
}

macro_rules! statuses {
    ($($name:ident = $code:literal $reason:literal;)*) => {
        impl Status {
            $(
                #[doc = concat!("`", $code, " ", $reason, "`")]
                pub const $name: Self = Self { code: $code, reason: $reason };
            )*
        }
    };
}

statuses! {
    BAD_REQUEST = 400 "Bad Request";
    FORBIDDEN = 403 "Forbidden";
    REQUEST_TIMEOUT = 408 "Request Timeout";
    CONTENT_TOO_LARGE = 413 "Content Too Large";
    URI_TOO_LONG = 414 "URI Too Long";
    EXPECTATION_FAILED = 417 "Expectation Failed";
    UPGRADE_REQUIRED = 426 "Upgrade Required";
    HEADER_FIELDS_TOO_LARGE = 431 "Request Header Fields Too Large";
    INTERNAL_SERVER_ERROR = 500 "Internal Server Error";
    NOT_IMPLEMENTED = 501 "Not Implemented";
    SERVICE_UNAVAILABLE = 503 "Service Unavailable";
    VERSION_NOT_SUPPORTED = 505 "HTTP Version Not Supported";
    INSUFFICIENT_STORAGE = 507 "Insufficient Storage";
}

/// The offending octets of a message, cut short, for the one line that an error is worth.
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt {
    octets: Box<[u8]>,
    cut: bool,
}

impl Excerpt {
    /// Octets that are kept: enough to recognise the culprit, too few to flood a log.
    pub const MAX: usize = 80;
}

impl From<&[u8]> for Excerpt {
    fn from(octets: &[u8]) -> Self {
        Self {
            octets: octets[..octets.len().min(Self::MAX)].into(),
            cut: octets.len() > Self::MAX,
        }
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ellipsis = if self.cut { "..." } else { "" };
        write!(f, "\"{}\"{ellipsis}", self.octets.escape_ascii())
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One variant for each illegal thing a client can send.
///
/// [`Display`](fmt::Display) says in one line what was wrong, with everything unprintable escaped;
/// [`status`](Self::status) says how it is answered. After any of these, no later octet of the connection is a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A line ended with LF alone (RFC 9112 section 2.2 allows a server to be lenient; smuggling lives on it).
    BareLineFeed,
    /// A CR without its LF, inside a line or at its end (RFC 9112 section 2.2).
    BareCarriageReturn,
    /// More than one empty line before a request line.
    EmptyLines,
    /// The request line is longer than this many octets.
    RequestLineTooLong(usize),
    /// The request line is not three parts with single spaces between (RFC 9112 section 3).
    RequestLine(Excerpt),
    /// The method is no token, or not a conventional one (RFC 9110 section 9.1).
    Method(Excerpt),
    /// The request target has an illegal octet, or a form that its method does not allow (RFC 9112 section 3.2).
    Target(Excerpt),
    /// The last part of the request line is not an HTTP version (RFC 9112 section 2.3).
    Version(Excerpt),
    /// The version is neither HTTP/1.0 nor HTTP/1.1.
    UnsupportedVersion(Excerpt),
    /// A field line, with its CRLF, is longer than this many octets.
    FieldTooLarge(usize),
    /// There are more than this many field lines.
    TooManyFields(usize),
    /// A field line continues the one before it (RFC 9112 section 5.2).
    ObsoleteFolding,
    /// A field line has no colon (RFC 9112 section 5).
    FieldLine(Excerpt),
    /// A field name is empty or no token, or has white space before its colon (RFC 9112 section 5.1).
    FieldName(Excerpt),
    /// The value of the field of this name has a control octet (RFC 9110 section 5.5).
    FieldValue(Excerpt),
    /// A field name has an underscore, which the `refuse` setting of `header_map` does not take.
    AmbiguousFieldName(Excerpt),
    /// A field that may be there once is there again (RFC 9110 section 5.3).
    RepeatedField(&'static str),
    /// An HTTP/1.1 request without Host (RFC 9112 section 3.2).
    MissingHost,
    /// Host is not an authority (RFC 9112 section 3.2).
    Host(Excerpt),
    /// Expect is something other than `100-continue` (RFC 9110 section 10.1.1).
    Expectation(Excerpt),
    /// Two scheme fields of a trusted peer contradict each other.
    ContradictorySchemes,
    /// Content-Length is not a number of digits, or beyond 64 bits (RFC 9110 section 8.6).
    ContentLength(Excerpt),
    /// Content-Length together with Transfer-Encoding (RFC 9112 section 6.1).
    LengthAndCoding,
    /// Transfer-Encoding in an HTTP/1.0 request (RFC 9112 section 6.1).
    CodingInHttp10,
    /// `chunked` is missing, repeated or not last in Transfer-Encoding (RFC 9112 section 6.3).
    TransferEncoding(Excerpt),
    /// A transfer coding other than `chunked` (RFC 9112 section 6.1).
    UnsupportedCoding(Excerpt),
    /// The body is longer than this many octets.
    BodyTooLarge(u64),
    /// A chunk size is not one to sixteen hexadecimal digits (RFC 9112 section 7.1).
    ChunkSize(Excerpt),
    /// A chunk extension is malformed (RFC 9112 section 7.1.1).
    ChunkExtension(Excerpt),
    /// A chunked body has more octets of extensions than of data, and not just a few.
    ChunkExtensionsTooLong,
    /// The line with a chunk size is longer than this many octets.
    ChunkLineTooLong(usize),
    /// The data of a chunk is not followed by CRLF (RFC 9112 section 7.1).
    ChunkEnd(Excerpt),
    /// A trailer field that would change routing, framing or authentication (RFC 9110 section 6.5.1).
    ForbiddenTrailer(Excerpt),
    /// The client ended its side in the middle of this.
    Truncated(Awaits),
}

impl Error {
    /// The status of the answer; `None` where nobody is left to answer.
    pub fn status(&self) -> Option<Status> {
        Some(match self {
            Self::RequestLineTooLong(_) => Status::URI_TOO_LONG,
            Self::FieldTooLarge(_) | Self::TooManyFields(_) => Status::HEADER_FIELDS_TOO_LARGE,
            Self::UnsupportedVersion(_) => Status::VERSION_NOT_SUPPORTED,
            Self::UnsupportedCoding(_) => Status::NOT_IMPLEMENTED,
            Self::Expectation(_) => Status::EXPECTATION_FAILED,
            Self::BodyTooLarge(_) => Status::CONTENT_TOO_LARGE,
            Self::Truncated(_) => return None,
            _ => Status::BAD_REQUEST,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BareLineFeed => f.write_str("line ends with LF instead of CRLF"),
            Self::BareCarriageReturn => f.write_str("CR that no LF follows"),
            Self::EmptyLines => f.write_str("more than one empty line before the request line"),
            Self::RequestLineTooLong(limit) => write!(f, "request line exceeds {limit} octets"),
            Self::RequestLine(line) => write!(f, "invalid request line {line}"),
            Self::Method(method) => write!(f, "invalid method {method}"),
            Self::Target(target) => write!(f, "invalid request target {target}"),
            Self::Version(version) => write!(f, "invalid HTTP version {version}"),
            Self::UnsupportedVersion(version) => write!(f, "unsupported HTTP version {version}"),
            Self::FieldTooLarge(limit) => write!(f, "field line exceeds {limit} octets"),
            Self::TooManyFields(limit) => write!(f, "more than {limit} field lines"),
            Self::ObsoleteFolding => f.write_str("field line begins with white space"),
            Self::FieldLine(line) => write!(f, "field line without a colon {line}"),
            Self::FieldName(name) => write!(f, "invalid field name {name}"),
            Self::FieldValue(name) => write!(f, "control octet in the value of field {name}"),
            Self::AmbiguousFieldName(name) => write!(f, "underscore in field name {name}"),
            Self::RepeatedField(name) => write!(f, "repeated {name} field"),
            Self::MissingHost => f.write_str("HTTP/1.1 request without a Host field"),
            Self::Host(value) => write!(f, "invalid Host {value}"),
            Self::Expectation(value) => write!(f, "cannot meet the expectation {value}"),
            Self::ContradictorySchemes => f.write_str("contradictory scheme fields"),
            Self::ContentLength(value) => write!(f, "invalid Content-Length {value}"),
            Self::LengthAndCoding => f.write_str("both Content-Length and Transfer-Encoding"),
            Self::CodingInHttp10 => f.write_str("Transfer-Encoding in an HTTP/1.0 request"),
            Self::TransferEncoding(value) => {
                write!(f, "Transfer-Encoding does not end with one chunked {value}")
            }
            Self::UnsupportedCoding(value) => write!(f, "unsupported transfer coding {value}"),
            Self::BodyTooLarge(limit) => write!(f, "request body exceeds {limit} octets"),
            Self::ChunkSize(size) => write!(f, "invalid chunk size {size}"),
            Self::ChunkExtension(line) => write!(f, "invalid chunk extension {line}"),
            Self::ChunkExtensionsTooLong => {
                f.write_str("chunk extensions are longer than the data of the chunks")
            }
            Self::ChunkLineTooLong(limit) => write!(f, "chunk size line exceeds {limit} octets"),
            Self::ChunkEnd(found) => write!(f, "chunk data is followed by {found}, not by CRLF"),
            Self::ForbiddenTrailer(name) => {
                write!(f, "field {name} is forbidden in a trailer section")
            }
            Self::Truncated(Awaits::Head) => {
                f.write_str("client ended its side within a request head")
            }
            Self::Truncated(_) => f.write_str("client ended its side within a request body"),
        }
    }
}

impl core::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn an_error_is_one_printable_line_whatever_the_client_sent() {
        let every: alloc::vec::Vec<u8> = (0..=255u8).collect();
        for window in every.chunks(64) {
            let line = Error::Target(window.into()).to_string();
            assert!(line.bytes().all(|b| (0x20..0x7f).contains(&b)), "{line}");
        }
    }

    #[test]
    fn excerpts_are_cut_at_eighty_octets() {
        let line = Error::Method([b'm'; 81].as_slice().into()).to_string();
        assert_eq!(
            line,
            alloc::format!("invalid method \"{}\"...", "m".repeat(80))
        );
        let line = Error::Method([b'm'; 80].as_slice().into()).to_string();
        assert!(!line.ends_with("..."));
    }

    #[test]
    fn nobody_is_left_to_answer_after_a_truncated_request() {
        assert_eq!(Error::Truncated(Awaits::Body).status(), None);
        assert_eq!(Error::BareLineFeed.status(), Some(Status::BAD_REQUEST));
    }

    #[test]
    fn an_error_is_small_enough_to_travel_in_every_result() {
        assert!(size_of::<Error>() <= 32);
    }
}

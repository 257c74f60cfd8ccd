//! Answers in, bytes out: heads and framing of responses (RFC 9112 sections 4, 6 and 7).
//!
//! What may be sent, how a body is framed and whether the connection survives follow gunicorn's `Response`.

use crate::error::Status;
use crate::grammar::{decimal, has_control, is_token, trim_ows};
use crate::head::{Head, Version};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// What follows the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// The interim response that lets a client send its body (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Octets of an IMF-fixdate.
pub const DATE: usize = 29;

/// What of a request shapes its response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestTraits {
    /// The response is sent in the version of the request.
    pub version: Version,
    /// Whether the method is HEAD, so that the body stays behind.
    pub is_head: bool,
    /// Whether the client lets the connection live on.
    pub keep_alive: bool,
}

impl From<&Head> for RequestTraits {
    fn from(head: &Head) -> Self {
        Self {
            version: head.version(),
            is_head: head.method() == b"HEAD",
            keep_alive: head.keep_alive(),
        }
    }
}

/// What is wrong with the answer of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResponseError {
    /// Not three digits from 100 up, then nothing or a space and a reason phrase (RFC 9112 section 4).
    InvalidStatus,
    /// The name of a field is no token.
    InvalidFieldName(String),
    /// The value of the field of this name has CR, LF or another control octet; it is not repeated here, for it may be
    /// a secret.
    InvalidFieldValue(String),
    /// Content-Length is not a number of digits within 64 bits.
    InvalidContentLength(String),
    /// Content-Length was given before, with another value.
    ConflictingContentLength,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidStatus => {
                f.write_str("response status is not three digits, a space and a reason phrase")
            }
            Self::InvalidFieldName(name) => {
                write!(f, "response field name {name:?} is not a token")
            }
            Self::InvalidFieldValue(name) => {
                write!(
                    f,
                    "value of the response field {name:?} has CR, LF or another control character"
                )
            }
            Self::InvalidContentLength(value) => {
                write!(f, "response Content-Length {value:?} is not a number")
            }
            Self::ConflictingContentLength => {
                f.write_str("response has two different Content-Length fields")
            }
        }
    }
}

impl core::error::Error for ResponseError {}

/// The head of a response while its fields are being added.
#[derive(Debug)]
pub struct ResponseHead {
    out: Vec<u8>,
    request: RequestTraits,
    code: u16,
    /// Where the date belongs, which is known when the head leaves.
    date_at: usize,
    upgrade: bool,
    length: Option<u64>,
}

impl ResponseHead {
    /// Begins a head with its status line, `Server` and room for `Date`.
    ///
    /// `status` is code and reason, as in `200 OK`; `server` is a product name, taken as it is. `out` is storage to use
    /// again, its contents are dropped.
    ///
    /// # Errors
    ///
    /// [`ResponseError::InvalidStatus`].
    pub fn start(
        mut out: Vec<u8>,
        request: RequestTraits,
        status: &[u8],
        server: &str,
    ) -> Result<Self, ResponseError> {
        let code = status_code(status).ok_or(ResponseError::InvalidStatus)?;
        out.clear();
        out.extend_from_slice(request.version.of_answer().as_bytes());
        out.push(b' ');
        out.extend_from_slice(status);
        if status.len() == 3 {
            // RFC 9112 section 4: the space stays even without a reason phrase.
            out.push(b' ');
        }
        out.extend_from_slice(b"\r\nServer: ");
        out.extend_from_slice(server.as_bytes());
        out.extend_from_slice(b"\r\nDate: ");
        let date_at = out.len();
        out.extend_from_slice(&[b' '; DATE]);
        out.extend_from_slice(b"\r\n");
        Ok(Self {
            out,
            request,
            code,
            date_at,
            upgrade: false,
            length: None,
        })
    }

    /// Adds a field of the application, the white space around its value trimmed.
    ///
    /// Server, Date and the hop-by-hop fields are ours and left out, as gunicorn does; `Connection: upgrade` and
    /// `Upgrade: websocket` are honoured. A Content-Length said twice is sent once.
    ///
    /// # Errors
    ///
    /// Every [`ResponseError`] but an invalid status. The head is of no use afterwards.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseError> {
        check_field(name, value)?;
        let value = trim_ows(value);
        match Owner::of(name) {
            Owner::Application => {}
            Owner::Length => {
                let length = decimal(value).ok_or_else(|| {
                    ResponseError::InvalidContentLength(String::from_utf8_lossy(value).into_owned())
                })?;
                if self.forbids_length() {
                    return Ok(());
                }
                match self.length.replace(length) {
                    None => {}
                    Some(same) if same == length => return Ok(()),
                    Some(_) => return Err(ResponseError::ConflictingContentLength),
                }
            }
            Owner::Connection => {
                self.upgrade |= value.eq_ignore_ascii_case(b"upgrade");
                return Ok(());
            }
            Owner::Upgrade if value.eq_ignore_ascii_case(b"websocket") => {}
            Owner::Upgrade | Owner::Server => return Ok(()),
        }
        push_field(&mut self.out, name, value);
        Ok(())
    }

    /// Ends the head with `Connection` and, for chunks, `Transfer-Encoding`, and decides how the body is framed.
    ///
    /// `date` is an IMF-fixdate (RFC 9110 section 5.6.7), taken as it is. With `may_persist` false the connection
    /// closes after the response whatever the client wants.
    pub fn finish(self, date: &[u8; DATE], may_persist: bool) -> Encoded {
        let body = if self.omits_body() {
            BodyEncoder::Omitted
        } else if let Some(length) = self.length {
            BodyEncoder::Length { remaining: length }
        } else if self.request.version >= Version::HTTP_11 {
            BodyEncoder::Chunked
        } else {
            BodyEncoder::UntilClose
        };
        let persistent = may_persist && self.request.keep_alive && body != BodyEncoder::UntilClose;
        let connection: &[u8] = match (self.upgrade, persistent) {
            (true, _) => b"Connection: upgrade\r\n",
            (false, true) => b"Connection: keep-alive\r\n",
            (false, false) => b"Connection: close\r\n",
        };
        let mut head = self.out;
        head[self.date_at..self.date_at + DATE].copy_from_slice(date);
        head.extend_from_slice(connection);
        if body.is_chunked() {
            head.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        head.extend_from_slice(b"\r\n");
        Encoded {
            head,
            body,
            persistent,
        }
    }

    /// RFC 9110 sections 9.3.2, 15.2, 15.3.5 and 15.4.5.
    fn omits_body(&self) -> bool {
        self.request.is_head || self.code < 200 || self.code == 204 || self.code == 304
    }

    /// RFC 9110 section 8.6; a 304 may have the length that the whole representation would have.
    fn forbids_length(&self) -> bool {
        self.code < 200 || self.code == 204
    }
}

/// A complete head and what is to be done behind it.
#[derive(Debug)]
pub struct Encoded {
    /// The head, with the empty line that ends it.
    pub head: Vec<u8>,
    /// How the body goes out.
    pub body: BodyEncoder,
    /// Whether another request may follow on the connection.
    pub persistent: bool,
}

/// How the body of a response goes out, and how much of it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEncoder {
    /// As it is, this many octets.
    Length {
        /// Octets that are still missing of the declared length.
        remaining: u64,
    },
    /// In chunks.
    Chunked,
    /// As it is; the end of the connection is its end. HTTP/1.0 without a length.
    UntilClose,
    /// Not at all, whatever the application yields.
    Omitted,
}

/// Fewer octets than declared were sent; the client must see a broken response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// Octets that are missing.
    pub missing: u64,
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "response body is {} octets shorter than its Content-Length",
            self.missing
        )
    }
}

impl core::error::Error for Short {}

impl BodyEncoder {
    /// How many octets of a block of `len` may go out; they count as sent. Never more than declared.
    pub fn admit(&mut self, len: usize) -> usize {
        match self {
            Self::Length { remaining } => {
                let admitted = usize::try_from(*remaining).unwrap_or(usize::MAX).min(len);
                *remaining -= admitted as u64;
                admitted
            }
            Self::Chunked | Self::UntilClose => len,
            Self::Omitted => 0,
        }
    }

    /// Admits a block of `len` octets, and frames it: appends what precedes it to `lead`, and gives how many of its
    /// octets may go out and what follows them. With `last`, the end of the body is in what follows, and nothing
    /// more is admitted.
    pub fn frame(&mut self, lead: &mut Vec<u8>, len: usize, last: bool) -> (usize, &'static [u8]) {
        let admitted = self.admit(len);
        if !self.is_chunked() || admitted == 0 {
            return (admitted, b"");
        }
        chunk_prefix(lead, admitted);
        if last {
            *self = Self::Omitted;
            return (admitted, b"\r\n0\r\n\r\n");
        }
        (admitted, CHUNK_END)
    }

    /// Whether each block needs a [`chunk_prefix`] before it and a [`CHUNK_END`] behind it.
    pub fn is_chunked(&self) -> bool {
        matches!(self, Self::Chunked)
    }

    /// What goes out behind the last block.
    ///
    /// # Errors
    ///
    /// [`Short`] if less than the declared length was admitted: the connection has to be aborted.
    pub fn end(&self) -> Result<&'static [u8], Short> {
        match *self {
            Self::Length { remaining: 0 } | Self::UntilClose | Self::Omitted => Ok(b""),
            Self::Length { remaining } => Err(Short { missing: remaining }),
            Self::Chunked => Ok(b"0\r\n\r\n"),
        }
    }
}

/// Appends the size line of a chunk of `len` octets; nothing for none, because an empty chunk would end the body.
pub fn chunk_prefix(out: &mut Vec<u8>, len: usize) {
    if len == 0 {
        return;
    }
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4);
    for position in (0..digits).rev() {
        out.push(b"0123456789ABCDEF"[len >> (4 * position) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

/// A `103 Early Hints` response (RFC 8297). Content-Length and hop-by-hop fields have no place in it and are left out.
///
/// # Errors
///
/// [`ResponseError::InvalidFieldName`] and [`ResponseError::InvalidFieldValue`].
pub fn early_hints<'a>(
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<Vec<u8>, ResponseError> {
    let mut out = b"HTTP/1.1 103 Early Hints\r\n".to_vec();
    for (name, value) in fields {
        check_field(name, value)?;
        if matches!(Owner::of(name), Owner::Application) {
            push_field(&mut out, name, trim_ows(value));
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(out)
}

/// A whole response that says in one `line` of plain text what was wrong, or with an empty one says
/// nothing, and closes.
///
/// `server` and `date` are as for [`ResponseHead`]. With `is_head` the body stays behind.
pub fn error_answer(
    status: Status,
    line: &str,
    server: &str,
    date: &[u8],
    is_head: bool,
) -> Vec<u8> {
    plain_answer(status, line, server, date, is_head, "")
}

/// As [`error_answer`], a 503 that says in how many seconds to ask again (RFC 9110 10.2.3).
pub fn unavailable_answer(
    retry_after: u64,
    line: &str,
    server: &str,
    date: &[u8],
    is_head: bool,
) -> Vec<u8> {
    let status = Status::SERVICE_UNAVAILABLE;
    let field = alloc::format!("Retry-After: {retry_after}\r\n");
    plain_answer(status, line, server, date, is_head, &field)
}

fn plain_answer(
    status: Status,
    line: &str,
    server: &str,
    date: &[u8],
    is_head: bool,
    field: &str,
) -> Vec<u8> {
    let Status { code, reason } = status;
    let end = if line.is_empty() { "" } else { "\n" };
    let length = line.len() + end.len();
    let mut out =
        alloc::format!("HTTP/1.1 {code} {reason}\r\nServer: {server}\r\nDate: ").into_bytes();
    out.extend_from_slice(date);
    let fields = alloc::format!(
        "\r\n{field}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    out.extend_from_slice(fields.as_bytes());
    if !is_head {
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(end.as_bytes());
    }
    out
}

/// Who decides about a field of a response.
enum Owner {
    Application,
    /// The application, as far as it agrees with itself and the status.
    Length,
    Connection,
    Upgrade,
    Server,
}

impl Owner {
    fn of(name: &[u8]) -> Self {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            2 if is(b"te") => Self::Server,
            4 if is(b"date") => Self::Server,
            6 if is(b"server") => Self::Server,
            7 if is(b"upgrade") => Self::Upgrade,
            8 if is(b"trailers") => Self::Server,
            10 if is(b"connection") => Self::Connection,
            10 if is(b"keep-alive") => Self::Server,
            14 if is(b"content-length") => Self::Length,
            17 if is(b"transfer-encoding") => Self::Server,
            18 if is(b"proxy-authenticate") => Self::Server,
            19 if is(b"proxy-authorization") => Self::Server,
            _ => Self::Application,
        }
    }
}

fn status_code(status: &[u8]) -> Option<u16> {
    let [
        first @ b'1'..=b'9',
        second @ b'0'..=b'9',
        third @ b'0'..=b'9',
        reason @ ..,
    ] = status
    else {
        return None;
    };
    let reason_fits = matches!(reason, [] | [b' ', ..]) && !has_control(reason);
    let digit = |octet: &u8| u16::from(octet - b'0');
    reason_fits.then(|| digit(first) * 100 + digit(second) * 10 + digit(third))
}

fn check_field(name: &[u8], value: &[u8]) -> Result<(), ResponseError> {
    let lossy = || String::from_utf8_lossy(name).into_owned();
    if !is_token(name) {
        return Err(ResponseError::InvalidFieldName(lossy()));
    }
    if has_control(value) {
        return Err(ResponseError::InvalidFieldValue(lossy()));
    }
    Ok(())
}

fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

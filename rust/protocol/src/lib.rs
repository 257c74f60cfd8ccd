//! HTTP/1 for a server, without any I/O: bytes in, events out; answers in, bytes out.
//!
//! A [`Connection`] pulls [`Received`] events out of a [`Buffer`] that the caller fills from wherever bytes come
//! from, and knows at every moment what it [`Awaits`]. [`encode`] turns an answer into the bytes of a response.
//! There is no clock, no socket and no thread here: deadlines, readiness and order of calls belong to the caller.
//!
//! The grammar is that of RFC 9110 and RFC 9112, read strictly, with gunicorn's request settings as [`Limits`] and
//! [`Policy`]. Every illegal octet ends in one variant of [`Error`], and that type alone decides the status.

#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod buffer;
mod chunked;
mod connection;
pub mod encode;
mod error;
mod framing;
mod grammar;
mod head;
mod lenient;
mod limits;
mod parse;
mod scan;
mod section;
mod state;
mod target;
mod trailer;

pub use buffer::Buffer;
pub use connection::{Awaits, Connection, Received};
pub use error::{Error, Excerpt, Status};
pub use framing::Framing;
pub use head::{Field, Head, HeadPool, Scheme, Version};
pub use limits::{HeaderMap, Limits, Policy};
pub use section::SectionId;

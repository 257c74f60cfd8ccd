//! How long a request body is (RFC 9112 section 6).

use crate::error::Error;
use crate::grammar::{decimal, trim_ows};
use crate::head::Version;

/// How the end of a request body is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body; a Content-Length of zero means the same.
    #[default]
    None,
    /// This many octets follow, more than zero.
    Length(u64),
    /// Chunks follow, then a trailer section.
    Chunked,
}

/// What the fields of a head say about its body, gathered line by line.
#[derive(Debug, Default)]
pub(crate) struct Declared<'a> {
    length: Option<u64>,
    /// The last Transfer-Encoding value.
    coding: Option<&'a [u8]>,
    chunked: bool,
    /// Whether a coding other than chunked is among them.
    stacked: bool,
}

impl<'a> Declared<'a> {
    /// `Content-Length = 1*DIGIT`, once (RFC 9110 section 8.6). A list of equal lengths is not taken either.
    pub(crate) fn content_length(&mut self, value: &[u8]) -> Result<(), Error> {
        if self.length.is_some() {
            return Err(Error::RepeatedField("Content-Length"));
        }
        let length = decimal(value).ok_or_else(|| Error::ContentLength(value.into()))?;
        self.length = Some(length);
        Ok(())
    }

    /// `Transfer-Encoding = #transfer-coding`, over any number of lines (RFC 9112 section 6.1).
    pub(crate) fn transfer_encoding(&mut self, value: &'a [u8]) -> Result<(), Error> {
        self.coding = Some(value);
        for coding in value.split(|&octet| octet == b',') {
            let coding = trim_ows(coding);
            let chunked = coding.eq_ignore_ascii_case(b"chunked");
            let known = [&b"gzip"[..], b"deflate", b"compress", b"identity"]
                .iter()
                .any(|known| coding.eq_ignore_ascii_case(known));
            match (chunked, known) {
                (false, false) => return Err(Error::UnsupportedCoding(value.into())),
                // Whatever follows chunked, chunked again included, leaves the end of the body to guesswork.
                _ if self.chunked => return Err(Error::TransferEncoding(value.into())),
                (true, _) => self.chunked = true,
                (false, true) => self.stacked = true,
            }
        }
        Ok(())
    }

    /// Whether no field has said anything of a body.
    pub(crate) fn is_absent(&self) -> bool {
        self.length.is_none() && self.coding.is_none()
    }

    /// The framing, if the fields agree on one.
    pub(crate) fn conclude(
        self,
        version: Version,
        max_body: Option<u64>,
    ) -> Result<Framing, Error> {
        match (self.coding, self.length) {
            (None, None | Some(0)) => Ok(Framing::None),
            (None, Some(length)) => match max_body {
                Some(limit) if length > limit => Err(Error::BodyTooLarge(limit)),
                _ => Ok(Framing::Length(length)),
            },
            (Some(_), _) if version < Version::HTTP_11 => Err(Error::CodingInHttp10),
            (Some(value), _) if !self.chunked => Err(Error::TransferEncoding(value.into())),
            (Some(_), Some(_)) => Err(Error::LengthAndCoding),
            // gunicorn hands such a body to the application still compressed; nobody expects that.
            (Some(value), None) if self.stacked => Err(Error::UnsupportedCoding(value.into())),
            (Some(_), None) => Ok(Framing::Chunked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(lengths: &[&[u8]], codings: &[&[u8]]) -> Result<Framing, Error> {
        let mut declared = Declared::default();
        for length in lengths {
            declared.content_length(length)?;
        }
        for coding in codings {
            declared.transfer_encoding(coding)?;
        }
        declared.conclude(Version::HTTP_11, Some(1000))
    }

    fn status(result: Result<Framing, Error>) -> u16 {
        result.map_or_else(
            |error| error.status().map_or(0, |status| status.code),
            |_| 200,
        )
    }

    #[test]
    fn lengths_are_digits_said_once() {
        assert_eq!(framing(&[], &[]), Ok(Framing::None));
        assert_eq!(framing(&[b"0"], &[]), Ok(Framing::None));
        assert_eq!(framing(&[b"0012"], &[]), Ok(Framing::Length(12)));
        assert_eq!(framing(&[b"1000"], &[]), Ok(Framing::Length(1000)));
        assert_eq!(framing(&[b"1001"], &[]), Err(Error::BodyTooLarge(1000)));
        assert_eq!(
            framing(&[b"5", b"5"], &[]),
            Err(Error::RepeatedField("Content-Length"))
        );
        for wrong in [
            &b""[..],
            b"5, 5",
            b"+5",
            b"-0",
            b"5 5",
            b"0x5",
            b"5_0",
            b"99999999999999999999",
        ] {
            assert_eq!(
                framing(&[wrong], &[]),
                Err(Error::ContentLength(wrong.into()))
            );
        }
    }

    #[test]
    fn only_one_final_chunked_frames_a_body() {
        assert_eq!(framing(&[], &[b"chunked"]), Ok(Framing::Chunked));
        assert_eq!(framing(&[], &[b"Chunked"]), Ok(Framing::Chunked));
        for (codings, code) in [
            (&[&b"gzip, chunked"[..]][..], 501),
            (&[b"gzip", b"chunked"], 501),
            (&[b"identity, chunked"], 501),
            (&[b"gzip"], 400),
            (&[b"identity"], 400),
            (&[b"chunked, gzip"], 400),
            (&[b"chunked", b"chunked"], 400),
            (&[b"chunked, chunked"], 400),
            (&[b"chunked, identity"], 400),
            (&[b"xchunked"], 501),
            (&[b"chunked;a=b"], 501),
            (&[b"\"chunked\""], 501),
            (&[b"chunked,"], 501),
            (&[b""], 501),
            (&[b"\x0bchunked"], 501),
        ] {
            assert_eq!(status(framing(&[], codings)), code, "{codings:?}");
        }
    }

    #[test]
    fn a_length_and_a_coding_contradict_each_other() {
        assert_eq!(framing(&[b"5"], &[b"chunked"]), Err(Error::LengthAndCoding));
        assert_eq!(framing(&[b"0"], &[b"chunked"]), Err(Error::LengthAndCoding));
    }

    #[test]
    fn http_10_has_no_transfer_encoding() {
        let mut declared = Declared::default();
        declared.transfer_encoding(b"chunked").unwrap();
        assert_eq!(
            declared.conclude(Version::HTTP_10, None),
            Err(Error::CodingInHttp10)
        );
    }
}

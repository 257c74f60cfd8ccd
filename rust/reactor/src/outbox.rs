//! What the kernel has not taken yet of an answer.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use crate::transport::Transport;

/// Memory that somebody else owns, kept alive until it is sent.
pub trait Payload: AsRef<[u8]> + Send {}
impl<T: AsRef<[u8]> + Send> Payload for T {}

/// A piece of an answer.
pub enum Segment {
    /// Octets of our own.
    Bytes(Vec<u8>),
    /// Octets of the caller's, from this index on, sent without a copy.
    Shared(Box<dyn Payload>, usize),
    /// A part of a regular file, sent by `sendfile(2)`; the file's own position stays.
    File {
        /// The file.
        file: File,
        /// Where the part begins, in octets.
        offset: u64,
        /// How long it is, in octets.
        remaining: u64,
    },
}

impl Segment {
    fn octets(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Shared(payload, from) => (**payload).as_ref().get(*from..).unwrap_or_default(),
            Self::File { .. } => &[],
        }
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File {
                offset, remaining, ..
            } => {
                write!(f, "File({offset}, {remaining})")
            }
            octets => write!(f, "{} octets", octets.octets().len()),
        }
    }
}

/// Buffers gathered into one write.
const GATHERED: usize = 32;
/// Octets up to which small pieces are put together.
const MERGED: usize = 16 * 1024;
/// Octets sent to one client in one go, so that a fast reader does not hold a turn.
const SENT_AT_ONCE: u64 = 1 << 20;

#[derive(Default)]
pub(crate) struct Outbox {
    segments: VecDeque<Segment>,
    /// Octets of the first segment that are gone already.
    sent: usize,
    /// Octets that wait in memory, those that are gone not counted.
    octets: usize,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether no more than `ahead` octets wait in memory; with none, whether nothing waits at all.
    pub(crate) fn fits(&self, ahead: usize) -> bool {
        self.is_empty() || (ahead > 0 && self.octets <= ahead)
    }

    pub(crate) fn push(&mut self, segment: Segment) {
        let empty = match &segment {
            Segment::File { remaining, .. } => *remaining == 0,
            octets => octets.octets().is_empty(),
        };
        if empty {
            return;
        }
        if let Segment::Bytes(next) = &segment
            && self.merge(next)
        {
            return;
        }
        self.octets += segment.octets().len();
        self.segments.push_back(segment);
    }

    /// Puts octets behind the last small piece: what follows one another is one buffer to the kernel.
    fn merge(&mut self, octets: &[u8]) -> bool {
        match self.segments.back_mut() {
            Some(Segment::Bytes(last)) if last.len() + octets.len() <= MERGED => {
                last.extend_from_slice(octets);
                self.octets += octets.len();
                true
            }
            _ => false,
        }
    }

    /// Sends until the kernel takes no more, or much has been sent; says how many octets it took.
    pub(crate) fn flush(&mut self, transport: &Transport) -> io::Result<u64> {
        let mut total = 0;
        while let Some(first) = self.segments.front_mut() {
            let taken = match first {
                Segment::File {
                    file,
                    offset,
                    remaining,
                } => {
                    let count = (*remaining).min(SENT_AT_ONCE) as usize;
                    let taken = transport.write_file(file.as_fd(), offset, count)?;
                    *remaining -= taken as u64;
                    if *remaining == 0 {
                        self.segments.pop_front();
                    }
                    taken
                }
                _ => {
                    let taken = self.write_octets(transport)?;
                    self.drop_sent(taken);
                    taken
                }
            };
            total += taken as u64;
            if taken == 0 || total >= SENT_AT_ONCE {
                break;
            }
        }
        if self.segments.is_empty() {
            // An idle connection keeps no memory for its next answer.
            self.segments = VecDeque::new();
        }
        Ok(total)
    }

    fn write_octets(&self, transport: &Transport) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); GATHERED];
        let mut count = 0;
        let mut skip = self.sent;
        for (slot, segment) in slices.iter_mut().zip(&self.segments) {
            if matches!(segment, Segment::File { .. }) {
                break;
            }
            *slot = IoSlice::new(segment.octets().get(skip..).unwrap_or_default());
            skip = 0;
            count += 1;
        }
        match (&slices[..count], self.segments.get(count)) {
            ([octets], Some(Segment::File { .. })) => transport.write_more(octets),
            (octets, _) => transport.write(octets),
        }
    }

    fn drop_sent(&mut self, mut taken: usize) {
        self.octets = self.octets.saturating_sub(taken);
        while let Some(first) = self.segments.front() {
            let left = first.octets().len() - self.sent;
            if taken < left || matches!(first, Segment::File { .. }) {
                self.sent += taken;
                return;
            }
            taken -= left;
            self.sent = 0;
            self.segments.pop_front();
        }
    }
}

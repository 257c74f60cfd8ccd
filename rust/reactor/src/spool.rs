//! A request body on its way in: in memory up to a bound, in an unlinked temporary file beyond.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;

/// A request body as the caller gets it.
#[derive(Debug)]
pub enum Body {
    /// The request has none.
    Empty,
    /// All of it.
    Memory(Vec<u8>),
    /// All of it, in a file that has no name, positioned at its start.
    File {
        /// The file.
        file: File,
        /// Its length in octets.
        length: u64,
    },
    /// It arrives while the request is answered: see
    /// [`Reactor::take_body`](crate::Reactor::take_body).
    Arriving,
}

/// Where bodies are kept.
#[derive(Clone, Debug)]
pub struct Spooling {
    /// Octets of one body that are kept in memory.
    pub memory: usize,
    /// The folder for what is longer; the system's own where `None` (gunicorn `tmp_upload_dir`).
    pub folder: Option<PathBuf>,
}

/// Octets that a body is given for each that has come, so that an upload need not move often.
const SPEED: usize = 16;
/// Octets that it is given so at most; later it doubles.
const MOST_EARNED: usize = 256 * 1024;
/// Octets that it is given at least when it needs more.
const LEAST_GROWTH: usize = 64 * 1024;
/// Octets handed to the file at once.
const FILE_BLOCK: usize = 256 * 1024;

/// What a body of which `octets` have come may have.
fn earned(octets: usize) -> usize {
    octets.saturating_mul(SPEED).min(MOST_EARNED)
}

/// Makes room for up to `limit` octets behind those of a body; says for how many. A client that has
/// only announced a long one does not get all its memory yet.
pub(crate) fn make_room(body: &mut Vec<u8>, limit: usize) -> usize {
    let has = body.len();
    if body.capacity() == has {
        body.reserve(limit.min(earned(has).max(LEAST_GROWTH).max(has)));
    }
    limit.min(body.capacity() - has)
}

pub(crate) struct Spool {
    memory: Vec<u8>,
    /// Octets that are made room for when the first of them come: in one piece, if they are few.
    first: usize,
    file: Option<File>,
    filed: u64,
}

impl Spool {
    /// `expected` is the announced length, where there is one.
    pub(crate) fn new(expected: Option<u64>, spooling: &Spooling) -> Self {
        let expected = expected.and_then(|length| usize::try_from(length).ok());
        Self {
            memory: Vec::new(),
            first: expected.unwrap_or_default().min(spooling.memory),
            file: None,
            filed: 0,
        }
    }

    /// The memory that the transport may append to; call [`Spool::settle`] afterwards.
    pub(crate) fn memory(&mut self) -> &mut Vec<u8> {
        &mut self.memory
    }

    pub(crate) fn append(&mut self, octets: &[u8], spooling: &Spooling) -> io::Result<()> {
        if self.memory.capacity() == 0 {
            let first = self.first.min(earned(octets.len()));
            self.memory.reserve_exact(first.max(octets.len()));
        }
        self.memory.extend_from_slice(octets);
        self.settle(spooling)
    }

    /// Moves what is over the bound into the file.
    pub(crate) fn settle(&mut self, spooling: &Spooling) -> io::Result<()> {
        let bound = if self.file.is_some() {
            FILE_BLOCK
        } else {
            spooling.memory
        };
        if self.memory.len() <= bound {
            Ok(())
        } else {
            self.write_out(spooling)
        }
    }

    fn write_out(&mut self, spooling: &Spooling) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(match &spooling.folder {
                Some(folder) => tempfile::tempfile_in(folder)?,
                None => tempfile::tempfile()?,
            }),
        };
        file.write_all(&self.memory)?;
        self.filed += self.memory.len() as u64;
        self.memory.clear();
        Ok(())
    }

    pub(crate) fn finish(mut self, spooling: &Spooling) -> io::Result<Body> {
        if self.file.is_some() || self.memory.len() > spooling.memory {
            self.write_out(spooling)?;
        }
        match self.file {
            Some(mut file) => {
                file.seek(SeekFrom::Start(0))?;
                Ok(Body::File {
                    file,
                    length: self.filed,
                })
            }
            None if self.memory.is_empty() => Ok(Body::Empty),
            None => Ok(Body::Memory(self.memory)),
        }
    }
}

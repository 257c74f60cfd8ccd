//! A request body that is still arriving while the application reads it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use meinheld_protocol::Status;
use meinheld_reactor::{BodyFault, BodyPart};

use crate::exchange::Exchange;

/// Reads a body through the reactor's window. Reads wait for the client: not to be called attached.
pub(crate) struct Arriving {
    exchange: Arc<Exchange>,
    block: Vec<u8>,
    /// Octets of the block that were read.
    at: usize,
    ended: bool,
}

impl Arriving {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        Self {
            exchange,
            block: Vec::new(),
            at: 0,
            ended: false,
        }
    }

    /// What lies ahead, some of it at least, unless the end is reached.
    pub(crate) fn ahead(&mut self) -> io::Result<&[u8]> {
        if self.at == self.block.len() && !self.ended {
            self.block = Vec::new();
            self.at = 0;
            match self.next_part()? {
                Some(octets) => self.block = octets,
                None => self.ended = true,
            }
        }
        Ok(self.block.get(self.at..).unwrap_or_default())
    }

    /// Moves on by `octets` of what lies ahead.
    pub(crate) fn skip(&mut self, octets: usize) {
        self.at += octets;
    }

    /// Waits for the next octets; `None` at the end.
    fn next_part(&self) -> io::Result<Option<Vec<u8>>> {
        let gateway = &self.exchange.gateway;
        let id = self.exchange.id();
        loop {
            {
                let mut reactor = gateway.reactor();
                if self.exchange.over().load(SeqCst) {
                    return Err(io::Error::other("the request is over"));
                }
                match reactor.take_body(id) {
                    BodyPart::Octets(octets) => return Ok(Some(octets)),
                    BodyPart::End => return Ok(None),
                    BodyPart::Failed(fault) => return Err(raised(fault)),
                    BodyPart::Gone => {
                        let reason = "the client has gone before its request body was complete";
                        return Err(io::Error::new(io::ErrorKind::ConnectionReset, reason));
                    }
                    BodyPart::Later => gateway.way.expect(id),
                }
            }
            std::thread::park();
        }
    }
}

fn raised(fault: BodyFault) -> io::Error {
    let kind = match fault.status {
        None => io::ErrorKind::ConnectionReset,
        Some(Status::REQUEST_TIMEOUT) => io::ErrorKind::TimedOut,
        Some(_) => io::ErrorKind::Other,
    };
    io::Error::new(kind, fault.line)
}

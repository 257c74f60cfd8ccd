//! How framed pieces of an answer get to the reactor: together, and without a copy where they are
//! pinned.

use std::fs::File;
use std::io::IoSlice;

use meinheld_reactor::{ConnId, Progress, Reactor, Segment};

use crate::exchange::Frame;
use crate::ffi::bytes::PinnedBytes;

/// Sends a framed block; queues what the kernel does not take.
pub(crate) fn send_pinned(
    reactor: &mut Reactor,
    id: ConnId,
    frame: Frame<'_>,
    mut block: PinnedBytes,
) -> Progress {
    let Frame {
        lead, length, tail, ..
    } = frame;
    block.truncate(length);
    let slices = [
        IoSlice::new(lead),
        IoSlice::new(block.as_ref()),
        IoSlice::new(tail),
    ];
    let Some(taken) = reactor.try_write(id, &slices) else {
        return Progress::Gone;
    };
    let (of_lead, rest) = (taken.min(lead.len()), taken.saturating_sub(lead.len()));
    let (of_block, of_tail) = (rest.min(length), rest.saturating_sub(length));
    reactor.queue_segment(id, Segment::Bytes(lead[of_lead..].to_vec()));
    reactor.queue_segment(id, Segment::Shared(Box::new(block), of_block));
    reactor.queue_segment(id, Segment::Bytes(tail[of_tail..].to_vec()));
    reactor.flush(id)
}

/// Queues a framed block behind others.
pub(crate) fn queue(
    reactor: &mut Reactor,
    id: ConnId,
    frame: Frame<'_>,
    octets: &[u8],
    pinned: Option<PinnedBytes>,
) {
    let Some(mut pinned) = pinned else {
        let whole = frame.merge(octets).to_vec();
        return reactor.queue_segment(id, Segment::Bytes(whole));
    };
    pinned.truncate(frame.length);
    reactor.queue_segment(id, Segment::Bytes(frame.lead.clone()));
    reactor.queue_segment(id, Segment::Shared(Box::new(pinned), 0));
    reactor.queue_segment(id, Segment::Bytes(frame.tail.to_vec()));
}

/// Queues a part of a file, which is as long as its frame says, behind what frames it.
pub(crate) fn queue_file(
    reactor: &mut Reactor,
    id: ConnId,
    frame: Frame<'_>,
    file: File,
    offset: u64,
) {
    let part = Segment::File {
        file,
        offset,
        remaining: frame.length as u64,
    };
    reactor.queue_segment(id, Segment::Bytes(frame.lead.clone()));
    reactor.queue_segment(id, part);
    reactor.queue_segment(id, Segment::Bytes(frame.tail.to_vec()));
}

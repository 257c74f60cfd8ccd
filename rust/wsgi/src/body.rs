//! What the application returned, on its way out.

use std::fs::File;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::exchange::{Exchange, Last, Sent};
use crate::failure::Failure;
use crate::ffi::descriptor;
use crate::gateway::Gateway;
use crate::given::{bytes_block, no_bare_text};
use crate::outgoing;

/// A part of a regular file, which `sendfile(2)` can send.
struct Part {
    file: File,
    offset: u64,
    length: u64,
}

/// Sends all of `iterable`; of what cannot be [sent at once](send_at_once), the next block is asked
/// for when there is room for it.
pub(crate) fn send(
    gateway: &Gateway,
    exchange: &Exchange,
    iterable: &Bound<'_, PyAny>,
    file_wrapper: &Bound<'_, PyAny>,
) -> Result<Sent, Failure> {
    if let Some(sent) = send_at_once(gateway, exchange, iterable, file_wrapper)? {
        return Ok(sent);
    }
    send_blocks(gateway, exchange, iterable)?;
    Ok(Sent::Part)
}

/// Sends lists, and files that the kernel sends: they are queued whole and hold nobody up. `None` for
/// anything else, of which nothing was done.
#[inline(always)] // Greenlets are its second caller, and must not cost the first one a call.
pub(crate) fn send_at_once(
    gateway: &Gateway,
    exchange: &Exchange,
    iterable: &Bound<'_, PyAny>,
    file_wrapper: &Bound<'_, PyAny>,
) -> Result<Option<Sent>, Failure> {
    let py = iterable.py();
    if let Ok(list) = iterable.cast_exact::<PyList>() {
        return send_list(gateway, exchange, list).map(Some);
    }
    if let Ok(tuple) = iterable.cast_exact::<PyTuple>() {
        return send_list(gateway, exchange, &tuple.to_list()).map(Some);
    }
    if exchange.is_taken_over() {
        return Err(Failure::TakenOver);
    }
    if gateway.sendfile
        && iterable.is_instance(file_wrapper)?
        && let Some(part) = regular_file(iterable)?
    {
        send_file(py, gateway, exchange, part)?;
        return Ok(Some(Sent::Part));
    }
    no_bare_text(iterable)?;
    Ok(None)
}

fn send_list(
    gateway: &Gateway,
    exchange: &Exchange,
    list: &Bound<'_, PyList>,
) -> Result<Sent, Failure> {
    if list.len() == 1 {
        let block = list.get_item(0)?;
        return exchange.send(&bytes_block(&block)?, true);
    }
    // All are looked at before the first is framed: a wrong one is a clean 500 then.
    let blocks = list.iter().map(|block| bytes_block(&block));
    for block in blocks.collect::<PyResult<Vec<_>>>()? {
        exchange.queue(&block)?;
    }
    gateway.flush(list.py(), exchange.id())?;
    Ok(Sent::Part)
}

fn send_blocks(
    gateway: &Gateway,
    exchange: &Exchange,
    iterable: &Bound<'_, PyAny>,
) -> Result<(), Failure> {
    let py = iterable.py();
    let mut blocks = iterable.try_iter()?;
    loop {
        let block = blocks.next().transpose();
        gateway.end_forked_child(py, block.as_ref().err())?;
        let Some(block) = block? else {
            return Ok(());
        };
        exchange.send(&bytes_block(&block)?, false)?;
        exchange.wait_for_room(py)?;
    }
}

/// The file behind a `wsgi.file_wrapper`, if `sendfile(2)` can send it: a regular file, from its
/// present position on.
fn regular_file(wrapper: &Bound<'_, PyAny>) -> PyResult<Option<Part>> {
    let py = wrapper.py();
    let given = wrapper.getattr(intern!(py, "filelike"))?;
    // Only an object that has a `fileno` of its own says that it stands for its file.
    let Some(file) = descriptor::duplicate(&given) else {
        return Ok(None);
    };
    let Some(filelike) = plain_file(&given)? else {
        return Ok(None);
    };
    // The object's own idea of its position: a buffered reader has read ahead of it.
    let Ok(offset) = filelike
        .call_method0(intern!(py, "tell"))
        .and_then(|position| position.extract::<u64>())
    else {
        return Ok(None);
    };
    let Ok(metadata) = file.metadata() else {
        return Ok(None);
    };
    if !metadata.is_file() || metadata.len() < offset || metadata.len() == 0 {
        // Files of /proc and the like have no length: they are read.
        return Ok(None);
    }
    Ok(Some(Part {
        length: metadata.len() - offset,
        file,
        offset,
    }))
}

/// The object itself, or the one that it wraps as its `file` (as those of `tempfile` and Django do),
/// if it is a plain file of the `io` module. Any other may give octets that are not the file's own:
/// a `GzipFile` has a `fileno` too.
fn plain_file<'py>(filelike: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = filelike.py();
    let io = py.import(intern!(py, "io"))?;
    let wrapped = filelike.getattr(intern!(py, "file")).ok();
    for candidate in [Some(filelike.clone()), wrapped].into_iter().flatten() {
        for kind in [
            intern!(py, "FileIO"),
            intern!(py, "BufferedReader"),
            intern!(py, "BufferedRandom"),
        ] {
            if candidate.get_type().is(&io.getattr(kind)?) {
                return Ok(Some(candidate));
            }
        }
    }
    Ok(None)
}

fn send_file(
    py: Python<'_>,
    gateway: &Gateway,
    exchange: &Exchange,
    part: Part,
) -> Result<(), Failure> {
    let length = usize::try_from(part.length).unwrap_or(usize::MAX);
    exchange.framed(length, Last::No, |reactor, id, frame| {
        outgoing::queue_file(reactor, id, frame, part.file, part.offset);
    })?;
    gateway.flush(py, exchange.id())
}

//! Descriptors that Python names by number.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use pyo3::intern;
use pyo3::prelude::*;

/// A duplicate of `filelike`'s descriptor, close-on-exec; `None` where it has none.
pub(crate) fn duplicate(filelike: &Bound<'_, PyAny>) -> Option<File> {
    let number = filelike
        .call_method0(intern!(filelike.py(), "fileno"))
        .ok()?;
    own(number.extract().ok()?).ok().map(File::from)
}

/// A duplicate of a descriptor that stays the caller's, close-on-exec.
///
/// # Errors
///
/// When the number names nothing, or no descriptors are left.
pub(crate) fn own(number: i32) -> io::Result<OwnedFd> {
    with(number, |descriptor| descriptor.try_clone_to_owned())
}

/// Makes use of a descriptor that stays the caller's: `make` may only duplicate it.
///
/// # Errors
///
/// When the number names nothing, and what `make` fails with.
pub(crate) fn with<T>(
    number: i32,
    make: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
) -> io::Result<T> {
    if number < 0 {
        return Err(rustix::io::Errno::BADF.into());
    }
    // SAFETY: the number is not -1, and is borrowed for this call only; both callers duplicate it
    // first, and the kernel answers EBADF where it names nothing.
    make(unsafe { BorrowedFd::borrow_raw(number) })
}

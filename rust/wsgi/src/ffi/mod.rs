//! What PyO3 has no safe call for: one checked type or function a file.

pub(crate) mod bytes;
pub(crate) mod descriptor;
pub(crate) mod dict;
pub(crate) mod sharing;
pub(crate) mod text;

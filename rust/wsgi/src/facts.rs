//! What hooks and loggers are told of a request.

use std::net::SocketAddr;

use meinheld_protocol::{Head, Scheme};
use meinheld_reactor::proxy::Origin;
use meinheld_reactor::{Peer, Request};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::ffi::text;
use crate::input::Input;

/// The header fields of a request, for a log line that may ask for them.
#[pyclass(frozen, module = "meinheld_worker._core")]
pub struct Fields(Head);

impl Fields {
    pub(crate) fn of(request: &Request) -> Self {
        Self((*request.head).clone())
    }
}

#[pymethods]
impl Fields {
    /// Pairs of names, in upper case, and values.
    fn pairs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        pairs(py, &self.0)
    }
}

fn pairs<'py>(py: Python<'py>, head: &Head) -> PyResult<Bound<'py, PyList>> {
    let pairs = PyList::empty(py);
    for field in head.fields() {
        let name = text::latin1(py, &field.name.to_ascii_uppercase())?;
        pairs.append((name, text::latin1(py, field.value)?))?;
    }
    Ok(pairs)
}

/// Arguments of `Face.record`: method, uri, path, query, version, headers, scheme, peer, body,
/// proxy. Without `input` it is for a log.
pub(crate) fn of_request<'py>(
    py: Python<'py>,
    request: &Request,
    input: Option<&Bound<'py, Input>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let head: &Head = &request.head;
    let version = (head.version().major(), head.version().minor());
    let headers = pairs(py, head)?;
    let scheme = match head.scheme() {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let peer = match &request.peer {
        Peer::Tcp(address) => (address.ip().to_string(), address.port())
            .into_pyobject(py)?
            .into_any(),
        Peer::Unix(name) => text::latin1(py, name)?.into_any(),
    };
    (
        text::latin1(py, head.method())?,
        text::latin1(py, head.target())?,
        text::latin1(py, head.path())?,
        text::latin1(py, head.query())?,
        version,
        headers,
        scheme,
        peer,
        input,
        of_proxy(py, request)?,
    )
        .into_pyobject(py)
}

/// gunicorn's `proxy_protocol_info`; `None` without a PROXY header.
fn of_proxy<'py>(py: Python<'py>, request: &Request) -> PyResult<Option<Bound<'py, PyDict>>> {
    let Some(origin) = request.origin.as_deref() else {
        return Ok(None);
    };
    let (client, proxy) = match origin {
        Origin::Relayed {
            source,
            destination,
        } => (Some(source), Some(destination)),
        Origin::Local | Origin::Unspecified | Origin::Unknown => (None, None),
    };
    let address = |end: Option<&SocketAddr>| end.map(|end| end.ip().to_string());
    let port = |end: Option<&SocketAddr>| end.map(SocketAddr::port);
    let facts = PyDict::new(py);
    facts.set_item("proxy_protocol", origin.protocol())?;
    facts.set_item("client_addr", address(client))?;
    facts.set_item("client_port", port(client))?;
    facts.set_item("proxy_addr", address(proxy))?;
    facts.set_item("proxy_port", port(proxy))?;
    Ok(Some(facts))
}

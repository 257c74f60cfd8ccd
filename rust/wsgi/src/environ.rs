//! `environ`: a template per listener, copied, and the keys of one request (PEP 3333; every key
//! as gunicorn's `http/wsgi.py` sets it).

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use meinheld_protocol::{Head, Scheme, Version};
use meinheld_reactor::proxy::Origin;
use meinheld_reactor::{Peer, Request};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyDict, PyString};

use crate::failure::Failure;
use crate::ffi::{dict, text};
use crate::names::{self, Names};

/// What all requests of one listener have in common.
pub(crate) struct Template {
    base: Py<PyDict>,
    /// The path of a unix socket, which has no SERVER_NAME of its own.
    unix_path: Option<String>,
}

impl Template {
    /// `base` holds SERVER_NAME and SERVER_PORT, unless `unix_path` is given.
    pub(crate) fn new(base: Py<PyDict>, unix_path: Option<String>) -> Self {
        Self { base, unix_path }
    }
}

/// The objects of one exchange that go into `environ`.
pub(crate) struct Objects<'a, 'py> {
    pub(crate) input: &'a Bound<'py, PyAny>,
    pub(crate) early_hints: &'a Bound<'py, PyAny>,
    pub(crate) socket: &'a Bound<'py, PyAny>,
}

/// Builds `environ` for request after request.
pub(crate) struct Builder {
    templates: Vec<Template>,
    script_name: String,
    names: Mutex<Names>,
    methods: Mutex<Names>,
}

impl Builder {
    /// One template for each listener, in order; `script_name` is gunicorn's SCRIPT_NAME
    /// environment variable.
    pub(crate) fn new(templates: Vec<Template>, script_name: String) -> Self {
        Self {
            templates,
            script_name,
            names: Mutex::default(),
            methods: Mutex::default(),
        }
    }

    pub(crate) fn build<'py>(
        &self,
        py: Python<'py>,
        request: &Request,
        objects: &Objects<'_, 'py>,
    ) -> Result<Bound<'py, PyDict>, Failure> {
        let head = &request.head;
        let template = self
            .templates
            .get(request.listener)
            .or(self.templates.first());
        let environ = match template {
            Some(template) => template.base.bind(py).copy()?,
            None => PyDict::new(py),
        };
        environ.set_item(intern!(py, "wsgi.input"), objects.input)?;
        environ.set_item(intern!(py, "wsgi.early_hints"), objects.early_hints)?;
        environ.set_item(intern!(py, "gunicorn.socket"), objects.socket)?;
        environ.set_item(intern!(py, "REQUEST_METHOD"), self.method(py, head)?)?;
        environ.set_item(intern!(py, "QUERY_STRING"), text::latin1(py, head.query())?)?;
        environ.set_item(intern!(py, "RAW_URI"), text::latin1(py, head.target())?)?;
        let protocol = match head.version() {
            Version::HTTP_10 => intern!(py, "HTTP/1.0"),
            Version::HTTP_11 => intern!(py, "HTTP/1.1"),
            other => &PyString::new(py, &other.to_string()),
        };
        environ.set_item(intern!(py, "SERVER_PROTOCOL"), protocol)?;
        let scheme = match head.scheme() {
            Scheme::Http => intern!(py, "http"),
            Scheme::Https => intern!(py, "https"),
        };
        environ.set_item(intern!(py, "wsgi.url_scheme"), scheme)?;
        let named = self.add_fields(py, head, &environ)?;
        add_peer(py, &request.peer, &environ)?;
        if let Some(origin) = &request.origin {
            add_origin(py, origin, &environ)?;
        }
        if let Some(path) = template.and_then(|template| template.unix_path.as_deref()) {
            add_unix_server(py, path, named.host.as_deref(), head.scheme(), &environ)?;
        }
        self.add_path(py, head, named.script_name, &environ)?;
        Ok(environ)
    }

    fn method<'py>(&self, py: Python<'py>, head: &Head) -> PyResult<Bound<'py, PyString>> {
        let mut methods = self
            .methods
            .lock_py_attached(py)
            .unwrap_or_else(PoisonError::into_inner);
        methods.get(py, head.method(), || text::latin1(py, head.method()))
    }

    fn add_fields(
        &self,
        py: Python<'_>,
        head: &Head,
        environ: &Bound<'_, PyDict>,
    ) -> PyResult<Named> {
        let mut named = Named::default();
        // Before the lock: the first use of an interned string lets the interpreter go.
        let (content_type, content_length) =
            (intern!(py, "CONTENT_TYPE"), intern!(py, "CONTENT_LENGTH"));
        // Only strings are made and stored under this lock: no Python code runs, and the interpreter
        // is kept. Whoever waits for it lets others have it.
        let mut names = self
            .names
            .lock_py_attached(py)
            .unwrap_or_else(PoisonError::into_inner);
        for field in head.fields() {
            let value = text::latin1(py, field.value)?;
            match classify(field.name) {
                Kind::ContentType => {
                    environ.set_item(content_type, value)?;
                    continue;
                }
                Kind::ContentLength => {
                    environ.set_item(content_length, value)?;
                    continue;
                }
                Kind::Host => named.host = Some(field.value.to_vec()),
                Kind::ScriptName => named.script_name = Some(field.value.to_vec()),
                Kind::Other => {}
            }
            let key = names.get(py, field.name, || names::environ_key(py, field.name))?;
            // RFC 9110 5.3: a repeated field is one list, joined in order.
            if let Some(present) = dict::insert_new(environ, &key, &value)? {
                let joined = format!("{present},{value}");
                environ.set_item(key, joined)?;
            }
        }
        Ok(named)
    }

    fn add_path(
        &self,
        py: Python<'_>,
        head: &Head,
        header: Option<Vec<u8>>,
        environ: &Bound<'_, PyDict>,
    ) -> Result<(), Failure> {
        let script = header.as_deref().unwrap_or(self.script_name.as_bytes());
        let Some(rest) = head.path().strip_prefix(script) else {
            return Err(Failure::Misconfigured(format!(
                "request path '{}' does not start with SCRIPT_NAME '{}'",
                head.path().escape_ascii(),
                script.escape_ascii(),
            )));
        };
        environ.set_item(intern!(py, "PATH_INFO"), text::latin1(py, &unquote(rest))?)?;
        environ.set_item(intern!(py, "SCRIPT_NAME"), text::latin1(py, script)?)?;
        Ok(())
    }
}

/// Fields that other keys depend on.
#[derive(Default)]
struct Named {
    host: Option<Vec<u8>>,
    script_name: Option<Vec<u8>>,
}

enum Kind {
    ContentType,
    ContentLength,
    Host,
    ScriptName,
    Other,
}

fn classify(name: &[u8]) -> Kind {
    match name.len() {
        4 if name.eq_ignore_ascii_case(b"host") => Kind::Host,
        11 if name.eq_ignore_ascii_case(b"script_name") => Kind::ScriptName,
        12 if name.eq_ignore_ascii_case(b"content-type") => Kind::ContentType,
        14 if name.eq_ignore_ascii_case(b"content-length") => Kind::ContentLength,
        _ => Kind::Other,
    }
}

fn add_peer(py: Python<'_>, peer: &Peer, environ: &Bound<'_, PyDict>) -> PyResult<()> {
    let address = match peer {
        Peer::Tcp(SocketAddr::V4(address)) => address.ip().to_string(),
        Peer::Tcp(SocketAddr::V6(address)) => address.ip().to_string(),
        Peer::Unix(name) => String::from_utf8_lossy(name).into_owned(),
    };
    environ.set_item(intern!(py, "REMOTE_ADDR"), address)?;
    if let Peer::Tcp(address) = peer {
        environ.set_item(intern!(py, "REMOTE_PORT"), address.port().to_string())?;
    }
    Ok(())
}

/// What a proxy said by the PROXY protocol; REMOTE_ADDR and REMOTE_PORT become the client's, where
/// it named one.
fn add_origin(py: Python<'_>, origin: &Origin, environ: &Bound<'_, PyDict>) -> PyResult<()> {
    environ.set_item(intern!(py, "PROXY_PROTOCOL"), origin.protocol())?;
    if let Origin::Relayed {
        source,
        destination,
    } = origin
    {
        environ.set_item(intern!(py, "REMOTE_ADDR"), source.ip().to_string())?;
        environ.set_item(intern!(py, "REMOTE_PORT"), source.port().to_string())?;
        environ.set_item(intern!(py, "PROXY_ADDR"), destination.ip().to_string())?;
        environ.set_item(intern!(py, "PROXY_PORT"), destination.port().to_string())?;
    }
    Ok(())
}

/// SERVER_NAME and SERVER_PORT of a unix socket come from Host, as in gunicorn, because PEP 3333
/// knows no unix sockets.
fn add_unix_server(
    py: Python<'_>,
    path: &str,
    host: Option<&[u8]>,
    scheme: Scheme,
    environ: &Bound<'_, PyDict>,
) -> PyResult<()> {
    let (name, port) = match host.filter(|host| !host.is_empty()) {
        None => (path.as_bytes(), &b""[..]),
        Some(host) => match host.iter().position(|octet| *octet == b':') {
            Some(colon) => {
                let port = &host[colon + 1..];
                let end = port
                    .iter()
                    .position(|octet| *octet == b':')
                    .unwrap_or(port.len());
                (&host[..colon], &port[..end])
            }
            None if scheme == Scheme::Https => (host, &b"443"[..]),
            None => (host, &b"80"[..]),
        },
    };
    environ.set_item(intern!(py, "SERVER_NAME"), text::latin1(py, name)?)?;
    environ.set_item(intern!(py, "SERVER_PORT"), text::latin1(py, port)?)
}

/// Percent-decoding (RFC 3986 2.1); what is not `%` and two hex digits stays as it is.
fn unquote(path: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'%', path) else {
        return path.into();
    };
    let mut out = Vec::with_capacity(path.len());
    out.extend_from_slice(&path[..first]);
    let mut rest = &path[first..];
    while let [octet, after @ ..] = rest {
        let decoded = match after {
            [high, low, ..] if *octet == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        rest = match decoded {
            Some((high, low)) => {
                out.push(high * 16 + low);
                &after[2..]
            }
            None => {
                out.push(*octet);
                after
            }
        };
    }
    out.into()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

//! `environ`: a template per listener, copied, and the keys of one request (PEP 3333; every key
//! as gunicorn's `http/wsgi.py` sets it).

use std::sync::{Mutex, MutexGuard, PoisonError};

use meinheld_protocol::{Field, Head, Scheme, Version};
use meinheld_reactor::Request;
use meinheld_reactor::proxy::Origin;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::PyDict;

use crate::disconnected::Disconnected;
use crate::failure::Failure;
use crate::ffi::text;
use crate::names::Names;
use crate::objects::Objects;
use crate::recent::Recent;

/// What all requests of one listener have in common.
pub(crate) struct Template {
    /// Every key of a plain request, so that a copy need not grow; the usual value, where there is
    /// one.
    base: Py<PyDict>,
    /// The path of a unix socket, which has no SERVER_NAME of its own.
    unix_path: Option<String>,
}

impl Template {
    /// `base` holds SERVER_NAME and SERVER_PORT, unless `unix_path` is given; `script_name` is what
    /// SCRIPT_NAME is without a forwarder's.
    pub(crate) fn new(
        base: &Bound<'_, PyDict>,
        unix_path: Option<String>,
        script_name: &str,
    ) -> PyResult<Self> {
        let py = base.py();
        let base = base.copy()?;
        base.set_item(intern!(py, "REQUEST_METHOD"), intern!(py, "GET"))?;
        base.set_item(intern!(py, "SERVER_PROTOCOL"), intern!(py, "HTTP/1.1"))?;
        if !base.contains(intern!(py, "wsgi.url_scheme"))? {
            base.set_item(intern!(py, "wsgi.url_scheme"), intern!(py, "http"))?;
        }
        base.set_item(intern!(py, "QUERY_STRING"), intern!(py, ""))?;
        let script_name = text::latin1(py, script_name.as_bytes())?;
        base.set_item(intern!(py, "SCRIPT_NAME"), script_name)?;
        for always_set in [
            intern!(py, "wsgi.input"),
            intern!(py, "wsgi.early_hints"),
            intern!(py, "gunicorn.socket"),
            intern!(py, "meinheld.disconnected"),
            intern!(py, "RAW_URI"),
            intern!(py, "PATH_INFO"),
            intern!(py, "REMOTE_ADDR"),
        ] {
            base.set_item(always_set, py.None())?;
        }
        if unix_path.is_none() {
            base.set_item(intern!(py, "REMOTE_PORT"), py.None())?;
        }
        Ok(Self {
            base: base.unbind(),
            unix_path,
        })
    }
}

/// What an `environ` has from the connection's last request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    /// `meinheld.disconnected`, and fields that are the same.
    Connection,
    /// The target as well.
    Target,
}

/// Builds `environ` for request after request.
pub(crate) struct Builder {
    templates: Vec<Template>,
    script_name: String,
    known: Mutex<(Names, Recent)>,
}

impl Builder {
    /// One template for each listener, in order; `script_name` is gunicorn's SCRIPT_NAME
    /// environment variable.
    pub(crate) fn new(templates: Vec<Template>, script_name: String) -> Self {
        Self {
            templates,
            script_name,
            known: Mutex::default(),
        }
    }

    #[inline(always)] // Greenlets are its second caller, and must not cost the first one a call.
    pub(crate) fn build<'py>(
        &self,
        py: Python<'py>,
        request: &Request,
        objects: &Objects,
    ) -> Result<Bound<'py, PyDict>, Failure> {
        let head = &request.head;
        // There is one for each listener that the reactor was given.
        let template = &self.templates[request.listener as usize];
        let (environ, known) = self.with_fields(py, template, request, objects)?;
        environ.set_item(intern!(py, "wsgi.input"), &objects.input)?;
        environ.set_item(intern!(py, "wsgi.early_hints"), &objects.early_hints)?;
        environ.set_item(intern!(py, "gunicorn.socket"), &objects.socket)?;
        if known == Known::Nothing {
            Disconnected::set(&objects.disconnected, &environ)?;
        }
        if head.method() != b"GET" {
            let method = match head.method() {
                b"POST" => intern!(py, "POST"),
                b"HEAD" => intern!(py, "HEAD"),
                other => &text::latin1(py, other)?,
            };
            environ.set_item(intern!(py, "REQUEST_METHOD"), method)?;
        }
        match head.version() {
            Version::HTTP_11 => {}
            other => environ.set_item(intern!(py, "SERVER_PROTOCOL"), other.to_string())?,
        }
        if head.scheme() == Scheme::Https {
            environ.set_item(intern!(py, "wsgi.url_scheme"), intern!(py, "https"))?;
        }
        if let Some(origin) = &request.origin {
            add_origin(py, origin, &environ)?;
        }
        if let Some(path) = &template.unix_path {
            let host = field(head, b"host");
            add_unix_server(py, path, host, head.scheme(), &environ)?;
        }
        if known != Known::Target {
            self.add_target(py, head, &environ)?;
        }
        Ok(environ)
    }

    /// A copy of the template with what the connection and the header fields say, most of which
    /// was said before; says what else is among it.
    fn with_fields<'py>(
        &self,
        py: Python<'py>,
        template: &Template,
        request: &Request,
        objects: &Objects,
    ) -> PyResult<(Bound<'py, PyDict>, Known)> {
        let head = &*request.head;
        // Before the lock: the first use of an interned string lets the interpreter go.
        let _ = (intern!(py, "REMOTE_ADDR"), intern!(py, "REMOTE_PORT"));
        let _ = (intern!(py, "RAW_URI"), intern!(py, "PATH_INFO"));
        let _ = (intern!(py, "QUERY_STRING"), intern!(py, ""));
        let _ = intern!(py, "meinheld.disconnected");
        let last = {
            let (names, recent) = &mut *self.known(py);
            let connection = recent.connection(py, request.id, &request.peer)?;
            match connection.template(py, names, head)? {
                Some(last) => {
                    connection.place(py, &objects.disconnected)?;
                    let has_target = connection
                        .repeats_target(&last, head, || self.add_target(py, head, &last).is_ok())?;
                    Some((last, has_target))
                }
                None => None,
            }
        };
        if let Some((last, has_target)) = last {
            let known = match has_target {
                true => Known::Target,
                false => Known::Connection,
            };
            return Ok((last.copy()?, known));
        }
        let environ = template.base.bind(py).copy()?;
        let comes_again = {
            let (names, recent) = &mut *self.known(py);
            recent
                .connection(py, request.id, &request.peer)?
                .fill(py, names, head, &environ)?
        };
        if comes_again {
            // The third request of this form, and those that follow, are copied from it.
            let kept = environ.copy()?.unbind();
            let (_, recent) = &mut *self.known(py);
            recent
                .connection(py, request.id, &request.peer)?
                .keep(kept, head);
        }
        Ok((environ, Known::Nothing))
    }

    /// Under this lock strings are made, put into dictionaries and freed, and nothing else: no Python
    /// code runs, and the interpreter is kept. A new dictionary could be what the garbage collector
    /// was waiting for. Whoever waits for the lock lets others run.
    fn known(&self, py: Python<'_>) -> MutexGuard<'_, (Names, Recent)> {
        self.known
            .lock_py_attached(py)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what connections have said that have been silent since it was called last.
    pub(crate) fn forget_silent(&self, py: Python<'_>) {
        self.known(py).1.forget_silent();
    }

    fn add_target(
        &self,
        py: Python<'_>,
        head: &Head,
        environ: &Bound<'_, PyDict>,
    ) -> Result<(), Failure> {
        let forwarded = match head.has_underscores() {
            true => field(head, b"script_name"),
            false => None,
        };
        let script = forwarded.unwrap_or(self.script_name.as_bytes());
        let Some(rest) = head.path().strip_prefix(script) else {
            return Err(Failure::Misconfigured(format!(
                "request path '{}' does not start with SCRIPT_NAME '{}'",
                head.path().escape_ascii(),
                script.escape_ascii(),
            )));
        };
        let target = text::latin1(py, head.target())?;
        if !head.query().is_empty() {
            let query = text::latin1(py, head.query())?;
            environ.set_item(intern!(py, "QUERY_STRING"), query)?;
        }
        let path = unquote(rest);
        let path_info = match *path == *head.target() {
            true => target.clone(),
            false => text::latin1(py, &path)?,
        };
        environ.set_item(intern!(py, "RAW_URI"), target)?;
        environ.set_item(intern!(py, "PATH_INFO"), path_info)?;
        if forwarded.is_some() {
            environ.set_item(intern!(py, "SCRIPT_NAME"), text::latin1(py, script)?)?;
        }
        Ok(())
    }
}

/// The last field of this name.
fn field<'a>(head: &'a Head, name: &[u8]) -> Option<&'a [u8]> {
    let named =
        |field: &Field<'a>| field.name.len() == name.len() && field.name.eq_ignore_ascii_case(name);
    head.fields().filter(named).last().map(|field| field.value)
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

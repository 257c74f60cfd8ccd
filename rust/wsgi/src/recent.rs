//! What connections said in their last request: most clients repeat most of it, and what is repeated
//! need not be made into objects again.

use std::net::SocketAddr;

use meinheld_protocol::{Head, SectionId};
use meinheld_reactor::{ConnId, Peer};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::disconnected::{Disconnected, Placed};
use crate::ffi::{dict, text};
use crate::names::Names;

/// Connections that are remembered, at most: those that were active last, nearly.
const CONNECTIONS: usize = 1024;
/// Octets of a head that is remembered, at most.
const OCTETS: usize = 2048;

/// What is remembered, at a place that the connection's number names.
#[derive(Default)]
pub(crate) struct Recent {
    connections: Vec<Option<Connection>>,
}

/// What the next request's `environ` is copied from. Dropped in this order.
struct Template {
    environ: Py<PyDict>,
    /// Whose `meinheld.disconnected` it has.
    disconnected: Option<Placed>,
}

/// What is remembered of one connection.
pub(crate) struct Connection {
    id: ConnId,
    /// It has asked for nothing since connections were last looked through.
    silent: bool,
    /// REMOTE_ADDR.
    address: Py<PyString>,
    /// REMOTE_PORT, which a unix socket does not have.
    port: Option<Py<PyString>>,
    /// The names of its last request's fields, each ended by a colon.
    names: Vec<u8>,
    /// Their values. None are remembered of a head that is too long.
    values: Vec<Py<PyString>>,
    /// Octets of both.
    octets: usize,
    /// A template with all of them, once two requests had the same names.
    last: Option<Template>,
    /// The header section that the template is of, if floor 1 knows it.
    section: Option<SectionId>,
    /// The target of the last request that had a template.
    target: Vec<u8>,
    /// Whether the template has it, too.
    has_target: bool,
}

impl Recent {
    /// What is remembered of connection `id`, at least who it is.
    pub(crate) fn connection(
        &mut self,
        py: Python<'_>,
        id: ConnId,
        peer: &Peer,
    ) -> PyResult<&mut Connection> {
        let index = id.index() % CONNECTIONS;
        if index >= self.connections.len() {
            self.connections.resize_with(index + 1, || None);
        }
        let place = &mut self.connections[index];
        if place.as_ref().is_none_or(|known| known.id != id) {
            *place = None;
        }
        let connection = match place {
            Some(known) => known,
            none => none.insert(Connection::new(py, id, peer)?),
        };
        connection.silent = false;
        Ok(connection)
    }

    /// Forgets connections that have not been asked for since it was called last: they are idle, or
    /// gone.
    pub(crate) fn forget_silent(&mut self) {
        for place in &mut self.connections {
            if place
                .as_mut()
                .is_some_and(|known| std::mem::replace(&mut known.silent, true))
            {
                *place = None;
            }
        }
        while let Some(None) = self.connections.last() {
            self.connections.pop();
        }
    }
}

impl Connection {
    fn new(py: Python<'_>, id: ConnId, peer: &Peer) -> PyResult<Self> {
        let (address, port) = match peer {
            Peer::Tcp(SocketAddr::V4(address)) => (address.ip().to_string(), Some(address.port())),
            Peer::Tcp(SocketAddr::V6(address)) => (address.ip().to_string(), Some(address.port())),
            Peer::Unix(name) => (String::from_utf8_lossy(name).into_owned(), None),
        };
        Ok(Self {
            id,
            silent: false,
            address: PyString::new(py, &address).unbind(),
            port: port.map(|port| PyString::new(py, &port.to_string()).unbind()),
            names: Vec::new(),
            values: Vec::new(),
            octets: 0,
            last: None,
            section: None,
            target: Vec::new(),
            has_target: false,
        })
    }

    /// A template with all that this request says of the connection and in its fields, if there is one.
    /// Otherwise the names of the fields are remembered, for [`fill`](Self::fill).
    pub(crate) fn template<'py>(
        &mut self,
        py: Python<'py>,
        names: &mut Names,
        head: &Head,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        if let Some(last) = &self.last
            && self.section.is_some()
            && self.section == head.section()
        {
            return Ok(Some(last.environ.bind(py).clone()));
        }
        if self.repeats_names(head) {
            return self.update(py, names, head);
        }
        self.learn_names(head);
        Ok(None)
    }

    /// Puts the object of the request's into the template.
    pub(crate) fn place(
        &mut self,
        py: Python<'_>,
        disconnected: &Py<Disconnected>,
    ) -> PyResult<()> {
        match &mut self.last {
            Some(last) => {
                Disconnected::place(disconnected, last.environ.bind(py), &mut last.disconnected)
            }
            None => Ok(()),
        }
    }

    /// Whether `template`, this connection's, has what this request's target says. A target that comes
    /// again is put there by `add`.
    pub(crate) fn repeats_target(
        &mut self,
        template: &Bound<'_, PyDict>,
        head: &Head,
        add: impl FnOnce() -> bool,
    ) -> PyResult<bool> {
        let py = template.py();
        // SCRIPT_NAME may come from a field of that name.
        if head.has_underscores() || self.target != head.target() {
            if std::mem::take(&mut self.has_target) {
                // Of the last target nothing may be left: only this key is not always set.
                template.set_item(intern!(py, "QUERY_STRING"), intern!(py, ""))?;
            }
            self.target.clear();
            if head.target().len() <= OCTETS && !head.has_underscores() {
                self.target.extend_from_slice(head.target());
            }
            return Ok(false);
        }
        if !self.has_target {
            self.has_target = add();
            if !self.has_target {
                // It may have a part of it.
                self.last = None;
            }
        }
        Ok(self.has_target)
    }

    /// Whether the fields have the names of the last request's, in the same order.
    fn repeats_names(&self, head: &Head) -> bool {
        let mut rest = &self.names[..];
        let same = head.fields().all(|field| {
            let behind = rest.strip_prefix(field.name);
            rest = behind
                .and_then(|rest| rest.strip_prefix(b":"))
                .unwrap_or_default();
            behind.is_some_and(|behind| behind.first() == Some(&b':'))
        });
        same && rest.is_empty() && !self.values.is_empty()
    }

    /// Remembers these names, and no values yet.
    fn learn_names(&mut self, head: &Head) {
        self.last = None;
        self.has_target = false;
        self.section = None;
        self.values.clear();
        self.names.clear();
        for field in head.fields() {
            self.names.extend_from_slice(field.name);
            self.names.push(b':');
        }
    }

    /// Adds what the connection and the fields say; says whether that can serve as a template, because
    /// the last request had the same names.
    pub(crate) fn fill(
        &mut self,
        py: Python<'_>,
        names: &mut Names,
        head: &Head,
        environ: &Bound<'_, PyDict>,
    ) -> PyResult<bool> {
        environ.set_item(intern!(py, "REMOTE_ADDR"), &self.address)?;
        if let Some(port) = &self.port {
            environ.set_item(intern!(py, "REMOTE_PORT"), port)?;
        }
        let mut octets = self.names.len();
        let mut plain = !self.values.is_empty();
        let mut values = Vec::with_capacity(self.values.len());
        for (line, field) in head.fields().enumerate() {
            let value = match self.values.get(line).map(|known| known.bind(py)) {
                Some(known) if text::is_latin1(known, field.value) => known.clone(),
                _ => text::latin1(py, field.value)?,
            };
            let key = names.key(py, field.name)?;
            // RFC 9110 5.3: a repeated field is one list, joined in order.
            if let Some(present) = dict::insert_new(environ, &key, &value)? {
                environ.set_item(key, format!("{present},{value}"))?;
                plain = false;
            }
            octets += field.value.len();
            values.push(value.unbind());
        }
        if octets > OCTETS {
            self.values.clear();
            return Ok(false);
        }
        self.values = values;
        self.octets = octets;
        Ok(plain)
    }

    /// Remembers `environ`, which was [filled](Self::fill), as the template of the next request.
    pub(crate) fn keep(&mut self, environ: Py<PyDict>, head: &Head) {
        self.section = head.section();
        self.last = Some(Template {
            environ,
            disconnected: None,
        });
        self.has_target = false;
    }

    /// Brings the template up to a request with the same names, if there is one.
    fn update<'py>(
        &mut self,
        py: Python<'py>,
        names: &mut Names,
        head: &Head,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(last) = self.last.as_ref().map(|last| last.environ.bind(py).clone()) else {
            return Ok(None);
        };
        self.section = None;
        for (known, field) in self.values.iter_mut().zip(head.fields()) {
            let before = text::octets(known.bind(py))?;
            if before == field.value {
                continue;
            }
            self.octets = self.octets - before.len() + field.value.len();
            if self.octets > OCTETS {
                self.last = None;
                return Ok(None);
            }
            let value = text::latin1(py, field.value)?;
            last.set_item(names.key(py, field.name)?, &value)?;
            *known = value.unbind();
        }
        self.section = head.section();
        Ok(Some(last))
    }
}

//! The settings of a worker, frozen: what floor 4 read from gunicorn's, checked once more.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use meinheld_protocol::{HeaderMap, Limits, Policy};
use meinheld_reactor::proxy::{ProxyProtocol, Versions};
use meinheld_reactor::{Options as ReactorOptions, Timeouts, Trust};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::way;

/// The product name in Server fields: without a version, which only helps attackers.
pub(crate) const SERVER: &str = "meinheld";

/// A worker's settings. Sizes are octets, times are seconds.
#[pyclass(frozen, module = "meinheld_worker._core")]
pub struct Options {
    pub(crate) reactor: ReactorOptions,
    /// The listeners are those of the other workers, not sockets of its own (gunicorn `reuse_port`).
    pub(crate) shares_listeners: bool,
    pub(crate) graceful_timeout: Duration,
    /// Threads that call the application; with one it is the loop's own.
    pub(crate) threads: usize,
    /// The application runs in greenlets, on the loop's thread.
    pub(crate) green: bool,
    pub(crate) max_requests: Option<u64>,
    pub(crate) sendfile: bool,
    pub(crate) script_name: String,
    /// Answers are those of HTTP/1.0, whatever the client speaks.
    pub(crate) http_10_only: bool,
}

pub(crate) fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| PyValueError::new_err(format!("{name}: {value} is not a time in seconds")))
}

fn network(name: &str, text: &str) -> PyResult<IpNet> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| address()).map_err(|_| {
        PyValueError::new_err(format!("{name}: {text:?} is not an address or network"))
    })
}

fn read_trust(name: &str, entries: &[String]) -> PyResult<Trust> {
    if entries.iter().any(|entry| entry == "*") {
        return Ok(Trust::Everyone);
    }
    let networks = entries.iter().map(|entry| network(name, entry));
    Ok(Trust::Networks(networks.collect::<PyResult<_>>()?))
}

fn read_proxy_protocol(mode: &str, allowed: &[String]) -> PyResult<Option<ProxyProtocol>> {
    let versions = match mode {
        "off" => return Ok(None),
        "v1" => Versions::V1,
        "v2" => Versions::V2,
        "auto" => Versions::Any,
        other => {
            return Err(PyValueError::new_err(format!(
                "proxy_protocol: {other:?} is not off, v1, v2 or auto"
            )));
        }
    };
    let trust = read_trust("proxy_allow_ips", allowed)?;
    Ok(Some(ProxyProtocol { versions, trust }))
}

#[pymethods]
impl Options {
    #[new]
    #[pyo3(signature = (
        *,
        limit_request_line,
        limit_request_fields,
        limit_request_field_size,
        max_body,
        header_map,
        forwarder_headers,
        secure_scheme_headers,
        forwarded_allow_ips,
        proxy_protocol,
        proxy_allow_ips,
        permit_unconventional_http_method,
        permit_unconventional_http_version,
        permit_obsolete_folding,
        strip_header_spaces,
        casefold_http_method,
        body_memory,
        body_folder,
        head_timeout,
        body_timeout,
        send_timeout,
        keepalive,
        graceful_timeout,
        shares_listeners,
        worker_connections,
        queue_timeout,
        threads,
        green,
        max_requests,
        sendfile,
        script_name,
        http_10_only,
    ))]
    #[allow(clippy::too_many_arguments)] // Named one by one in Python.
    fn new(
        limit_request_line: usize,
        limit_request_fields: usize,
        limit_request_field_size: usize,
        max_body: Option<u64>,
        header_map: &str,
        forwarder_headers: Vec<String>,
        secure_scheme_headers: Vec<(String, String)>,
        forwarded_allow_ips: Vec<String>,
        proxy_protocol: &str,
        proxy_allow_ips: Vec<String>,
        permit_unconventional_http_method: bool,
        permit_unconventional_http_version: bool,
        permit_obsolete_folding: bool,
        strip_header_spaces: bool,
        casefold_http_method: bool,
        body_memory: usize,
        body_folder: Option<PathBuf>,
        head_timeout: f64,
        body_timeout: f64,
        send_timeout: f64,
        keepalive: f64,
        graceful_timeout: f64,
        shares_listeners: bool,
        worker_connections: usize,
        queue_timeout: Option<f64>,
        threads: usize,
        green: bool,
        max_requests: Option<u64>,
        sendfile: bool,
        script_name: String,
        http_10_only: bool,
    ) -> PyResult<Self> {
        let header_map = match header_map {
            "drop" => HeaderMap::Drop,
            "refuse" => HeaderMap::Refuse,
            "dangerous" => HeaderMap::Dangerous,
            other => {
                return Err(PyValueError::new_err(format!(
                    "header_map: {other:?} is not drop, refuse or dangerous"
                )));
            }
        };
        let policy = Policy {
            limits: Limits {
                request_line: limit_request_line,
                fields: limit_request_fields,
                field_size: limit_request_field_size,
                max_body,
            },
            header_map,
            forwarder_headers: forwarder_headers
                .into_iter()
                .map(String::into_bytes)
                .collect(),
            secure_scheme_headers: secure_scheme_headers
                .into_iter()
                .map(|(name, value)| (name.into_bytes(), value.into_bytes()))
                .collect(),
            permit_unconventional_method: permit_unconventional_http_method,
            casefold_method: casefold_http_method,
            permit_unconventional_version: permit_unconventional_http_version,
            permit_obsolete_folding,
            strip_header_spaces,
        };
        let timeouts = Timeouts {
            head: seconds("MEINHELD_HEAD_TIMEOUT", head_timeout)?,
            body: seconds("MEINHELD_BODY_TIMEOUT", body_timeout)?,
            send: seconds("MEINHELD_SEND_TIMEOUT", send_timeout)?,
            keep_alive: seconds("keepalive", keepalive)?,
            ..Timeouts::default()
        };
        Ok(Self {
            reactor: ReactorOptions {
                policy,
                trust: read_trust("forwarded_allow_ips", &forwarded_allow_ips)?,
                proxy_protocol: read_proxy_protocol(proxy_protocol, &proxy_allow_ips)?,
                body: way::body_policy(threads),
                body_memory,
                body_folder,
                timeouts,
                max_connections: worker_connections,
                queue_timeout: queue_timeout
                    .map(|value| seconds("MEINHELD_QUEUE_TIMEOUT", value))
                    .transpose()?,
                server: SERVER,
            },
            shares_listeners,
            graceful_timeout: seconds("graceful_timeout", graceful_timeout)?,
            threads,
            green,
            max_requests,
            sendfile,
            script_name,
            http_10_only,
        })
    }
}

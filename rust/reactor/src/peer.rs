//! Who is at the other end, and whether it may speak for others.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use rustix::net::{SocketAddrAny, SocketAddrUnix};

/// The address of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// TCP over IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A unix socket; the client's own name is nearly always empty. An abstract name begins with
    /// a NUL octet.
    Unix(Box<[u8]>),
}

impl Peer {
    pub(crate) fn from_any(address: Option<SocketAddrAny>) -> Self {
        let Some(address) = address else {
            return Self::Unix(Box::default());
        };
        if let Ok(tcp) = SocketAddr::try_from(address.clone()) {
            return Self::Tcp(tcp);
        }
        let Ok(unix) = SocketAddrUnix::try_from(address) else {
            return Self::Unix(Box::default());
        };
        let name = match (unix.path_bytes(), unix.abstract_name()) {
            (Some(path), _) => path.into(),
            (None, Some(name)) if !name.is_empty() => [b"\0", name].concat().into(),
            (None, _) => Box::default(),
        };
        Self::Unix(name)
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.ip().fmt(f),
            Self::Unix(name) => name.escape_ascii().fmt(f),
        }
    }
}

/// Which peers are believed about the scheme and the client (gunicorn `forwarded_allow_ips`).
#[derive(Clone, Debug)]
pub enum Trust {
    /// Every peer (`*`).
    Everyone,
    /// Peers in these networks. Peers on a unix socket are always trusted, as in gunicorn.
    Networks(Vec<IpNet>),
}

impl Trust {
    pub(crate) fn holds(&self, peer: &Peer) -> bool {
        let within = |ip: IpAddr, networks: &[IpNet]| networks.iter().any(|net| net.contains(&ip));
        match (self, peer) {
            (Self::Everyone, _) | (_, Peer::Unix(_)) => true,
            (Self::Networks(networks), Peer::Tcp(address)) => within(address.ip(), networks),
        }
    }
}

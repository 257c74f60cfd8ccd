//! What the fuzz targets share: the layout of an input, and naive readings to hold the product against.
//!
//! An input of a target that drives a connection is [`PREFIX`] octets, then the wire: settings first, so that a
//! mutation of the wire keeps them, and at fixed places, so that `seed.py` can write them.

pub mod naive_chunks;
pub mod naive_head;
pub mod naive_proxy;
#[path = "../../rust/protocol/tests/peer/mod.rs"]
pub mod peer;

use meinheld_protocol::{HeaderMap, Limits, Policy};

/// Octets of an input before its wire.
pub const PREFIX: usize = SETTINGS + PLAN;
const SETTINGS: usize = 4;
const PLAN: usize = 16;

/// An input, taken apart.
pub struct Input<'a> {
    pub policy: Policy,
    pub trusted: bool,
    /// What a target makes of it: sizes of pieces, or operations.
    pub plan: &'a [u8],
    pub wire: &'a [u8],
}

impl<'a> Input<'a> {
    /// `None` for an input that is too short to have settings.
    pub fn read(octets: &'a [u8]) -> Option<Self> {
        let (settings, rest) = octets.split_at_checked(SETTINGS)?;
        let (plan, wire) = rest.split_at_checked(PLAN)?;
        let flag = |bit: u8| settings[0] >> bit & 1 == 1;
        let upper = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect();
        let policy = Policy {
            limits: Limits {
                max_body: [None, Some(0), Some(4), Some(1000)][usize::from(settings[3] & 3)],
                ..limits(settings[2])
            },
            header_map: match settings[1] & 3 {
                0 | 1 => HeaderMap::Drop,
                2 => HeaderMap::Refuse,
                _ => HeaderMap::Dangerous,
            },
            forwarder_headers: match settings[1] >> 2 & 3 {
                0 | 1 => Vec::new(),
                2 => upper(&["SCRIPT_NAME", "PATH_INFO"]),
                _ => upper(&["*"]),
            },
            secure_scheme_headers: match flag(3) {
                false => Vec::new(),
                true => [("X-FORWARDED-PROTO", "https"), ("X-FORWARDED-SSL", "on")]
                    .map(|(name, value)| (name.into(), value.into()))
                    .to_vec(),
            },
            permit_unconventional_method: flag(1),
            casefold_method: flag(2),
            permit_obsolete_folding: flag(5),
            strip_header_spaces: flag(6),
            permit_unconventional_version: flag(7),
        };
        Some(Self {
            policy,
            trusted: flag(0),
            plan,
            wire,
        })
    }

    /// The wire in pieces of the sizes that the plan says, over and over; 0 stands for all that is left.
    pub fn pieces(&self) -> Vec<&'a [u8]> {
        let mut rest = self.wire;
        let mut pieces = Vec::new();
        for &size in self.plan.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let size = match usize::from(size) {
                0 => rest.len(),
                size => size.min(rest.len()),
            };
            let (piece, after) = rest.split_at(size);
            pieces.push(piece);
            rest = after;
        }
        pieces
    }
}

/// gunicorn's defaults, bounds that inputs reach, and the ends of the range.
fn limits(octet: u8) -> Limits {
    let (request_line, fields, field_size) = match octet & 7 {
        0..=2 => (4094, 100, 8190),
        3 => (40, 4, 40),
        4 => (16, 1, 10),
        5 => (0, 0, 0),
        6 => (14, 0, 2),
        // What gunicorn's 0 is translated to.
        _ => (usize::MAX, 32768, usize::MAX),
    };
    Limits {
        request_line,
        fields,
        field_size,
        max_body: None,
    }
}

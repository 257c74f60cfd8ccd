//! Header sections that come again: many clients send the same fields with each request of a connection, and what was
//! read and found right once need not be read again.

use crate::head::{Scheme, Span};
use alloc::vec::Vec;
use core::num::NonZeroU64;

/// Sections that are kept, at most.
const KEPT: usize = 256;
/// Octets up to which a section is kept.
const LARGEST: usize = 2048;

/// What the fields of a head say beside their own values.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Said {
    /// There is a Host.
    pub(crate) host: bool,
    pub(crate) scheme: Option<Scheme>,
    /// Whether the first Connection line is `keep-alive` and nothing else.
    pub(crate) keep_alive: Option<bool>,
    pub(crate) close: bool,
    /// A name has an underscore.
    pub(crate) underscores: bool,
}

/// Names one header section, for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionId(NonZeroU64);

/// A header section that was read: one without a body and without an expectation.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) id: SectionId,
    /// Its field lines and the empty one.
    octets: Vec<u8>,
    /// What it says may depend on who sends it.
    trusted: bool,
    /// It has come again since sections were last looked through.
    used: bool,
    /// Where names and values of the fields that the policy keeps are in it.
    pub(crate) fields: Vec<(Span, Span)>,
    pub(crate) said: Said,
}

impl Section {
    pub(crate) fn len(&self) -> usize {
        self.octets.len()
    }
}

/// The section that a connection sent last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastSection {
    /// Where it is kept, if it still is.
    place: u16,
    length: u16,
}

impl LastSection {
    /// None was sent yet.
    pub(crate) const NONE: Self = Self {
        place: u16::MAX,
        length: 0,
    };
}

/// Sections of all connections, the newest in the place of the oldest.
#[derive(Debug, Default)]
pub(crate) struct Sections {
    kept: Vec<Section>,
    next: usize,
    /// How many were named so far.
    named: u64,
}

impl Sections {
    /// The section at the start of `octets`, if it is this connection's last one again.
    pub(crate) fn find(
        &mut self,
        last: LastSection,
        trusted: bool,
        octets: &[u8],
    ) -> Option<&Section> {
        let section = self
            .kept
            .get_mut(usize::from(last.place))
            .filter(|section| octets.starts_with(&section.octets) && section.trusted == trusted)?;
        section.used = true;
        Some(section)
    }

    /// Forgets the sections that have not come again since this was called last: those of idle connections, and of
    /// connections that are gone.
    pub(crate) fn forget_unused(&mut self) {
        self.kept
            .retain_mut(|section| core::mem::take(&mut section.used));
        self.next = match self.kept.len() {
            KEPT => 0,
            some => some,
        };
    }

    /// Keeps what was found in a section, if the connection seems to repeat itself. The offsets in `fields` count
    /// from `start`, which is where the section begins. Gives its name if it is kept.
    pub(crate) fn learn(
        &mut self,
        last: &mut LastSection,
        trusted: bool,
        octets: &[u8],
        (fields, start): (&[(Span, Span)], usize),
        said: Said,
    ) -> Option<SectionId> {
        let length = u16::try_from(octets.len())
            .ok()
            .filter(|&length| usize::from(length) <= LARGEST)?;
        if core::mem::replace(&mut last.length, length) != length {
            return None;
        }
        self.named += 1;
        let id = SectionId(NonZeroU64::new(self.named)?);
        let place = self.next;
        self.next = (place + 1) % KEPT;
        if place == self.kept.len() {
            self.kept.push(Section {
                id,
                octets: Vec::new(),
                trusted,
                used: true,
                fields: Vec::new(),
                said,
            });
        }
        let section = &mut self.kept[place];
        section.id = id;
        section.octets.clear();
        section.octets.extend_from_slice(octets);
        section.trusted = trusted;
        section.used = true;
        section.fields.clear();
        let moved = |(name, value): &(Span, Span)| (name.back(start), value.back(start));
        section.fields.extend(fields.iter().map(moved));
        section.said = said;
        last.place = place as u16;
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn learn(sections: &mut Sections, last: &mut LastSection, octets: &[u8]) {
        sections.learn(last, false, octets, (&[], 0), Said::default());
    }

    #[test]
    fn a_section_is_kept_when_one_of_its_length_comes_again() {
        let (mut sections, mut last) = (Sections::default(), LastSection::NONE);
        learn(&mut sections, &mut last, b"a: b\r\n\r\n");
        assert!(sections.find(last, false, b"a: b\r\n\r\n").is_none());
        learn(&mut sections, &mut last, b"a: c\r\n\r\n");
        assert!(sections.find(last, false, b"a: c\r\n\r\nGET").is_some());
        assert!(sections.find(last, false, b"a: c\r\n\r").is_none());
        assert!(sections.find(last, false, b"a: b\r\n\r\n").is_none());
        assert!(sections.find(last, true, b"a: c\r\n\r\n").is_none());
    }

    #[test]
    fn the_kept_sections_are_bounded_in_number_and_size() {
        let (mut sections, mut last) = (Sections::default(), LastSection::NONE);
        for _ in 0..2 * KEPT {
            learn(&mut sections, &mut last, b"\r\n");
        }
        assert_eq!(sections.kept.len(), KEPT);
        let long = vec![b'a'; LARGEST + 1];
        for _ in 0..3 {
            learn(&mut sections, &mut last, &long);
        }
        assert!(sections.find(last, false, &long).is_none());
    }

    #[test]
    fn what_does_not_come_again_is_forgotten() {
        let (mut sections, mut last) = (Sections::default(), LastSection::NONE);
        learn(&mut sections, &mut last, b"a: b\r\n\r\n");
        learn(&mut sections, &mut last, b"a: b\r\n\r\n");
        sections.forget_unused();
        assert!(sections.find(last, false, b"a: b\r\n\r\n").is_some());
        sections.forget_unused();
        sections.forget_unused();
        assert!(sections.find(last, false, b"a: b\r\n\r\n").is_none());
        assert_eq!(sections.kept.len(), 0);
        learn(&mut sections, &mut last, b"a: b\r\n\r\n");
        assert!(sections.find(last, false, b"a: b\r\n\r\n").is_some());
    }

    #[test]
    fn a_place_that_was_given_to_another_section_is_no_match() {
        let (mut sections, mut last) = (Sections::default(), LastSection::NONE);
        learn(&mut sections, &mut last, b"a: b\r\n\r\n");
        learn(&mut sections, &mut last, b"a: b\r\n\r\n");
        let mut other = LastSection::NONE;
        for _ in 0..KEPT + 1 {
            learn(&mut sections, &mut other, b"c: d\r\n\r\n");
        }
        assert!(sections.find(last, false, b"a: b\r\n\r\n").is_none());
    }
}

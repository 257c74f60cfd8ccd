//! The receive buffer of a connection.

use alloc::vec::Vec;
use core::mem;

/// Octets received and not yet parsed, in storage that a pool lends.
///
/// The storage is a vector whose whole length is the capacity, initialised once, so that filling it needs neither
/// clearing nor unsafe code. A connection without unparsed octets gives it back with [`take_storage`](Self::take_storage).
#[derive(Debug, Default)]
pub struct Buffer {
    storage: Vec<u8>,
    // Invariant: start <= end <= storage.len(); both are zero when nothing is held.
    start: usize,
    end: usize,
}

impl Buffer {
    /// A buffer without storage: it has no [room](Self::room) until it is replaced or [grows](Self::grow).
    pub const fn new() -> Self {
        Self {
            storage: Vec::new(),
            start: 0,
            end: 0,
        }
    }

    /// An empty buffer over `storage`, whose length becomes the capacity and whose contents are ignored.
    pub fn with_storage(storage: Vec<u8>) -> Self {
        Self {
            storage,
            start: 0,
            end: 0,
        }
    }

    /// Whether there is any storage.
    pub fn has_storage(&self) -> bool {
        !self.storage.is_empty()
    }

    /// Gives the storage back, or `None` while there is data in it or no storage at all.
    pub fn take_storage(&mut self) -> Option<Vec<u8>> {
        (self.is_empty() && self.has_storage()).then(|| mem::take(&mut self.storage))
    }

    /// Spare space behind the data, to be written to and then announced with [`filled`](Self::filled).
    ///
    /// Empty when the buffer is full. The data moves to the front when the tail has become short.
    pub fn room(&mut self) -> &mut [u8] {
        let tail = self.storage.len() - self.end;
        // Moving is worth it when it frees more than it copies, and inevitable when there is no room otherwise.
        if self.start > 0
            && (tail == 0 || (tail < self.storage.len() / 4 && self.start >= self.len()))
        {
            self.storage.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.storage[self.end..]
    }

    /// Makes the first `n` octets of the last [`room`](Self::room) part of the data; more than there was room for
    /// counts as all of it.
    pub fn filled(&mut self, n: usize) {
        self.end = self.end.saturating_add(n).min(self.storage.len());
    }

    /// The data.
    pub fn as_slice(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// Drops the first `n` octets of the data, at most all of it.
    pub fn consume(&mut self, n: usize) {
        self.take(n);
    }

    /// Drops the first `n` octets of the data, at most all of it, and returns them.
    pub fn take(&mut self, n: usize) -> &[u8] {
        let taken = self.start..self.start + n.min(self.len());
        if taken.end == self.end {
            // The octets stay where they are until somebody asks for room.
            (self.start, self.end) = (0, 0);
        } else {
            self.start = taken.end;
        }
        &self.storage[taken]
    }

    /// Whether there is no data.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Octets of data.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Octets of data that the storage can hold.
    pub fn capacity(&self) -> usize {
        self.storage.len()
    }

    /// Moves the data to other storage, which grows if it is too small, and gives the former storage back.
    pub fn move_to(&mut self, mut storage: Vec<u8>) -> Vec<u8> {
        if storage.len() < self.len() {
            storage.resize(self.len(), 0);
        }
        storage[..self.len()].copy_from_slice(self.as_slice());
        (self.start, self.end) = (0, self.len());
        mem::replace(&mut self.storage, storage)
    }

    /// Enlarges the storage to `capacity` octets, keeping the data; never shrinks it.
    pub fn grow(&mut self, capacity: usize) {
        if capacity > self.storage.len() {
            self.storage.resize(capacity, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn put(buffer: &mut Buffer, octets: &[u8]) -> usize {
        let room = buffer.room();
        let n = octets.len().min(room.len());
        room[..n].copy_from_slice(&octets[..n]);
        buffer.filled(n);
        n
    }

    #[test]
    fn octets_come_out_in_the_order_they_went_in() {
        let mut buffer = Buffer::with_storage(vec![0xaa; 8]);
        assert_eq!(put(&mut buffer, b"abcdefghij"), 8);
        assert!(buffer.room().is_empty());
        assert_eq!(buffer.take(3), b"abc");
        assert_eq!(put(&mut buffer, b"ijk"), 3);
        assert_eq!(buffer.as_slice(), b"defghijk");
        assert_eq!(buffer.take(99), b"defghijk");
        assert!(buffer.is_empty());
    }

    #[test]
    fn storage_is_given_back_only_when_nothing_is_in_it() {
        let mut buffer = Buffer::with_storage(vec![0; 4]);
        put(&mut buffer, b"x");
        assert_eq!(buffer.take_storage(), None);
        buffer.consume(1);
        assert_eq!(buffer.take_storage().map(|storage| storage.len()), Some(4));
        assert!(!buffer.has_storage());
        assert!(buffer.room().is_empty());
        assert_eq!(buffer.take_storage(), None);
    }

    #[test]
    fn filling_more_than_the_room_is_clamped() {
        let mut buffer = Buffer::with_storage(vec![0; 4]);
        buffer.filled(usize::MAX);
        assert_eq!(buffer.len(), 4);
        buffer.filled(usize::MAX);
        assert_eq!(buffer.len(), 4);
    }

    #[test]
    fn moving_keeps_the_data_and_gives_the_storage_back() {
        let mut buffer = Buffer::with_storage(vec![0; 16]);
        put(&mut buffer, b"abcdef");
        buffer.consume(2);
        assert_eq!(buffer.move_to(vec![1; 8]).len(), 16);
        assert_eq!((buffer.as_slice(), buffer.capacity()), (&b"cdef"[..], 8));
        assert_eq!(put(&mut buffer, b"ghijkl"), 4);
        assert_eq!(buffer.move_to(vec![1]).len(), 8);
        assert_eq!(buffer.as_slice(), b"cdefghij");
    }

    #[test]
    fn growing_keeps_the_data() {
        let mut buffer = Buffer::new();
        buffer.grow(4);
        put(&mut buffer, b"abcd");
        buffer.consume(1);
        buffer.grow(6);
        buffer.grow(2);
        assert_eq!(buffer.capacity(), 6);
        put(&mut buffer, b"efg");
        assert_eq!(buffer.as_slice(), b"bcdef");
        assert_eq!(put(&mut buffer, b"g"), 1);
        assert_eq!(buffer.as_slice(), b"bcdefg");
    }
}

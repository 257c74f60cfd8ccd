//! A header section that a connection sends again is not read again: nobody can tell.

mod peer;

use meinheld_protocol::{Buffer, Connection, Error, Head, HeadPool, Policy, Received};
use peer::head_of;

/// One connection after another, with the memory of their sections.
#[derive(Default)]
struct Connections {
    policy: Policy,
    heads: HeadPool,
    connection: Connection,
    input: Buffer,
}

impl Connections {
    /// Has the connection read `wire`, which has come in pieces of `size` octets.
    fn read(&mut self, wire: &[u8], size: usize, trusted: bool) -> Result<Box<Head>, Error> {
        self.input.grow(4096);
        for piece in wire.chunks(size) {
            self.input.room()[..piece.len()].copy_from_slice(piece);
            self.input.filled(piece.len());
            let received =
                self.connection
                    .receive(&self.policy, trusted, &mut self.input, &mut self.heads)?;
            if let Received::Head(head) = received {
                assert!(self.input.is_empty());
                return Ok(head);
            }
        }
        panic!("no head in {:?}", wire.escape_ascii());
    }

    fn answer(&mut self, head: Box<Head>) {
        self.heads.give_back(head);
        self.connection.responded();
        assert!(self.connection.next_request());
    }
}

fn with_section(line: &str, section: &str) -> Vec<u8> {
    format!("{line}\r\n{section}\r\n").into_bytes()
}

/// All that a head says.
fn said(head: &Head) -> String {
    format!(
        "{:?} {:?} {:?} {:?} {} {:?} {:?} {} {} {} {:?}",
        head.method().escape_ascii().to_string(),
        head.target().escape_ascii().to_string(),
        head.path().escape_ascii().to_string(),
        head.query().escape_ascii().to_string(),
        head.version(),
        head.scheme(),
        head.framing(),
        head.expects_continue(),
        head.keep_alive(),
        head.closes_explicitly(),
        head.fields()
            .map(|field| (field.name.to_vec(), field.value.to_vec()))
            .collect::<Vec<_>>(),
    )
}

const SECTIONS: [&str; 5] = [
    "Host: a\r\n",
    "Host: a.example:80\r\nX-Empty:\r\nX-Padded: \t b \t\r\nCookie: c=d\r\n",
    "host: a\r\nConnection: keep-alive\r\nx_dropped: e\r\nAccept: f\r\nAccept: g\r\n",
    "X: \u{e9}\r\nHost:\r\n",
    "Host: a\r\nContent-Length: 0\r\n",
];
const LINES: [&str; 4] = [
    "GET / HTTP/1.1",
    "POST /longer/path?with=query HTTP/1.1",
    "GET http://other.example/p?q HTTP/1.1",
    "OPTIONS * HTTP/1.1",
];

#[test]
fn a_section_that_comes_again_says_the_same_behind_any_request_line() {
    for section in SECTIONS {
        for size in [1, 7, 4096] {
            let mut connections = Connections::default();
            for line in LINES.iter().cycle().take(3 * LINES.len()) {
                let wire = with_section(line, section);
                let head = connections.read(&wire, size, false).unwrap();
                assert_eq!(said(&head), said(&head_of(&wire)));
                connections.answer(head);
            }
        }
    }
}

#[test]
fn sections_that_take_turns_are_told_apart() {
    let mut connections = Connections::default();
    let sections = ["Host: a\r\nX: 1\r\n", "Host: a\r\nX: 2\r\n", "Host: a\r\n"];
    for number in [0, 0, 1, 1, 2, 2, 0, 1, 2, 2, 1, 0, 0, 0, 1] {
        let wire = with_section("GET / HTTP/1.1", sections[number]);
        let head = connections.read(&wire, 4096, false).unwrap();
        assert_eq!(said(&head), said(&head_of(&wire)));
        connections.answer(head);
    }
}

#[test]
fn what_the_version_asks_for_is_asked_for_each_time() {
    let mut connections = Connections::default();
    let section = "Connection: keep-alive\r\nAccept: b\r\n";
    for _ in 0..3 {
        let wire = with_section("GET / HTTP/1.0", section);
        let head = connections.read(&wire, 4096, false).unwrap();
        assert!(head.keep_alive());
        connections.answer(head);
    }
    let wire = with_section("GET / HTTP/1.1", section);
    let error = connections.read(&wire, 4096, false).unwrap_err();
    assert_eq!(error, Error::MissingHost);
}

#[test]
fn whom_to_believe_is_asked_each_time() {
    let mut connections = Connections::default();
    connections.policy.secure_scheme_headers = vec![(b"X-SCHEME".to_vec(), b"https".to_vec())];
    let wire = with_section("GET / HTTP/1.1", "Host: a\r\nX-Scheme: https\r\n");
    for trusted in [true, true, true, false, true] {
        let head = connections.read(&wire, 4096, trusted).unwrap();
        assert_eq!(head.declared_scheme().is_some(), trusted);
        connections.answer(head);
    }
}

#[test]
fn a_request_line_is_held_against_its_limit_each_time() {
    let mut connections = Connections::default();
    connections.policy.limits.request_line = 20;
    for _ in 0..3 {
        let wire = with_section("GET / HTTP/1.1", "Host: a\r\n");
        let head = connections.read(&wire, 4096, false).unwrap();
        connections.answer(head);
    }
    let wire = with_section("GET /too/long HTTP/1.1", "Host: a\r\n");
    let error = connections.read(&wire, 4096, false).unwrap_err();
    assert_eq!(error, Error::RequestLineTooLong(20));
}

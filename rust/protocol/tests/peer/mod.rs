//! A client and a caller around a [`Connection`]: octets in pieces of any size go in, a transcript comes out.

#![allow(dead_code, reason = "every test binary uses its own part")]

use meinheld_protocol::{
    Buffer, Connection, Error, Framing, Head, HeadPool, Limits, Policy, Received, Scheme, Version,
};

/// A request as it was received, body and all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub path: Vec<u8>,
    pub query: Vec<u8>,
    pub version: Version,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub scheme: Scheme,
    pub framing: Framing,
    pub keep_alive: bool,
    pub closes_explicitly: bool,
    pub continue_due: bool,
    pub body: Vec<u8>,
    pub complete: bool,
}

impl Request {
    pub fn new(head: &Head, continue_due: bool) -> Self {
        Self {
            method: head.method().to_vec(),
            target: head.target().to_vec(),
            path: head.path().to_vec(),
            query: head.query().to_vec(),
            version: head.version(),
            fields: head
                .fields()
                .map(|field| (field.name.to_vec(), field.value.to_vec()))
                .collect(),
            scheme: head.scheme(),
            framing: head.framing(),
            keep_alive: head.keep_alive(),
            closes_explicitly: head.closes_explicitly(),
            continue_due,
            body: Vec::new(),
            complete: false,
        }
    }
}

/// What became of the octets of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    pub requests: Vec<Request>,
    pub error: Option<Error>,
    /// Octets that were never read.
    pub left: Vec<u8>,
}

/// Delivers `pieces`, then a FIN if `fin`; answers each request when it is complete and goes on while it may.
pub fn converse<'a>(
    policy: &Policy,
    trusted: bool,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    fin: bool,
) -> Transcript {
    let mut connection = Connection::new();
    let mut input = Buffer::with_storage(vec![0; 64]);
    let mut heads = HeadPool::default();
    let mut transcript = Transcript {
        requests: Vec::new(),
        error: None,
        left: Vec::new(),
    };
    let mut closed = false;
    for piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() && !closed {
            rest = &rest[deliver(policy, &mut input, rest)..];
            closed = pull(
                &mut connection,
                policy,
                trusted,
                &mut input,
                &mut heads,
                &mut transcript,
            );
        }
        transcript.left.extend_from_slice(rest);
    }
    if fin && !closed {
        connection.input_ended();
        pull(
            &mut connection,
            policy,
            trusted,
            &mut input,
            &mut heads,
            &mut transcript,
        );
    }
    transcript
        .left
        .splice(0..0, input.as_slice().iter().copied());
    transcript
}

/// Writes what fits, growing the buffer no further than a head may need; panics if even that does not help.
fn deliver(policy: &Policy, input: &mut Buffer, octets: &[u8]) -> usize {
    if input.room().is_empty() {
        let largest = policy.limits.max_head();
        assert!(
            input.capacity() < largest,
            "a full buffer, and more is needed"
        );
        input.grow((input.capacity() * 2).min(largest));
    }
    let room = input.room();
    let n = room.len().min(octets.len());
    room[..n].copy_from_slice(&octets[..n]);
    input.filled(n);
    n
}

/// Everything that can be pulled now; true when the connection is over.
fn pull(
    connection: &mut Connection,
    policy: &Policy,
    trusted: bool,
    input: &mut Buffer,
    heads: &mut HeadPool,
    transcript: &mut Transcript,
) -> bool {
    loop {
        match connection.receive(policy, trusted, input, heads) {
            Ok(Received::NeedMore) => return false,
            Ok(Received::Head(head)) => {
                transcript
                    .requests
                    .push(Request::new(&head, connection.continue_due()));
                heads.give_back(head);
            }
            Ok(Received::Data(data)) => {
                assert!(!data.is_empty());
                let request = transcript.requests.last_mut().expect("a head comes first");
                request.body.extend_from_slice(data);
            }
            Ok(Received::End) => {
                assert!(connection.request_complete());
                let request = transcript.requests.last_mut().expect("a head comes first");
                assert!(!request.complete, "an end comes once");
                request.complete = true;
                connection.responded();
                if !connection.next_request() {
                    return true;
                }
            }
            Err(error) => {
                transcript.error = Some(error);
                assert!(matches!(
                    connection.receive(policy, trusted, input, heads),
                    Ok(Received::NeedMore)
                ));
                return true;
            }
        }
    }
}

/// Delivers `wire` whole, octet by octet and in a few other ways; the transcripts must be the same.
#[track_caller]
pub fn every_way(policy: &Policy, trusted: bool, wire: &[u8]) -> Transcript {
    let whole = converse(policy, trusted, [wire], false);
    for size in [1, 2, 3, 7, 1000] {
        let pieces = converse(policy, trusted, wire.chunks(size), false);
        assert_eq!(pieces.requests, whole.requests, "in pieces of {size}");
        assert_eq!(pieces.error, whole.error, "in pieces of {size}");
    }
    whole
}

/// The one error that `wire` ends in, before any request is complete.
#[track_caller]
pub fn error_of(policy: &Policy, trusted: bool, wire: &[u8]) -> Error {
    let transcript = every_way(policy, trusted, wire);
    transcript.error.unwrap_or_else(|| {
        panic!(
            "{} was taken for {:?}",
            wire.escape_ascii(),
            transcript.requests
        )
    })
}

/// The one request that `wire` is.
#[track_caller]
pub fn request_of(policy: &Policy, trusted: bool, wire: &[u8]) -> Request {
    let mut transcript = every_way(policy, trusted, wire);
    assert_eq!(transcript.error, None, "{}", wire.escape_ascii());
    assert_eq!(transcript.requests.len(), 1, "{}", wire.escape_ascii());
    let request = transcript.requests.remove(0);
    assert!(request.complete, "{}", wire.escape_ascii());
    request
}

/// A policy with these limits.
pub fn limited(request_line: usize, fields: usize, field_size: usize) -> Policy {
    Policy {
        limits: Limits {
            request_line,
            fields,
            field_size,
            max_body: None,
        },
        ..Policy::default()
    }
}

/// The head that `wire` begins with, under the default policy.
#[track_caller]
pub fn head_of(wire: &[u8]) -> Box<Head> {
    let mut input = Buffer::with_storage(wire.to_vec());
    input.filled(wire.len());
    let mut heads = HeadPool::default();
    match Connection::new().receive(&Policy::default(), false, &mut input, &mut heads) {
        Ok(Received::Head(head)) => head,
        other => panic!("no head but {other:?}"),
    }
}

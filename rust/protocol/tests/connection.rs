//! What a connection does over its life: requests in order, bodies, interim responses, and every way to end.

mod peer;

use meinheld_protocol::{
    Awaits, Buffer, Connection, Error, Framing, HeadPool, Policy, Received, Status,
};
use peer::{converse, every_way, request_of};

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";

/// A connection with everything that a caller of it holds.
struct Caller {
    connection: Connection,
    policy: Policy,
    input: Buffer,
    heads: HeadPool,
}

impl Caller {
    fn new() -> Self {
        Self {
            connection: Connection::new(),
            policy: Policy::default(),
            input: Buffer::with_storage(vec![0; 1024]),
            heads: HeadPool::default(),
        }
    }

    fn put(&mut self, octets: &[u8]) {
        self.input.room()[..octets.len()].copy_from_slice(octets);
        self.input.filled(octets.len());
    }

    fn receive(&mut self) -> Result<Received<'_>, Error> {
        self.connection
            .receive(&self.policy, false, &mut self.input, &mut self.heads)
    }

    #[track_caller]
    fn expect_head(&mut self) -> Box<meinheld_protocol::Head> {
        match self.receive() {
            Ok(Received::Head(head)) => head,
            other => panic!("no head but {other:?}"),
        }
    }

    #[track_caller]
    fn expect_data(&mut self, expected: &[u8]) {
        match self.receive() {
            Ok(Received::Data(data)) => assert_eq!(data, expected),
            other => panic!("no data but {other:?}"),
        }
    }

    #[track_caller]
    fn expect_end(&mut self) {
        assert!(matches!(self.receive(), Ok(Received::End)));
    }

    #[track_caller]
    fn expect_need_more(&mut self) {
        assert!(matches!(self.receive(), Ok(Received::NeedMore)));
    }
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Connection>() <= 64, "{}", size_of::<Connection>());
}

#[test]
fn a_request_without_a_body_is_complete_with_its_head() {
    let mut caller = Caller::new();
    assert_eq!(caller.connection.awaits(), Awaits::Idle);
    caller.expect_need_more();
    caller.put(&GET[..5]);
    caller.expect_need_more();
    assert_eq!(caller.connection.awaits(), Awaits::Head);
    caller.put(&GET[5..]);
    let head = caller.expect_head();
    assert_eq!(head.framing(), Framing::None);
    assert!(caller.connection.request_complete());
    assert_eq!(caller.connection.awaits(), Awaits::Nothing);
    caller.expect_end();
    caller.expect_need_more();
    assert!(!caller.connection.next_request(), "unanswered");
    caller.connection.responded();
    assert!(caller.connection.next_request());
    assert_eq!(caller.connection.awaits(), Awaits::Idle);
}

#[test]
fn the_end_of_a_request_need_not_be_pulled() {
    let mut caller = Caller::new();
    for _ in 0..3 {
        caller.put(GET);
        caller.expect_head();
        caller.connection.responded();
        assert!(caller.connection.next_request());
    }
    caller.expect_need_more();
}

#[test]
fn pipelined_octets_stay_in_the_buffer_until_the_answer_is_complete() {
    let mut caller = Caller::new();
    caller.put(GET);
    caller.put(GET);
    caller.expect_head();
    caller.expect_end();
    caller.expect_need_more();
    caller.expect_need_more();
    assert_eq!(caller.input.as_slice(), GET);
    caller.connection.responded();
    caller.expect_need_more();
    assert!(caller.connection.next_request());
    caller.expect_head();
    assert!(caller.input.is_empty());
}

#[test]
fn pipelining_keeps_its_order_at_any_depth() {
    let wire: Vec<u8> = (0..500)
        .flat_map(|n| match n % 3 {
            0 => format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"),
            1 => format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET "),
            _ => format!("PUT /{n} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\r\n"),
        }.into_bytes())
        .collect();
    let transcript = every_way(&Policy::default(), false, &wire);
    assert_eq!(transcript.error, None);
    assert_eq!(transcript.requests.len(), 500);
    for (n, request) in transcript.requests.iter().enumerate() {
        assert_eq!(request.target, format!("/{n}").into_bytes());
    }
}

#[test]
fn a_body_may_be_received_past_the_buffer() {
    let mut caller = Caller::new();
    caller.put(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    caller.expect_head();
    assert_eq!(caller.connection.body_remaining(), Some(10));
    caller.expect_data(b"abc");
    assert_eq!(caller.connection.body_remaining(), Some(7));
    caller.expect_need_more();
    caller.connection.body_received(5);
    assert_eq!(caller.connection.body_remaining(), Some(2));
    assert!(!caller.connection.request_complete());
    caller.connection.body_received(2);
    assert!(caller.connection.request_complete());
    assert_eq!(caller.connection.body_remaining(), None);
    caller.expect_end();
    caller.expect_need_more();
}

#[test]
fn a_request_may_be_answered_before_its_body_is_read() {
    let mut caller = Caller::new();
    caller.put(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
    caller.expect_head();
    caller.connection.responded();
    assert!(
        !caller.connection.next_request(),
        "the body is still to come"
    );
    caller.put(b"ab");
    caller.expect_data(b"ab");
    caller.expect_end();
    assert!(caller.connection.next_request());
}

#[test]
fn continue_is_due_until_it_is_sent_or_the_body_comes() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let mut caller = Caller::new();
    caller.put(head);
    assert!(caller.expect_head().expects_continue());
    assert!(caller.connection.continue_due());
    caller.expect_need_more();
    assert!(caller.connection.continue_due());
    caller.connection.continue_sent();
    assert!(!caller.connection.continue_due());

    let mut impatient = Caller::new();
    impatient.put(head);
    impatient.put(b"a");
    impatient.expect_head();
    impatient.expect_data(b"a");
    assert!(!impatient.connection.continue_due());

    let mut direct = Caller::new();
    direct.put(head);
    direct.expect_head();
    direct.connection.body_received(1);
    assert!(!direct.connection.continue_due());

    let mut answered = Caller::new();
    answered.put(head);
    answered.expect_head();
    answered.connection.responded();
    assert!(!answered.connection.continue_due());
}

#[test]
fn a_chunk_size_alone_settles_continue() {
    let mut caller = Caller::new();
    caller.put(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    );
    caller.expect_head();
    caller.expect_need_more();
    assert!(caller.connection.continue_due());
    caller.put(b"5\r\n");
    caller.expect_need_more();
    assert!(!caller.connection.continue_due());
}

#[test]
fn a_fin_between_requests_is_no_error() {
    for before in [&b""[..], b"\r\n", b"\r", GET] {
        let transcript = converse(&Policy::default(), false, [before], true);
        assert_eq!(transcript.error, None, "{before:?}");
    }
}

#[test]
fn a_fin_behind_a_complete_request_leaves_it_whole() {
    let mut caller = Caller::new();
    caller.put(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab");
    caller.connection.input_ended();
    caller.expect_head();
    caller.expect_data(b"ab");
    caller.expect_end();
    caller.expect_need_more();
    caller.connection.responded();
    assert!(caller.connection.next_request());
    caller.expect_need_more();
}

#[test]
fn a_fin_within_a_request_is_a_truncation_that_nobody_awaits_an_answer_to() {
    let body = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na";
    let chunked =
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n";
    for (wire, awaits) in [
        (&GET[..9], Awaits::Head),
        (body, Awaits::Body),
        (chunked, Awaits::Body),
    ] {
        let error = converse(&Policy::default(), false, [wire], true).error;
        assert_eq!(error, Some(Error::Truncated(awaits)));
        assert_eq!(error.unwrap().status(), None);
    }
}

#[test]
fn nothing_is_read_after_an_error() {
    let mut caller = Caller::new();
    caller.put(b"GET / HTTP/1.1\n");
    assert_eq!(caller.receive().unwrap_err(), Error::BareLineFeed);
    assert!(caller.connection.response_due());
    assert_eq!(caller.connection.awaits(), Awaits::Nothing);
    let left = caller.input.len();
    caller.input.consume(left);
    caller.put(GET);
    caller.expect_need_more();
    caller.connection.responded();
    assert!(!caller.connection.next_request());
    caller.expect_need_more();
    assert_eq!(caller.input.as_slice(), GET);
}

#[test]
fn nothing_is_read_behind_the_last_request_of_a_client_that_closes() {
    for head in [
        &b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"[..],
        b"GET / HTTP/1.0\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    ] {
        let mut caller = Caller::new();
        caller.put(head);
        caller.put(GET);
        caller.expect_head();
        caller.expect_end();
        caller.connection.responded();
        assert!(!caller.connection.next_request());
        caller.expect_need_more();
        assert_eq!(caller.input.as_slice(), GET);
    }
}

#[test]
fn a_client_announces_its_close_by_an_option_or_by_http_10() {
    let of = |wire: &[u8]| request_of(&Policy::default(), false, wire).closes_explicitly;
    assert!(!of(GET));
    assert!(of(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    ));
    assert!(of(b"GET / HTTP/1.0\r\n\r\n"));
    assert!(!of(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    assert!(!of(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"));
}

#[test]
fn detaching_yields_what_was_not_read() {
    let mut caller = Caller::new();
    caller.put(GET);
    caller.put(b"\x81\x05hello");
    caller.expect_head();
    assert_eq!(
        caller.connection.detach(&mut caller.input),
        b"\x81\x05hello"
    );
    assert!(caller.input.is_empty());
    caller.put(GET);
    caller.expect_need_more();
    caller.connection.responded();
    assert!(!caller.connection.next_request());
    assert_eq!(caller.connection.awaits(), Awaits::Nothing);
}

#[test]
fn a_body_beyond_the_bound_is_refused_with_its_head_or_its_chunk_size() {
    let mut policy = Policy::default();
    policy.limits.max_body = Some(4);
    let fits = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd";
    assert_eq!(request_of(&policy, false, fits).body, b"abcd");
    for wire in [
        &b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"[..],
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\n",
    ] {
        let transcript = every_way(&policy, false, wire);
        assert_eq!(transcript.error, Some(Error::BodyTooLarge(4)));
        assert_eq!(
            Error::BodyTooLarge(4).status(),
            Some(Status::CONTENT_TOO_LARGE)
        );
    }
}

#[test]
fn an_empty_line_between_requests_does_not_start_one() {
    let mut caller = Caller::new();
    caller.put(GET);
    caller.expect_head();
    caller.connection.responded();
    assert!(caller.connection.next_request());
    caller.put(b"\r\n");
    caller.expect_need_more();
    assert_eq!(caller.connection.awaits(), Awaits::Idle);
    assert!(caller.input.take_storage().is_some());
}

#[test]
fn a_head_larger_than_the_buffer_grows_it_within_its_bound() {
    let mut wire = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    for n in 0..99 {
        wire.extend_from_slice(format!("X-{n:03}: {}\r\n", "v".repeat(8190 - 9)).as_bytes());
    }
    wire.extend_from_slice(b"\r\n");
    let transcript = converse(&Policy::default(), false, [&wire[..]], false);
    assert_eq!(transcript.error, None);
    assert_eq!(transcript.requests[0].fields.len(), 100);
}

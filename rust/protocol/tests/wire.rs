//! The wire corpus, `tests/wire/` of the repository: every case whole, octet by octet, and with a tail.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod peer;

use meinheld_protocol::Policy;
use peer::{Request, converse, every_way};
use std::fs;
use std::path::Path;

const TAIL: &[u8] = b"GET /tail HTTP/1.1\r\nHost: tail\r\n\r\n";

struct Case {
    name: String,
    expectations: Vec<(String, Vec<u8>)>,
    wire: Vec<u8>,
}

impl Case {
    fn read(path: &Path) -> Self {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).unwrap();
        let (above, below) = text.split_once("\n---\n").expect(&name);
        let expectations = above
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (key, value) = line.split_once(':').expect(&name);
                (key.to_owned(), unescape(value.trim_start()))
            })
            .collect();
        let wire = unescape(&below.replace('\n', ""));
        Self {
            name,
            expectations,
            wire,
        }
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &[u8]> {
        self.expectations
            .iter()
            .filter(move |(found, _)| found == key)
            .map(|(_, value)| value.as_slice())
    }

    fn expected(&self, key: &str) -> Option<&[u8]> {
        self.all(key).next()
    }

    #[track_caller]
    fn assert_is(&self, request: &Request) {
        let name = &self.name;
        let continues: &[u8] = if request.continue_due { b"yes" } else { b"no" };
        for (key, found) in [
            ("method", Some(request.method.as_slice())),
            ("target", Some(&request.target)),
            ("path", Some(&request.path)),
            ("query", Some(&request.query)),
            ("version", Some(request.version.to_string().as_bytes())),
            ("body", Some(&request.body)),
            ("continue", Some(continues)),
        ] {
            let default = (key == "continue").then_some(&b"no"[..]);
            let expected = self.expected(key).or(default);
            assert_eq!(found.map(text), expected.map(text), "{name}: {key}");
        }
        assert_eq!(request.keep_alive, self.keeps_alive(), "{name}: keep-alive");
        let fields: Vec<String> = request
            .fields
            .iter()
            .map(|(name, value)| text(&[name, &b":"[..], value].concat()))
            .collect();
        let expected: Vec<String> = self
            .all("field")
            .map(|field| text(field).replacen(": ", ":", 1))
            .collect();
        if !expected.is_empty() {
            assert_eq!(fields, expected, "{name}: fields");
        }
    }

    fn keeps_alive(&self) -> bool {
        self.expected("keep-alive") == Some(b"yes")
    }
}

fn text(octets: &[u8]) -> String {
    octets.escape_ascii().to_string()
}

/// Escapes and repetitions, as the corpus' README says.
fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        assert!(first.is_ascii());
        rest = &rest[1..];
        if first == '{'
            && let Some((count, after)) = rest.split_once('*')
            && let Ok(count) = count.parse::<usize>()
            && after.as_bytes().get(1) == Some(&b'}')
        {
            octets.extend(std::iter::repeat_n(after.as_bytes()[0], count));
            rest = &after[2..];
        } else if first == '\\' {
            let (octet, length) = match rest.as_bytes()[0] {
                b'r' => (b'\r', 1),
                b'n' => (b'\n', 1),
                b't' => (b'\t', 1),
                b'\\' => (b'\\', 1),
                b'x' => (u8::from_str_radix(&rest[1..3], 16).unwrap(), 3),
                other => panic!("unknown escape {other}"),
            };
            octets.push(octet);
            rest = &rest[length..];
        } else {
            octets.push(first as u8);
        }
    }
    octets
}

fn corpus() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/wire");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "http")
        })
        .collect();
    paths.sort();
    assert!(paths.len() > 150, "the corpus is not where it was");
    paths.iter().map(|path| Case::read(path)).collect()
}

#[test]
fn every_valid_case_is_the_request_it_says() {
    let policy = Policy::default();
    for case in corpus()
        .iter()
        .filter(|case| case.expected("status") == Some(b"200"))
    {
        let alone = every_way(&policy, false, &case.wire);
        assert_eq!(alone.error, None, "{}", case.name);
        assert_eq!(alone.requests.len(), 1, "{}", case.name);
        assert!(alone.requests[0].complete, "{}", case.name);
        case.assert_is(&alone.requests[0]);

        let with_tail = every_way(&policy, false, &[&case.wire, TAIL].concat());
        assert_eq!(with_tail.error, None, "{}", case.name);
        assert_eq!(with_tail.requests[0].target, alone.requests[0].target);
        case.assert_is(&with_tail.requests[0]);
        match &with_tail.requests[1..] {
            [tail] if case.keeps_alive() => assert_eq!(tail.target, b"/tail", "{}", case.name),
            [] if !case.keeps_alive() => assert_eq!(with_tail.left, TAIL, "{}", case.name),
            more => panic!("{}: {more:?}", case.name),
        }
    }
}

#[test]
fn every_error_case_has_its_status_and_reason_and_hides_its_tail() {
    let policy = Policy::default();
    for case in corpus()
        .iter()
        .filter(|case| case.expected("status") != Some(b"200"))
    {
        for wire in [case.wire.clone(), [&case.wire, TAIL].concat()] {
            let found = every_way(&policy, false, &wire);
            let error = found
                .error
                .unwrap_or_else(|| panic!("{}: {:?}", case.name, found.requests));
            let status = error.status().expect(&case.name).code.to_string();
            assert_eq!(
                Some(status.as_bytes()),
                case.expected("status"),
                "{}: {error}",
                case.name
            );
            let reason = text(case.expected("reason").expect(&case.name));
            assert!(
                error.to_string().contains(&reason),
                "{}: {error}",
                case.name
            );
            // At most the head of the bad body was seen, and no request behind it.
            assert!(
                found.requests.len() <= 1,
                "{}: {:?}",
                case.name,
                found.requests
            );
            assert!(
                found.requests.iter().all(|request| !request.complete),
                "{}",
                case.name
            );
        }
    }
}

#[test]
fn a_case_cut_short_is_never_another_request() {
    let policy = Policy::default();
    for case in corpus() {
        let step = (case.wire.len() / 200).max(1);
        for cut in (0..case.wire.len()).step_by(step) {
            let wire = &case.wire[..cut];
            let found = converse(&policy, false, [wire], true);
            let complete = found
                .requests
                .iter()
                .filter(|request| request.complete)
                .count();
            assert_eq!(complete, 0, "{} cut at {cut}", case.name);
        }
    }
}

//! The states of a connection, and the one table of moves between them.
//!
//! A connection has two halves. Reading goes `Idle → Head → Body → Complete` and back; writing goes
//! `Idle → Owed → Done` and back, on its own: an answer may be complete while the body is still being read.
//!
//! | move       | reading              | writing | reading then | writing then |
//! | ---------- | -------------------- | ------- | ------------ | ------------ |
//! | `Begin`    | Idle                 | Idle    | Head         | Idle         |
//! | `HeadEnd`  | Head                 | Idle    | Body, or Complete without one | Owed |
//! | `BodyEnd`  | Body                 | any     | Complete     | the same     |
//! | `Answered` | any                  | Owed    | the same     | Done         |
//! | `Renew`    | Complete             | Done    | Idle         | Idle         |
//! | `Fail`     | Idle, Head, Body     | any     | Failed       | Owed if it was Idle |
//! | `Detach`   | any                  | any     | Detached     | Done         |
//!
//! Everything else is illegal and changes nothing. Failed and Detached are final for the reading half: that is what
//! makes it impossible that octets behind a framing error are ever read as a request.

use crate::chunked::Chunked;
use crate::scan::Scanner;

/// The half that turns octets into requests. Each state owns what only it needs.
#[derive(Debug)]
pub(crate) enum Reading {
    /// Before the first octet of a request; the one empty line that may precede it (RFC 9112 section 2.2) is gone or not.
    Idle { skipped_line: bool },
    /// In a head.
    Head(Scanner),
    /// In a body.
    Body(Decoder),
    /// Behind the last octet of a request, which the caller has been told or not.
    Complete { told: bool },
    /// After an error: nothing is read any more.
    Failed,
    /// The octets belong to somebody else.
    Detached,
}

/// How a body is told from what follows it.
#[derive(Debug)]
pub(crate) enum Decoder {
    /// This many octets are left, never zero.
    Length(u64),
    Chunked(Chunked),
}

/// The half that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// There is no request.
    Idle,
    /// The final response is not complete.
    Owed,
    /// The final response is complete.
    Done,
}

/// What can happen to a connection.
#[derive(Debug)]
pub(crate) enum Move {
    /// The first octet of a request is there.
    Begin,
    /// The head is complete, and this is how its body is read.
    HeadEnd(Option<Decoder>),
    /// The body is complete; the caller is told in the same step or not.
    BodyEnd { told: bool },
    /// The final response is complete.
    Answered,
    /// The next request may come.
    Renew,
    /// The input is illegal.
    Fail,
    /// The connection is taken over.
    Detach,
}

/// Both halves.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) reading: Reading,
    pub(crate) writing: Writing,
}

impl State {
    pub(crate) const fn new() -> Self {
        Self {
            reading: Reading::Idle {
                skipped_line: false,
            },
            writing: Writing::Idle,
        }
    }

    /// The table: makes a move, or, where that is illegal, changes nothing and says so.
    pub(crate) fn make(&mut self, happened: Move) -> bool {
        use Reading::{Body, Complete, Detached, Failed, Head, Idle};
        let (reading, writing) = match (happened, &self.reading, self.writing) {
            (Move::Begin, Idle { .. }, Writing::Idle) => {
                (Some(Head(Scanner::default())), Writing::Idle)
            }
            (Move::HeadEnd(Some(decoder)), Head(_), Writing::Idle) => {
                (Some(Body(decoder)), Writing::Owed)
            }
            (Move::HeadEnd(None), Head(_), Writing::Idle) => {
                (Some(Complete { told: false }), Writing::Owed)
            }
            (Move::BodyEnd { told }, Body(_), writing) => (Some(Complete { told }), writing),
            (Move::Answered, _, Writing::Owed) => (None, Writing::Done),
            (Move::Renew, Complete { .. }, Writing::Done) => (
                Some(Idle {
                    skipped_line: false,
                }),
                Writing::Idle,
            ),
            (Move::Fail, Idle { .. } | Head(_), Writing::Idle) => (Some(Failed), Writing::Owed),
            (Move::Fail, Body(_), writing) => (Some(Failed), writing),
            (Move::Detach, _, _) => (Some(Detached), Writing::Done),
            _ => return false,
        };
        if let Some(reading) = reading {
            self.reading = reading;
        }
        self.writing = writing;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    const READINGS: [&str; 6] = ["Idle", "Head", "Body", "Complete", "Failed", "Detached"];
    const WRITINGS: [Writing; 3] = [Writing::Idle, Writing::Owed, Writing::Done];
    const MOVES: [&str; 8] = [
        "Begin", "HeadEnd+", "HeadEnd-", "BodyEnd", "Answered", "Renew", "Fail", "Detach",
    ];

    fn reading(name: &str) -> Reading {
        match name {
            "Idle" => Reading::Idle { skipped_line: true },
            "Head" => Reading::Head(Scanner::default()),
            "Body" => Reading::Body(Decoder::Length(1)),
            "Complete" => Reading::Complete { told: false },
            "Failed" => Reading::Failed,
            _ => Reading::Detached,
        }
    }

    fn movement(name: &str) -> Move {
        match name {
            "Begin" => Move::Begin,
            "HeadEnd+" => Move::HeadEnd(Some(Decoder::Length(1))),
            "HeadEnd-" => Move::HeadEnd(None),
            "BodyEnd" => Move::BodyEnd { told: false },
            "Answered" => Move::Answered,
            "Renew" => Move::Renew,
            "Fail" => Move::Fail,
            _ => Move::Detach,
        }
    }

    fn name(state: &State) -> String {
        let reading = match state.reading {
            Reading::Idle { .. } => "Idle",
            Reading::Head(_) => "Head",
            Reading::Body(_) => "Body",
            Reading::Complete { .. } => "Complete",
            Reading::Failed => "Failed",
            Reading::Detached => "Detached",
        };
        format!("{reading}/{:?}", state.writing)
    }

    fn moves_from(from: &str, writing: Writing) -> Vec<String> {
        MOVES
            .into_iter()
            .filter_map(|happened| {
                let mut state = State {
                    reading: reading(from),
                    writing,
                };
                let legal = state.make(movement(happened));
                legal.then(|| format!("{happened} {}", name(&state)))
            })
            .collect()
    }

    #[test]
    fn every_legal_move_of_a_reachable_state_is_in_the_table() {
        let detach = "Detach Detached/Done";
        for (reading, writing, expected) in [
            (
                "Idle",
                Writing::Idle,
                &["Begin Head/Idle", "Fail Failed/Owed"][..],
            ),
            (
                "Head",
                Writing::Idle,
                &[
                    "HeadEnd+ Body/Owed",
                    "HeadEnd- Complete/Owed",
                    "Fail Failed/Owed",
                ],
            ),
            (
                "Body",
                Writing::Owed,
                &[
                    "BodyEnd Complete/Owed",
                    "Answered Body/Done",
                    "Fail Failed/Owed",
                ],
            ),
            (
                "Body",
                Writing::Done,
                &["BodyEnd Complete/Done", "Fail Failed/Done"],
            ),
            ("Complete", Writing::Owed, &["Answered Complete/Done"]),
            ("Complete", Writing::Done, &["Renew Idle/Idle"]),
            ("Failed", Writing::Owed, &["Answered Failed/Done"]),
            ("Failed", Writing::Done, &[]),
            ("Detached", Writing::Done, &[]),
        ] {
            let found = moves_from(reading, writing);
            let expected: Vec<&str> = expected.iter().copied().chain([detach]).collect();
            assert_eq!(found, expected, "{reading}/{writing:?}");
        }
    }

    #[test]
    fn an_illegal_move_changes_nothing() {
        for from in READINGS {
            for writing in WRITINGS {
                for happened in MOVES {
                    let mut state = State {
                        reading: reading(from),
                        writing,
                    };
                    let before = name(&state);
                    if !state.make(movement(happened)) {
                        assert_eq!(name(&state), before);
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_leads_back_from_a_failure_to_a_request() {
        for writing in WRITINGS {
            for found in moves_from("Failed", writing) {
                assert!(
                    found.contains("Failed/") || found.contains("Detached/"),
                    "{found}"
                );
            }
        }
    }
}

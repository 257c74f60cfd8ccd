//! A snapshot of the fleet as text, in Prometheus' exposition format (version 0.0.4).
//!
//! What grows is the fleet's, so that no worker that ends takes anything away from it; what comes and
//! goes is a worker's, by its pid.

use std::fmt::{Display, Write as _};

use crate::figures::{BOUNDS, Histogram};
use crate::scoreboard::Standing;
use crate::snapshot::{Snapshot, Worker};

/// The media type of the text.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Values of the label `code`.
const CODES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Values of the label `state` of a worker.
const STATES: [(Standing, &str); 5] = [
    (Standing::Booting, "booting"),
    (Standing::Dismissed, "dismissed"),
    (Standing::Ready, "ready"),
    (Standing::Staying, "staying"),
    (Standing::Leaving, "leaving"),
];

/// What is known beside the scoreboard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Resident memory of each process, in octets.
    pub memory: Vec<(u32, u64)>,
    /// Clients that wait to be accepted, by the listener's address.
    pub backlogs: Vec<(String, u32)>,
}

/// Microseconds, shown as seconds.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // To write into a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        self.0.push_str(name);
        let mut opening = '{';
        for (label, value) in labels {
            self.0.push(opening);
            let _ = write!(self.0, "{label}=\"{value}\"");
            opening = ',';
        }
        self.0.push_str(if labels.is_empty() { "" } else { "}" });
        let _ = writeln!(self.0, " {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram<u64>) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        let mut count = 0;
        for (index, of_bucket) in histogram.buckets.iter().enumerate() {
            count += of_bucket;
            match BOUNDS.get(index) {
                Some(bound) => {
                    let bound = *bound as f64 / 1e6;
                    self.sample(&bucket, &[("le", &bound)], count);
                }
                None => self.sample(&bucket, &[("le", &"+Inf")], count),
            }
        }
        self.sample(&format!("{name}_sum"), &[], Seconds(histogram.sum));
        self.sample(&format!("{name}_count"), &[], count);
    }

    /// A figure of each worker that has one.
    fn each<T: Display>(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        workers: &[Worker],
        value: impl Fn(&Worker) -> Option<T>,
    ) {
        self.family(name, kind, help);
        for worker in workers {
            if let Some(value) = value(worker) {
                self.sample(name, &[("worker", &worker.doing.pid)], value);
            }
        }
    }

    /// Some figures of each worker, told apart by a label.
    fn each_by<T: Display, const N: usize>(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        workers: &[Worker],
        label: &str,
        values: impl Fn(&Worker) -> [(&'static str, T); N],
    ) {
        self.family(name, kind, help);
        for worker in workers {
            for (kind, value) in values(worker) {
                let labels: [(&str, &dyn Display); 2] =
                    [("worker", &worker.doing.pid), (label, &kind)];
                self.sample(name, &labels, value);
            }
        }
    }
}

/// The text of a scrape.
pub fn exposition(fleet: &Snapshot, beside: &Beside) -> String {
    let mut text = Text::default();
    of_fleet(&mut text, fleet, beside);
    of_workers(&mut text, &fleet.workers, beside);
    text.0
}

fn of_fleet(text: &mut Text, fleet: &Snapshot, beside: &Beside) {
    let totals = &fleet.totals;
    let name = "meinheld_requests_total";
    text.family(
        name,
        "counter",
        "Answers that were begun, by the class of their status; 1xx are sockets that the application took over.",
    );
    for (code, count) in CODES.iter().zip(totals.answers) {
        text.sample(name, &[("code", code)], count);
    }
    text.histogram(
        "meinheld_request_duration_seconds",
        "From the application's call to the end of its close().",
        &totals.duration,
    );
    text.histogram(
        "meinheld_request_queue_seconds",
        "From when a request could be handed over to the application's call.",
        &totals.queue,
    );
    for (name, help, value) in [
        (
            "meinheld_received_bytes_total",
            "Octets from clients.",
            totals.received,
        ),
        (
            "meinheld_sent_bytes_total",
            "Octets to clients.",
            totals.sent,
        ),
        (
            "meinheld_connections_accepted_total",
            "Connections.",
            totals.accepted,
        ),
        (
            "meinheld_requests_shed_total",
            "Requests that were answered with 503 because they had waited for too long.",
            totals.shed,
        ),
        (
            "meinheld_requests_abandoned_total",
            "Requests whose clients had gone before the application was called.",
            totals.abandoned,
        ),
        (
            "meinheld_worker_started_total",
            "Workers that were forked, restarts included.",
            fleet.started,
        ),
    ] {
        text.single(name, "counter", help, value);
    }
    let name = "meinheld_accept_backlog";
    text.family(
        name,
        "gauge",
        "Clients that wait to be accepted; of TCP listeners.",
    );
    for (listener, count) in &beside.backlogs {
        text.sample(name, &[("listener", listener)], count);
    }
}

fn of_workers(text: &mut Text, workers: &[Worker], beside: &Beside) {
    text.each_by(
        (
            "meinheld_worker_state",
            "gauge",
            "1 for where a worker is between its fork and its end.",
        ),
        workers,
        "state",
        |worker| STATES.map(|(state, name)| (name, u32::from(worker.standing == state))),
    );
    text.each(
        (
            "meinheld_worker_age_seconds",
            "gauge",
            "Since the worker was forked.",
        ),
        workers,
        |worker| Some(Seconds(worker.doing.age.saturating_mul(1000))),
    );
    text.each_by(
        (
            "meinheld_worker_requests_total",
            "counter",
            "As meinheld_requests_total, of one worker.",
        ),
        workers,
        "code",
        |worker| {
            let answers = worker.doing.answers;
            std::array::from_fn::<_, { CODES.len() }, _>(|class| (CODES[class], answers[class]))
        },
    );
    text.each(
        (
            "meinheld_worker_busy_seconds_total",
            "counter",
            "Time that the application has had requests; all threads together.",
        ),
        workers,
        |worker| Some(Seconds(worker.doing.busy)),
    );
    text.each(
        (
            "meinheld_requests_in_flight",
            "gauge",
            "Requests that are with the application.",
        ),
        workers,
        |worker| Some(worker.doing.in_flight),
    );
    text.each(
        (
            "meinheld_request_oldest_seconds",
            "gauge",
            "For how long the oldest request in flight has been with the application; 0 for none.",
        ),
        workers,
        |worker| Some(Seconds(worker.doing.oldest.unwrap_or(0))),
    );
    text.each_by(
        (
            "meinheld_connections",
            "gauge",
            "Open connections: idle ones wait for a request.",
        ),
        workers,
        "state",
        |worker| [("active", worker.doing.active), ("idle", worker.doing.idle)],
    );
    text.each(
        (
            "meinheld_worker_resident_memory_bytes",
            "gauge",
            "Resident memory.",
        ),
        workers,
        |worker| {
            let of_worker = |(pid, _): &&(u32, u64)| *pid == worker.doing.pid;
            beside
                .memory
                .iter()
                .find(of_worker)
                .map(|(_, octets)| *octets)
        },
    );
}

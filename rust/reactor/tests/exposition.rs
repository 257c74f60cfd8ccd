//! What a scrape reads: one text for each state of the fleet.

use meinheld_reactor::{
    BOUNDS, Beside, Doing, Histogram, Snapshot, Standing, Totals, Worker, exposition,
};

fn lines_of<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines()
        .filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '{']))
        })
        .collect()
}

fn fleet_of(workers: Vec<Worker>) -> Snapshot {
    Snapshot {
        workers,
        ..Snapshot::default()
    }
}

fn worker(pid: u32, standing: Standing) -> Worker {
    let doing = Doing {
        pid,
        ..Doing::default()
    };
    Worker { standing, doing }
}

#[test]
fn each_family_is_explained_and_typed_once() {
    let text = exposition(
        &fleet_of(vec![worker(7, Standing::Ready)]),
        &Beside::default(),
    );
    let named = |keyword: &str| -> Vec<String> {
        let told = text.lines().filter_map(|line| line.strip_prefix(keyword));
        told.filter_map(|rest| rest.split(' ').next().map(str::to_owned))
            .collect()
    };
    let helped = named("# HELP ");
    assert_eq!(helped, named("# TYPE "));
    let mut once = helped.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), helped.len());
    assert!(text.ends_with('\n'));
}

#[test]
fn answers_are_counted_by_class() {
    let mut fleet = fleet_of(Vec::new());
    fleet.totals.answers = [1, 2, 3, 4, 5];
    assert_eq!(
        lines_of(
            &exposition(&fleet, &Beside::default()),
            "meinheld_requests_total"
        ),
        [
            r#"meinheld_requests_total{code="1xx"} 1"#,
            r#"meinheld_requests_total{code="2xx"} 2"#,
            r#"meinheld_requests_total{code="3xx"} 3"#,
            r#"meinheld_requests_total{code="4xx"} 4"#,
            r#"meinheld_requests_total{code="5xx"} 5"#,
        ]
    );
}

#[test]
fn the_buckets_of_a_histogram_add_up() {
    let mut buckets = [0; BOUNDS.len() + 1];
    (buckets[0], buckets[2], buckets[12]) = (5, 2, 1);
    let duration = Histogram {
        buckets,
        sum: 12_500_001,
    };
    let fleet = Snapshot {
        totals: Totals {
            duration,
            ..Totals::default()
        },
        ..Snapshot::default()
    };
    let text = exposition(&fleet, &Beside::default());
    let found = lines_of(&text, "meinheld_request_duration_seconds_bucket");
    assert_eq!(found.len(), BOUNDS.len() + 1);
    assert_eq!(
        found[0],
        r#"meinheld_request_duration_seconds_bucket{le="0.001"} 5"#
    );
    assert_eq!(
        found[2],
        r#"meinheld_request_duration_seconds_bucket{le="0.01"} 7"#
    );
    assert_eq!(
        found[11],
        r#"meinheld_request_duration_seconds_bucket{le="10"} 7"#
    );
    assert_eq!(
        found[12],
        r#"meinheld_request_duration_seconds_bucket{le="+Inf"} 8"#
    );
    assert!(text.contains("meinheld_request_duration_seconds_sum 12.500001\n"));
    assert!(text.contains("meinheld_request_duration_seconds_count 8\n"));
}

#[test]
fn a_worker_has_its_lines_by_its_pid() {
    let mut one = worker(7, Standing::Staying);
    one.doing = Doing {
        pid: 7,
        age: 61_500,
        silent: 3,
        active: 2,
        idle: 9,
        in_flight: 2,
        oldest: Some(1_250_000),
        answers: [0, 8, 0, 1, 0],
        busy: 3_000_001,
    };
    let beside = Beside {
        memory: vec![(7, 4096)],
        backlogs: vec![("127.0.0.1:80".to_owned(), 3)],
    };
    let text = exposition(&fleet_of(vec![one]), &beside);
    for line in [
        r#"meinheld_worker_state{worker="7",state="ready"} 0"#,
        r#"meinheld_worker_state{worker="7",state="staying"} 1"#,
        r#"meinheld_worker_age_seconds{worker="7"} 61.500000"#,
        r#"meinheld_worker_requests_total{worker="7",code="2xx"} 8"#,
        r#"meinheld_worker_requests_total{worker="7",code="4xx"} 1"#,
        r#"meinheld_worker_busy_seconds_total{worker="7"} 3.000001"#,
        r#"meinheld_requests_in_flight{worker="7"} 2"#,
        r#"meinheld_request_oldest_seconds{worker="7"} 1.250000"#,
        r#"meinheld_connections{worker="7",state="active"} 2"#,
        r#"meinheld_connections{worker="7",state="idle"} 9"#,
        r#"meinheld_worker_resident_memory_bytes{worker="7"} 4096"#,
        r#"meinheld_accept_backlog{listener="127.0.0.1:80"} 3"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn what_is_not_known_is_left_out() {
    let text = exposition(
        &fleet_of(vec![worker(7, Standing::Ready)]),
        &Beside::default(),
    );
    assert_eq!(
        lines_of(&text, "meinheld_worker_resident_memory_bytes"),
        [""; 0]
    );
    assert_eq!(lines_of(&text, "meinheld_accept_backlog"), [""; 0]);
}

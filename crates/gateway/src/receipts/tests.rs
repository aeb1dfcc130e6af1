use std::{fs, fs::OpenOptions, io::Write, os::unix::fs::PermissionsExt, time::Duration};

use serde_json::Value;

use super::*;
use crate::limits::MAX_REPEATED_REFUSALS;

const REQUEST: RequestSummary<'_> =
    RequestSummary { method: "GET", host: "api.example.org", port: 443, path: "/v1" };

fn refusal() -> Decision {
    Decision::refuse(Reason::NoRoute, DecidedBy::Policy)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("read");
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn a_file_is_private_and_counted_on_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("receipts.jsonl");
    for _ in 0..2 {
        let receipts = Receipts::open(&path, None).expect("opened");
        receipts.record(REQUEST, &refusal(), Details::default()).expect("written");
    }
    // A process that was killed in the middle of a line.
    OpenOptions::new().append(true).open(&path).expect("opened").write_all(b"{\"seq").expect("written");
    let receipts = Receipts::open(&path, None).expect("opened");
    receipts.refuse(REQUEST, &refusal(), Some(403)).expect("written");

    let sequences: Vec<_> = lines(&path).iter().map(|line| line["sequence"].as_u64()).collect();
    assert_eq!(sequences, [Some(1), Some(2), Some(3)]);
    assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
}

#[test]
fn without_room_on_the_disk_nothing_is_allowed() {
    // Every write to it fails with "no space left on device".
    let receipts = Receipts::open(Path::new("/dev/full"), None).expect("opened");
    for _ in 0..2 {
        let allowed = receipts.record(REQUEST, &refusal(), Details::default());
        assert_eq!(allowed, Err(ReceiptNotWritten));
        let refused = receipts.refuse(REQUEST, &refusal(), None);
        assert_eq!(refused, Err(RefusalNotWritten::Failed(ReceiptNotWritten)));
    }
}

#[test]
fn repeated_refusals_are_counted_until_they_stop() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("receipts.jsonl");
    let receipts = Receipts::open(&path, None).expect("opened");
    let mut writer = receipts.writer();
    let start = Instant::now();
    let at = |second| start + Duration::from_secs(second);
    for _ in 0..5 {
        writer.refuse(REQUEST, &refusal(), Some(403), start).expect("counted");
    }
    writer.refuse(REQUEST, &refusal(), Some(426), start).expect("written");
    assert_eq!(writer.write_due(start), Some(at(1)));
    assert_eq!(writer.write_due(at(1)), Some(at(2)), "it may come again");
    assert_eq!(writer.write_due(at(2)), None, "it did not");
    writer.refuse(REQUEST, &refusal(), Some(403), at(2)).expect("written");
    let seen: Vec<_> = lines(&path)
        .iter()
        .map(|line| (line["exchange"].as_u64(), line["status"].as_u64(), line["again"].as_u64()))
        .collect();
    let (first, other) = (Some(1), Some(2));
    assert_eq!(
        seen,
        [
            (first, Some(403), None),
            (other, Some(426), None),
            (first, None, Some(4)),
            (Some(4), Some(403), None),
        ]
    );
}

#[test]
fn long_texts_are_cut_between_characters_and_as_they_are_written() {
    assert_eq!(cut("aé", 2), "a");
    assert_eq!(cut("aé", 3), "aé");
    for text in ["\"\"\"\"", "\\\\\\", "\u{1}\u{1f}\n\t\u{c}\u{8}", "a\u{7f}b\u{2028}"] {
        for bytes in 0..20 {
            let written = serde_json::to_string(cut(text, bytes)).expect("text");
            assert!(written.len() - 2 <= bytes, "{text:?} {bytes}");
        }
        assert_eq!(cut(text, 20), text);
    }
}

#[test]
fn what_is_one_too_many_is_counted_whatever_else_is_remembered() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("receipts.jsonl");
    let receipts = Receipts::open(&path, None).expect("opened");
    let mut writer = receipts.writer();
    let now = Instant::now();
    // All places for repetitions are taken before the bytes are.
    let mut paths = (0..).map(|number: u32| format!("/{number}"));
    let mut refuse = |writer: &mut Writer| {
        let path = paths.next().expect("endless");
        writer.refuse(RequestSummary { path: &path, ..REQUEST }, &refusal(), Some(403), now)
    };
    let written = (0..).take_while(|_| refuse(&mut writer).is_ok()).count();
    assert!(written > MAX_REPEATED_REFUSALS, "{written}");
    let bytes = fs::metadata(&path).expect("metadata").len();
    for _ in 0..1000 {
        assert_eq!(refuse(&mut writer), Err(RefusalNotWritten::TooMany));
    }
    assert_eq!(fs::metadata(&path).expect("metadata").len(), bytes, "the first has its line, and counts");
    drop(writer);
    drop(receipts);
    let again: u64 = lines(&path).iter().filter_map(|line| line["again"].as_u64()).sum();
    assert_eq!(again, 1000);
}

#[test]
fn counts_are_written_at_the_rate_of_refusals() {
    const SECONDS: u64 = 600;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("receipts.jsonl");
    let receipts = Receipts::open(&path, None).expect("opened");
    let mut writer = receipts.writer();
    let start = Instant::now();
    let paths: Vec<_> = (0..MAX_REPEATED_REFUSALS).map(|number| format!("/{number}")).collect();
    for second in 0..SECONDS {
        let now = start + Duration::from_secs(second);
        for path in &paths {
            writer.refuse(RequestSummary { path, ..REQUEST }, &refusal(), Some(403), now).expect("counted");
        }
        writer.write_due(now);
    }
    let bytes = fs::metadata(&path).expect("metadata").len();
    let bound = REFUSAL_BURST_BYTES + SECONDS * REFUSAL_REFILL_BYTES;
    assert!(bytes < bound + 50_000, "{bytes} of {bound}");
    drop(writer);
    drop(receipts);
    let lines = lines(&path);
    let again: u64 = lines.iter().filter_map(|line| line["again"].as_u64()).sum();
    let told = again + lines.iter().filter(|line| line["verdict"] == "refuse").count() as u64;
    assert_eq!(told, SECONDS * MAX_REPEATED_REFUSALS as u64, "each is told of");
}

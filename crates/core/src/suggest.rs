//! "Did you mean …?"

/// The candidate that is closest to what was written, if one is close enough to be meant.
///
/// Close enough is an optimal-string-alignment distance (Damerau–Levenshtein without repeated edits) of at
/// most a third of the longer word's length, and at least one. Case is ignored.
#[must_use]
pub fn closest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_ascii_lowercase();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let distance = alignment_distance(&written, &candidate.to_ascii_lowercase());
            let allowed = (written.chars().count().max(candidate.chars().count()) / 3).max(1);
            (distance <= allowed).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn alignment_distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substitution = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitution.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn finds_the_word_that_was_meant() {
        let keys = ["egress", "extends", "env", "git"];
        assert_eq!(closest("egres", keys), Some("egress"));
        assert_eq!(closest("extneds", keys), Some("extends"));
        assert_eq!(closest("GIT", keys), Some("git"));
        assert_eq!(closest("kubernetes", keys), None);
    }
}

//! Suggestions for a name that is not known.

/// The name in `known` that `found` was probably meant to be.
pub fn nearest<'n>(found: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let found = found.to_lowercase();
    known
        .map(|name| {
            (
                strsim::damerau_levenshtein(&found, &name.to_lowercase()),
                name,
            )
        })
        .filter(|(distance, name)| *distance <= 1 + found.len().max(name.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let known = ["calls_max", "calls_in_max", "cps"];
        assert_eq!(nearest("call_max", known.into_iter()), Some("calls_max"));
        assert_eq!(nearest("CPS", known.into_iter()), Some("cps"));
        assert_eq!(nearest("colour", known.into_iter()), None);
    }
}

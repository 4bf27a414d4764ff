//! Figures: medians, spreads and ratios of rounds.

/// What the rounds of one measurement gave, in the order of the rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds(Vec<f64>);

impl Rounds {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest and the largest.
    pub(crate) fn bounds(&self) -> Option<(f64, f64)> {
        let least = self.0.iter().copied().reduce(f64::min)?;
        Some((least, self.0.iter().copied().reduce(f64::max)?))
    }

    /// The value that so much of the sorted rounds lies below.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a list"
    )]
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let index = (sorted.len() as f64 * share) as usize;
        sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }

    /// The value in the middle; of an even number, the mean of the two.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            count if count % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    /// How far the rounds lie apart: the largest less the smallest, as a share of the median.
    pub(crate) fn spread(&self) -> f64 {
        self.bounds().map_or(f64::NAN, |(smallest, largest)| (largest - smallest) / self.median())
    }

    /// Round by round, this by the other: a slow minute of the machine hits both.
    pub(crate) fn by(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(mine, theirs)| mine / theirs).collect())
    }
}

impl FromIterator<f64> for Rounds {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}

/// A rate for people: three digits, thousands as k.
pub(crate) fn short(value: f64) -> String {
    match value {
        v if v >= 99_950.0 => format!("{:.0} k", v / 1000.0),
        v if v >= 9_995.0 => format!("{:.1} k", v / 1000.0),
        v if v >= 999.5 => format!("{:.2} k", v / 1000.0),
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_spreads_and_ratios_are_what_their_names_say() {
        let rounds: Rounds = [3.0, 1.0, 2.0].into_iter().collect();
        assert!((rounds.median() - 2.0).abs() < 1e-9);
        assert!((rounds.spread() - 1.0).abs() < 1e-9);
        let others: Rounds = [1.0, 1.0, 4.0, 9.0].into_iter().collect();
        assert!((others.median() - 2.5).abs() < 1e-9);
        assert!((others.quantile(0.999) - 9.0).abs() < 1e-9 && (others.quantile(0.0) - 1.0).abs() < 1e-9);
        assert_eq!(rounds.by(&others).0, [3.0, 1.0, 0.5]);
    }

    #[test]
    fn rates_have_three_digits() {
        let texts: Vec<String> = [372_912.0, 46_049.0, 7512.4, 512.6, 12.34, 0.123].map(short).to_vec();
        assert_eq!(texts, ["373 k", "46.0 k", "7.51 k", "513", "12.3", "0.12"]);
    }
}

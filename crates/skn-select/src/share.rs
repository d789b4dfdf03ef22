use std::fmt;
use std::str::FromStr;

use crate::error::{Result, SelectError};

/// Digits after the point that a share can have.
const DIGITS: usize = 18;
/// 1, in units of the last of them.
const ONE: u64 = 1_000_000_000_000_000_000;
/// A series is of files; more of them are a mistake.
const MAX_STEPS: u64 = 10_000;

/// A share of a layer's neurons, 0 to 1, as the decimal number that it was written as: `0.29` of 100 neurons
/// is 29, where the nearest binary fraction gives 28.
///
/// ```
/// use skn_select::Share;
///
/// let share: Share = "0.020".parse()?;
/// assert_eq!(share.count(3072), 61);
/// assert_eq!(share.to_string(), "0.02");
/// # Ok::<(), skn_select::SelectError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u64);

impl Share {
    /// So many of a hundred; 100 is all, and so is more.
    pub fn of_percent(percent: u8) -> Self {
        Self(u64::from(percent.min(100)) * (ONE / 100))
    }

    /// How many of a layer's neurons that is, rounded down.
    pub fn count(self, neurons: usize) -> usize {
        (u128::from(self.0) * neurons as u128 / u128::from(ONE)) as usize
    }

    /// `from`, `from + step` and so on, as far as `to`.
    ///
    /// # Errors
    /// If `step` is 0, `to` is below `from`, or there are more than 10,000.
    pub fn steps(from: Self, to: Self, step: Self) -> Result<Vec<Self>> {
        if step.0 == 0 {
            return Err(SelectError::mismatch("step of shares", "more than 0", step));
        }
        if to < from {
            return Err(SelectError::mismatch("last share", format!("{from} or more"), to));
        }
        let last = (to.0 - from.0) / step.0;
        if last >= MAX_STEPS {
            let expected = format!("one with at most {MAX_STEPS} shares from {from} to {to}");
            return Err(SelectError::mismatch("step of shares", expected, step));
        }
        Ok((0..=last).map(|index| Self(from.0 + index * step.0)).collect())
    }

    /// 0.0, 0.01 and so on, as far as 0.2.
    pub fn series() -> Vec<Self> {
        (0..=20).map(|hundredth| Self(hundredth * (ONE / 100))).collect()
    }
}

impl FromStr for Share {
    type Err = SelectError;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            let expected =
                format!("a decimal number from 0 to 1 with at most {DIGITS} digits after the point");
            SelectError::mismatch("share", expected, format!("`{text}`"))
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) {
            return Err(wrong());
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        match (whole, fraction) {
            ("1", "") => Ok(Self(ONE)),
            ("", "") => Ok(Self(0)),
            ("", fraction) if fraction.len() <= DIGITS => {
                format!("{fraction:0<DIGITS$}").parse().map(Self).map_err(|_| wrong())
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Share {
    /// As short as can be, with one digit after the point at least: `0.0`, `0.01`, `0.1`, `1.0`. It is the
    /// name of the mask's file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:0DIGITS$}", self.0 % ONE);
        let fraction = fraction.trim_end_matches('0');
        f.pad(&format!("{}.{}", self.0 / ONE, if fraction.is_empty() { "0" } else { fraction }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn share(text: &str) -> Share {
        text.parse().unwrap()
    }

    #[test]
    fn counts_are_exact() {
        let cases =
            [("0.29", 100, 29), ("0.57", 100, 57), ("0.1", 3072, 307), ("0.02", 3072, 61), ("1", 7, 7)];
        for (text, neurons, expected) in cases {
            assert_eq!(share(text).count(neurons), expected, "{text} of {neurons}");
        }
        assert_eq!(share("0.999999999999999999").count(1000), 999);
        assert_eq!(share("0").count(usize::MAX), 0);
        assert_eq!(share("1.0").count(usize::MAX), usize::MAX);
    }

    #[test]
    fn names_are_short() {
        let cases = [
            ("0", "0.0"),
            ("0.10", "0.1"),
            (".5", "0.5"),
            ("1.", "1.0"),
            ("00.050", "0.05"),
            ("1.000", "1.0"),
        ];
        for (text, expected) in cases {
            assert_eq!(share(text).to_string(), expected);
        }
        assert_eq!(share("0.0000000000000000010").to_string(), "0.000000000000000001");
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in [
            "",
            ".",
            "1.1",
            "2",
            "-0.1",
            "+0.1",
            "0,1",
            "1e-2",
            "5%",
            " 0.1",
            "0.1.2",
            "0.0000000000000000001",
        ] {
            let error = text.parse::<Share>().unwrap_err();
            assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn the_default_series_is_a_series_of_steps() {
        let series = Share::series();
        assert_eq!(series, Share::steps(share("0"), share("0.2"), share("0.01")).unwrap());
        let names: Vec<_> = series.iter().map(Share::to_string).collect();
        assert_eq!(names[..3], ["0.0", "0.01", "0.02"]);
        assert_eq!((names[10].as_str(), names[20].as_str(), names.len()), ("0.1", "0.2", 21));
    }

    #[test]
    fn steps_end_at_or_below_the_last() {
        let steps = |from, to, step| Share::steps(share(from), share(to), share(step));
        assert_eq!(steps("0.1", "0.24", "0.05").unwrap(), ["0.1", "0.15", "0.2"].map(share));
        assert_eq!(steps("1", "1", "1").unwrap(), [share("1")]);
        assert!(steps("0.1", "0.2", "0").is_err());
        assert!(steps("0.2", "0.1", "0.01").is_err());
        assert!(steps("0", "1", "0.000001").is_err());
    }

    proptest! {
        #[test]
        fn names_are_read_back(units in 0..=ONE) {
            prop_assert_eq!(Share(units).to_string().parse::<Share>().unwrap(), Share(units));
        }

        #[test]
        fn a_count_is_the_largest_that_fits(hundredths in 0u64..=100, neurons in 0usize..5000) {
            let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
            prop_assert_eq!(share(&text).count(neurons), hundredths as usize * neurons / 100);
        }
    }
}

//! How numbers are written on the page.

use maud::{Markup, html};

/// A score, a share or a time, to three decimals.
pub(crate) fn three(value: f64) -> String {
    format!("{value:.3}").replace('-', "\u{2212}")
}

/// The two ends of an interval.
pub(crate) fn range([low, high]: &[f64; 2]) -> String {
    format!("{} to {}", three(*low), three(*high))
}

/// A change of a score in points, hundredths of it, with its sign and one decimal.
///
/// ```
/// assert_eq!(skn_report::points(0.015), "+1.5");
/// ```
pub fn points(change: f64) -> String {
    // What a sum of draws is off its decimals must not tip a half: 0.1175 is the same wherever it comes from.
    let change = (change * 1e8).round() / 1e6;
    format!("{change:+.1}").replace('-', "\u{2212}")
}

/// A mask's name as the share that it marks, `10 %` for `0.1`; another name is kept.
pub(crate) fn percent(mask: &str) -> String {
    mask.parse::<f64>().map_or_else(|_| mask.into(), |share| format!("{} %", compact(share * 100.0)))
}

/// A number without needless digits.
fn compact(value: f64) -> String {
    format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').into()
}

/// How much of the whole a part is; nothing where that says nothing.
pub(crate) fn ratio(part: f64, whole: f64) -> Option<f64> {
    (part > 0.0 && whole > 0.0).then(|| part / whole)
}

/// A number with a thin space at the thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// So many of a thing: `1 pass`, `2 passes`.
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count as u64), if count == 1 { one } else { many })
}

/// A p value: two digits that say something, `below 0.0001` where there are fewer.
pub(crate) fn p_value(p: f64) -> String {
    if p >= 0.1 {
        format!("{p:.2}")
    } else if p >= 0.01 {
        format!("{p:.3}")
    } else if p >= 0.000_1 {
        format!("{p:.4}")
    } else {
        "below 0.0001".into()
    }
}

/// A very large or very small number, to three decimals.
pub(crate) fn scientific(number: f64) -> Markup {
    to_decimals(number, 3)
}

/// The same to one decimal: more is not known of a chance.
pub(crate) fn scientific_short(number: f64) -> Markup {
    to_decimals(number, 1)
}

fn to_decimals(number: f64, decimals: usize) -> Markup {
    let text = format!("{number:.decimals$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    html! {
        @if exponent == "0" { (mantissa) } @else { (mantissa) " × 10" sup { (exponent.replace('-', "\u{2212}")) } }
    }
}

/// Unix seconds as date and time, by the calendar's 400-year cycle (Hinnant, "chrono-compatible low-level date
/// algorithms", `civil_from_days`).
pub(crate) fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", second / 3600, second / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_by_hand() {
        assert_eq!(utc(0), "1970-01-01 00:00");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00");
        assert_eq!(utc(1_709_251_199), "2024-02-29 23:59");
        assert_eq!(utc(1_735_689_600), "2025-01-01 00:00");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(124_697_433), "124\u{202f}697\u{202f}433");
        assert_eq!([10.0, 2.5, 0.0].map(compact), ["10", "2.5", "0"]);
        assert_eq!([percent("0.05"), percent("all")], ["5 %", "all"]);
        assert_eq!([points(-0.264), points(0.015)], ["\u{2212}26.4", "+1.5"]);
        assert_eq!([points(-0.1175), points(-0.117_499_999_99)], ["\u{2212}11.8"; 2]);
        assert_eq!(range(&[-0.1, 0.25]), "\u{2212}0.100 to 0.250");
        assert_eq!(scientific(1_234_567.0).into_string(), "1.235 × 10<sup>6</sup>");
        assert_eq!(scientific(8e-4).into_string(), "8.000 × 10<sup>\u{2212}4</sup>");
        assert_eq!(scientific(0.0).into_string(), "0.000");
        assert_eq!(scientific_short(1.14e-81).into_string(), "1.1 × 10<sup>\u{2212}81</sup>");
        assert_eq!([counted(1, "pass", "passes"), counted(0, "draw", "draws")], ["1 pass", "0 draws"]);
        assert_eq!([0.5, 0.02, 0.002, 1e-9].map(p_value), ["0.50", "0.020", "0.0020", "below 0.0001"]);
        assert_eq!((ratio(3.0, 4.0), ratio(3.0, 0.0)), (Some(0.75), None));
    }
}

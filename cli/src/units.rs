//! Quantities for people; JSON and CSV carry the raw numbers.

/// `512 B`, `1.2 MiB`.
pub fn bytes(value: f64) -> String {
    scaled(value, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// `1.2 MiB/s`.
pub fn bytes_per_second(value: f64) -> String {
    bytes(value) + "/s"
}

/// `1,234,567`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Three digits that count, without trailing zeros: `0.031`, `12.5`, `198`.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let magnitude = value.abs();
    let decimals = match magnitude {
        m if m == 0.0 || m >= 100.0 => 0,
        m if m >= 10.0 => 1,
        m if m >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A value in the unit that a feature or a piece of evidence names.
pub fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        _ if !value.is_finite() => "-".to_owned(),
        "B" => bytes(value),
        "B/s" => bytes_per_second(value),
        "1/s" => number(value) + "/s",
        "ratio" => number(value * 100.0) + " %",
        "" => number(value),
        unit => format!("{} {unit}", number(value)),
    }
}

fn scaled(value: f64, base: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = 0;
    // 1023.95 would print as 1024.0 of the smaller unit.
    while value.abs() >= base - 0.05 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} {}", units[0]) } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_choose_their_unit() {
        assert_eq!([bytes(0.0), bytes(1023.0), bytes(1_258_291.0), bytes(1_048_575.0)], ["0 B", "1023 B", "1.2 MiB", "1.0 MiB"]);
        assert_eq!(bytes_per_second(2048.0), "2.0 KiB/s");
    }

    #[test]
    fn numbers_keep_what_counts() {
        assert_eq!([number(0.0), number(0.0312), number(12.5), number(198.4), number(-1.0)], ["0", "0.031", "12.5", "198", "-1"]);
        assert_eq!(number(f64::NAN), "-");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(999), "999");
    }

    #[test]
    fn units_of_evidence_are_written_out() {
        assert_eq!([with_unit(198.0, "1/s"), with_unit(0.5, "ratio"), with_unit(0.97, "cores")], ["198/s", "50 %", "0.97 cores"]);
    }
}

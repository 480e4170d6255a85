//! Quantities as the API writes them: `200m`, `64Mi`, `1.5`, `129e6`.

/// The value of a quantity; `None` where it is none.
fn value(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let suffix = &text[digits.len()..];
    if suffix.is_empty() {
        return text.parse().ok();
    }
    let factor = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        _ => return None,
    };
    Some(digits.parse::<f64>().ok()? * factor)
}

/// Cores as millicores, rounded up as the kubelet does.
pub fn millicores(text: &str) -> Option<u64> {
    whole(value(text)? * 1e3)
}

/// Bytes.
pub fn bytes(text: &str) -> Option<u64> {
    whole(value(text)?)
}

fn whole(value: f64) -> Option<u64> {
    // The hair is what binary fractions leave of an exact value.
    (value.is_finite() && value >= 0.0).then(|| (value - 1e-6).ceil().max(0.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_the_api_writes_them() {
        let cores = ["200m", "1", "1.5", "0", "100n", "2k"].map(millicores);
        let memory = ["64Mi", "1Gi", "129e6", "128974848", "100k", "1.5Ki"].map(bytes);

        assert_eq!(cores, [Some(200), Some(1_000), Some(1_500), Some(0), Some(1), Some(2_000_000)]);
        assert_eq!(memory, [Some(67_108_864), Some(1 << 30), Some(129_000_000), Some(128_974_848), Some(100_000), Some(1_536)]);
        assert_eq!(["", "x", "-1", "5Q", "NaN"].map(bytes), [None; 5]);
    }
}

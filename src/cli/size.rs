//! Numbers of bytes on the command line.

/// A number of bytes: `4096`, `512MiB`, `8G` (binary, as most tools take it), `8GB` (decimal); fractions are allowed
/// before a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl std::str::FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Size, String> {
        let wrong = || "not a size such as 4096, 512MiB or 8G".to_owned();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = (&text[..end], text[end..].trim().to_ascii_lowercase());
        let powers = |base: u64, letter: &str| {
            ["k", "m", "g", "t"].iter().position(|u| *u == letter).map(|i| base.pow(i as u32 + 1))
        };
        let factor = match unit.as_str() {
            "" | "b" => Some(1),
            u => match (u.strip_suffix("ib"), u.strip_suffix('b')) {
                (Some(letter), _) => powers(1024, letter),
                (None, Some(letter)) => powers(1000, letter),
                (None, None) => powers(1024, u),
            },
        };
        let factor = factor.ok_or_else(wrong)?;
        if let Ok(n) = number.parse::<u64>() {
            return n.checked_mul(factor).map(Size).ok_or_else(|| "more than there are bytes".into());
        }
        let n: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = n * factor as f64;
        if factor > 1 && bytes < 1e18 { Ok(Size(bytes as u64)) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_usual_units() {
        for (text, bytes) in [
            ("4096", 4096),
            ("512MiB", 512 << 20),
            ("8G", 8 << 30),
            ("8gib", 8 << 30),
            ("2 GB", 2_000_000_000),
            ("1.5k", 1536),
            ("0", 0),
            ("1b", 1),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "G", "8X", "1.5", "-1G", "1e3", "99999999999T", "1..5G", "inf", "8 G G"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}

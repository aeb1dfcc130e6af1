//! Checks that a vendor's format allows beyond its regular expression. A candidate that fails its check is
//! not a credential of that kind.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

/// What is checked of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The last six characters are the CRC-32 of what stands between the prefix's `_` and them, in base 62.
    /// Source: GitHub, "Behind GitHub's new authentication token formats" (2021); npm uses the same.
    Base62Crc32,
    /// Luhn's mod 10 (ISO/IEC 7812-1, annex B), over 12 to 19 digits with spaces or hyphens between them.
    Luhn,
    /// Mod 97 (ISO 13616-1) and the length of the country.
    Iban,
    /// Three parts, the first of which is JSON with an `alg` (RFC 7515, section 4.1.1).
    Jwt,
    /// At least 64 characters of base64 between the two lines of RFC 7468.
    Pem,
}

impl Check {
    /// Whether `candidate` holds.
    pub fn passes(self, candidate: &[u8]) -> bool {
        match self {
            Self::Base62Crc32 => base62_crc32(candidate),
            Self::Luhn => luhn(candidate),
            Self::Iban => iban(candidate),
            Self::Jwt => jwt(candidate),
            Self::Pem => pem(candidate),
        }
    }
}

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters of the checksum at a token's end.
const CRC_DIGITS: usize = 6;

/// The six characters that follow `body`.
pub fn base62_crc32_of(body: &[u8]) -> [u8; CRC_DIGITS] {
    let mut rest = crc32fast::hash(body);
    let mut digits = [b'0'; CRC_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

fn base62_crc32(candidate: &[u8]) -> bool {
    let body = candidate.iter().position(|byte| *byte == b'_').map_or(candidate, |at| &candidate[at + 1..]);
    let Some(split) = body.len().checked_sub(CRC_DIGITS) else { return false };
    let (body, sum) = body.split_at(split);
    base62_crc32_of(body) == sum
}

fn luhn(candidate: &[u8]) -> bool {
    let digits: Vec<u8> =
        candidate.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0').collect();
    if !(12..=19).contains(&digits.len()) || digits.iter().all(|digit| *digit == digits[0]) {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let value = u32::from(*digit);
            match place % 2 {
                0 => value,
                _ if value > 4 => value * 2 - 9,
                _ => value * 2,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Lengths by country, from the SWIFT IBAN registry.
const IBAN_LENGTHS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AT", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BR", 29),
    (b"CH", 21),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"EE", 20),
    (b"ES", 24),
    (b"FI", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GR", 27),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"MC", 27),
    (b"MT", 31),
    (b"NL", 18),
    (b"NO", 15),
    (b"PL", 28),
    (b"PT", 25),
    (b"RO", 24),
    (b"SA", 24),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"TR", 26),
    (b"UA", 29),
];

fn iban(candidate: &[u8]) -> bool {
    let text: Vec<u8> = candidate.iter().filter(|byte| !byte.is_ascii_whitespace()).copied().collect();
    let known =
        IBAN_LENGTHS.iter().any(|(country, length)| text.starts_with(*country) && text.len() == *length);
    if !known || !text.iter().all(u8::is_ascii_alphanumeric) {
        return false;
    }
    let remainder = text[4..].iter().chain(&text[..4]).fold(0u32, |sum, byte| match byte {
        b'0'..=b'9' => (sum * 10 + u32::from(byte - b'0')) % 97,
        letter => (sum * 100 + u32::from(letter.to_ascii_uppercase() - b'A') + 10) % 97,
    });
    remainder == 1
}

fn jwt(candidate: &[u8]) -> bool {
    let mut parts = candidate.split(|byte| *byte == b'.');
    let (Some(header), Some(_payload)) = (parts.next(), parts.next()) else { return false };
    URL_SAFE_NO_PAD
        .decode(header)
        .ok()
        .and_then(|header| serde_json::from_slice::<serde_json::Value>(&header).ok())
        .is_some_and(|header| header.get("alg").is_some_and(serde_json::Value::is_string))
}

fn pem(candidate: &[u8]) -> bool {
    /// Smaller than any private key: an Ed25519 key takes 64 characters.
    const LEAST: usize = 64;
    let is_line = |line: &&[u8]| !line.windows(5).any(|part| part == b"-----");
    // Inside a string of JSON or a program the lines are joined by `\n`, as two characters.
    let text = candidate.split(|byte| *byte == b'\n');
    let body: usize = text
        .filter(is_line)
        .map(|line| line.iter().filter(|byte| byte.is_ascii_alphanumeric()).count())
        .sum();
    let inline = candidate.iter().filter(|byte| byte.is_ascii_alphanumeric()).count();
    body >= LEAST || (!candidate.contains(&b'\n') && inline >= LEAST + 40)
}

#[cfg(test)]
mod tests {
    use super::{Check, base62_crc32_of};

    #[test]
    fn checks_hold_for_what_is_right_and_fail_for_one_wrong_character() {
        let body = "abcdefghijklmnopqrstuvwxyz0123";
        let sum = String::from_utf8(base62_crc32_of(body.as_bytes()).to_vec()).expect("ASCII");
        let token = format!("ghp_{body}{sum}");
        assert!(Check::Base62Crc32.passes(token.as_bytes()));
        assert!(!Check::Base62Crc32.passes(token.replace("abc", "abd").as_bytes()));
        assert!(Check::Luhn.passes(b"4111 1111 1111 1111"));
        assert!(!Check::Luhn.passes(b"4111 1111 1111 1112"));
        assert!(!Check::Luhn.passes(b"0000 0000 0000 0000"));
        assert!(Check::Iban.passes(b"DE89 3704 0044 0532 0130 00"));
        assert!(!Check::Iban.passes(b"DE88 3704 0044 0532 0130 00"));
        assert!(!Check::Iban.passes(b"DE89 3704"));
        assert!(!Check::Jwt.passes(b"eyJ.eyJ.x"));
    }
}

//! Whether a name looks as if it carried data out (MITRE ATT&CK T1048.003, T1071.004).

use bot_bottle_core::host::HostName;

/// Characters of one label above which a name that nobody allowed is suspicious. People write shorter ones.
const LONG_LABEL: usize = 40;

/// Characters of a whole name.
const LONG_NAME: usize = 100;

/// Characters of a label from which its letters say something about it.
const TELLING_LABEL: usize = 16;

/// Changes between letters and digits, for each of which so many characters are expected at least. Names of
/// machines count (`ip-10-0-0-1`), hexadecimal and base32 alternate.
const CHARACTERS_PER_CHANGE: usize = 4;

/// Whether the name is long, or has a label that looks encoded.
pub(super) fn carries_data(name: &HostName) -> bool {
    name.as_str().len() > LONG_NAME || name.as_str().split('.').any(looks_encoded)
}

fn looks_encoded(label: &str) -> bool {
    // Punycode is made of letters and digits by its nature (RFC 3492).
    if label.starts_with("xn--") {
        return false;
    }
    if label.len() > LONG_LABEL {
        return true;
    }
    let letters = label.as_bytes().windows(2).filter(|pair| {
        pair[0].is_ascii_alphabetic() && pair[1].is_ascii_digit()
            || pair[0].is_ascii_digit() && pair[1].is_ascii_alphabetic()
    });
    label.len() >= TELLING_LABEL && letters.count() * CHARACTERS_PER_CHANGE > label.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_told_from_names() {
        let carries = |written: &str| carries_data(&HostName::parse(written).expect("a name"));
        for name in [
            "6769745f746f6b656e3d61626364.evil.test",
            "mfzwizltoqqgc43emfzwizltoqqgc43emfzwizltoqqgc43e.evil.test",
            "k3b2w9x1q8z7v5t4.evil.test",
            &format!("{0}.{0}.{0}.{0}.evil.test", "averyplainword-averyplain"),
        ] {
            assert!(carries(name), "{name}");
        }
        for name in [
            "example.org",
            "ip-10-0-0-1.eu-central-1.compute.internal",
            "d111111abcdef8.cloudfront.net",
            "xn--kgbechtv9a8b7c6d5.example",
            "production-registry-mirror.corp.example.org",
            "1.0.168.192.in-addr.arpa",
        ] {
            assert!(!carries(name), "{name}");
        }
    }
}

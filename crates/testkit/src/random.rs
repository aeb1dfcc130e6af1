//! Random values, unique to a test.

/// `bytes` random bytes, in hexadecimal.
#[must_use]
pub fn random_hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    aws_lc_rs::rand::fill(&mut random).expect("the kernel has randomness");
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A random credential with this prefix. It exists nowhere else, so every occurrence is a leak.
#[must_use]
pub fn random_secret(prefix: &str) -> String {
    format!("{prefix}{}", random_hex(24))
}

//! Values that no other test has.

/// `bytes` random bytes, in hexadecimal.
#[must_use]
pub fn random_hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    aws_lc_rs::rand::fill(&mut random).expect("the kernel has randomness");
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A credential after this prefix that was never seen before, so that finding it anywhere is a leak.
#[must_use]
pub fn random_secret(prefix: &str) -> String {
    format!("{prefix}{}", random_hex(24))
}

//! The process of the host that gets a machine's connections.

use std::{fmt, net::SocketAddr};

use zeroize::Zeroizing;

use crate::SmolvmError;

/// What smolvm proves itself with to the interceptor at the start of each connection. Whoever knows it can pose
/// as the machine.
#[derive(Clone)]
pub struct InterceptorToken(Zeroizing<[u8; 32]>);

impl InterceptorToken {
    /// Takes random bytes.
    ///
    /// # Errors
    /// When they are all zero, which smolvm refuses.
    pub fn new(bytes: [u8; 32]) -> Result<Self, SmolvmError> {
        if bytes == [0; 32] {
            return Err(SmolvmError::invalid("the interceptor's token", "(secret)", "it is all zero"));
        }
        Ok(Self(Zeroizing::new(bytes)))
    }

    /// The bytes, as they are on the wire.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As smolvm reads it: 64 hexadecimal digits.
    pub(crate) fn hexadecimal(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(64));
        for byte in self.0.iter() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
            }
        }
        text
    }
}

impl fmt::Debug for InterceptorToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("InterceptorToken(…)")
    }
}

/// Where a machine's TCP connections go: every one, whatever its address and port.
#[derive(Debug, Clone)]
pub struct Interceptor {
    address: SocketAddr,
    token: InterceptorToken,
}

impl Interceptor {
    /// An interceptor that listens on this host.
    ///
    /// # Errors
    /// When the address is not a loopback address, or has no port: smolvm takes no other.
    pub fn new(address: SocketAddr, token: InterceptorToken) -> Result<Self, SmolvmError> {
        if !address.ip().is_loopback() || address.port() == 0 {
            let why = "it has to be a port of the loopback device";
            return Err(SmolvmError::invalid("the interceptor's address", &address.to_string(), why));
        }
        Ok(Self { address, token })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn token(&self) -> &InterceptorToken {
        &self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_to_nobody() {
        let token = InterceptorToken::new([0xab; 32]).expect("a token");
        assert_eq!(*token.hexadecimal(), "ab".repeat(32));
        let interceptor = Interceptor::new("127.0.0.1:9".parse().expect("an address"), token);
        let shown = format!("{:?}", interceptor.expect("an interceptor"));
        assert!(shown.contains("127.0.0.1:9") && !shown.contains("ab") && !shown.contains("171"), "{shown}");
        assert!(InterceptorToken::new([0; 32]).is_err());
    }

    #[test]
    fn an_interceptor_listens_on_the_loopback_device() {
        let with = |address: &str| {
            let token = InterceptorToken::new([1; 32]).expect("a token");
            Interceptor::new(address.parse().expect("an address"), token)
        };
        assert!(with("127.0.0.1:80").is_ok() && with("[::1]:80").is_ok());
        for address in ["127.0.0.1:0", "192.0.2.1:80", "0.0.0.0:80", "[::]:80"] {
            assert!(with(address).is_err(), "{address}");
        }
    }
}

//! The process of the host that gets a machine's connections.

use std::net::SocketAddr;

use bot_bottle_core::gateway_config::InterceptorToken;

use crate::SmolvmError;

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
    /// When the address is not a loopback address, or has no port, or the token is all zero: smolvm takes no other.
    pub fn new(address: SocketAddr, token: InterceptorToken) -> Result<Self, SmolvmError> {
        if !address.ip().is_loopback() || address.port() == 0 {
            let why = "it has to be a port of the loopback device";
            return Err(SmolvmError::invalid("the interceptor's address", &address.to_string(), why));
        }
        if *token.as_bytes() == [0; 32] {
            return Err(SmolvmError::invalid("the interceptor's token", "(secret)", "it is all zero"));
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
    fn an_interceptor_listens_on_the_loopback_device() {
        let with = |address: &str| {
            Interceptor::new(address.parse().expect("an address"), InterceptorToken::new([1; 32]))
        };
        assert!(with("127.0.0.1:80").is_ok() && with("[::1]:80").is_ok());
        for address in ["127.0.0.1:0", "192.0.2.1:80", "0.0.0.0:80", "[::]:80"] {
            assert!(with(address).is_err(), "{address}");
        }
        let address = "127.0.0.1:80".parse().expect("an address");
        assert!(Interceptor::new(address, InterceptorToken::new([0; 32])).is_err(), "no token at all");
    }
}

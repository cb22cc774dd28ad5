//! What an address tells of its client: which network, which party (contract section 6).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network of clients: a /24 of IPv4 or a /64 of IPv6. An IPv4 address inside IPv6 counts as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(u64);

/// Marks IPv4 in the upper half: no IPv6 source address begins with it (RFC 4291 section 2.7 gives
/// `ff00::/8` to multicast).
const IPV4: u64 = 0xffff_ffff_0000_0000;

impl Network {
    /// The network of an address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(IPV4 | u64::from(address.to_bits() & 0xffff_ff00)),
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64),
        }
    }

    /// As one number, for tables.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The network of that number.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// One client as far as its address tells: an address of IPv4, or a /64 of IPv6, which is what one
/// customer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(u64);

impl Source {
    /// Whoever has that address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(IPV4 | u64::from(address.to_bits())),
            address @ IpAddr::V6(_) => Self(Network::of(address).0),
        }
    }

    /// As one number, for tables.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u32::try_from(self.0 ^ IPV4) {
            Ok(bits) => write!(f, "{}/24", Ipv4Addr::from_bits(bits)),
            Err(_) => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(self.0) << 64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_24_or_a_slash_64() {
        let of = |text: &str| Network::of(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("192.0.2.254"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.9"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("192.0.2.77").to_string(), "192.0.2.0/24");
        assert_eq!(of("2001:db8:1:2:3::4").to_string(), "2001:db8:1:2::/64");
        assert_ne!(of("0.0.0.1"), of("::2"));
        let network = of("198.51.100.7");
        assert_eq!(Network::from_number(network.number()), network);
    }

    #[test]
    fn one_address_of_ipv4_or_one_network_of_ipv6() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }
}

//! What an address tells of its client: its network, and the neighbourhood of that (RFC 4632, RFC 6177).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// One client as far as its address tells: an address of IPv4, or a /64 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(u64);

/// What one party easily has many networks of: a /24 of IPv4, or a /48 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Neighbourhood(u64);

/// Marks IPv4 in the upper half: no IPv6 source address begins with it (RFC 4291 section 2.7 gives
/// `ff00::/8` to multicast).
const IPV4: u64 = 0xffff_ffff_0000_0000;
/// `64:ff9b::/96` (RFC 6052 section 2.1): the last 32 bits are an IPv4 address.
const NAT64: u128 = 0x0064_ff9b << 96;

/// The IPv4 address that an address stands for, or the IPv6 address that it is.
fn canonical(address: IpAddr) -> IpAddr {
    let address = address.to_canonical();
    match address {
        IpAddr::V6(v6) if v6.to_bits() >> 32 == NAT64 >> 32 => {
            let [.., a, b, c, d] = v6.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        other => other,
    }
}

/// The bits of a network's number that tell it from others of its neighbourhood.
const fn inside(number: u64) -> u64 {
    if number & IPV4 == IPV4 { 0xff } else { 0xffff }
}

impl Network {
    /// The network of an address. IPv4 inside IPv6 (mapped, or translated by NAT64) counts as IPv4.
    pub fn of(address: IpAddr) -> Self {
        match canonical(address) {
            IpAddr::V4(address) => Self(IPV4 | u64::from(address.to_bits())),
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64),
        }
    }

    /// The neighbourhood it lies in.
    pub const fn neighbourhood(self) -> Neighbourhood {
        Neighbourhood(self.0 & !inside(self.0))
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

impl Neighbourhood {
    /// As one number, for tables: that of its first network.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The neighbourhood of that number.
    pub const fn from_number(number: u64) -> Self {
        Network(number).neighbourhood()
    }

    /// The numbers of its networks.
    pub const fn networks(self) -> RangeInclusive<u64> {
        self.0..=self.0 | inside(self.0)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u32::try_from(self.0 ^ IPV4) {
            Ok(bits) => write!(f, "{}", Ipv4Addr::from_bits(bits)),
            Err(_) => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(self.0) << 64)),
        }
    }
}

impl fmt::Display for Neighbourhood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u32::try_from(self.0 ^ IPV4) {
            Ok(bits) => write!(f, "{}/24", Ipv4Addr::from_bits(bits)),
            Err(_) => write!(f, "{}/48", Ipv6Addr::from_bits(u128::from(self.0) << 64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Network {
        Network::of(text.parse().unwrap())
    }

    #[test]
    fn an_address_of_ipv4_or_a_slash_64() {
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("192.0.2.77").to_string(), "192.0.2.77");
        assert_eq!(of("2001:db8:1:2:3::4").to_string(), "2001:db8:1:2::/64");
        assert_ne!(of("0.0.0.1"), of("::2"));
        let network = of("198.51.100.7");
        assert_eq!(Network::from_number(network.number()), network);
    }

    #[test]
    fn ipv4_inside_ipv6_counts_as_ipv4() {
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_eq!(of("192.0.2.1"), of("64:ff9b::192.0.2.1"));
        assert_ne!(of("64:ff9b::192.0.2.1"), of("64:ff9b::192.0.2.2"));
        assert_ne!(of("192.0.2.1"), of("64:ff9b:1::192.0.2.1"));
    }

    #[test]
    fn a_neighbourhood_is_a_slash_24_or_a_slash_48() {
        let near = |a: &str, b: &str| of(a).neighbourhood() == of(b).neighbourhood();
        assert!(near("192.0.2.1", "192.0.2.254") && !near("192.0.2.1", "192.0.3.1"));
        assert!(near("2001:db8::1", "2001:db8:0:ffff::1") && !near("2001:db8::", "2001:db8:1::"));
        assert_eq!(of("192.0.2.77").neighbourhood().to_string(), "192.0.2.0/24");
        assert_eq!(of("2001:db8:1:2::").neighbourhood().to_string(), "2001:db8:1::/48");
        for network in [of("192.0.2.255"), of("2001:db8:1:ffff::")] {
            let neighbourhood = network.neighbourhood();
            assert!(neighbourhood.networks().contains(&network.number()));
            assert!(!neighbourhood.networks().contains(&(network.number() + 1)));
            assert_eq!(Neighbourhood::from_number(network.number()), neighbourhood);
        }
    }
}
